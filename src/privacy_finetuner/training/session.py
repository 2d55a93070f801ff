"""One training run from configuration to files: wires plan, engine, sampler, noise and record.

This is the composition root of training. `open_run` refuses everything that can be refused before
the first gradient; `drive` runs the loop and leaves the folder in order however it ends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from privacy_finetuner.config import PerformanceFlags, TrainingConfig
from privacy_finetuner.errors import (
    CheckpointError,
    ConfigurationError,
    NonFiniteWeights,
    TrainingInterrupted,
)
from privacy_finetuner.training import checkpoint, loop, noise_state, run_record
from privacy_finetuner.training.callbacks import Callbacks
from privacy_finetuner.training.canaries import SEAL_FILE, Places, Seal
from privacy_finetuner.training.canary_gradient import digest_of_scores, watching
from privacy_finetuner.training.checkpoint import LoopState
from privacy_finetuner.training.correlated_noise import CorrelatedNoise
from privacy_finetuner.training.cyclic_sampling import CyclicPoissonSampler
from privacy_finetuner.training.datasets import TokenizedDataset
from privacy_finetuner.training.evaluation import objective_of
from privacy_finetuner.training.gradient_choice import choose_gradient
from privacy_finetuner.training.heartbeats import heart_of, tell_end
from privacy_finetuner.training.kept_memory import kept_memory
from privacy_finetuner.training.loop import Run, StepRecord
from privacy_finetuner.training.metering import Meter, RecordOnly
from privacy_finetuner.training.models import LoadedModel
from privacy_finetuner.training.noise import GaussianNoise
from privacy_finetuner.training.objectives import public_probe
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.run_record import RunRecord, RunState
from privacy_finetuner.training.sampling import Sampler, make_sampler
from privacy_finetuner.training.step_memory import (
    start_checkpointing,
    stop_checkpointing,
    within_memory,
)
from privacy_finetuner.training.stop_requests import stop_requests
from privacy_finetuner.training.update import make_update
from privacy_finetuner.training.user_batches import UserBatches
from privacy_runtime.files import write_atomic
from privacy_runtime.keystream import KeyStream
from privacy_runtime.world import Entropy

_SEED_BYTES: Final = 7  # a torch generator takes 63 bits

RESUME_FILE: Final = ".resume"
"""Identifies the data set while a run is unfinished. Computed from private data, so it is outside
the guarantee; it lies beside the checkpoints, never in them, and goes when the run is finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRun:
    """A run that is ready to step, with what the user should know about it."""

    run: Run
    engine: str
    notes: list[str]
    callbacks: Callbacks
    chance_seed: int

    def checkpoints(self) -> list[Path]:
        """The checkpoints on disk, oldest first."""
        return checkpoint.remove_old(self.run.folder, self.run.keep_checkpoints)


