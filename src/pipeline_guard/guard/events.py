"""What happened, as it is written down, told to people and shown: one value for all three."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pipeline_guard.assess import Incident


class Happening(StrEnum):
    """What can happen."""

    STARTED = "started"
    STOPPED = "stopped"
    RELOADED = "reloaded"
    OPENED = "opened"
    WORSE = "worse"
    BETTER = "better"
    RESOLVED = "resolved"
    FLAPPING = "flapping"
    SETTLED = "settled"
    HELD = "held"
    NOTED = "noted"
    SUGGESTED = "suggested"
    ACTING = "acting"
    STEP = "step"
    APPLIED = "applied"
    ROLLED_BACK = "rolled_back"
    HEALED = "healed"
    NOT_HEALED = "not_healed"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    ESCALATED = "escalated"
    JUDGED = "judged"
    PROMOTABLE = "promotable"
    PROMOTED = "promoted"
    SILENCED = "silenced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: what.
        at: when.
        text: one line for people.
        incident, component, recovery: what it is about; empty where nothing.
        data: more, as JSON values.
    """

    kind: Happening
    at: datetime
    text: str
    incident: str = ""
    component: str = ""
    recovery: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def about(
    incident: Incident,
    kind: Happening,
    at: datetime,
    text: str,
    *,
    recovery: str = "",
    data: Mapping[str, Any] | None = None,
) -> Event:
    """An event of an incident."""
    return Event(
        kind=kind,
        at=at,
        text=text,
        incident=incident.id,
        component=str(incident.component),
        recovery=recovery,
        data=data or {},
    )


def found(incident: Incident, kind: Happening, at: datetime) -> Event:
    """What a look changed about an incident, with its evidence."""
    data = {
        "check": incident.check,
        "fault": incident.fault.value,
        "severity": incident.severity.value,
        "evidence": dict(incident.reading.evidence),
    }
    is_over = kind is Happening.RESOLVED
    text = f"{incident.check} is well again" if is_over else incident.reading.summary
    return about(incident, kind, at, text, data=data)
