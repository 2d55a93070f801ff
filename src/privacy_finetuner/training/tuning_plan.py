"""What a search over real trainings is asked for, what it costs, and what it says at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from privacy_core import dp_events
from privacy_core.accounting import calibrate_noise_multiplier, dp_sgd_event
from privacy_core.dp_events import Composed, DpEvent, Gaussian, NoOp
from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import Source, TrainOptions
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.search import METHODS, Search, calibrated_search
from privacy_finetuner.training.units import unit_of_run

SEARCH_VERSION: Final = 1
SCORE_NOISE_RATIO: Final = 6.0
"""A private score by default has this many times the noise of one Gaussian release at epsilon.

A trial has about half of the search's epsilon, so that is some 5 % of its budget, or 2 % more noise
in the training.
"""

CHOICES: Final = (
    *("learning_rate", "optimizer", "weight_decay", "weight_average", "average_decay"),
    *("lr_schedule", "warmup_steps"),
)
"""What candidates may differ in: nothing that a trial's price depends on."""

# Calibration aims this much below epsilon: the plan's three sums round apart from its price.
_MARGIN: Final = 1e-9

Candidate = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a search is asked for. All of it is public.

    Attributes:
        model: folder or name of the model that every trial begins with.
        dataset: the private records.
        privacy: epsilon and delta of the whole search, with everything in it.
        training: what candidates do not change.
        options: as of `PrivateTrainer.train`.
        candidates: changes of `training`, named as in `CHOICES`.
        method: `random`, `each`, or `auto`: the one that needs less noise.
        law: see `Search`.
        mean_trials: see `Search`.
        public_records: score on these, exactly and at no price, instead of on the private records.
        score_noise: of a score on the private records, in contributions of one unit; `None`: by
            the rule of `SCORE_NOISE_RATIO`.
        device: as of `PrivateTrainer`.
    """

    model: str
    dataset: Source
    privacy: PrivacyConfig
    training: TrainingConfig
    options: TrainOptions
    candidates: Sequence[Candidate]
    method: str = "auto"
    law: str = "geometric"
    mean_trials: float | None = None
    public_records: Source | None = None
    score_noise: float | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        unknown = {name for candidate in self.candidates for name in candidate} - set(CHOICES)
        if unknown:
            raise ConfigurationError(
                f"candidates differ in {', '.join(sorted(unknown))}, expected only "
                f"{', '.join(CHOICES)}: one price must hold for all of them; nothing was spent"
            )
        if self.privacy.noise != "independent" or self.privacy.noise_multiplier is not None:
            raise ConfigurationError(
                "a search solves the noise of its trials from its own epsilon: noise is "
                "'independent' and noise_multiplier unset; nothing was spent"
            )
        if self.options.resume or self.options.callbacks or self.options.on_step:
            raise ConfigurationError(
                "a search cannot be resumed, and its trials are not watched: resume, callbacks "
                "and on_step are not for it; nothing was spent"
            )
        if self.options.audit_canaries:
            raise ConfigurationError(
                "the trials of a search carry no canaries: audit the run that is trained with what "
                "it found; nothing was spent"
            )
        if self.method not in ("auto", *METHODS):
            raise ConfigurationError(
                f"method is {self.method!r}, expected one of auto, {', '.join(METHODS)}; "
                "nothing was spent"
            )

    @property
    def score_noise_multiplier(self) -> float | None:
        """The noise of a score; `None` where scores are public. From public numbers alone."""
        if self.public_records is not None:
            return None
        if self.score_noise is not None:
            return self.score_noise
        return SCORE_NOISE_RATIO * calibrate_noise_multiplier(
            epsilon=self.privacy.epsilon,
            delta=self.privacy.priced_delta,
            sample_rate=1.0,
            steps=1,
            accountant="gdp",
            relation=self.privacy.relation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """What a search found, and what it cost. `shown` holds all trials where they may be shown."""

    search: Search
    epsilon: float
    noise_multiplier: float
    unit: PrivacyUnit
    best: Candidate | None
    score: float | None
    score_std: float
    shown: tuple[tuple[Candidate, float], ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        search = self.search
        return {
            "version": SEARCH_VERSION,
            "best": None if self.best is None else dict(self.best),
            "score": self.score,
            "score_std": self.score_std,
            "shown": [{"candidate": dict(c), "score": score} for c, score in self.shown],
            "epsilon": self.epsilon,
            "delta": search.delta,
            "relation": search.relation.value,
            "unit": self.unit.value,
            "accountant": search.accountant,
            "method": search.method,
            "law": search.law if search.method == "random" else None,
            "candidates": search.candidates,
            "expected_trials": search.expected_trials,
            "chance_of_missing": search.chance_of_missing,
            "noise_multiplier": self.noise_multiplier,
            "event": dp_events.to_json(search.event),
        }


def planned(tuning: Tuning, *, examples: int, units: int) -> tuple[DPTrainingPlan, Search]:
    """The plan that every trial follows, and the search that it is part of. Spends nothing.

    Args:
        tuning: what is asked for.
        examples: how many there are. Public.
        units: how many of what the guarantee protects. Public.

    Raises:
        ConfigurationError: the options contradict each other, or the price is above epsilon.
        CalibrationFailed: no noise keeps epsilon.
    """
    options, privacy = tuning.options, tuning.privacy
    unit = unit_of_run(options, tuning.training)
    per_user = 1 if options.user_sampling else options.max_examples_per_user or 1

    def plan_at(noise: float) -> DPTrainingPlan:
        return make_plan(
            replace(privacy, noise_multiplier=noise),
            tuning.training,
            examples=units if options.user_sampling else examples,
            unit=unit,
            max_examples_per_user=per_user,
        )

    # Every trial costs less than the search, so its plan has all steps, whatever its own epsilon.
    whole = plan_at(1e4)

    score_noise = tuning.score_noise_multiplier
    score: DpEvent = NoOp() if score_noise is None else Gaussian(score_noise)

    def search_of(training: DpEvent, method: str) -> Search:
        return Search(
            trial=Composed((training, score)),
            candidates=len(tuning.candidates),
            delta=privacy.priced_delta,
            method=method,
            law=tuning.law,
            mean_trials=tuning.mean_trials,
            relation=privacy.relation,
        )

    def search_at(method: str, noise: float) -> Search:
        training = dp_sgd_event(
            noise_multiplier=noise,
            sample_rate=whole.sampling_probability,
            steps=whole.steps,
            max_examples_per_user=per_user,
        )
        return search_of(training, method)

    methods = METHODS if tuning.method == "auto" else (tuning.method,)
    target = privacy.epsilon * (1 - _MARGIN)
    noise, method = min(
        (calibrated_search(partial(search_at, method), epsilon=target)[0], method)
        for method in methods
    )
    plan = plan_at(noise)
    if plan.steps != whole.steps:
        raise ConfigurationError(
            f"a trial of {whole.steps} steps would end after {plan.steps}; nothing was spent"
        )
    search = search_of(plan.event(), method)
    if search.epsilon() > privacy.epsilon:
        raise ConfigurationError(
            f"the search would cost {search.epsilon():.9g}, above epsilon {privacy.epsilon:g}; "
            "nothing was spent"
        )
    return plan, search
