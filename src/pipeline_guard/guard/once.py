"""One look at every check, without a loop, a state or an action."""

from __future__ import annotations

from collections.abc import Collection

from pipeline_guard.errors import ConfigurationError
from pipeline_guard.guard.looking import GuardTime, Looking
from pipeline_guard.guard.plan import Plan
from pipeline_guard.model import Reading


async def look_once(
    plan: Plan, time: GuardTime, *, only: Collection[str] = ()
) -> dict[str, Reading]:
    """What every check finds now, by its id; of those in `only` where any are named.

    Raises:
        ConfigurationError: a name is no check's.
    """
    missing = [name for name in only if name not in plan.checks]
    if missing:
        raise ConfigurationError(
            f"there is no check {missing[0]!r}; expected some of {', '.join(plan.checks)}",
            {"parameter": "check", "value": missing[0], "constraint": "the id of a check"},
        )
    checks = [check for name, check in plan.checks.items() if not only or name in only]
    found: dict[str, Reading] = {}
    looking = Looking(time)
    looking.schedule(checks, at_once=True)
    while len(found) < len(checks):
        for look in await looking.next(time.now_s() + 1.0):
            found.setdefault(look.check.id, look.reading)
    looking.close()
    return {check.id: found[check.id] for check in checks}
