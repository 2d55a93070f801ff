"""What survives a restart."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline_guard.assess import CheckState, Incident
from pipeline_guard.config import Mode
from pipeline_guard.decide import Attempt, DryVerdict


@dataclass(slots=True)
class Saved:
    """What an earlier process knew; or what changed since it was last written.

    Attributes:
        incidents, attempts, states: by id.
        verdicts: by recovery and incident.
        promoted: by recovery, what a person lets it do.
    """

    incidents: dict[str, Incident] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    verdicts: dict[tuple[str, str], DryVerdict] = field(default_factory=dict)
    states: dict[str, CheckState] = field(default_factory=dict)
    promoted: dict[str, Mode] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.incidents or self.attempts or self.verdicts or self.states)
