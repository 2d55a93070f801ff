"""Incidents, runs and verdicts as JSON documents, and back: one form for disk and programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline_guard.assess import CheckState, Incident, Stage
from pipeline_guard.decide import Attempt, DryVerdict, Outcome
from pipeline_guard.model import Fault, Reading, Verdict, component_of


def text_of(document: Any) -> str:
    """Canonical JSON: sorted keys, no spaces. What JSON has no form for becomes a text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), default=_plain)


def document_of(text: str) -> dict[str, Any]:
    """What `text_of` wrote."""
    found: dict[str, Any] = json.loads(text)
    return found


def from_incident(incident: Incident) -> dict[str, Any]:
    """An incident as a document."""
    return {
        "id": incident.id,
        "component": str(incident.component),
        "check": incident.check,
        "fault": incident.fault.value,
        "level": incident.level.name,
        "since": incident.since.isoformat(),
        "confirmed": incident.confirmed.isoformat(),
        "last_seen": incident.last_seen.isoformat(),
        "reading": from_reading(incident.reading),
        "count": incident.count,
        "stage": incident.stage.value,
        "is_flapping": incident.is_flapping,
        "runbook": incident.runbook,
        "resolution": incident.resolution,
        "resolved": incident.resolved.isoformat() if incident.resolved else None,
    }


def to_incident(document: Mapping[str, Any]) -> Incident:
    """The incident of a document."""
    moments = {
        name: datetime.fromisoformat(document[name]) for name in ("since", "confirmed", "last_seen")
    }
    resolved = document["resolved"]
    return Incident(
        id=document["id"],
        component=component_of(document["component"]),
        check=document["check"],
        fault=Fault(document["fault"]),
        level=Verdict[document["level"]],
        reading=to_reading(document["reading"]),
        count=document["count"],
        stage=Stage(document["stage"]),
        is_flapping=document["is_flapping"],
        runbook=document["runbook"],
        resolution=document["resolution"],
        resolved=datetime.fromisoformat(resolved) if resolved else None,
        **moments,
    )


def from_reading(reading: Reading) -> dict[str, Any]:
    """A reading as a document."""
    return {
        "verdict": reading.verdict.name,
        "summary": reading.summary,
        "fault": reading.fault.value if reading.fault else None,
        "measurements": dict(reading.measurements),
        "evidence": dict(reading.evidence),
    }


def to_reading(document: Mapping[str, Any]) -> Reading:
    """The reading of a document."""
    fault = document.get("fault")
    return Reading(
        verdict=Verdict[document["verdict"]],
        summary=document.get("summary", ""),
        fault=Fault(fault) if fault else None,
        measurements=document.get("measurements", {}),
        evidence=document.get("evidence", {}),
    )


def from_state(state: CheckState) -> dict[str, Any]:
    """A check's state as a document."""
    return {
        "verdicts": [int(each) for each in state.verdicts],
        "counted": state.counted,
        "level": int(state.level),
        "is_flapping": state.is_flapping,
        "bad_since": state.bad_since.isoformat() if state.bad_since else None,
    }


def to_state(document: Mapping[str, Any]) -> CheckState:
    """The state of a document."""
    since = document["bad_since"]
    return CheckState(
        tuple(Verdict(each) for each in document["verdicts"]),
        document["counted"],
        Verdict(document["level"]),
        document["is_flapping"],
        datetime.fromisoformat(since) if since else None,
    )


def from_attempt(attempt: Attempt) -> dict[str, Any]:
    """A run as a document."""
    return asdict(attempt)


def to_attempt(document: Mapping[str, Any]) -> Attempt:
    """The run of a document."""
    return Attempt(**{**document, "outcome": Outcome(document["outcome"])})


def from_verdict(verdict: DryVerdict) -> dict[str, Any]:
    """A verdict as a document."""
    return asdict(verdict)


def to_verdict(document: Mapping[str, Any]) -> DryVerdict:
    """The verdict of a document."""
    return DryVerdict(**document)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return f"<{type(value).__name__}>"
