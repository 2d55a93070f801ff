"""What the user asks for. Three kinds of wishes, three types, so that none can pose as another.

`PrivacyConfig` changes the guarantee. `TrainingConfig` changes utility. `PerformanceFlags` changes
neither: a test trains under every flag and compares the events.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from privacy_core.accounting import (
    accountant_named,
    calibrate_noise_multiplier,
    dp_sgd_event,
    epsilon_of,
)
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.results import PrivacyGuarantees

if TYPE_CHECKING:
    from privacy_finetuner.training.loop import StepRecord

Source: TypeAlias = str | Path | Sequence[Mapping[str, Any]] | Any
"""A path, a list of records, or a `datasets.Dataset`."""

OPTIMIZERS: Final = ("adamw", "adam", "sgd")
SCHEDULES: Final = ("constant", "linear", "cosine")


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """The guarantee that a training run must keep.

    Args:
        epsilon: privacy budget of the data set, > 0. Smaller is more private.
        delta: probability-like slack of the guarantee, in (0, 1); well below 1/n.
        max_grad_norm: L2 bound on one example's gradient; the starting value when
            `adaptive_clipping` is on.
        noise_multiplier: noise standard deviation over the clip norm. `None`: solved from epsilon.
            Given: the run stops before the step that would exceed epsilon.
        accounting_mode: `"rdp"`, `"pld"` (tightest) or `"gdp"` (full batches only; it refuses
            subsampling, where the usual formula under-reports). `"prv"` and `"moments"` are
            accepted as names of `pld` and `rdp`.
        target_delta: delta at which the run is priced, at most `delta`; `None` means `delta`.
        adaptive_clipping: the bound follows the median gradient norm, privately (Andrew et al.
            2021); its noise is part of the run's price.
        secure_rng: noise from an AES-256-CTR stream keyed by the operating system. `False` takes a
            generator that is not cryptographic, for machines where AES is slow; the report says
            so. Batches are drawn from the AES stream in either case.
        relation: which data sets count as neighbours.

    Raises:
        ConfigurationError: names every value that is out of range, with what was expected.

    The configuration is immutable and prints no data.
    """

    epsilon: float = 1.0
    delta: float = 1e-5
    max_grad_norm: float = 1.0
    noise_multiplier: float | None = None
    accounting_mode: str = "rdp"
    target_delta: float | None = None
    adaptive_clipping: bool = True
    secure_rng: bool = True
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        self.validate_configuration()

    @property
    def priced_delta(self) -> float:
        """The delta that the run is priced at."""
        return self.delta if self.target_delta is None else self.target_delta

    def validate_configuration(self) -> bool:
        """Check every parameter. Returns `True`, or raises with everything that is wrong.

        Raises:
            ConfigurationError: one message for all faults; nothing was started.
        """
        faults = [
            fault
            for fault in (
                _above_zero("epsilon", self.epsilon),
                _inside_zero_one("delta", self.delta),
                _above_zero("max_grad_norm", self.max_grad_norm),
                None
                if self.noise_multiplier is None
                else _above_zero("noise_multiplier", self.noise_multiplier),
                None
                if self.target_delta is None
                else _inside_zero_one("target_delta", self.target_delta),
                _an_accountant("accounting_mode", self.accounting_mode),
            )
            if fault is not None
        ]
        if not faults and self.priced_delta > self.delta:
            faults.append(
                f"target_delta is {self.target_delta!r}, expected at most delta {self.delta!r}"
            )
        _raise_if_any(faults)
        return True

    def calculate_noise_multiplier(self, sample_rate: float, epochs: float) -> float:
        """Smallest noise multiplier that keeps this configuration's epsilon, by its accountant.

        Args:
            sample_rate: probability of each example to join a step, in (0, 1].
            epochs: passes over the data; `ceil(epochs / sample_rate)` steps.

        Raises:
            ConfigurationError: `epochs` is not positive.
            InvalidParameter: `sample_rate` is outside (0, 1].
            CalibrationFailed: no multiplier in the searched range is enough.
        """
        return calibrate_noise_multiplier(
            epsilon=self.epsilon,
            delta=self.priced_delta,
            sample_rate=sample_rate,
            steps=steps_of(epochs, sample_rate),
            accountant=self.accounting_mode,
            relation=self.relation,
        )

    def get_privacy_guarantees(self, steps: int, sample_rate: float) -> PrivacyGuarantees:
        """What `steps` Poisson-sampled steps would guarantee.

        With `noise_multiplier` unset, the multiplier that just keeps `epsilon` is solved first.
        """
        noise = self.noise_multiplier
        if noise is None:
            noise = calibrate_noise_multiplier(
                epsilon=self.epsilon,
                delta=self.priced_delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant=self.accounting_mode,
                relation=self.relation,
            )
        event = dp_sgd_event(noise_multiplier=noise, sample_rate=sample_rate, steps=steps)
        return PrivacyGuarantees(
            epsilon=epsilon_of(
                event, self.priced_delta, self.accounting_mode, relation=self.relation
            ),
            delta=self.priced_delta,
            noise_multiplier=noise,
            sample_rate=sample_rate,
            steps=steps,
            accountant=self.accounting_mode,
            relation=self.relation,
            unit=PrivacyUnit.EXAMPLE,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What changes utility and never the form of the guarantee.

    `batch_size` is the *expected* size of the Poisson batches: a public constant, and the
    normaliser of every update. It fixes the sampling probability together with the data set's size.
    """

    epochs: float = 3
    batch_size: int = 8
    learning_rate: float = 5e-5
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = 0.0
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    save_steps: int = 500
    eval_steps: int | None = None
    max_length: int | None = None
    clip_rule: Literal["bound", "normalise"] = "bound"

    def __post_init__(self) -> None:
        _raise_if_any(
            [
                fault
                for fault in (
                    _above_zero("epochs", self.epochs),
                    _whole_from("batch_size", self.batch_size, 1),
                    _above_zero("learning_rate", self.learning_rate),
                    _one_of("optimizer", self.optimizer, OPTIMIZERS),
                    _one_of("lr_schedule", self.lr_schedule, SCHEDULES),
                    _whole_from("warmup_steps", self.warmup_steps, 0),
                    _whole_from("save_steps", self.save_steps, 1),
                    None
                    if self.eval_steps is None
                    else _whole_from("eval_steps", self.eval_steps, 1),
                    None
                    if self.max_length is None
                    else _whole_from("max_length", self.max_length, 2),
                    _one_of("clip_rule", self.clip_rule, ("bound", "normalise")),
                )
                if fault is not None
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceFlags:
    """What changes speed and memory, never the guarantee and never what is computed.

    `micro_batch_tokens` bounds the padded tokens of one physical pass; a logical batch is split to
    fit.
    """

    micro_batch_tokens: int = 4096


_TRAIN_PARAMETERS: Final = (
    "dataset", "epochs", "batch_size", "learning_rate", "max_grad_norm", "noise_multiplier",
    "target_epsilon", "target_delta", "save_steps", "eval_steps", "output_dir",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Further keywords of `PrivateTrainer.train`. All of them are public choices.

    Attributes:
        task: `causal_lm`, `sequence_classification`, or `None` to follow the records.
        lora_rank: train adapters of this rank instead of all weights.
        resume: continue the unfinished run of `output_dir`.
        eval_dataset: *public* records for `eval_steps`; scored exactly, outside any guarantee.
        unit: `"example"`, or `"user"` to protect all records of one `user_field` value.
        user_field: field that names the user of a record.
        max_examples_per_user: cap of records a user; what is above is dropped and counted.
        text_field: field of the text.
        label_field: field of the label.
        label_names: the classes, when which of them occur is itself private.
        max_length: longest example in tokens; default: the model's context, at most 512.
        strict: refuse texts longer than `max_length` instead of cutting them.
        optimizer: `adamw`, `adam` or `sgd`.
        weight_decay: of the optimizer.
        lr_schedule: `constant`, `linear` or `cosine`.
        warmup_steps: steps of linear warm-up.
        clip_rule: `bound`, or `normalise` (automatic clipping).
        micro_batch_tokens: padded tokens of one physical pass. Speed and memory only.
        keep_checkpoints: how many of the newest checkpoints stay on disk.
        on_step: called with a `StepRecord` after every step.
    """

    task: str | None = None
    lora_rank: int | None = None
    resume: bool = False
    eval_dataset: Source | None = None
    unit: str = "example"
    user_field: str | None = None
    max_examples_per_user: int | None = None
    text_field: str = "text"
    label_field: str = "label"
    label_names: Sequence[str] | None = None
    max_length: int | None = None
    strict: bool = False
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    lr_schedule: str = "constant"
    warmup_steps: int = 0
    clip_rule: str = "bound"
    micro_batch_tokens: int = 4096
    keep_checkpoints: int = 3
    on_step: Callable[[StepRecord], None] | None = None

    def __post_init__(self) -> None:
        _raise_if_any(
            [
                fault
                for fault in (
                    _one_of("unit", self.unit, tuple(PrivacyUnit)),
                    _whole_from("micro_batch_tokens", self.micro_batch_tokens, 1),
                    _whole_from("keep_checkpoints", self.keep_checkpoints, 1),
                    None
                    if self.max_examples_per_user is None
                    else _whole_from("max_examples_per_user", self.max_examples_per_user, 1),
                )
                if fault is not None
            ]
        )

    @classmethod
    def read(cls, keywords: Mapping[str, Any]) -> TrainOptions:
        """Accept known keywords only.

        Raises:
            TypeError: an unknown keyword; names the nearest known one.
        """
        known = [f.name for f in fields(cls)]
        for name in keywords:
            if name not in known:
                near = difflib.get_close_matches(name, [*known, *_TRAIN_PARAMETERS], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"train() has no parameter {name!r}{hint}")
        return cls(**keywords)


def steps_of(epochs: float, sample_rate: float) -> int:
    """How many steps `epochs` expected passes over the data take, rounded up."""
    if not 0 < sample_rate <= 1:
        raise ConfigurationError(f"sample_rate is {sample_rate!r}, expected a number in (0, 1]")
    if not 0 < epochs < math.inf:
        raise ConfigurationError(f"epochs is {epochs!r}, expected a finite number > 0")
    return max(1, math.ceil(epochs / sample_rate - 1e-9))


def _above_zero(name: str, value: float) -> str | None:
    if _is_number(value) and 0 < value < math.inf:
        return None
    return f"{name} is {value!r}, expected a finite number > 0"


def _inside_zero_one(name: str, value: float) -> str | None:
    if _is_number(value) and 0 < value < 1:
        return None
    return f"{name} is {value!r}, expected a number above 0 and below 1"


def _whole_from(name: str, value: int, least: int) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return None
    return f"{name} is {value!r}, expected a whole number >= {least}"


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str | None:
    return None if value in known else f"{name} is {value!r}, expected one of {', '.join(known)}"


def _an_accountant(name: str, value: str) -> str | None:
    try:
        accountant_named(value)
    except InvalidParameter as error:
        return f"{name} is {value!r}, expected {error.expected}"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _raise_if_any(faults: list[str]) -> None:
    if faults:
        raise ConfigurationError("; ".join(faults) + "; nothing was started")
