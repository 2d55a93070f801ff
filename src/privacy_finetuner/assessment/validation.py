"""`PrivacyValidator`: does what a run recorded cost what was promised?

ValidationImpossible (PrivacyError)   the history holds too little; nothing was validated
+-- AuditMissing                      an empirical bound was asked for, and no audit was made

Validation recomputes; it does not prove. What it can find is a price, a record, a noise multiplier
or a weight that does not fit the rest. That the program did what it recorded is shown by its tests,
and can be refuted, never proved, by an audit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from privacy_core import dp_events
from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_finetuner.assessment.audit_claims import (
    faults_of_claims,
    faults_of_findings,
    findings_in,
    lower_bound,
)
from privacy_finetuner.assessment.evidence import faults_of_statement, read_evidence
from privacy_finetuner.assessment.plan_check import (
    faults_of_plan,
    faults_of_prices,
    price,
    prices,
)
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.results import RunAccount, TrainingHistory
from privacy_finetuner.training.plan import DPTrainingPlan

if TYPE_CHECKING:
    import torch

METHODS: Final = ("mathematical_proof", "empirical", "both")

# Amounts come from the same arithmetic; this much may be rounding.
_SLACK: Final = 1e-9
# Audit and validation may price by two machines.
_SAME: Final = 1e-3


class ValidationImpossible(PrivacyError):
    """The history holds too little to be validated. Nothing was validated."""

    code: ClassVar[str] = "validation_impossible"


class AuditMissing(ValidationImpossible):
    """An empirical bound was asked for, and the history has no audit."""

    code: ClassVar[str] = "audit_missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyValidationResult:
    """What a validation found.

    `guarantee_verified` says that the recorded events cost no more than was promised and that the
    records fit together (`mathematical_proof`), or that an audit that was able to refute the
    promise did not (`empirical`). It never says that a model was proved private.

    Args:
        theoretical_epsilon: the price of the recorded event at the plan's delta: an upper bound.
        empirical_epsilon_bound: the largest lower bound that an audit certified; `None` without an
            audit. Outside the guarantee.
        epsilon_promised: of the configuration. `delta` is the plan's.
        prices: the same event by two accountants that share no arithmetic.
        findings: what was looked at and fits, in sentences.
        faults: what does not, in sentences; empty where the guarantee is verified.
    """

    guarantee_verified: bool
    theoretical_epsilon: float
    empirical_epsilon_bound: float | None
    epsilon_promised: float
    delta: float
    prices: Mapping[str, float | None]
    validation_method: str
    findings: Sequence[str]
    faults: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Write the result as JSON-ready data."""
        return asdict(self)


class PrivacyValidator:
    """Recomputes the guarantee of a finished run from its training history."""

    def validate_privacy_guarantees(
        self,
        model: torch.nn.Module,
        training_history: TrainingHistory,
        privacy_config: PrivacyConfig,
        validation_method: str = "mathematical_proof",
    ) -> PrivacyValidationResult:
        """Check a trained model, its history and its configuration against each other.

        ======================  ==============================================================
        validation_method       checked
        ======================  ==============================================================
        `mathematical_proof`    price by two accountants, promise, sampler, clipping, noise,
                                run record, weight files, the parameters of `model`
        `empirical`             the audit in the history: no violation, and able to find one
        `both`                  both
        ======================  ==============================================================

        Guarantee: see `PrivacyValidationResult.guarantee_verified`. Nothing is computed from
        records, so nothing is spent.

        Args:
            model: the trained model.
            training_history: of a finished run: `TrainingResult.training_history`.
            privacy_config: what was promised.
            validation_method: as in the table.

        Raises:
            InvalidParameter: there is no such method.
            ValidationImpossible: the history holds no finished run.
            AuditMissing: `empirical` or `both`, and the history has no audit.
        """
        if validation_method not in METHODS:
            raise InvalidParameter(
                "validation_method", found=validation_method, expected=f"one of {METHODS}"
            )
        case = _Case.of(training_history, privacy_config)
        if validation_method != "mathematical_proof":
            case.require_audit()
            case.look_at_audit()
        if validation_method != "empirical":
            case.look_at_price()
            case.look_at_course(training_history)
            case.look_at_folder()
            case.look_at_model(model)
        plan = case.plan
        epsilon = price(plan.event(), plan.delta, plan.accountant, plan.relation)
        return PrivacyValidationResult(
            guarantee_verified=not case.faults,
            theoretical_epsilon=math.inf if epsilon is None else epsilon,
            empirical_epsilon_bound=lower_bound(case.audit),
            epsilon_promised=privacy_config.epsilon,
            delta=plan.delta,
            prices=prices(plan.event(), plan),
            validation_method=validation_method,
            findings=tuple(case.findings),
            faults=tuple(case.faults),
        )


