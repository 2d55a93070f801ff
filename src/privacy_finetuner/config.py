"""What the user asks for. Three kinds of wishes, three types, so that none can pose as another.

`PrivacyConfig` changes the guarantee. `TrainingConfig` changes utility. `PerformanceFlags` changes
neither: a test trains under every flag and compares the events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from privacy_core.accounting import (
    accountant_named,
    calibrate_noise_multiplier,
    dp_sgd_event,
    epsilon_of,
)
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.domains import (
    AVERAGES,
    GRAD_NORM_LEAST,
    NOISES,
    OPTIMIZERS,
    SCHEDULES,
    above_zero,
    at_least,
    given,
    inside_zero_one,
    one_of,
    raise_if_any,
    rate,
    whole_from,
    zeroth_order_faults,
)
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.performance import PerformanceFlags as PerformanceFlags  # noqa: PLC0414
from privacy_finetuner.results import PrivacyGuarantees


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
        noise: how the noise of different steps hangs together. `"independent"` is DP-SGD;
            `"banded"`, `"blt"` and `"lambda_cgd"` take back a part of earlier noise in each step
            (`training.noise_choice`); `"auto"` is whichever of the first two leaves less noise in
            the weights. Correlated noise draws batches from groups that take turns, and remembers
            up to 31 float64 copies of the trained weights.

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
    noise: Literal["auto", "independent", "banded", "blt", "lambda_cgd"] = "independent"

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
        raise_if_any(
            [
                above_zero("epsilon", self.epsilon),
                inside_zero_one("delta", self.delta),
                at_least("max_grad_norm", self.max_grad_norm, GRAD_NORM_LEAST),
                given(above_zero, "noise_multiplier", self.noise_multiplier),
                given(inside_zero_one, "target_delta", self.target_delta),
                _an_accountant("accounting_mode", self.accounting_mode),
                one_of("noise", self.noise, NOISES),
            ]
        )
        if self.priced_delta > self.delta:
            raise_if_any(
                [f"target_delta is {self.target_delta!r}, expected at most delta {self.delta!r}"]
            )
        return True

    def calculate_noise_multiplier(self, sample_rate: float, epochs: float) -> float:
        """Smallest noise multiplier that keeps this configuration's epsilon, by its accountant.

        Args:
            sample_rate: probability of each example to join a step, in (0, 1].
            epochs: passes over the data; `ceil(epochs / sample_rate)` steps.

        Raises:
            ConfigurationError: `epochs` is not positive, or the noise may be correlated.
            InvalidParameter: `sample_rate` is outside (0, 1].
            CalibrationFailed: no multiplier in the searched range is enough.
        """
        self._require_independent_noise()
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

        Raises:
            ConfigurationError: the noise may be correlated.
        """
        self._require_independent_noise()
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

    def _require_independent_noise(self) -> None:
        if self.noise != "independent":
            raise ConfigurationError(
                f"noise is {self.noise!r}: which steps an example may join is decided with the "
                "data set's size, so only a plan has these figures (a dry run shows them); "
                "nothing was computed"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What changes utility and never the form of the guarantee.

    `batch_size` is the *expected* size of the Poisson batches: a public constant, and the
    normaliser of every update. It fixes the sampling probability together with the data set's size.
    """

    epochs: float = 3
    batch_size: int = 8
    learning_rate: float | Literal["auto"] = 5e-5
    optimizer: str = "adamw"
    optimizer_options: Mapping[str, Any] | None = None
    weight_decay: float = 0.0
    weight_average: Literal["auto", "none", "ema", "polynomial"] = "auto"
    average_decay: float = 0.99
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    save_steps: int = 500
    eval_steps: int | None = None
    max_length: int | None = None
    clip_rule: Literal["bound", "normalise", "bound_layers"] = "bound"
    user_sampling: bool = False
    gradient: Literal["backward", "forward"] = "backward"
    directions: int = 1
    perturbation: float = 1e-3
    views: int = 1
    view_replacement: float = 0.1
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        raise_if_any(
            [
                above_zero("epochs", self.epochs),
                whole_from("batch_size", self.batch_size, 1),
                rate("learning_rate", self.learning_rate),
                one_of("optimizer", self.optimizer, OPTIMIZERS),
                one_of("weight_average", self.weight_average, AVERAGES),
                None
                if self.average_decay == 0
                else inside_zero_one("average_decay", self.average_decay),
                one_of("lr_schedule", self.lr_schedule, SCHEDULES),
                whole_from("warmup_steps", self.warmup_steps, 0),
                whole_from("save_steps", self.save_steps, 1),
                None if self.eval_steps is None else whole_from("eval_steps", self.eval_steps, 1),
                None if self.max_length is None else whole_from("max_length", self.max_length, 2),
                one_of("precision", self.precision, ("float32", "bfloat16")),
                one_of("clip_rule", self.clip_rule, ("bound", "normalise", "bound_layers")),
                one_of("gradient", self.gradient, ("backward", "forward")),
                whole_from("directions", self.directions, 1),
                above_zero("perturbation", self.perturbation),
                whole_from("views", self.views, 1),
                inside_zero_one("view_replacement", self.view_replacement),
                *zeroth_order_faults(
                    gradient=self.gradient,
                    optimizer=self.optimizer if not self.optimizer_options else "with options",
                    learning_rate=self.learning_rate,
                    weight_average=self.weight_average,
                    user_sampling=self.user_sampling,
                ),
            ]
        )


def steps_of(epochs: float, sample_rate: float) -> int:
    """How many steps `epochs` expected passes over the data take, rounded up."""
    if not 0 < sample_rate <= 1:
        raise ConfigurationError(f"sample_rate is {sample_rate!r}, expected a number in (0, 1]")
    if not 0 < epochs < math.inf:
        raise ConfigurationError(f"epochs is {epochs!r}, expected a finite number > 0")
    return max(1, math.ceil(epochs / sample_rate - 1e-9))


def _an_accountant(name: str, value: str) -> str | None:
    try:
        accountant_named(value)
    except InvalidParameter as error:
        return f"{name} is {value!r}, expected {error.expected}"
    return None
