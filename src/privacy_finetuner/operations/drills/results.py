"""What came of an attack that was carried out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from privacy_finetuner.operations.alerts import ThreatType


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackSimulationResult:
    """An attack, and what was seen of it. Every figure was observed.

    Attributes:
        attack_type: which attack.
        threat_type: under which its alerts fall.
        intensity: in (0, 1].
        detected: whether an alert of a rule that is meant for it reached the threshold.
        delay_s: from the first act to the look that saw it, on the sandbox's clock; None: unseen.
        acts: what the attacker did: requests, records, updates, charges, bytes.
        acts_until_detected: how many of them before it was seen; None: unseen.
        rule, confidence: of the alert that saw it.
        evidence: what the alert rests on.
        responses: what was done about it, or would have been.
        effects: what the responses really changed, looked up afterwards.
        strengths: by rule, how strong the evidence was.
        duration_s: how long the drill took, on the machine's clock.
    """

    attack_type: str
    threat_type: ThreatType
    intensity: float
    detected: bool
    delay_s: float | None
    acts: int
    acts_until_detected: int | None
    rule: str | None
    confidence: float | None
    evidence: tuple[Mapping[str, Any], ...]
    responses: tuple[Mapping[str, str], ...]
    effects: Mapping[str, Any]
    strengths: Mapping[str, float]
    duration_s: float

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "threat_type": self.threat_type.value}