@dataclass(slots=True, kw_only=True)
class _Case:
    """One validation under way: what is compared, and what was found."""

    account: RunAccount
    plan: DPTrainingPlan
    promised: PrivacyConfig
    audit: Sequence[Mapping[str, Any]]
    findings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, history: TrainingHistory, promised: PrivacyConfig) -> _Case:
        """Read a history."""
        account = history.run
        if account is None or not account.charged_steps:
            raise ValidationImpossible(
                "the training history holds no finished run: give the training_history of the "
                "result that train() returned; nothing was validated"
            )
        try:
            plan = DPTrainingPlan.from_json(dict(account.plan))
        except (PrivacyError, LookupError, TypeError, ValueError) as error:
            raise ValidationImpossible(
                f"the plan in the training history cannot be read ({error}); nothing was validated"
            ) from None
        audit = [] if history.audit is None else findings_in(history.audit)
        return cls(account=account, plan=plan, promised=promised, audit=audit)

    def require_audit(self) -> None:
        """Refuse an empirical validation without evidence."""
        if not self.audit:
            raise AuditMissing(
                "the training history has no audit: train with audit_canaries=1000, audit the run "
                "(privacy-finetuner audit RUN_DIR --json), and set training_history.audit to what "
                "it says; nothing was validated"
            )

    def look_at_price(self) -> None:
        """The event, its price by two accountants, and the promise."""
        plan, promised = self.plan, self.promised
        event = dp_events.from_json(self.account.event)
        found = prices(event, plan)
        self.faults += faults_of_plan(plan) + faults_of_prices(found)
        if event != plan.event(plan.priced_steps(self.account.charged_steps)):
            self.faults.append("the recorded event is not the one that the plan costs")
        epsilon = price(event, plan.delta, plan.accountant, plan.relation)
        if epsilon is None or epsilon > promised.epsilon * (1 + _SLACK):
            self.faults.append(
                f"the recorded event costs epsilon {epsilon}, promised was {promised.epsilon:g}"
            )
        if plan.delta > promised.priced_delta * (1 + _SLACK):
            self.faults.append(f"delta is {plan.delta:g}, promised was {promised.priced_delta:g}")
        if plan.relation is not promised.relation:
            self.faults.append(
                f"the price is for {plan.relation.value}, promised was {promised.relation.value}"
            )
        if promised.secure_rng and not plan.secure_rng:
            self.faults.append("the noise came from a generator that is not cryptographic")
        priced = ", ".join(f"{name} {cost:.6g}" for name, cost in found.items() if cost is not None)
        self.findings += [
            f"the recorded event costs epsilon, at delta {plan.delta:g}: {priced or 'no price'}",
            f"sampler {plan.sampler}, clip norm {plan.clip_norm:g}, noise multiplier "
            f"{plan.noise_multiplier:.6g} over {plan.steps} steps, noise from "
            f"{plan.noise_generator}",
        ]

    def look_at_course(self, history: TrainingHistory) -> None:
        """Whether the released course of training could be that of this plan."""
        steps = [epoch.step for epoch in history.epochs]
        last = self.account.charged_steps
        if steps != sorted(set(steps)) or any(not 0 < step <= last for step in steps):
            self.faults.append("the epochs of the history are not steps of this run, in order")
        is_fixed = self.plan.count_noise_multiplier is None
        for epoch in history.epochs:
            where = f"epoch {epoch.epoch}"
            if not 0 < epoch.clip_norm < math.inf:
                self.faults.append(f"{where}: nothing bounded one example's gradient")
            elif is_fixed and epoch.clip_norm != self.plan.clip_norm:
                self.faults.append(f"{where}: the clip norm moved, and nothing was paid for it")
            if min(epoch.loss_std, epoch.accuracy_std, epoch.mean_gradient_norm_std) <= 0:
                self.faults.append(f"{where}: a figure was released without noise")

    def look_at_folder(self) -> None:
        """Run record, statement and weight files, where the run's folder is still there."""
        folder = Path(self.account.folder)
        if not folder.exists():
            self.findings.append("the run's folder is gone: record and weight files were not seen")
            return
        try:
            evidence = read_evidence(folder)
        except PrivacyError as error:
            self.faults.append(str(error))
            return
        faults = faults_of_statement(evidence)
        if evidence.head != self.account.record_head:
            faults.append("the run record ends at another entry than the history says")
        if evidence.charged_steps != self.account.charged_steps or evidence.plan != self.plan:
            faults.append("the run record charges another plan than the history")
        self.faults += faults
        if not faults:
            self.findings.append("run record, statement and weight files agree with the history")

    def look_at_model(self, model: torch.nn.Module) -> None:
        """Whether the parameters of the model are those that the run left."""
        from privacy_finetuner.training.parameter_digests import (  # noqa: PLC0415 -- loads torch
            parameter_digests,
        )

        left = self.account.parameters
        found = parameter_digests(model, set(left))
        missing = len(left) - len(found)
        changed = sum(found[name] != left[name] for name in found)
        if not left or missing or changed:
            self.faults.append(
                f"the model is not the one that the run left: of {len(left)} trained parameters "
                f"{missing} are missing and {changed} differ"
            )
        else:
            self.findings.append(f"all {len(left)} trained parameters are those that the run left")

    def look_at_audit(self) -> None:
        """Whether an audit refutes the promise, and whether it was able to."""
        edited = faults_of_findings(self.audit)
        self.faults += edited or faults_of_claims(
            self.audit, plan=self.plan, event=self.plan.event()
        )
        promised = self.promised.epsilon
        delta = min(self.promised.priced_delta, self.plan.delta)
        if not edited and not any(
            not finding["bound"]["assumes"]
            and finding["bound"]["delta"] >= delta * (1 - _SLACK)
            and float(finding["theory"]) <= promised * (1 + _SAME)
            for finding in self.audit
        ):
            self.faults.append(
                f"the audit was not held against the promise: epsilon {promised:g} at delta "
                f"{delta:g}, without an assumption"
            )
        self.findings += [str(finding["text"]) for finding in self.audit]
        verdicts = {str(finding["verdict"]) for finding in self.audit}
        if "violation" in verdicts:
            self.faults.append("the audit refutes the promise")
        elif "consistent" not in verdicts:
            self.faults.append(
                "the audit was too small to refute anything: its ceiling is far below the promise"
            )
