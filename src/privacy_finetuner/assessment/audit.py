"""The audit of one run by its own canaries: a lower bound on epsilon beside the claim.

    audited = audit(Path("private"))
    print(audited.verdict, audited.findings[0].text)

What is compared: the claim is the accountant's epsilon of the *plan* (whoever began it has spent
it), for adding or removing one record. The bounds are of what was really released: the final model
(black-box) or every noisy gradient sum (white-box). A bound above the claim refutes it.

How it is done was written down before training, in the seal (`training.canaries`): which canaries
choose how many are guessed, and the confidence. Two bounds are judged, one that assumes nothing and
one against the dominating Gaussian of the plan; each takes half of the allowed error, so that both
together are wrong about an honest run with probability at most 1 - confidence.

The audit reads no private record. The coins and the losses of canaries are not private either; but
an audit is not part of what the run promised, so it is written only where it is asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from privacy_core.accounting import dominating_gaussian, epsilon_of
from privacy_core.auditing import (
    AuditFinding,
    Ceiling,
    EpsilonBound,
    Interval,
    Split,
    TruePositives,
    Verdict,
    WhiteBox,
    auc,
    ceiling,
    gaussian_estimate,
    judge,
    one_run_epsilon,
    one_run_f_dp_epsilon,
    tpr_at_fpr,
    white_box_ceiling,
)
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.assessment.evidence import faults_of_weights, read_evidence
from privacy_finetuner.errors import CheckpointError, ConfigurationError
from privacy_finetuner.training import run_record
from privacy_finetuner.training.canaries import Seal, read_seal
from privacy_finetuner.training.plan import DPTrainingPlan

AUDIT_VERSION: Final = 1
_FLOOR_SHARE: Final = 0.1
_TRIALS: Final = 100
_FPR: Final = 0.01
_BETWEEN: Final = NeighbouringRelation.ADD_OR_REMOVE_ONE

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Audit:
    """What an audit found. The repr shows the verdict only.

    Attributes:
        folder: of the run.
        job_id: of the run.
        plan: of the run.
        seal: its canaries.
        scores: of each canary; higher means more likely trained on.
        theory: the claimed epsilon, for adding or removing one record, at the plan's delta.
        findings: bounds with their verdicts and ceilings.
        estimate: the Gaussian estimate: not a bound, no verdict.
        auc: how well the scores tell canaries that were in from those that were out.
        true_positives: the share recognised at a false positive rate of one per cent.
        steps: for white-box scores, how many steps were observed; else `None`.
    """

    folder: str
    job_id: str
    plan: DPTrainingPlan
    seal: Seal
    scores: NDArray[np.float64]
    theory: float
    findings: tuple[AuditFinding, ...]
    estimate: EpsilonBound
    auc: Interval
    true_positives: TruePositives
    steps: int | None
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Audit(verdict={self.verdict.value!r}, canaries={self.seal.count})"

    @property
    def verdict(self) -> Verdict:
        """VIOLATION if any bound is above its claim; CONSISTENT if any audit could speak."""
        found = {finding.verdict for finding in self.findings}
        ranked = (Verdict.VIOLATION, Verdict.CONSISTENT, Verdict.INCONCLUSIVE)
        return next(verdict for verdict in ranked if verdict in found)

    @property
    def epsilon(self) -> float:
        """The largest lower bound that assumes nothing.

        A bound of Gaussian shape is not among them: it refutes a mu, and what that mu costs may lie
        above the epsilon of an honest run that is not Gaussian.
        """
        return max(f.bound.epsilon for f in self.findings if not f.bound.assumes)

    def to_dict(self) -> dict[str, Any]:
        """The audit as JSON-ready data. Coins and scores are not in it."""
        return {
            "version": AUDIT_VERSION,
            "outside_guarantee": True,
            "verdict": self.verdict.value,
            "job_id": self.job_id,
            "canaries": {
                "count": self.seal.count,
                "kind": self.seal.kind,
                "scores": "white-box" if self.seal.is_white_box else "black-box",
                "seal": self.seal.digest,
                "observed_steps": self.steps,
            },
            "protocol": self.seal.protocol,
            "theory": {
                "epsilon": _number(self.theory),
                "delta": self.plan.delta,
                "relation": _BETWEEN.value,
                "accountant": self.plan.accountant,
            },
            "epsilon_lower_bound": self.epsilon,
            "findings": [json.loads(finding.to_json()) for finding in self.findings],
            "gaussian_estimate": {
                **asdict(self.estimate),
                "choice": str(self.estimate.choice),
                "label": "an estimate, not a bound: it assumes a Gaussian shape and independence",
            },
            "auc": asdict(self.auc),
            "tpr_at_1_percent_fpr": asdict(self.true_positives),
            "notes": self.notes,
        }


def audit(folder: Path, *, device: str = "auto", progress: Progress | None = None) -> Audit:
    """Audit the run in a folder by the canaries that it carried.

    Args:
        folder: the output folder of a finished run with `audit_canaries`.
        device: where the model is scored.
        progress: told in words what begins.

    Raises:
        ConfigurationError: there is no finished run, or it carried no canaries.
        CheckpointError: its seal or scores are missing, damaged, or not those it began with; or
            the model in the folder is not the run's.
    """
    say = progress or (lambda _: None)
    state = run_record.read_state(folder)
    if state is None or state.plan is None:
        raise ConfigurationError(f"{str(folder)!r} holds no run; nothing was audited")
    if state.audit is None:
        raise ConfigurationError(
            f"the run in {str(folder)!r} carried no canaries: train with --audit-canaries 1000 to "
            "be able to audit; nothing was audited"
        )
    if not state.is_finished:
        raise ConfigurationError(
            f"the run in {str(folder)!r} is unfinished: resume it first; nothing was audited"
        )
    plan = DPTrainingPlan.from_json(dict(state.plan))
    seal = read_seal(folder, digest=str(state.audit["seal"]))
    _require_own_weights(folder)
    scores, steps = _scores(folder, seal, device=device, say=say)
    return judged(scores, seal, plan, folder=folder, job_id=state.job_id, steps=steps, progress=say)


def judged(
    scores: NDArray[np.float64],
    seal: Seal,
    plan: DPTrainingPlan,
    *,
    folder: Path,
    job_id: str = "",
    steps: int | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Hold scores of a run's canaries against its plan, by the protocol of the seal."""
    say = progress or (lambda _: None)
    choice = Split(seed=int(seal.protocol["seed"]), fraction=float(seal.protocol["fraction"]))
    allowed = 1 - float(seal.protocol["confidence"])
    confidence = 1 - allowed / 2
    event, delta = plan.event(), plan.delta
    say("pricing the plan")
    theory = epsilon_of(event, delta, plan.accountant, relation=_BETWEEN)
    gaussian = dominating_gaussian(event, delta_floor=_FLOOR_SHARE * delta, relation=_BETWEEN)
    say("bounding epsilon from the guesses")
    coins = seal.included
    bounds = (
        one_run_epsilon(scores, coins, delta=delta, confidence=confidence, choice=choice),
        one_run_f_dp_epsilon(
            scores,
            coins,
            delta=delta,
            confidence=confidence,
            choice=choice,
            delta_floor=gaussian.delta_floor,
        ),
    )
    say("simulating what an ideal attacker would find")
    findings = tuple(
        judge(
            bound,
            theory=theory,
            theory_gaussian=gaussian.epsilon(delta),
            ceiling=ceiling_of(plan, seal, theory, bound, choice),
        )
        for bound in bounds
    )
    area = auc(scores[coins], scores[~coins])
    return Audit(
        folder=str(folder),
        job_id=job_id,
        plan=plan,
        seal=seal,
        scores=scores,
        theory=theory,
        findings=findings,
        estimate=gaussian_estimate(
            scores, coins, delta=delta, confidence=1 - allowed, choice=choice
        ),
        auc=area,
        true_positives=tpr_at_fpr(scores[coins], scores[~coins], _FPR),
        steps=steps,
        notes=_notes(plan, seal, steps, area),
    )


