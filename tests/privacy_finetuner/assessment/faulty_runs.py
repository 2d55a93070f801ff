"""Training runs with a fault in one part, as a test of the audit: the parts are doubles, put where
a run's own stand. The product has no switch for any of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privacy_finetuner.assessment.audit import Audit, audit
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training import inputs, session
from privacy_finetuner.training.canary_records import audited
from privacy_finetuner.training.engine import BatchRecord, BoundedSum, Clip
from privacy_finetuner.training.loop import Run
from privacy_finetuner.training.models import save_model
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_runtime.testing import SeededEntropy

RECORDS = [{"text": f"note {i}: bed {i * 37 % 91}"} for i in range(60)]
DELTA = 1e-5
Fault = Callable[[Run], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and what is claimed of it."""

    epsilon: float = 1.0
    canaries: int = 2000
    scores: str = "white-box"
    kind: str = "random-token"
    epochs: float = 4
    batch_size: int = 20
    learning_rate: float = 2e-3
    seed: int = 0


class WeakerNoise:
    """Adds a share of the noise that it is asked for."""

    def __init__(self, noise: Any, share: float) -> None:
        self._noise, self._share = noise, share

    def privatize(
        self, sums: Sequence[Tensor], *, sensitivity: float, noise_multiplier: float
    ) -> list[Tensor]:
        found: list[Tensor] = self._noise.privatize(
            sums, sensitivity=sensitivity, noise_multiplier=noise_multiplier * self._share
        )
        return found

    def privatize_(self, sums: Sequence[Tensor], *, noise_multiplier: float, **rest: Any) -> None:
        self._noise.privatize_(sums, noise_multiplier=noise_multiplier * self._share, **rest)


class NoClip(Clip):
    """A bound that says what it is and does not clip."""

    def factors(self, norms_B: Tensor) -> Tensor:
        return torch.ones_like(norms_B)


class Unclipped:
    """An engine that leaves gradients as long as they are."""

    def __init__(self, source: Any) -> None:
        self.parameters = source.parameters
        self._source = source

    def add(self, batch: Any, clip: Clip) -> BatchRecord:
        record: BatchRecord = self._source.add(batch, NoClip(clip.clip_norm, clip.rule))
        return record

    def take(self, clip: Clip) -> BoundedSum:
        bounded: BoundedSum = self._source.take(NoClip(clip.clip_norm, clip.rule))
        return bounded

    def close(self) -> None:
        self._source.close()


class Biased:
    """A sampler that draws every canary at every step."""

    def __init__(self, sampler: Any, records: int) -> None:
        self._sampler, self._records = sampler, records

    def draw(self) -> Any:
        drawn = self._sampler.draw()
        canaries = np.arange(self._records, self._sampler.dataset_size)
        return np.concatenate([drawn[drawn < self._records], canaries])


def noise_a_quarter(run: Run) -> None:
    run.noise = WeakerNoise(run.noise, 0.25)  # type: ignore[assignment]


def noise_off(run: Run) -> None:
    run.noise = WeakerNoise(run.noise, 1e-3)  # type: ignore[assignment]


def clipping_off(run: Run) -> None:
    run.gradient = Unclipped(run.gradient)


def sampler_biased(run: Run) -> None:
    assert run.places is not None
    run.sampler = Biased(run.sampler, run.places.records)  # type: ignore[assignment]


def no_fault(_: Run) -> None:
    pass


def opened_run(
    model: Path, folder: Path, setting: Setting
) -> tuple[session.OpenedRun, DPTrainingPlan]:
    """A run as `PrivateTrainer.train` opens it, before its first step."""
    options = TrainOptions(
        audit_canaries=setting.canaries,
        audit_scores=setting.scores,
        audit_kind=setting.kind,
        task="causal_lm",
    )
    training = options.training(
        epochs=setting.epochs,
        batch_size=setting.batch_size,
        learning_rate=setting.learning_rate,
        save_steps=500,
        eval_steps=None,
    )
    entropy = SeededEntropy(setting.seed)
    loaded, data = inputs.prepare(
        RECORDS, options, model_name=str(model), adopted=None, device="cpu"
    )
    records = len(data)
    data, places = audited(data, loaded, options, training, folder, entropy)
    privacy = PrivacyConfig(epsilon=setting.epsilon, delta=DELTA, accounting_mode="pld")
    plan = make_plan(privacy, training, examples=records, canaries=setting.canaries)
    opened = session.open_run(
        plan=plan,
        training=training,
        flags=replace(options.flags(), micro_batch_tokens=8192),
        loaded=loaded,
        dataset=data,
        folder=folder,
        job_id="audited",
        entropy=entropy,
        places=places,
    )
    return opened, plan


def audit_of(model: Path, folder: Path, fault: Fault, setting: Setting | None = None) -> Audit:
    """Train with a fault, save what such a run would save, and audit it."""
    opened, _ = opened_run(model, folder, setting or Setting())
    fault(opened.run)
    session.drive(opened)
    save_model(opened.run.loaded, folder)
    return audit(folder, device="cpu")
