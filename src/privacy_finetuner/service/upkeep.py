"""What a running service does by itself: everything that must happen though nobody asks.

=============  ================================================================================
every          it
=============  ================================================================================
5 s            announces jobs that ended and budgets that passed their threshold; writes lines of
               the log that belong there into the audit trail
30 s           commits in full every reservation whose time ran out
a day          deletes sessions, counts and kept answers whose time is over, and old runs
               (`retention.runs_days`)
a minute       looks for answers owed and records whose time is over
               (`compliance.enable_real_time_monitoring`)
as configured  looks for security evidence (`security.enable_threat_detection`)
=============  ================================================================================

A failure of one round, whatever it is, is logged and tried again at the next: the database may be
away, and the other chores must not end with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from privacy_finetuner.operations.responses import SERVICE
from privacy_finetuner.service import herald, vigil
from privacy_finetuner.service.retention import Retention
from privacy_finetuner.service.service import Service
from privacy_runtime import logs

_log = logs.logger(__name__)
EXPIRY_S: Final = 30.0
KEEP_S: Final = 5.0
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do every so often.

    Attributes:
        name: for the log.
        every_s: seconds from the end of one round to the next.
        act: one round; synchronous, run in a thread.
    """

    name: str
    every_s: float
    act: Callable[[], object]


def chores_of(service: Service) -> list[Chore]:
    """What this service has to do by itself."""
    chores = [
        Chore("expire reservations", EXPIRY_S, service.ledger.expire_due),
        Chore("purge identity", DAY_S, service.identity.purge),
        Chore("announce and count", herald.EVERY_S, service.herald.round),
    ]
    chores.append(Chore("keep lines of the log", KEEP_S, lambda: keep_lines(service)))
    if (watch := vigil_of(service)) is not None:
        chores.append(Chore("watch what the law dates", vigil.EVERY_S, watch.look))
    if (days := service.config.retention.runs_days) is not None:
        world: dict[str, Any] = {"clock": service.clock, "entropy": service.entropy}
        old = Retention(service.jobs, service.desks.trail, days=days, **world)
        chores.append(Chore("empty old runs", DAY_S, old.look))
    return chores


def keep_lines(service: Service) -> int:
    """Write lines of the log that belong there into the stream `audit`; returns how many.

    Raises:
        JournalError: the database is away; they wait for the next round.
    """

    def keep(line: Mapping[str, Any]) -> None:
        about = {"tenant": line["tenant"]} if str(line.get("tenant", "")).startswith("o_") else {}
        body = {"by": SERVICE, **about, "line": dict(line)}
        service.desks.trail.write("log.line", body, entropy=service.entropy)

    return 0 if service.audited is None else service.audited.write(keep)


def vigil_of(service: Service) -> vigil.Vigil | None:
    """The watch of deadlines and retention, where the configuration wants it."""
    law, desks = service.config.compliance, service.desks
    if not law.enable_real_time_monitoring:
        return None
    return vigil.Vigil(
        journal=service.journal,
        requests=desks.subject_requests,
        register=desks.processing,
        trail=desks.trail,
        notices=service.notices,
        sources=desks.quarantine,
        catalogue=service.catalogue,
        jobs=service.jobs,
        law=law,
        clock=service.clock,
        entropy=service.entropy,
    )


async def run(
    chores: list[Chore], *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Do all of them, each at its own pace, until cancelled. The first rounds come at once.

    Args:
        chores: what to do.
        pause: waits so many seconds.
    """
    async with asyncio.TaskGroup() as group:
        for chore in chores:
            group.create_task(_repeat(chore, pause), name=chore.name)


async def _repeat(chore: Chore, pause: Callable[[float], Awaitable[None]]) -> None:
    while True:
        try:
            await asyncio.to_thread(chore.act)
        except Exception:  # noqa: BLE001  whatever one chore has, it and the others go on
            _log.exception("a round of upkeep failed", action=chore.name)
        await pause(chore.every_s)