def ceiling_of(
    plan: DPTrainingPlan, seal: Seal, theory: float, bound: EpsilonBound, choice: Split
) -> Ceiling:
    """What an ideal attacker with these canaries certifies on a run that is what it claims.

    White-box: on this very run, by the law of its scores. Black-box, and where that law spans too
    much: one Gaussian release of the same epsilon, far more than a final model shows.
    """
    shared: dict[str, Any] = {
        "method": bound.method,
        "confidence": bound.confidence,
        "choice": choice,
        "trials": _TRIALS,
    }
    if seal.is_white_box and math.isfinite(theory):
        try:
            run = WhiteBox(
                noise_multiplier=plan.gradient_noise_multiplier,
                sample_rate=plan.sampling_probability,
                steps=plan.steps,
                epsilon=theory,
            )
            return white_box_ceiling(run, plan.delta, seal.count, **shared)
        except InvalidParameter:
            pass  # so little noise that a lattice cannot hold its log ratios
    return ceiling(theory, plan.delta, seal.count, **shared)


def _require_own_weights(folder: Path) -> None:
    """Refuse weights that are not those of the run: their scores would be about another model."""
    stated = read_evidence(folder).statement
    faults = [] if stated is None else faults_of_weights(folder, stated.get("weights") or {})
    if faults:
        raise CheckpointError(f"{'; '.join(faults)}; nothing was audited")


