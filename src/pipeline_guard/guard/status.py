"""How things stand, for people and programs: alerts, components, recoveries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from pipeline_guard.assess import Incident
from pipeline_guard.guard.codec import from_incident
from pipeline_guard.guard.events import Event, Happening
from pipeline_guard.guard.watch import Watch
from pipeline_guard.model import Alert, Component

UNKNOWN: Final = "unknown"
"""The health of what was not looked at yet: nobody has said that it is well."""
_ACTIONS: Final = frozenset(
    {
        Happening.HELD,
        Happening.NOTED,
        Happening.SUGGESTED,
        Happening.ACTING,
        Happening.STEP,
        Happening.APPLIED,
        Happening.ROLLED_BACK,
        Happening.HEALED,
        Happening.NOT_HEALED,
        Happening.REFUSED,
        Happening.INTERRUPTED,
        Happening.ESCALATED,
    }
)


def alert_of(incident: Incident, *, root: str | None = None, events: Iterable[Event] = ()) -> Alert:
    """The documented `Alert` of an incident; `events`: of this incident, oldest first."""
    return Alert(
        component=incident.component,
        severity=incident.severity,
        message=incident.reading.summary,
        timestamp=incident.confirmed,
        metadata={
            "evidence": dict(incident.reading.evidence),
            "measurements": dict(incident.reading.measurements),
        },
        resolved=not incident.is_standing,
        resolution_action=incident.resolution,
        id=incident.id,
        fault=incident.fault,
        check=incident.check,
        since=incident.since,
        last_seen=incident.last_seen,
        count=incident.count,
        root=root,
        runbook=incident.runbook,
        actions=[action_of(event) for event in events if event.kind in _ACTIONS],
        is_flapping=incident.is_flapping,
    )


def action_of(event: Event) -> dict[str, Any]:
    """What was done, refused, held back or suggested, as JSON values."""
    return {
        "at": event.at.isoformat(),
        "action": event.kind.value,
        "text": event.text,
        **({"recovery": event.recovery} if event.recovery else {}),
        **dict(event.data),
    }


def status_of(
    watch: Watch,
    *,
    at: datetime,
    is_monitoring: bool,
    lag_s: float = 0.0,
    hanging: int = 0,
    state_fault: str | None = None,
) -> dict[str, Any]:
    """The documented system status, as JSON values.

    `overall_health` and each component's health are a `HealthStatus` value, or `unknown` until the
    first look.
    """
    roots = watch.roots()
    modes = watch.plan.modes(watch.promoted)
    components = {str(c): _component(watch, c) for c in watch.plan.components()}
    known = [c for c in components.values() if c["health"] != UNKNOWN]
    return {
        "overall_health": watch.health().value if known else UNKNOWN,
        "at": at.isoformat(),
        "is_monitoring": is_monitoring,
        "components": components,
        "alerts": [
            from_incident(each) | {"severity": each.severity.value, "root": roots.get(each.id)}
            for each in sorted(watch.incidents.values(), key=lambda i: (i.confirmed, i.id))
        ],
        "recoveries": {
            each.name: {
                "mode": modes[each.name].value,
                "right_in_a_row": watch.dry_runs.right_in_a_row(each.name),
                "runs": sum(a.recovery == each.name for a in watch.attempts),
            }
            for each in watch.plan.recoveries
        },
        "is_killed": watch.is_killed,
        "guard": {
            "checks": len(watch.plan.checks),
            "loop_lag_seconds": round(lag_s, 4),
            "hanging_probes": hanging,
            "state_fault": state_fault,
        },
    }


def _component(watch: Watch, component: Component) -> dict[str, Any]:
    mine = [c for c in watch.plan.checks.values() if c.subject.component == component]
    states: Mapping[str, Any] = {
        each.id: {
            "level": state.level.name.lower() if state else UNKNOWN,
            "newest": state.verdicts[-1].name.lower() if state and state.verdicts else UNKNOWN,
            "is_flapping": bool(state and state.is_flapping),
        }
        for each in mine
        for state in (watch.states.get(each.id),)
    }
    is_known = any(each.id in watch.states for each in mine)
    health = watch.health(str(component)).value if is_known else UNKNOWN
    return {
        "health": health,
        "depends_on": list(watch.plan.depends_on.get(str(component), ())),
        "checks": states,
    }
