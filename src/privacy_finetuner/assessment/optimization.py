"""Utility against privacy: one training at each of several budgets, all of them paid for.

Looking at three models and keeping one costs all three. So the budget of the whole comparison is
fixed first, and the noise of every training is solved from it: their joint price (PLD of the
composition) is at most `max_epsilon`, whatever is chosen afterwards.

=======================  ==========================  =============================================
scores on                cost                        interval
=======================  ==========================  =============================================
`public_dataset`         nothing (post-processing)   of the sample of public records
a part of the private    one release a model,        of the sample and of the noise, added as
records, drawn first     charged to those in it      variances
=======================  ==========================  =============================================

The private records are divided by one secret coin each, before anything is computed: who is scored
is not trained on. One person is in one part, so the whole costs the larger of the two prices
(parallel composition), not their sum.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from privacy_core.accounting import calibrate_noise_multiplier, dp_sgd_event, epsilon_of
from privacy_core.dp_events import Composed, DpEvent
from privacy_core.guarantee import Guarantee, NeighbouringRelation
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import Source
from privacy_finetuner.trainer import PrivateTrainer
from privacy_finetuner.training.plan import make_plan
from privacy_finetuner.training.records import read_records
from privacy_runtime.keystream import KeyStream
from privacy_runtime.world import Clock, Entropy

METRICS: Final = ("accuracy",)
"""A loss has no bound on its spread that is public or paid for, so it would have no interval."""
_HALVINGS: Final = 40
_NORMAL_95: Final = 1.959964


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyConstraints:
    """What a comparison may spend, and what it must reach.

    Attributes:
        max_epsilon: of the whole comparison: every training and every score of private records.
        min_utility: least utility of the model that is recommended; `None`: any.
        delta: of the whole comparison.
        levels: the budgets that are compared, as shares of the largest of them; each in (0, 1].
        held_out: chance of a private record to be scored instead of trained on, in (0, 0.5]; not
            read with public scores.
    """

    max_epsilon: float
    min_utility: float | None = None
    delta: float = 1e-5
    levels: tuple[float, ...] = (0.25, 0.5, 1.0)
    held_out: float = 0.2

    def __post_init__(self) -> None:
        faults = [
            None
            if 0 < self.max_epsilon < math.inf
            else f"max_epsilon is {self.max_epsilon}, expected a finite number > 0",
            None if 0 < self.delta < 1 else f"delta is {self.delta}, expected a number in (0, 1)",
            None
            if self.levels and all(0 < level <= 1 for level in self.levels)
            else f"levels are {self.levels}, expected at least one number in (0, 1]",
            None
            if len(set(self.levels)) == len(self.levels)
            else f"levels are {self.levels}, expected different ones",
            None
            if 0 < self.held_out <= 0.5
            else f"held_out is {self.held_out}, expected a number in (0, 0.5]",
        ]
        found = [fault for fault in faults if fault is not None]
        if found:
            raise ConfigurationError("; ".join(found) + "; nothing was spent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tradeoff:
    """One budget, the model that was trained with it, and how useful it is.

    `epsilon` is the price of this training alone: what holds where this model is published and the
    others, with their scores, are never looked at. `low` and `high` bound the utility at 95 %.
    """

    epsilon: float
    noise_multiplier: float
    utility: float
    low: float
    high: float
    folder: str
    is_on_frontier: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationResult:
    """What was compared, what it cost together, and what is recommended.

    Attributes:
        points: every training, least epsilon first.
        best: the one recommended, or `None` where none shows `min_utility`.
        guarantee: of everything here together; it holds for any choice made after looking.
        metric: what utility is.
        scores_are_public: whether scores were free.
    """

    points: tuple[Tradeoff, ...]
    best: Tradeoff | None
    guarantee: Guarantee
    metric: str
    scores_are_public: bool
    event: DpEvent = field(repr=False)

    @property
    def frontier(self) -> tuple[Tradeoff, ...]:
        """The points that no other one beats in both, by the middle of their intervals."""
        return tuple(point for point in self.points if point.is_on_frontier)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            "points": [asdict(point) for point in self.points],
            "best": None if self.best is None else asdict(self.best),
            "epsilon": self.guarantee.epsilon,
            "delta": self.guarantee.delta,
            "metric": self.metric,
            "scores_are_public": self.scores_are_public,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a comparison is asked for. All of it is public but the records.

    Attributes:
        model: a name, a folder, or a model object (each training gets a copy).
        tokenizer: of a model object.
        dataset: the private records.
        constraints: what may be spent.
        metric: `accuracy`, of next tokens or classes.
        public_dataset: score on these instead of on a part of the private records.
        training: keywords of `PrivateTrainer.train`.
        folder: where each model goes, in a folder of its own.
        device: as of `PrivateTrainer`.
        target: which point is recommended where no least utility is asked for: `utility`,
            `privacy`, or `privacy_utility_tradeoff`.
    """

    model: Any
    dataset: Source
    constraints: PrivacyConstraints
    folder: Path
    tokenizer: Any = None
    metric: str = "accuracy"
    public_dataset: Source | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    target: str = "privacy_utility_tradeoff"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigurationError(
                f"utility_metric is {self.metric!r}, expected one of {', '.join(METRICS)}; nothing "
                "was spent"
            )
        # With any of these a run would be another plan than the one that is priced beside others.
        fixed = {
            *("noise_multiplier", "target_epsilon", "target_delta", "unit", "user_field"),
            *("user_sampling", "max_examples_per_user", "audit_canaries", "resume"),
        }
        if asked := fixed & set(self.training):
            raise ConfigurationError(
                f"{min(asked)} is solved or fixed by the comparison; nothing was spent"
            )


