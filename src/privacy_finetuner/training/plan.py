"""One value that binds what must agree: sampling, clipping, noise, steps, relation, unit, event.

A run is planned before its first gradient. Sampler, engine, noise, accountant, report and
certificate all read the same `DPTrainingPlan`; there is no second place to set any of these.

One step of the plan releases up to three Gaussian sums over the *same* Poisson sample:

- the clipped gradient, with noise multiplier `gradient_noise_multiplier`;
- with adaptive clipping, how many gradients were below the bound (Andrew et al. 2021);
- what the history shows: mean loss, accuracy, gradient norm.

Together they are one Gaussian mechanism with multiplier `noise_multiplier`, because
1 / noise_multiplier^2 is the sum of the three 1 / multiplier^2. So the loss curve that people want
to look at is inside the guarantee, for about one per cent more noise on the gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final

from privacy_core import dp_events
from privacy_core.accounting import calibrate_noise_multiplier, dp_sgd_event, epsilon_of
from privacy_core.dp_events import Composed, DpEvent, Gaussian, PoissonSampled, SelfComposed
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit
from privacy_finetuner.config import PrivacyConfig, TrainingConfig, steps_of
from privacy_finetuner.errors import ConfigurationError, PrivacyBudgetExhaustedException

PLAN_VERSION: Final = 1

# The side releases get this many times the noise of the whole, so that each costs the gradient half
# a per cent. Andrew et al. 2021, section 3.2, use a twentieth of the batch size for the count: we
# take the larger of the two.
SIDE_RELEASE_RATIO: Final = 10.0
COUNT_NOISE_PER_BATCH: Final = 1 / 20

# The count is of +1/2 for a gradient within the bound and -1/2 for one above: one example changes
# it by at most a half (Andrew et al. 2021, section 3.2).
COUNT_SENSITIVITY: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DPTrainingPlan:
    """Everything that decides a run's guarantee.

    `noise_multiplier` is the priced one: the run is `steps` Poisson-sampled Gaussian mechanisms
    with it. `gradient_noise_multiplier` is what the gradient really gets, a little more.
    `steps_asked` is what the epochs ask for; `steps` is fewer where the budget ends before.
    """

    examples: int
    expected_batch_size: int
    steps: int
    steps_asked: int
    noise_multiplier: float
    gradient_noise_multiplier: float
    count_noise_multiplier: float | None
    statistics_noise_multiplier: float | None
    clip_norm: float
    clip_rule: str
    delta: float
    accountant: str
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE
    unit: PrivacyUnit = PrivacyUnit.EXAMPLE
    max_examples_per_user: int = 1
    sampler: str = "poisson"
    secure_rng: bool = True

    @property
    def sampling_probability(self) -> float:
        """Probability of each example to join a step."""
        return min(1.0, self.expected_batch_size / self.examples)

    @property
    def noise_generator(self) -> str:
        """Where the noise comes from, in words for a report."""
        return "AES-256-CTR" if self.secure_rng else "torch generator, not cryptographic"

    @property
    def mechanism(self) -> DpEvent:
        """What one step does to its sample."""
        multipliers = (
            self.gradient_noise_multiplier,
            self.count_noise_multiplier,
            self.statistics_noise_multiplier,
        )
        return Composed(tuple(Gaussian(m) for m in multipliers if m is not None))

    @property
    def step_event(self) -> DpEvent:
        """What one step does to the data: the mechanism on its sample."""
        if self.sampling_probability == 1:
            return self.mechanism
        return PoissonSampled(self.sampling_probability, self.mechanism)

    def event(self, steps: int | None = None) -> DpEvent:
        """What `steps` steps do to the data (default: the whole plan)."""
        count = self.steps if steps is None else steps
        if self.unit is PrivacyUnit.USER and self.max_examples_per_user > 1:
            # The three sums of a step are one Gaussian vector, in which each sampled example of a
            # user moves the mean by at most 1 / noise_multiplier.
            return dp_sgd_event(
                noise_multiplier=self.noise_multiplier,
                sample_rate=self.sampling_probability,
                steps=count,
                max_examples_per_user=self.max_examples_per_user,
            )
        return SelfComposed(self.step_event, count)

    def epsilon(self, steps: int | None = None) -> float:
        """Upper bound on epsilon after `steps` steps (default: the whole plan)."""
        count = self.steps if steps is None else steps
        return (
            0.0
            if count == 0
            else _epsilon(self.event(count), self.delta, self.accountant, self.relation)
        )

    def guarantee(self, steps: int | None = None) -> Guarantee:
        """The guarantee after `steps` steps (default: the whole plan)."""
        return Guarantee(
            epsilon=self.epsilon(steps), delta=self.delta, relation=self.relation, unit=self.unit
        )

    def to_json(self) -> dict[str, Any]:
        """Write the plan, with its event, as JSON-ready data."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"version": PLAN_VERSION, **values, "event": dp_events.to_json(self.event())}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> DPTrainingPlan:
        """Read what `to_json` wrote.

        Raises:
            ConfigurationError: another version, other fields, or an event that the other fields do
                not produce.
        """
        values = dict(document)
        if values.pop("version", None) != PLAN_VERSION:
            raise ConfigurationError(f"the plan has another version, expected {PLAN_VERSION}")
        event = values.pop("event", None)
        if set(values) != {f.name for f in fields(cls)}:
            raise ConfigurationError("the plan has other fields than this version writes")
        values["relation"] = NeighbouringRelation(values["relation"])
        values["unit"] = PrivacyUnit(values["unit"])
        plan = cls(**values)
        if dp_events.from_json(event) != plan.event():
            raise ConfigurationError("the plan's event is not the one that its parameters produce")
        return plan


