"""What a finished run leaves behind: the result, the report, the statement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from privacy_core import dp_events
from privacy_finetuner.errors import PrivacyBudgetExhaustedException
from privacy_finetuner.results import (
    PrivacyGuarantees,
    PrivacyReport,
    PrivacySpent,
    RunAccount,
    TrainingHistory,
    TrainingResult,
)
from privacy_finetuner.training import statement
from privacy_finetuner.training.canaries import Places
from privacy_finetuner.training.ledger_account import LedgerAccount
from privacy_finetuner.training.ledger_report import distribution_of, standing_of
from privacy_finetuner.training.parameter_digests import parameter_digests
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.privacy_book import PrivacyBook, Release
from privacy_finetuner.training.session import OpenedRun
from privacy_runtime.files import write_atomic

PRIVACY_REPORT: Final = "privacy_report.json"
TRAINING_RESULT: Final = "training_result.json"


def release_of(opened: OpenedRun, job_id: str, *, at: str) -> Release | None:
    """What a run costs once it has begun, however it ended: its plan. `None` when no step began."""
    plan, charged = opened.run.plan, opened.run.record.state.charged_steps
    if not charged:
        return None
    return Release(
        what="training",
        job_id=job_id,
        epsilon=plan.epsilon(),
        delta=plan.delta,
        at=at,
        event=dp_events.to_json(plan.event()),
    )


def result_of(
    opened: OpenedRun, history: TrainingHistory, job_id: str, duration_s: float, *, notes: list[str]
) -> TrainingResult:
    """The result of a finished run."""
    run, plan = opened.run, opened.run.plan
    charged = run.record.state.charged_steps
    priced = plan.priced_steps(charged)
    history.run = RunAccount(
        plan=plan.to_json(),
        event=dp_events.to_json(plan.event(priced)),
        charged_steps=charged,
        record_head=run.record.head,
        folder=str(run.folder),
        parameters=parameter_digests(run.loaded.model),
    )
    return TrainingResult(
        final_model=run.loaded.model,
        training_history=history,
        privacy_spent=PrivacySpent(epsilon=plan.epsilon(priced), delta=plan.delta),
        checkpoints=[str(path) for path in opened.checkpoints()],
        output_dir=str(run.folder),
        job_id=job_id,
        steps=charged,
        sample_rate=plan.sampling_probability,
        noise_multiplier=plan.noise_multiplier,
        clip_norm=run.state.clip_norm,
        guarantee=plan.guarantee(priced),
        duration_s=duration_s,
        engine=opened.engine,
        examples=len(run.dataset) if run.places is None else run.places.examples,
        truncated=run.dataset.truncated,
        dropped=run.dataset.dropped,
        unsupervised=run.dataset.unsupervised,
        notes=[
            *run.loaded.notes,
            *opened.notes,
            *_warnings(plan),
            *_stop(plan, charged),
            *_audit(run.places),
            *run.meter.notes,
            *notes,
        ],
    )


def report_of(
    book: PrivacyBook,
    ledger: LedgerAccount | None,
    plan: DPTrainingPlan | None,
    history: TrainingHistory,
    *,
    charged_steps: int,
) -> PrivacyReport:
    """What was promised, spent and left; every figure public or released."""
    standing = None if ledger is None else standing_of(ledger)
    last = history.epochs[-1] if history.epochs else None
    account = book.to_json()
    priced = plan.priced_steps(charged_steps) if plan else 0
    return PrivacyReport(
        privacy_spent=book.spent if standing is None else standing.spent,
        privacy_remaining=book.remaining if standing is None else standing.remaining,
        lifetime_spent=book.lifetime if standing is None else standing.spent,
        training_rounds=charged_steps,
        gradient_norm_stats={
            "mean_norm": last.mean_gradient_norm if last else None,
            "mean_norm_std": last.mean_gradient_norm_std if last else None,
            "clipping_rate": last.clipping_rate if last else None,
            "clipping_rate_std": last.clipping_rate_std if last else None,
            "clip_norm": last.clip_norm if last else None,
        },
        noise_injection_stats={
            "noise_multiplier": plan.noise_multiplier if plan else None,
            "gradient_noise_multiplier": plan.gradient_noise_multiplier if plan else None,
            "count_noise_multiplier": plan.count_noise_multiplier if plan else None,
            "statistics_noise_multiplier": plan.statistics_noise_multiplier if plan else None,
            "generator": plan.noise_generator if plan else None,
        },
        theoretical_guarantees=_guarantees(plan, priced) if plan else None,
        event=dp_events.to_json(plan.event(priced)) if plan else None,
        grants=account["grants"],
        releases=account["releases"],
        ledger=None if standing is None else standing.document,
        distribution=distribution_of(plan) if plan else None,
    )


def write_outcome(opened: OpenedRun, result: TrainingResult, report: PrivacyReport) -> None:
    """Write statement, report and result into the run's folder, where the model lies already."""
    run = opened.run
    stated = statement.statement_of(
        run.plan,
        charged_steps=run.record.state.charged_steps,
        folder=run.folder,
        engine=opened.engine,
        record_head=run.record.head,
        ledger=run.meter.receipt,
    )
    for name, document in (
        (statement.FILE_NAME, stated),
        (PRIVACY_REPORT, report.to_dict()),
        (TRAINING_RESULT, result.to_dict()),
    ):
        write_atomic(run.folder / name, _json_bytes(document))


def raise_if_ended_by_budget(opened: OpenedRun, result: TrainingResult, left: PrivacySpent) -> None:
    """Tell a run that its budget was over before its epochs were.

    Raises:
        PrivacyBudgetExhaustedException: with the result; everything is written.
    """
    plan = opened.run.plan
    if plan.steps < plan.steps_asked:
        raise PrivacyBudgetExhaustedException(
            epsilon_requested=plan.epsilon(plan.steps + 1),
            epsilon_remaining=left.epsilon,
            delta_requested=plan.delta,
            delta_remaining=left.delta,
            state=f"stopped before step {plan.steps + 1} of {plan.steps_asked}; "
            f"the model and its report are in {opened.run.folder}",
            result=result,
        )


def _warnings(plan: DPTrainingPlan) -> list[str]:
    if plan.delta * plan.examples <= 1:
        return []
    return [
        f"delta {plan.delta:g} is above 1/n for n = {plan.examples} records: such a delta "
        "permits publishing some record whole; choose one well below 1/n"
    ]


def _audit(places: Places | None) -> list[str]:
    """What a run with canaries says of them; their number is public."""
    if places is None:
        return []
    notes = [
        f"carried {places.seal.count} audit canaries, each in by a secret coin; "
        "privacy-finetuner audit bounds epsilon from below"
    ]
    if places.seal.kind == "new-token":
        notes.append(
            f"the model's vocabulary has {places.seal.count} rows more, for canaries; it is told "
            "never to write them"
        )
    return notes


def _stop(plan: DPTrainingPlan, charged: int) -> list[str]:
    """What a run that ended before its plan should know of its price."""
    if not 0 < charged < plan.steps:
        return []
    return [
        f"stopped after {charged} of {plan.steps} steps; when to stop may follow from what was "
        "released, so the whole plan counts as spent"
    ]


def _guarantees(plan: DPTrainingPlan, steps: int) -> PrivacyGuarantees:
    return PrivacyGuarantees(
        epsilon=plan.epsilon(steps),
        delta=plan.delta,
        noise_multiplier=plan.noise_multiplier,
        sample_rate=plan.sampling_probability,
        steps=steps,
        accountant=plan.accountant,
        relation=plan.relation,
        unit=plan.unit,
    )


def _json_bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode()
