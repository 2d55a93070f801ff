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

With correlated noise (`training.noise_choice`) batches come from groups that take turns. A unit
then takes part at most once in `groups` steps, and the three sums of *that* step are one Gaussian
mechanism on it: the gradient's part is spread over the steps that follow, at the same price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Final

from privacy_core import dp_events
from privacy_core.accounting import dp_sgd_event, epsilon_of
from privacy_core.dp_events import Composed, DpEvent, Gaussian, PoissonSampled, SelfComposed
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit
from privacy_core.mechanisms.matrix_factorization import (
    BandedToeplitz,
    BufferedToeplitz,
    Correlation,
    inverse_series,
)
from privacy_finetuner.config import PrivacyConfig, TrainingConfig, steps_of
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.noise_choice import Scenario, noise_factor

PLAN_VERSION: Final = 2

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
    with it. `gradient_noise_multiplier` is what is left of it for the gradient, a little more.
    `steps_asked` is what the epochs ask for; `steps` is fewer where the budget ends before.

    With audit `canaries`, each in the data set by a fair coin, `examples` counts half of them: the
    expected number of records. A sampler draws from `places`, see `training.canaries`.

    With a `correlation`, step t samples from group t mod `groups`, and each *participation* of a
    unit is one mechanism with `noise_multiplier`; with a `BufferedToeplitz`, the whole run is one.
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
    groups: int = 1
    correlation: Correlation | None = None
    canaries: int = 0

    def __post_init__(self) -> None:
        bands = self.correlation.bands if isinstance(self.correlation, BandedToeplitz) else 1
        if isinstance(self.correlation, BufferedToeplitz):
            bands = 2  # it reaches over the whole run, but a group must rest between its turns
        if bands > self.groups or (self.groups > 1) != (self.sampler == "cyclic_poisson"):
            raise ConfigurationError(
                f"{bands} bands with {self.groups} groups and the sampler {self.sampler!r} have no "
                "sound price: a unit's steps must be as far apart as there are bands; nothing was "
                "started"
            )
        if self.groups > 1 and self.max_examples_per_user > 1:
            raise ConfigurationError(
                f"{self.groups} groups with {self.max_examples_per_user} examples a user have no "
                "sound price: a user's examples fall into several groups, whose noise hangs "
                "together; nothing was started"
            )

    @property
    def places(self) -> int:
        """What a sampler draws from: every record, and every canary, whether it is in or out."""
        return self.examples + self.canaries // 2

    @property
    def sampling_probability(self) -> float:
        """Expected share of the examples in a step."""
        return min(1.0, self.expected_batch_size / self.examples)

    @property
    def group_sampling_probability(self) -> float:
        """Probability of each example of the group whose turn it is to join a step."""
        return min(1.0, self.groups * self.sampling_probability)

    @property
    def noise(self) -> str:
        """How the noise of different steps hangs together, in words for a report."""
        match self.correlation:
            case BandedToeplitz() as banded:
                return f"banded, {banded.bands} bands"
            case BufferedToeplitz() as buffered:
                return f"buffered, {len(buffered.decays)} buffers"
            case _:
                return "independent"

    @property
    def fresh_noise_multiplier(self) -> float:
        """Standard deviation of the fresh noise of a step's gradient, in clip norms."""
        if self.correlation is None:
            return self.gradient_noise_multiplier
        factor = noise_factor(self.correlation, self.steps, self.groups)
        return self.gradient_noise_multiplier * factor

    @property
    def step_noise_multiplier(self) -> float:
        """Standard deviation of all the noise in a step's gradient, in clip norms, once settled.

        What a step takes back of earlier noise is noise of its own. Public.
        """
        if self.correlation is None:
            return self.gradient_noise_multiplier
        inverse_n = inverse_series(self.correlation.column(self.steps), self.steps)
        return self.fresh_noise_multiplier * math.hypot(*inverse_n)

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
        """What one step does to the units whose turn it is: the mechanism on its sample."""
        if self.group_sampling_probability == 1:
            return self.mechanism
        return PoissonSampled(self.group_sampling_probability, self.mechanism)

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
        rounds = -(-count // self.groups)
        if isinstance(self.correlation, BufferedToeplitz) and count > 0:
            return self._unamplified_event(self.correlation, count, rounds)
        return SelfComposed(self.step_event, rounds)

    def _unamplified_event(self, correlation: BufferedToeplitz, steps: int, rounds: int) -> DpEvent:
        """One Gaussian for all gradients, and what each participation releases beside them.

        The first rows of C G are a smaller mechanism with the same noise: fewer steps cost less.
        Which units joined is not used: no amplification, and no harm in it.
        """
        whole = correlation.sensitivity(self.steps, self.groups)
        part = correlation.sensitivity(steps, self.groups)
        beside = (self.count_noise_multiplier, self.statistics_noise_multiplier)
        return Composed(
            (
                Gaussian(self.gradient_noise_multiplier * (whole / part)),
                SelfComposed(Composed(tuple(Gaussian(m) for m in beside if m is not None)), rounds),
            )
        )

    def as_dp_sgd(self, steps: int) -> tuple[float, int]:
        """Sampling rate and number of steps of the DP-SGD run that costs what `steps` steps cost.

        With `noise_multiplier`. Unamplified runs are one full-batch step, whatever `steps` is: not
        less than they cost.
        """
        if isinstance(self.correlation, BufferedToeplitz):
            return 1.0, min(steps, 1)
        return self.group_sampling_probability, -(-steps // self.groups)

    def epsilon(self, steps: int | None = None) -> float:
        """Upper bound on epsilon after `steps` steps (default: the whole plan)."""
        count = self.steps if steps is None else steps
        return (
            0.0
            if count == 0
            else _epsilon(self.event(count), self.delta, self.accountant, self.relation)
        )

    def priced_steps(self, charged: int) -> int:
        """The steps that a run is priced as once `charged` of them are: none, or all.

        A stop before the end may follow from what was released, and a tight price is no bound at
        such a time (docs/decisions/0006). So whoever began the plan has spent the plan.
        """
        return self.steps if charged else 0

    def guarantee(self, steps: int | None = None) -> Guarantee:
        """The guarantee after `steps` steps (default: the whole plan)."""
        return Guarantee(
            epsilon=self.epsilon(steps), delta=self.delta, relation=self.relation, unit=self.unit
        )

    def to_json(self) -> dict[str, Any]:
        """Write the plan, with its event, as JSON-ready data."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.correlation is not None:
            kind = type(self.correlation).__name__
            values["correlation"] = {"type": kind, **asdict(self.correlation)}
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
        values.setdefault("canaries", 0)  # plans from before audits have none
        if set(values) != {f.name for f in fields(cls)}:
            raise ConfigurationError("the plan has other fields than this version writes")
        values["relation"] = NeighbouringRelation(values["relation"])
        values["unit"] = PrivacyUnit(values["unit"])
        values["correlation"] = _correlation(values["correlation"])
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
    canaries: int = 0,
) -> DPTrainingPlan:
    """Bind a configuration to a data set's size.

    =========================  ================================================================
    noise_multiplier is        then
    =========================  ================================================================
    unset                      the smallest that lets all steps keep epsilon
    set                        all steps, or as many as keep epsilon: the run stops there
    set, and `must_fit`        all steps keep epsilon, or a `ConfigurationError`
    =========================  ================================================================

    The number of examples is treated as public (docs/sharp_edges.md). Audit `canaries` come on top
    of them: each example is drawn as often as without, and batches grow by what canaries add.

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
    if canaries:
        # Rounded up: each example is drawn at least as often, in no more steps.
        batch_size = -(-batch_size * (examples + canaries // 2) // examples)
        examples += canaries // 2
    choice = Scenario(
        privacy=privacy,
        sample_rate=batch_size / examples,
        steps=steps_of(training.epochs, batch_size / examples),
        max_examples_per_user=max_examples_per_user,
    ).choose(must_fit=must_fit)
    noise = choice.noise_multiplier
    # Where the whole run is one mechanism, its noise is shared by the rounds of side releases.
    rounds = 1
    if isinstance(choice.correlation, BufferedToeplitz):
        rounds = -(-choice.steps // choice.groups)
    statistics_noise = SIDE_RELEASE_RATIO * noise * math.sqrt(rounds)
    count_noise = None
    if privacy.adaptive_clipping and training.clip_rule == "bound":
        wanted_std = batch_size * COUNT_NOISE_PER_BATCH
        count_noise = max(statistics_noise, wanted_std / COUNT_SENSITIVITY)
    return DPTrainingPlan(
        examples=examples,
        expected_batch_size=batch_size,
        steps=choice.steps,
        steps_asked=steps_of(training.epochs, batch_size / examples),
        noise_multiplier=noise,
        gradient_noise_multiplier=_remaining_multiplier(
            noise, count_noise, statistics_noise, rounds=rounds
        ),
        count_noise_multiplier=count_noise,
        statistics_noise_multiplier=statistics_noise,
        clip_norm=privacy.max_grad_norm,
        clip_rule=training.clip_rule,
        delta=privacy.priced_delta,
        accountant=privacy.accounting_mode,
        relation=privacy.relation,
        unit=unit,
        max_examples_per_user=max_examples_per_user,
        sampler=_sampler(batch_size == examples, choice.groups),
        secure_rng=privacy.secure_rng,
        groups=choice.groups,
        correlation=choice.correlation,
        canaries=canaries,
    )


def _sampler(is_full_batch: bool, groups: int) -> str:
    if groups > 1:
        return "cyclic_poisson"
    return "full_batch" if is_full_batch else "poisson"


def _correlation(document: Mapping[str, Any] | None) -> Correlation | None:
    """Read how noise hangs together; `asdict` wrote it."""
    if document is None:
        return None
    kinds: Mapping[str, type[Correlation]] = {
        kind.__name__: kind for kind in (BandedToeplitz, BufferedToeplitz)
    }
    values = {name: value for name, value in document.items() if name != "type"}
    kind = kinds.get(str(document.get("type")))
    if kind is None or set(values) != {f.name for f in fields(kind)}:
        raise ConfigurationError("the plan's correlation is not one that this version writes")
    return kind(**{name: tuple(value) for name, value in values.items()})


def _remaining_multiplier(whole: float, *parts: float | None, rounds: int = 1) -> float:
    """The gradient's multiplier, so that it and `rounds` side releases cost exactly `whole`."""
    share = 1 - rounds * math.fsum((whole / part) ** 2 for part in parts if part is not None)
    # Rounded up: the composed event must never cost a rounding error more than the target.
    return whole / math.sqrt(share) * (1 + 1e-12)


@lru_cache(maxsize=4096)
def _epsilon(
    event: DpEvent, delta: float, accountant: str, relation: NeighbouringRelation
) -> float:
    return epsilon_of(event, delta, accountant, relation=relation)
