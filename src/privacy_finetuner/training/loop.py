"""The training loop: draw, step, record, save. It yields after every step and decides nothing else.

Reading order for a reviewer: `plan.py` (what is promised), this file, `dp_step.py` (the step).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from privacy_core.errors import BudgetError
from privacy_finetuner.config import PerformanceFlags, TrainingConfig
from privacy_finetuner.errors import NonFiniteWeights
from privacy_finetuner.results import EpochRecord
from privacy_finetuner.training import checkpoint, noise_state
from privacy_finetuner.training.canaries import Places
from privacy_finetuner.training.canary_gradient import CanaryGradient
from privacy_finetuner.training.checkpoint import EpochSums, LoopState
from privacy_finetuner.training.correlated_noise import CorrelatedNoise
from privacy_finetuner.training.cyclic_sampling import CyclicPoissonSampler
from privacy_finetuner.training.datasets import TokenizedDataset
from privacy_finetuner.training.dp_step import StepRelease, dp_step
from privacy_finetuner.training.engine import Clip, ClipRule, GradientSource
from privacy_finetuner.training.heartbeats import Heart, SilentHeart, are_finite
from privacy_finetuner.training.metering import Meter, RecordOnly
from privacy_finetuner.training.models import LoadedModel
from privacy_finetuner.training.noise import ROUNDING_MARGIN, GaussianNoise
from privacy_finetuner.training.plan import COUNT_SENSITIVITY, DPTrainingPlan
from privacy_finetuner.training.run_record import RunRecord
from privacy_finetuner.training.sampling import Sampler
from privacy_finetuner.training.update import Update
from privacy_finetuner.training.user_batches import UserBatches
from privacy_runtime.journal import JournalError

# Steps are reserved on disk in groups: a crash loses at most this many that never ran.
_RESERVED_AHEAD: Final = 8
# Andrew et al. 2021 (arXiv:1905.03871), section 3.1: geometric updates towards the median.
_QUANTILE: Final = 0.5
_QUANTILE_RATE: Final = 0.2
# The bound may move this far from its start, so that a long run of noise cannot make it overflow.
_CLIP_RANGE: Final = 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What may be shown after a step: all of it public or released."""

    step: int
    steps: int
    epoch: int
    clip_norm: float
    learning_rate: float


@dataclass(slots=True, kw_only=True)
class Run:
    """Everything a run consists of, wired by the trainer."""

    plan: DPTrainingPlan
    training: TrainingConfig
    flags: PerformanceFlags
    loaded: LoadedModel
    dataset: TokenizedDataset
    gradient: GradientSource
    sampler: Sampler
    noise: GaussianNoise
    update: Update
    record: RunRecord
    state: LoopState
    folder: Path
    loss_cap: float
    evaluate: Callable[[], dict[str, Any]] | None = None
    keep_checkpoints: int = 3
    correlated: CorrelatedNoise | None = None
    users: UserBatches | None = None
    places: Places | None = None
    canaries: CanaryGradient | None = None
    meter: Meter = field(default_factory=RecordOnly)
    heart: Heart = field(default_factory=SilentHeart)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every example is expected to be drawn once."""
        return max(1, round(1 / self.plan.sampling_probability))


def steps(run: Run) -> Iterator[StepRecord]:
    """Run the remaining steps of the plan, yielding after each.

    Guarantee: a step runs only after its reservation is in the ledger, if there is one, and on the
    disk; no step beyond `plan.steps` runs at all. Closing the iterator between steps loses nothing:
    call `save` then.

    Raises:
        BudgetError: the ledger refused. JournalError: it is away or damaged. What ran is saved.
        NonFiniteWeights: after the very step that broke a weight, or before a save when something
            else did; no further step runs, older checkpoints are intact.
        CheckpointError: the disk refused; earlier checkpoints are intact.
    """
    plan, state = run.plan, run.state
    while state.step < plan.steps:
        if run.record.state.charged_steps <= state.step:
            _reserve(run, min(state.step + _RESERVED_AHEAD, plan.steps))
        rate = run.update.prepare(state.step, state.clip_norm)
        clip = Clip(state.clip_norm, ClipRule(plan.clip_rule))
        release = dp_step(
            run.gradient,
            _micro_batches(run),
            clip=clip,
            plan=plan,
            noise=run.noise,
            optimizer=run.update.optimizer,
            loss_cap=run.loss_cap,
            correlated=run.correlated,
            witness=None if run.canaries is None else run.canaries.observe,
        )
        state.step += 1
        is_finite = are_finite(run.loaded.model.parameters())
        run.heart.beat(state.step, plan.steps, is_finite=is_finite)
        if not is_finite:
            raise _broken(run)
        run.update.follow(state.step)
        _account(run, release)
        if state.step % run.training.save_steps == 0 and state.step < plan.steps:
            save(run)
        yield StepRecord(
            step=state.step,
            steps=plan.steps,
            epoch=-(-state.step // run.steps_per_epoch),
            clip_norm=state.clip_norm,
            learning_rate=rate,
        )


def _reserve(run: Run, until: int) -> None:
    """Charge the next steps in the ledger and on the disk, before they run.

    Only here, between two steps, may a refusal of the ledger keep what ran: anywhere else a step
    may be under way whose release is out already.
    """
    try:
        run.meter.watermark(until)
    except (BudgetError, JournalError):
        if run.state.step > 0:
            save(run)
        raise
    run.record.reserve(until)


def save(run: Run) -> Path:
    """Write a checkpoint and settle the account at the steps really taken.

    Raises:
        NonFiniteWeights: there is nothing worth saving; older checkpoints are intact.
    """
    if not are_finite(run.loaded.model.parameters()):
        raise _broken(run)
    path = run.folder / checkpoint.checkpoint_name(run.state.step)
    if run.record.state.checkpoint == path.name and path.exists():
        return path  # this very state is on the disk already
    with run.heart.section("checkpoint"):
        path = checkpoint.save_checkpoint(run.folder, run.loaded, run.update.optimizer, run.state)
    run.heart.wrote_checkpoint(run.state.step)
    run.record.settle(run.state.step, checkpoint=path.name, digest=checkpoint.digest_of(path))
    if run.correlated is not None and isinstance(run.sampler, CyclicPoissonSampler):
        noise_state.write(run.folder, run.state.step, run.sampler, run.correlated)
    if run.canaries is not None:
        run.canaries.keep(run.folder)
    checkpoint.remove_old(run.folder, run.keep_checkpoints)
    return path


def evaluate(run: Run) -> None:
    """Score the public records, where there are any, as the model would be handed over now."""
    if run.evaluate is not None:
        with run.heart.section("eval"), run.update.averaged():
            run.state.evaluations.append({"step": run.state.step, **run.evaluate()})


def _micro_batches(run: Run) -> Iterator[dict[str, torch.Tensor]]:
    drawn = run.sampler.draw()
    indices = drawn if run.places is None else run.places.admit(drawn)
    source = run.dataset if run.users is None else run.users
    pieces = source.micro_batches(indices, max_tokens=run.flags.micro_batch_tokens)
    for piece in pieces:
        yield {name: t.to(run.loaded.device) for name, t in source.batch(piece).items()}


def _account(run: Run, release: StepRelease) -> None:
    """Follow the released figures: the clip norm, the epoch's sums, the history."""
    state, plan = run.state, run.plan
    sums = state.sums
    sums.steps += 1
    sums.loss += release.loss
    sums.accuracy += release.accuracy
    sums.norm += release.norm * state.clip_norm
    if release.below_bound is not None:
        sums.below_bound += release.below_bound
        state.clip_norm = next_clip_norm(state.clip_norm, release.below_bound, plan)
    is_due = state.step % run.steps_per_epoch == 0 or state.step == plan.steps
    if is_due:
        state.epochs.append(_epoch_record(run))
        state.sums = EpochSums()
    every = run.training.eval_steps
    if every is not None and state.step % every == 0:
        evaluate(run)


