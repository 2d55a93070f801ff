"""What a guard of the pipeline says of itself, over its own HTTP API; see `neighbour`.

The guard's server is a process beside the guard, so it can say that the guard hangs or has ended.
Where nobody looks, nothing is well: a guard that is silent, was never heard of, or whose server
does not answer is `critical` here, whatever its components were when it last looked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from privacy_finetuner.environment.neighbours import Guard
from privacy_finetuner.service.neighbour import UNREACHABLE, Neighbour, Question, figure, words
from privacy_runtime.world import Clock

BLIND: Final = "blind"
"""The fault of a server that has no state of a guard to show."""
MODES: Final = ("observe", "suggest", "act")
"""What a recovery may do, the least first."""
_CRITICAL: Final = "critical"
_UNKNOWN: Final = "unknown"
_WORST: Final = ("failed", "critical", "degraded")
_NAME_MOST: Final = 128
_LINE_MOST: Final = 500
_VALUE_MOST: Final = 200
_MOST: Final = 500
_AGE_MOST_S: Final = 1e9
_EVIDENCE_MOST: Final = 12
_ACTIONS_MOST: Final = 20
_QUESTIONS: Final = (
    Question(name="status", path="/api/v1/status", faults={503: BLIND}),
    Question(name="alerts", path="/api/v1/alerts", faults={503: BLIND}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardCheck:
    """A check of a component. `level`: what its newest looks add up to."""

    name: str
    level: str
    is_flapping: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardComponent:
    """What is watched."""

    name: str
    health: str
    checks: tuple[GuardCheck, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardAction:
    """What was done about an alert, held back, or would have been done: `kind` says which."""

    at: datetime
    kind: str
    recovery: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardAlert:
    """A fault that stands.

    Attributes:
        root: the alert that explains this one; empty: none does.
        evidence: what was seen, as names and texts.
        actions: oldest first; the newest twenty.
    """

    id: str
    component: str
    check: str
    severity: str
    fault: str
    message: str
    since: datetime
    root: str
    runbook: str
    is_flapping: bool
    evidence: tuple[tuple[str, str], ...]
    actions: tuple[GuardAction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRecovery:
    """A recovery. `right_in_a_row`: how often it would have been right, when it was not run."""

    name: str
    mode: str
    right_in_a_row: int
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """A guard at one moment.

    Attributes:
        fault: why nothing, or not everything, is known: `unreachable`, `refused`, `unexpected`,
            `blind`.
        health: the worst of the components; `critical` where nobody looks, `unknown` where nobody
            has said.
        age_s: how old the newest look is; `None`: there was none.
        is_silent: it was not heard of for a minute: nobody looks.
        is_killed: the kill switch holds all recoveries.
        lag_s: how late its looks are; `None`: not known.
        hanging: looks that were given up and have not come back.
        state_fault: why what it does cannot be written down; empty: it can.
        alerts: the worst first, those that another explains last; `None`: not known.
    """

    fault: str = ""
    health: str = _UNKNOWN
    age_s: float | None = None
    is_silent: bool = False
    is_killed: bool = False
    lag_s: float | None = None
    hanging: int = 0
    state_fault: str = ""
    components: tuple[GuardComponent, ...] = ()
    recoveries: tuple[GuardRecovery, ...] = ()
    alerts: tuple[GuardAlert, ...] | None = None

    @property
    def mode(self) -> str:
        """The most that any recovery may do; empty: there is none."""
        return max((each.mode for each in self.recoveries), key=_reach, default="")


class GuardReading:
    """Asks one guard. For any number of threads; one of them asks at a time.

    Args:
        settings: the section `guard`, with an address and a token.
        clock: tells when to ask again.
    """

    def __init__(self, settings: Guard, clock: Clock) -> None:
        self._guard = Neighbour(settings, clock, questions=_QUESTIONS, read=_read)

    def view(self) -> GuardView:
        """How the guard stands; see `Neighbour.view`. Raises nothing."""
        return self._guard.view()


def _reach(mode: str) -> int:
    """How far a mode goes; one that is not known, the farthest."""
    return MODES.index(mode) if mode in MODES else len(MODES)


def _read(found: Mapping[str, Any], fault: str) -> GuardView:
    alerts = None if "alerts" not in found else _alerts(found["alerts"])
    if "status" not in found:
        health = _CRITICAL if fault in (UNREACHABLE, BLIND) else _UNKNOWN
        return GuardView(fault=fault, health=health, alerts=alerts)
    status = found["status"]
    loop, is_silent = status.get("guard", {}), _is(status["is_silent"])
    return GuardView(
        fault=fault,
        health=_CRITICAL if is_silent else words(status["overall_health"]),
        age_s=min(figure(status["age_seconds"]), _AGE_MOST_S),
        is_silent=is_silent,
        is_killed=_is(status.get("is_killed", False)),
        lag_s=_figure_or_none(loop.get("loop_lag_seconds")),
        hanging=int(figure(loop.get("hanging_probes", 0))),
        state_fault=words(loop.get("state_fault") or "", _LINE_MOST),
        components=tuple(
            _component(name, each) for name, each in list(status["components"].items())[:_MOST]
        ),
        recoveries=tuple(
            _recovery(name, each)
            for name, each in list(status.get("recoveries", {}).items())[:_MOST]
        ),
        alerts=alerts,
    )


def _component(name: str, said: Mapping[str, Any]) -> GuardComponent:
    return GuardComponent(
        name=words(name, _NAME_MOST),
        health=words(said["health"]),
        checks=tuple(
            GuardCheck(
                name=words(check, _NAME_MOST),
                level=words(state["level"]),
                is_flapping=_is(state["is_flapping"]),
            )
            for check, state in list(said["checks"].items())[:_MOST]
        ),
    )


def _recovery(name: str, said: Mapping[str, Any]) -> GuardRecovery:
    return GuardRecovery(
        name=words(name, _NAME_MOST),
        mode=words(said["mode"]),
        right_in_a_row=int(figure(said["right_in_a_row"])),
        runs=int(figure(said["runs"])),
    )


def _alerts(said: Mapping[str, Any]) -> tuple[GuardAlert, ...]:
    return tuple(sorted(map(_alert, said["alerts"][:_MOST]), key=_urgency))


def _urgency(alert: GuardAlert) -> tuple[bool, int, datetime]:
    place = _WORST.index(alert.severity) if alert.severity in _WORST else len(_WORST)
    return bool(alert.root), place, alert.since


def _alert(said: Mapping[str, Any]) -> GuardAlert:
    metadata = said["metadata"]
    seen = {**metadata.get("evidence", {}), **metadata.get("measurements", {})}
    return GuardAlert(
        id=words(said["id"]),
        component=words(said["component"], _NAME_MOST),
        check=words(said["check"], _NAME_MOST),
        severity=words(said["severity"]),
        fault=words(said["fault"]),
        message=words(said["message"], _LINE_MOST),
        since=_instant(said["since"] or said["timestamp"]),
        root=words(said["root"] or ""),
        runbook=words(said["runbook"] or "", _LINE_MOST),
        is_flapping=_is(said["is_flapping"]),
        evidence=tuple(
            (words(name, _NAME_MOST), words(_shown(value), _VALUE_MOST))
            for name, value in list(seen.items())[:_EVIDENCE_MOST]
        ),
        actions=tuple(map(_action, said["actions"][-_ACTIONS_MOST:])),
    )


def _action(said: Mapping[str, Any]) -> GuardAction:
    return GuardAction(
        at=_instant(said["at"]),
        kind=words(said["action"]),
        recovery=words(said.get("recovery", ""), _NAME_MOST),
        text=words(said["text"], _LINE_MOST),
    )


def _is(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not a truth value")
    return value


def _figure_or_none(value: object) -> float | None:
    return None if value is None else figure(value)


def _instant(text: str) -> datetime:
    """An instant in UTC; one without a time zone is none."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("no time zone")
    return at.astimezone(UTC)


def _shown(value: object) -> str:
    """A value of the evidence in a line."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
