"""Attacks that are really carried out, each in a sandbox of its own, to see whether they are seen.

=======================  =======================================================================
attack                   what is done
=======================  =======================================================================
`data_poisoning`         records of a registered file are replaced by a planted sentence
`label_flipping`         labels are flipped before a private run on the shipped model
`gradient_outlier`       one of eight silos sends a long update of the wrong sign
`canary_probing`         codes are tried in one sentence at a served model
`membership_queries`     halves of suspected records are shown to a served model
`brute_force`            passwords are guessed at the identity room
`budget_draining`        many small acts are charged to a ledger
`checkpoint_tampering`   a sealed state is changed, cut, mixed, wound back or taken away
`unauthorized_access`    users of another organisation are asked for by id
=======================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from privacy_core.errors import InvalidParameter
from privacy_finetuner.operations.alerts import Alert, ThreatType
from privacy_finetuner.operations.drills import access, queries, records, silos, spending, states
from privacy_finetuner.operations.drills.results import AttackSimulationResult
from privacy_finetuner.operations.drills.sandbox import Sandbox, Settings, first, opened
from privacy_runtime.world import Clock, Entropy

__all__ = ["ATTACKS", "Attack", "AttackSimulationResult", "Settings", "carry_out"]

Acts: TypeAlias = Callable[[Sandbox, float], Iterator[None]]
"""Carries an attack out, and yields after each of the attacker's acts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """An attack, under which type its alerts fall, and which rules are meant for it."""

    acts: Acts
    threat_type: ThreatType
    rules: frozenset[str]
    is_quick: bool = True


def _attack(acts: Acts, threat_type: ThreatType, *rules: str, is_quick: bool = True) -> Attack:
    return Attack(acts=acts, threat_type=threat_type, rules=frozenset(rules), is_quick=is_quick)


_T = ThreatType
ATTACKS: Final[Mapping[str, Attack]] = {
    "data_poisoning": _attack(records.data_poisoning, _T.DATA_POISONING, "source_changed"),
    "label_flipping": _attack(
        records.label_flipping, _T.DATA_POISONING, "scores_fell", is_quick=False
    ),
    "gradient_outlier": _attack(silos.gradient_outlier, _T.DATA_POISONING, "silo_outlier"),
    "canary_probing": _attack(
        queries.canary_probing, _T.MODEL_INVERSION, "canary_probing", is_quick=False
    ),
    "membership_queries": _attack(
        queries.membership_queries,
        _T.MEMBERSHIP_INFERENCE,
        "membership_queries",
        is_quick=False,
    ),
    "brute_force": _attack(access.brute_force, _T.CREDENTIAL_ATTACK, "account_guessing"),
    "budget_draining": _attack(
        spending.budget_draining,
        _T.PRIVACY_BUDGET_EXHAUSTION,
        "budget_draining",
        "budget_nearly_spent",
    ),
    "checkpoint_tampering": _attack(states.checkpoint_tampering, _T.TAMPERING, "sealed_state"),
    "unauthorized_access": _attack(
        access.unauthorized_access, _T.UNAUTHORIZED_ACCESS, "foreign_objects"
    ),
}
"""The attacks by name. `is_quick`: without a model."""
_OTHER_NAMES: Final[Mapping[str, str]] = {
    "privacy_budget_exhaustion": "budget_draining",
    "model_inversion": "canary_probing",
    "membership_inference": "membership_queries",
    "credential_attack": "brute_force",
    "tampering": "checkpoint_tampering",
}
"""Values of threat types, for whoever asks by type. Nothing exhausts a machine on purpose."""


def carry_out(
    attack_type: str, intensity: float, settings: Settings, *, clock: Clock, entropy: Entropy
) -> AttackSimulationResult:
    """Carry an attack out until it is seen or over; see `ThreatDetector.simulate_attack`.

    Args:
        attack_type: a name in `ATTACKS`, or the value of a threat type.
        intensity: in (0, 1].
        settings: whose detection is tried.
        clock: measures the drill; the sandbox has its own.
        entropy: what the attacker leaves to chance.

    Raises:
        InvalidParameter: no such attack, or the intensity is outside its domain.
        SimulationFailed: it could not be carried out.
    """
    name = _OTHER_NAMES.get(attack_type, attack_type)
    if name not in ATTACKS:
        expected = ", ".join(sorted({*ATTACKS, *_OTHER_NAMES}))
        raise InvalidParameter("attack_type", found=attack_type, expected=f"one of {expected}")
    if not 0 < intensity <= 1:
        raise InvalidParameter("intensity", found=intensity, expected="in (0, 1]")
    attack, begun_s = ATTACKS[name], clock.monotonic_s()
    with opened(settings, entropy) as sandbox:
        course = _watched(sandbox, attack, intensity)
        effects: dict[str, object] = {}
        for look in sandbox.afterwards:
            effects |= look()
    alert = course.alert
    return AttackSimulationResult(
        attack_type=name,
        threat_type=attack.threat_type,
        intensity=intensity,
        detected=alert is not None,
        delay_s=None if alert is None else course.seen_s,
        acts=course.acts,
        acts_until_detected=None if alert is None else course.acts,
        rule=None if alert is None else alert.rule,
        confidence=None if alert is None else alert.confidence,
        evidence=() if alert is None else alert.evidence,
        responses=() if alert is None else alert.responses,
        effects=effects,
        strengths=dict(sandbox.strengths),
        duration_s=clock.monotonic_s() - begun_s,
    )


@dataclass(frozen=True, slots=True)
class _Course:
    alert: Alert | None
    acts: int
    seen_s: float


def _watched(sandbox: Sandbox, attack: Attack, intensity: float) -> _Course:
    """Let the attacker act, and look as often as the detector would."""
    begun_s = looked_s = sandbox.clock.monotonic_s()
    count = 0
    for _ in attack.acts(sandbox, intensity):
        count += 1
        now_s = sandbox.clock.monotonic_s()
        if now_s - looked_s < sandbox.settings.interval_s:
            continue
        looked_s = now_s
        if (alert := first(sandbox.look(), attack.rules)) is not None:
            return _Course(alert, count, now_s - begun_s)
    alert = first(sandbox.look(), attack.rules)
    return _Course(alert, count, sandbox.clock.monotonic_s() - begun_s)
