"""Recorded looks through a configuration, old or new: which alerts there would have been.

What is judged again is what the guard judges: `for`, `of`, `clear_after`, dependencies, flapping,
maintenance, recoveries and their limits. What a probe itself decides (`warn: 60m`) is in the
recorded verdicts and stays as it was; a check of which nothing was recorded is silent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline_guard.config import GuardConfig, all_checks
from pipeline_guard.decide import Kind
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.guard.codec import to_reading
from pipeline_guard.guard.plan import Plan, as_check
from pipeline_guard.guard.records import connect
from pipeline_guard.guard.saved import Saved
from pipeline_guard.guard.watch import Watch
from pipeline_guard.model import Moment, Reading, Verdict


@dataclass(frozen=True, slots=True, order=True)
class Recorded:
    """One look of the past."""

    at_s: float
    check: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a configuration makes of recorded looks.

    Attributes:
        alerts: `(check, fault, opened_s, ended_s or None)`, by their beginning.
        runs: `(recovery, at_s)` of recoveries that would have run, whatever their mode.
        escalations: how often people would have been called.
        looks: how many looks were judged.
    """

    alerts: tuple[tuple[str, str, float, float | None], ...]
    runs: tuple[tuple[str, float], ...]
    escalations: int
    looks: int


def recorded_in(path: Path) -> Iterator[Recorded]:
    """Looks from a file of JSON lines: `{"at", "check", "verdict", "fault"?, "summary"?}`.

    Raises:
        ConfigurationError: a line is not such a look; it is named.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
                found["verdict"] = str(found["verdict"]).upper()
                at = datetime.fromisoformat(found["at"])
                if at.tzinfo is None:
                    raise ValueError  # noqa: TRY301  # one refusal for whatever is wrong with it
                yield Recorded(at.timestamp(), found["check"], to_reading(found))
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigurationError(
                    f"{path}:{number} is not a look; expected at (with a time zone), check and "
                    "verdict (ok, warning, critical, unknown)",
                    {"parameter": "line", "value": number, "constraint": "a recorded look"},
                ) from error


def recorded_by(state: Path) -> Iterator[Recorded]:
    """Looks that a guard recorded: each stretch of equal ones spread evenly over its time."""
    connection = connect(state, must_exist=True)
    try:
        rows = connection.execute("SELECT * FROM readings ORDER BY first_s").fetchall()
    finally:
        connection.close()
    for check, verdict, fault, summary, first_s, last_s, count in rows:
        reading = to_reading({"verdict": verdict, "fault": fault, "summary": summary})
        step_s = (last_s - first_s) / (count - 1) if count > 1 else 0.0
        for number in range(count):
            yield Recorded(first_s + number * step_s, check, reading)


def replayed(config: GuardConfig, looks: Iterable[Recorded]) -> Replayed:
    """Judge recorded looks by a configuration; nothing is done.

    A recovery that would have run counts as run, and as not having helped unless the recorded looks
    are well afterwards.
    """
    ordered = sorted(looks, key=lambda each: (each.at_s, each.check))
    if not ordered:
        return Replayed((), (), 0, 0)
    plan = _plan(config)
    start_s = ordered[0].at_s
    watch = Watch(plan, entropy=_Counting(), now_s=start_s, at=_at(start_s), saved=Saved())
    told: dict[str, list[Any]] = {}
    runs: list[tuple[str, float]] = []
    escalations = 0
    for look in ordered:
        check = plan.checks.get(look.check)
        if check is None:
            continue
        at = _at(look.at_s)
        for event in watch.seen(check, look.reading, at, look.at_s):
            if event.kind.value == "opened":
                told[event.incident] = [look.check, event.data["fault"], look.at_s, None]
            elif event.kind.value == "resolved":
                told[event.incident][3] = look.at_s
        watch.expired(at, look.at_s)
        ran, called = _decided(watch, at, look.at_s)
        runs += ran
        escalations += called
    known = sum(look.check in plan.checks for look in ordered)
    alerts = tuple((a, b, c, d) for a, b, c, d in told.values())
    return Replayed(alerts, tuple(runs), escalations, known)


def _decided(watch: Watch, at: datetime, now_s: float) -> tuple[list[tuple[str, float]], int]:
    """What would be done now: recoveries that would run, and how often people would be called."""
    runs, escalations = [], 0
    for incident, decision in watch.decisions(at, now_s):
        recovery = decision.recovery
        if decision.kind is Kind.ESCALATE:
            watch.give_up(incident, decision, at)
            escalations += 1
        elif recovery is not None and decision.kind in (Kind.NOTE, Kind.SUGGEST):
            watch.dry_runs.note(recovery, incident.id, now_s)
            runs.append((recovery.name, now_s))
        elif recovery is not None and decision.kind is Kind.ACT:
            watch.applied(watch.begin(incident, recovery, now_s), now_s)
            runs.append((recovery.name, now_s))
    return runs, escalations


def difference(before: Replayed, now: Replayed) -> dict[str, Any]:
    """What a change of configuration would have done to the alerts.

    An alert is in both where the same check had one at the same time.
    """
    gone = [each for each in before.alerts if not _has(now.alerts, each)]
    fresh = [each for each in now.alerts if not _has(before.alerts, each)]
    return {
        "looks": now.looks,
        "alerts_before": len(before.alerts),
        "alerts_now": len(now.alerts),
        "gone": [_alert(each) for each in gone],
        "new": [_alert(each) for each in fresh],
        "recoveries_before": len(before.runs),
        "recoveries_now": len(now.runs),
        "escalations_before": before.escalations,
        "escalations_now": now.escalations,
    }


def _has(
    alerts: Sequence[tuple[str, str, float, float | None]],
    one: tuple[str, str, float, float | None],
) -> bool:
    def overlap(other: tuple[str, str, float, float | None]) -> bool:
        far = float("inf")
        return other[2] <= (one[3] or far) and one[2] <= (other[3] or far)

    return any(other[0] == one[0] and overlap(other) for other in alerts)


def _alert(found: tuple[str, str, float, float | None]) -> dict[str, Any]:
    check, fault, opened_s, ended_s = found
    ended = _at(ended_s).isoformat() if ended_s is not None else None
    return {"check": check, "fault": fault, "opened": _at(opened_s).isoformat(), "ended": ended}


def _plan(config: GuardConfig) -> Plan:
    plan = Plan(config)
    plan.recoveries = list(config.recoveries)
    for settings in all_checks(config):
        plan.checks[settings.id] = as_check(settings, config, _Silent())
    return plan


def _at(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


class _Silent:
    """The probe of a check whose looks are read from a record."""

    def look(self, moment: Moment) -> Reading:
        return Reading(verdict=Verdict.UNKNOWN, summary="a replay looks at nothing")


class _Counting:
    """Ids in order: a replay says the same twice."""

    def __init__(self) -> None:
        self._count = 0

    def token_bytes(self, size_bytes: int) -> bytes:
        self._count += 1
        return self._count.to_bytes(size_bytes, "big")