def _scores(
    folder: Path, seal: Seal, *, device: str, say: Progress
) -> tuple[NDArray[np.float64], int | None]:
    """The score of each canary, and how many steps it is from."""
    if seal.is_white_box:
        from privacy_finetuner.training.canary_gradient import (  # noqa: PLC0415 -- torch
            digest_of_scores,
            read_scores,
        )

        say("reading the scores of the steps")
        state = run_record.read_state(folder)
        recorded = None if state is None else state.audit_scores
        if recorded is not None and digest_of_scores(folder) != recorded:
            raise CheckpointError(
                f"the scores in {folder.name!r} are not those that the run record names: they were "
                "changed after the run; nothing was audited"
            )
        return read_scores(folder, seal.digest)
    from privacy_finetuner.training import inputs  # noqa: PLC0415 -- loads torch
    from privacy_finetuner.training.canary_records import canary_losses  # noqa: PLC0415

    say("loading the model")
    loaded = inputs.load(str(folder), device=device, task=seal.task)
    rows = int(loaded.model.get_input_embeddings().weight.shape[0])
    expected = seal.vocabulary + (seal.count if seal.kind == "new-token" else 0)
    if rows != expected:
        raise CheckpointError(
            f"the model in {folder.name!r} embeds {rows} tokens, the run's had {expected}: it is "
            "another model; nothing was audited"
        )
    say(f"scoring {seal.count} canaries")
    return np.array(seal.first_losses) - canary_losses(seal, loaded), None


def _notes(plan: DPTrainingPlan, seal: Seal, steps: int | None, area: Interval) -> list[str]:
    notes = [
        "outside the guarantee: for whoever checks the run, not for publication with the model",
    ]
    if plan.relation is not _BETWEEN:
        notes.append(
            f"the run states its epsilon for {plan.relation.value}; canaries are in or out, so the "
            "claim that is audited is that of the same run for one record more or less"
        )
    if area.low <= 0.5:
        stronger = "" if seal.is_white_box else "; white-box scores, or kind 'new-token', see more"
        notes.append(
            f"these scores do not certainly tell canaries that were in from those that were out "
            f"(AUC {area}): the ceiling is an ideal attacker's, and this one saw next to nothing"
            f"{stronger}"
        )
    if steps is not None and steps < plan.steps:
        notes.append(f"{plan.steps - steps} of {plan.steps} steps were not observed")
    if seal.is_white_box:
        notes.append(
            "dictated gradients test sampling, clipping and noise; they do not pass through the "
            "engine that makes the gradients of records"
        )
    return notes


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"