def _broken(run: Run) -> NonFiniteWeights:
    """Why a run with broken weights ends. They are released, so looking at them costs nothing."""
    return NonFiniteWeights(
        f"after step {run.state.step} of {run.plan.steps} a trained weight is NaN or infinite; "
        f"{run.state.step} steps are spent, older checkpoints are intact: a lower learning "
        "rate is the usual remedy"
    )


def next_clip_norm(clip_norm: float, below_bound: float, plan: DPTrainingPlan) -> float:
    """Move the bound towards the median gradient norm by the noisy count of a step.

    Where the count is mostly noise (small batches) the rate falls, so that the noise of one step
    moves the bound by at most a tenth in standard deviation.

    Source: Andrew et al. 2021 (arXiv:1905.03871), Algorithm 1 with geometric updates.
    """
    if plan.count_noise_multiplier is None:
        return clip_norm
    noise_std = plan.count_noise_multiplier * COUNT_SENSITIVITY
    rate = _QUANTILE_RATE * min(1.0, plan.expected_batch_size / (2 * noise_std))
    fraction = below_bound / plan.expected_batch_size + 0.5
    moved = clip_norm * math.exp(-rate * (min(max(fraction, -1.0), 2.0) - _QUANTILE))
    return min(max(moved, plan.clip_norm / _CLIP_RANGE), plan.clip_norm * _CLIP_RANGE)


def _epoch_record(run: Run) -> EpochRecord:
    """Divide the epoch's released sums by the expected number of examples. Post-processing."""
    state, plan, sums = run.state, run.plan, run.state.sums
    expected = sums.steps * plan.expected_batch_size
    spread = math.sqrt(sums.steps) / expected * (1 + ROUNDING_MARGIN)
    statistic_std = (plan.statistics_noise_multiplier or math.nan) * math.sqrt(3) * spread
    count_std = (plan.count_noise_multiplier or math.nan) * COUNT_SENSITIVITY * spread
    has_count = plan.count_noise_multiplier is not None
    below = min(max(sums.below_bound / expected + 0.5, 0.0), 1.0)
    return EpochRecord(
        epoch=len(state.epochs) + 1,
        step=state.step,
        epsilon=plan.epsilon(state.step),
        loss=max(sums.loss / expected, 0.0) * run.loss_cap,
        loss_std=statistic_std * run.loss_cap,
        accuracy=min(max(sums.accuracy / expected, 0.0), 1.0),
        accuracy_std=statistic_std,
        mean_gradient_norm=max(sums.norm / expected, 0.0),
        mean_gradient_norm_std=statistic_std * state.clip_norm,
        clipping_rate=1 - below if has_count else None,
        clipping_rate_std=count_std if has_count else None,
        clip_norm=state.clip_norm,
    )