def make_plan(
    privacy: PrivacyConfig,
    training: TrainingConfig,
    *,
    examples: int,
    unit: PrivacyUnit = PrivacyUnit.EXAMPLE,
    max_examples_per_user: int = 1,
    must_fit: bool = False,
) -> DPTrainingPlan:
    """Bind a configuration to a data set's size.

    =========================  ================================================================
    noise_multiplier is        then
    =========================  ================================================================
    unset                      the smallest that lets all steps keep epsilon
    set                        all steps, or as many as keep epsilon: the run stops there
    set, and `must_fit`        all steps keep epsilon, or a `ConfigurationError`
    =========================  ================================================================

    The number of examples is treated as public (docs/sharp_edges.md).

    Raises:
        ConfigurationError: no examples; or the noise is too little (names the smallest that would
            do).
        PrivacyBudgetExhaustedException: not even one step keeps epsilon.
        CalibrationFailed: no noise multiplier keeps epsilon.
        UnsupportedEvent: the accountant cannot price the run.
    """
    if examples < 1:
        raise ConfigurationError("the data set has no examples; nothing was started")
    batch_size = min(training.batch_size, examples)
    scenario = _Scenario(
        privacy=privacy,
        sample_rate=batch_size / examples,
        steps=steps_of(training.epochs, batch_size / examples),
        max_examples_per_user=max_examples_per_user,
    )
    noise = privacy.noise_multiplier or scenario.smallest_noise()
    steps = scenario.steps
    if privacy.noise_multiplier is not None:
        steps = scenario.affordable_steps(noise, must_fit=must_fit)
    count_noise = None
    if privacy.adaptive_clipping and training.clip_rule == "bound":
        wanted_std = batch_size * COUNT_NOISE_PER_BATCH
        count_noise = max(SIDE_RELEASE_RATIO * noise, wanted_std / COUNT_SENSITIVITY)
    statistics_noise = SIDE_RELEASE_RATIO * noise
    return DPTrainingPlan(
        examples=examples,
        expected_batch_size=batch_size,
        steps=steps,
        steps_asked=scenario.steps,
        noise_multiplier=noise,
        gradient_noise_multiplier=_remaining_multiplier(noise, count_noise, statistics_noise),
        count_noise_multiplier=count_noise,
        statistics_noise_multiplier=statistics_noise,
        clip_norm=privacy.max_grad_norm,
        clip_rule=training.clip_rule,
        delta=privacy.priced_delta,
        accountant=privacy.accounting_mode,
        relation=privacy.relation,
        unit=unit,
        max_examples_per_user=max_examples_per_user,
        sampler="full_batch" if batch_size == examples else "poisson",
        secure_rng=privacy.secure_rng,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scenario:
    """A configuration on a data set, before its noise is chosen."""

    privacy: PrivacyConfig
    sample_rate: float
    steps: int
    max_examples_per_user: int

    def smallest_noise(self) -> float:
        privacy = self.privacy
        return calibrate_noise_multiplier(
            epsilon=privacy.epsilon,
            delta=privacy.priced_delta,
            sample_rate=self.sample_rate,
            steps=self.steps,
            accountant=privacy.accounting_mode,
            relation=privacy.relation,
            max_examples_per_user=self.max_examples_per_user,
        )

    def epsilon(self, noise: float, steps: int) -> float:
        event = dp_sgd_event(
            noise_multiplier=noise,
            sample_rate=self.sample_rate,
            steps=steps,
            max_examples_per_user=self.max_examples_per_user,
        )
        privacy = self.privacy
        return _epsilon(event, privacy.priced_delta, privacy.accounting_mode, privacy.relation)

    def affordable_steps(self, noise: float, *, must_fit: bool) -> int:
        budget = self.privacy.epsilon
        epsilon = self.epsilon(noise, self.steps)
        if epsilon <= budget:
            return self.steps
        if must_fit:
            raise ConfigurationError(
                f"noise_multiplier {noise:g} over {self.steps} steps at sample rate "
                f"{self.sample_rate:.4g} costs epsilon {epsilon:.4g}, above the budget {budget:g}; "
                f"use at least {self.smallest_noise():.4f}, or leave one of the two unset; "
                "nothing was started"
            )
        fits, fails = 0, self.steps
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self.epsilon(noise, middle) <= budget:
                fits = middle
            else:
                fails = middle
        if fits == 0:
            raise PrivacyBudgetExhaustedException(
                epsilon_requested=self.epsilon(noise, 1),
                epsilon_remaining=budget,
                delta_requested=self.privacy.priced_delta,
                delta_remaining=self.privacy.delta,
                state="one step would cost more; nothing was spent",
            )
        return fits


def _remaining_multiplier(whole: float, *parts: float | None) -> float:
    """The gradient's multiplier, so that it and the side releases cost exactly `whole`."""
    share = 1 - math.fsum((whole / part) ** 2 for part in parts if part is not None)
    # Rounded up: the composed event must never cost a rounding error more than the target.
    return whole / math.sqrt(share) * (1 + 1e-12)


@lru_cache(maxsize=4096)
def _epsilon(
    event: DpEvent, delta: float, accountant: str, relation: NeighbouringRelation
) -> float:
    return epsilon_of(event, delta, accountant, relation=relation)
