"""What a detector saw, at a glance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from privacy_finetuner.operations.alerts import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuritySummary(Mapping[str, Any]):
    """What a detector saw since it was made. Also a mapping: `summary["threat_level"]`.

    Attributes:
        monitoring_active: whether its thread runs.
        threat_level: the worst alert of the last day; low without one.
        total_threats_detected: different alerts; the same evidence counts once.
        active_alerts: those of the last day.
        threats_by_type, threats_by_level: how they divide.
        responses: how many acts came to which outcome.
        ignored_figures: names of metrics that no rule looks at.
        failed_handlers: how often a handler raised; the others were called all the same.
        last_scan: when the thread last ended a look, or `detect_threat` did.
    """

    monitoring_active: bool
    threat_level: Severity
    total_threats_detected: int
    active_alerts: int
    threats_by_type: Mapping[str, int]
    threats_by_level: Mapping[str, int]
    responses: Mapping[str, int]
    ignored_figures: tuple[str, ...]
    failed_handlers: int
    last_scan: datetime | None

    def __getitem__(self, name: str) -> Any:
        """A field by name."""
        if name not in set(self):
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        """The names of the fields."""
        return iter(field.name for field in fields(self))

    def __len__(self) -> int:
        """How many fields there are."""
        return len(fields(self))