def open_run(  # noqa: PLR0913 -- the composition root: keyword-only, each part stands alone
    *,
    plan: DPTrainingPlan,
    training: TrainingConfig,
    flags: PerformanceFlags,
    loaded: LoadedModel,
    dataset: TokenizedDataset,
    folder: Path,
    job_id: str,
    entropy: Entropy,
    resume: bool = False,
    evaluate: Callable[[], dict[str, Any]] | None = None,
    keep_checkpoints: int = 3,
    callbacks: Callbacks | None = None,
    meter: Meter | None = None,
    places: Places | None = None,
) -> OpenedRun:
    """Prepare a run in a folder, new or resumed. No gradient of private data is taken here.

    Raises:
        ConfigurationError: the folder holds an unfinished run and `resume` is false, or `resume`
            is true and there is nothing to resume, or plan or data differ from what was begun.
        UnsupportedLayer: the model mixes examples.
        CheckpointError, RunRecordLocked, RunRecordDamaged: the folder's files cannot be used.
    """
    _require_exact_arithmetic(loaded)
    meter = meter or RecordOnly()
    folder.mkdir(parents=True, exist_ok=True)
    objective = objective_of(loaded, dataset)
    probe = public_probe(objective, vocabulary=loaded.model.config.vocab_size, device=loaded.device)
    sampler = _priced_sampler(plan, entropy)
    with ExitStack() as undo:
        record = _open_record(folder, resume=resume)
        undo.callback(record.close)
        heart = heart_of(folder)
        undo.callback(lambda: tell_end(heart, sys.exception()))
        if flags.gradient_checkpointing:
            start_checkpointing(loaded.model)
            undo.callback(stop_checkpointing, loaded.model)
        gradient, engine = choose_gradient(
            training, flags, loaded, objective, probe, entropy, width=dataset.padded_to
        )
        undo.callback(gradient.close)
        update = make_update(training, plan, gradient)
        flags, sizing = within_memory(flags, training, plan, loaded, objective, gradient, update)
        canaries = watching(gradient, places, plan, folder if resume else None)
        seal = None if places is None else places.seal
        state, notes = _begin_or_resume(
            record, plan, loaded, update.optimizer, dataset, folder, job_id, meter,
            seal=seal, resume=resume,
        )  # fmt: skip
        run = Run(
            plan=plan,
            training=training,
            flags=flags,
            loaded=loaded,
            dataset=dataset,
            gradient=canaries or gradient,
            sampler=sampler,
            noise=GaussianNoise.secure(entropy) if plan.secure_rng else GaussianNoise.fast(entropy),
            update=update,
            record=record,
            state=state,
            folder=folder,
            loss_cap=objective.loss_cap,
            evaluate=evaluate,
            keep_checkpoints=keep_checkpoints,
            users=UserBatches(dataset) if training.user_sampling else None,
            meter=meter,
            places=places,
            canaries=canaries,
            heart=heart,
        )
        notes += [*sizing, *_take_over_noise(run, resume=resume)]
        undo.pop_all()  # from here on `drive` closes them
    return OpenedRun(
        run=run,
        engine=engine,
        notes=notes,
        callbacks=callbacks or Callbacks(()),
        chance_seed=int.from_bytes(entropy.token_bytes(_SEED_BYTES)),
    )


def drive(opened: OpenedRun, on_step: Callable[[StepRecord], None] | None = None) -> None:
    """Run to the end of the plan, charged to the run's meter from before the first gradient.

    However it ends, the record says at least what was spent. Ctrl-C (SIGINT, SIGTERM) finishes the
    step under way, saves a checkpoint and raises. A run is finished once its last checkpoint is on
    disk. The model is left in evaluation mode, without taps.

    Raises:
        PrivacyBudgetExhaustedException: the ledger has no room for the plan; nothing was spent.
        BudgetError, JournalError: the ledger refused, is away or damaged; what ran is saved.
        TrainingInterrupted: stopped; the message names the checkpoint to resume from.
        NonFiniteWeights: the weights broke; the steps taken are charged.
    """
    run = opened.run
    try:
        state = run.record.state
        run.meter.begin(charged_steps=state.charged_steps, is_finished=state.is_finished)
        run.loaded.model.train()
        with (
            kept_memory(run.loaded.model, run.flags),
            _secret_chance(opened.chance_seed),
            stop_requests() as stop,
        ):
            for step in opened.callbacks.around(run, loop.steps(run)):
                if on_step is not None:
                    on_step(step)
                if stop.is_set() and step.step < step.steps:
                    path = loop.save(run)
                    raise TrainingInterrupted(
                        f"interrupted after step {step.step} of {step.steps}; saved {path.name}; "
                        "continue with resume"
                    )
        loop.save(run)
        scores = None if run.canaries is None else digest_of_scores(run.folder)
        run.record.finish(run.state.step, audit_scores=scores)
        run.update.settle()
        (run.folder / RESUME_FILE).unlink(missing_ok=True)
        noise_state.remove(run.folder)
        run.meter.commit(run.record.state.charged_steps)
    except NonFiniteWeights:
        run.record.settle(run.state.step)
        raise
    finally:
        tell_end(run.heart, sys.exception())
        run.meter.abandon()
        run.meter.close()
        run.gradient.close()
        run.record.close()
        if run.flags.gradient_checkpointing:
            stop_checkpointing(run.loaded.model)
        run.loaded.model.eval()