def compare(
    comparison: Comparison,
    *,
    entropy: Entropy,
    clock: Clock,
    on_point: Callable[[Tradeoff], None] | None = None,
) -> OptimizationResult:
    """Train at every budget, score, and recommend.

    Guarantee: everything returned and written is (`max_epsilon`, `delta`)-private together, under
    adding or removing one record.

    Args:
        comparison: what is asked for.
        entropy: of the division, the noise and the batches.
        clock: of the accounts.
        on_point: called after each training.

    Raises:
        ConfigurationError, DatasetError: nothing was spent.
    """
    constraints = comparison.constraints
    rows = list(read_records(comparison.dataset).rows)
    trained, scored = rows, None
    if comparison.public_dataset is None:
        trained, scored = _divided(rows, constraints.held_out, entropy)
    noises = _noises(comparison, examples=len(trained))
    delta, points = constraints.delta, list[Tradeoff]()
    events = [event for _, event in noises]
    whole = Composed(tuple(events))
    for noise, event in noises:
        epsilon = epsilon_of(event, delta, "pld")
        point = _trained(comparison, trained, scored, noise, epsilon, entropy, clock, len(noises))
        points.append(point)
        if on_point is not None:
            on_point(point)
    marked = _with_frontier(points)
    return OptimizationResult(
        points=marked,
        best=_recommended(marked, constraints.min_utility, comparison.target),
        guarantee=Guarantee(
            epsilon=constraints.max_epsilon,
            delta=delta,
            relation=NeighbouringRelation.ADD_OR_REMOVE_ONE,
        ),
        metric=comparison.metric,
        scores_are_public=comparison.public_dataset is not None,
        event=whole,
    )


def _divided(rows: Sequence[Any], held_out: float, entropy: Entropy) -> tuple[list[Any], list[Any]]:
    """One secret coin for each record: (trained on, scored)."""
    stream = KeyStream.fresh(entropy)
    coins = stream.uniforms(len(rows))
    trained = [row for row, coin in zip(rows, coins, strict=True) if coin >= held_out]
    scored = [row for row, coin in zip(rows, coins, strict=True) if coin < held_out]
    if not trained or not scored:
        raise ConfigurationError(
            f"{len(rows)} records are too few to hold some of them out; give a public_dataset; "
            "nothing was spent"
        )
    return trained, scored