def resume_point(folder: Path, model_name: str, *, resume: bool) -> str:
    """Where to load the model from: the newest checkpoint of the run to resume, or the base.

    A checkpoint that is not what was written is set aside, which the run record remembers; what
    was trained after the one before it is lost, and stays charged.

    Raises:
        CheckpointError: no checkpoint is what was written, and older ones are gone.
        RunRecordLocked: another process is running there.
    """
    state = run_record.read_state(folder) if resume else None
    if state is None or state.checkpoint is None:
        return model_name
    path, damaged = checkpoint.newest_intact(folder, state.checkpoints)
    if damaged:
        with RunRecord(folder) as record:
            for name in damaged:
                record.set_aside(name)
                checkpoint.set_aside(folder / name)
    return model_name if path is None else str(path)


def _require_exact_arithmetic(loaded: LoadedModel) -> None:
    """Norms and sums must be right to the margin that the noise covers."""
    narrow = {
        str(p.dtype)
        for p in loaded.model.parameters()
        if p.requires_grad and p.dtype not in (torch.float32, torch.float64)
    }
    if narrow:
        raise ConfigurationError(
            f"trainable weights are {', '.join(sorted(narrow))}: sums of clipped gradients would "
            "round by more than the noise covers; load the model in float32; nothing was started"
        )
    if torch.get_float32_matmul_precision() != "highest":
        raise ConfigurationError(
            "torch multiplies float32 matrices at reduced precision, so a clipped gradient could "
            "exceed its bound; call torch.set_float32_matmul_precision('highest'); nothing was "
            "started"
        )


def _priced_sampler(plan: DPTrainingPlan, entropy: Entropy) -> Sampler:
    """The sampler that the plan names, if it is the one that the plan was priced for."""
    stream = KeyStream.fresh(entropy)
    sampler: Sampler
    if plan.sampler == CyclicPoissonSampler.kind:
        sampler = CyclicPoissonSampler(
            plan.places, plan.groups, plan.group_sampling_probability, stream
        )
    else:
        sampler = make_sampler(
            plan.sampler,
            dataset_size=plan.places,
            sampling_probability=plan.sampling_probability,
            stream=stream,
        )
    groups = sampler.groups if isinstance(sampler, CyclicPoissonSampler) else 1
    if groups != plan.groups or sampler.event(plan.mechanism) != plan.step_event:
        raise ConfigurationError(
            f"the sampler {sampler.kind!r} is not the one that the plan was priced for; "
            "nothing was spent"
        )
    return sampler


def _take_over_noise(run: Run, *, resume: bool) -> list[str]:
    """Begin correlated noise, or go on with it; returns what the user should know."""
    plan, sampler = run.plan, run.sampler
    if plan.correlation is None:
        return []
    if not isinstance(sampler, CyclicPoissonSampler):
        raise ConfigurationError(
            f"noise {plan.noise!r} is priced for groups that take turns, found the sampler "
            f"{sampler.kind!r}; nothing was started"
        )
    run.correlated = CorrelatedNoise(plan.correlation, plan.fresh_noise_multiplier)
    coordinates = sum(parameter.numel() for parameter in run.gradient.parameters)
    notes = [
        f"correlated noise ({plan.noise}) keeps {run.correlated.copies} copies of the gradient in "
        f"memory and beside the checkpoints: {8e-6 * run.correlated.copies * coordinates:.0f} MB"
    ]
    if not resume:
        noise_state.write(run.folder, 0, sampler, run.correlated)
        return notes
    if run.record.state.is_finished or noise_state.read(
        run.folder, run.state.step, sampler, run.correlated
    ):
        return notes
    return [*notes, "the noise of the lost steps is not taken back: correlated noise begins afresh"]


def _open_record(folder: Path, *, resume: bool) -> RunRecord:
    """Lock the folder, then decide what an earlier run in it means for this one.

    A finished run may be resumed: it takes no step, and what it leaves behind is written again.
    """
    if resume and run_record.read_state(folder) is None:
        raise ConfigurationError(f"{folder} holds no run to resume; nothing was started")
    with ExitStack() as undo:
        record = undo.enter_context(RunRecord(folder))
        _refuse_mixing_runs(record.state, folder, resume=resume)
        if resume or record.state.plan is None:
            undo.pop_all()
            return record
        run_record.archive(folder)
        noise_state.remove(folder)
    return RunRecord(folder)


def _refuse_mixing_runs(earlier: RunState, folder: Path, *, resume: bool) -> None:
    if resume and earlier.plan is None:
        raise ConfigurationError(f"{folder} holds no run to resume; nothing was started")
    if not resume and not earlier.is_finished and earlier.charged_steps > 0:
        raise ConfigurationError(
            f"{folder} holds an unfinished run ({earlier.charged_steps} steps are charged): "
            "resume it, or choose another output folder; nothing was started"
        )


def _begin_or_resume(  # noqa: PLR0913 -- the parts of `open_run` that a resume touches
    record: RunRecord,
    plan: DPTrainingPlan,
    loaded: LoadedModel,
    optimizer: Any,
    dataset: TokenizedDataset,
    folder: Path,
    job_id: str,
    meter: Meter,
    *,
    seal: Seal | None,
    resume: bool,
) -> tuple[LoopState, list[str]]:
    if not resume:
        write_atomic(folder / RESUME_FILE, dataset.fingerprint.encode())
        if seal is not None:
            seal.write(folder)
        audit = None if seal is None else seal.binding
        record.plan(plan.to_json(), job_id, ledger=meter.binding, audit=audit)
        return LoopState(clip_norm=plan.clip_norm), []
    earlier = record.state
    if earlier.plan is None or DPTrainingPlan.from_json(dict(earlier.plan)) != plan:
        raise ConfigurationError(
            "the configuration differs from the one this run was planned with; nothing was started"
        )
    if not earlier.is_finished and _begun_with(folder) != dataset.fingerprint:
        raise CheckpointError(
            "the data set differs from the one this run was begun with; nothing was started"
        )
    if seal is not None and seal.binding != earlier.audit:
        raise CheckpointError(f"{SEAL_FILE} is not the seal of this run; nothing was started")
    state = LoopState(clip_norm=plan.clip_norm)
    if earlier.checkpoint is not None:
        path, digest = folder / earlier.checkpoint, earlier.checkpoints[earlier.checkpoint]
        state = checkpoint.load_checkpoint(path, loaded, optimizer, digest)
    reached = state.step
    charged = record.resume(from_step=reached, checkpoint=earlier.checkpoint)
    state.step = charged
    notes = [f"resumed from step {reached}"]
    if earlier.damaged:
        notes.append(f"found damaged and set aside: {', '.join(earlier.damaged)}")
    if charged > reached:
        notes.append(
            f"{charged - reached} steps are lost with a process that died or a damaged checkpoint; "
            "they count as spent and are not repeated"
        )
    return state, notes


def _begun_with(folder: Path) -> str | None:
    """The fingerprint of the data that the unfinished run in a folder was begun with."""
    path = folder / RESUME_FILE
    return path.read_text() if path.is_file() else None


@contextmanager
def _secret_chance(seed: int) -> Iterator[None]:
    """Let dropout draw from a seed that nobody knows, and give the caller's generator back.

    One more example shifts the masks of all others. Only while the masks are unknown, and alike in
    law whatever the batch is, may they be thought of as each example's own (docs/sharp_edges.md).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # noqa: TID251 -- chance of the model, not noise
        yield