def _noises(comparison: Comparison, *, examples: int) -> list[tuple[float, DpEvent]]:
    """The noise multiplier and event of every training, least epsilon first.

    One factor on all budgets is solved so that the composition costs `max_epsilon`.
    """
    constraints = comparison.constraints
    known = ("epochs", "batch_size")
    given = {name: value for name, value in comparison.training.items() if name in known}
    privacy = PrivacyConfig(epsilon=constraints.max_epsilon, delta=constraints.delta)
    plan = make_plan(privacy, TrainingConfig(**given), examples=examples)
    rate, steps = plan.sampling_probability, plan.steps

    def at(factor: float) -> list[tuple[float, DpEvent]]:
        pairs = []
        for level in sorted(constraints.levels):
            noise = calibrate_noise_multiplier(
                epsilon=factor * level * constraints.max_epsilon,
                delta=constraints.delta,
                sample_rate=rate,
                steps=steps,
                accountant="pld",
            )
            event = dp_sgd_event(noise_multiplier=noise, sample_rate=rate, steps=steps)
            pairs.append((noise, event))
        return pairs

    def fits(factor: float) -> bool:
        whole = Composed(tuple(event for _, event in at(factor)))
        return epsilon_of(whole, constraints.delta, "pld") <= constraints.max_epsilon

    low, high = 1e-3, 1.0
    if fits(high):
        return at(high)
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if fits(middle) else (low, middle)
        if high / low < 1 + 1e-3:
            break
    return at(low)


def _trained(
    comparison: Comparison,
    trained: list[Any],
    scored: list[Any] | None,
    noise: float,
    epsilon: float,
    entropy: Entropy,
    clock: Clock,
    count: int,
) -> Tradeoff:
    constraints = comparison.constraints
    folder = comparison.folder / f"epsilon-{epsilon:.4g}"
    trainer = PrivateTrainer(
        copy.deepcopy(comparison.model),
        PrivacyConfig(
            epsilon=epsilon * (1 + 1e-6),
            delta=constraints.delta,
            noise_multiplier=noise,
            accounting_mode="pld",
        ),
        comparison.device,
        enable_context_guard=False,
        tokenizer=comparison.tokenizer,
        entropy=entropy,
        clock=clock,
    )
    trainer.train(trained, output_dir=str(folder), **comparison.training)
    if scored is None:
        score = trainer.evaluate(comparison.public_dataset, privacy_safe=False)
    else:
        # Everybody scored is scored once by each model: the prices add up to the whole at most.
        price = min(constraints.max_epsilon / count, epsilon)
        score = trainer.evaluate(scored, epsilon=price, delta=constraints.delta / count)
    value, noise_std = score.accuracy, score.accuracy_std
    spread = math.sqrt(max(value * (1 - value), 0.0) / max(score.examples, 1))
    margin = _NORMAL_95 * math.hypot(noise_std, spread)
    return Tradeoff(
        epsilon=epsilon,
        noise_multiplier=noise,
        utility=value,
        low=value - margin,
        high=value + margin,
        folder=str(folder),
    )


def _with_frontier(points: Sequence[Tradeoff]) -> tuple[Tradeoff, ...]:
    marked, most = [], -math.inf
    for point in sorted(points, key=lambda p: p.epsilon):
        values = asdict(point) | {"is_on_frontier": point.utility > most}
        most = max(most, point.utility)
        marked.append(Tradeoff(**values))
    return tuple(marked)


def _recommended(points: Sequence[Tradeoff], least: float | None, target: str) -> Tradeoff | None:
    """The least epsilon that will do; the points come in its order."""
    most = max(points, key=lambda p: p.utility)
    if least is None:
        least = {"utility": most.utility, "privacy": -math.inf}.get(target)
    if least is None:
        return next(p for p in points if p.high >= most.low)
    return next((p for p in points if p.utility >= least), None)
