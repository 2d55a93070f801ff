"""Selections by brute force: exact laws on small domains, and draws that follow them.

Statistical tests fail by chance once in ten million runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import pytest
import scipy

from privacy_core.accounting import delta_of, epsilon_of
from privacy_core.dp_events import BoundedRange, PureDp, SelfComposed
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import (
    OPENDP,
    ExponentialMechanism,
    PermuteAndFlip,
    ReportNoisyMax,
    guarantee_of,
)
from privacy_runtime.testing import SeededEntropy

Follows = Callable[[Sequence[Hashable], Mapping[Hashable, float]], bool]
Law = list[float]
REPLACE = NeighbouringRelation.REPLACE_ONE
KINDS = [ExponentialMechanism, PermuteAndFlip, ReportNoisyMax]
SCORES = [(0, 0, 0), (0, 1, 3), (2, 2, 0, 1), (5, 0), (0, 0, 0, 0, 1), (7,)]


def exponential_law(scores: Sequence[float], scale: float) -> Law:
    weights = [math.exp((s - max(scores)) / scale) for s in scores]
    return [w / math.fsum(weights) for w in weights]


def permute_and_flip_law(scores: Sequence[float], scale: float) -> Law:
    """Over all orders of visit."""
    size = len(scores)
    coins = [math.exp((s - max(scores)) / scale) for s in scores]
    law = [0.0] * size
    for order in itertools.permutations(range(size)):
        still = 1.0 / math.factorial(size)
        for i in order:
            law[i] += still * coins[i]
            still *= 1 - coins[i]
    return law


def noisy_max_law(scores: Sequence[float], scale: float) -> Law:
    """The integral over the winner's noisy score, by trapezoids between the kinks."""
    kinks = sorted({float(s) for s in scores})
    ends = [kinks[0] - 40 * scale, *kinks, kinks[-1] + 40 * scale]
    x = np.unique(np.concatenate([np.linspace(a, b, 3001) for a, b in itertools.pairwise(ends)]))
    law = []
    for i, own in enumerate(scores):
        others = [scipy.stats.laplace.cdf(x, s, scale) for j, s in enumerate(scores) if j != i]
        density = scipy.stats.laplace.pdf(x, own, scale) * np.prod(others or [1.0], axis=0)
        law.append(float(scipy.integrate.trapezoid(density, x)))
    return law


LAWS = {
    ExponentialMechanism: exponential_law,
    PermuteAndFlip: permute_and_flip_law,
    ReportNoisyMax: noisy_max_law,
}


def law_of(mechanism: object, scores: Sequence[float]) -> Law:
    return LAWS[type(mechanism)](scores, float(mechanism.scale))  # type: ignore[attr-defined,index]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scores", SCORES)
def test_choices_follow_the_exact_law(follows: Follows, kind: type, scores: tuple[int]) -> None:
    mechanism = kind(epsilon=1.5, sensitivity=1.0)
    entropy = SeededEntropy(31)

    draws = [mechanism.release([float(s) for s in scores], entropy) for _ in range(4000)]

    assert follows(draws, dict(enumerate(law_of(mechanism, scores))))


@pytest.mark.parametrize("kind", [ExponentialMechanism, PermuteAndFlip])
def test_opendp_chooses_by_the_same_law(follows: Follows, kind: type) -> None:
    mechanism = kind(epsilon=1.5, sensitivity=1.0)
    scores = (2.0, 2.0, 0.0, 1.0)

    draws = [mechanism.release(scores, OPENDP) for _ in range(3000)]

    assert follows(draws, dict(enumerate(law_of(mechanism, scores))))


def neighbours(size: int, *, monotone: bool) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All pairs of score vectors on {0, 1, 2, 3} whose scores differ by at most 1."""
    moves = (0, 1) if monotone else (-1, 0, 1)
    return [
        (scores, tuple(s + m for s, m in zip(scores, move, strict=True)))
        for scores in itertools.product(range(4), repeat=size)
        for move in itertools.product(moves, repeat=size)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("monotone", [False, True])
@pytest.mark.parametrize("epsilon", [0.3, 2.0])
def test_no_choice_is_more_than_e_to_the_epsilon_likelier(
    kind: type, epsilon: float, monotone: bool
) -> None:
    """Every pair of neighbours with three candidates; one of them comes near to epsilon."""
    mechanism = kind(epsilon=epsilon, sensitivity=1.0, monotone=monotone)
    pairs = neighbours(3, monotone=monotone)
    laws = {scores: law_of(mechanism, scores) for scores in {s for pair in pairs for s in pair}}

    losses = [
        abs(math.log(p / q))
        for one, other in pairs
        for p, q in zip(laws[one], laws[other], strict=True)
    ]

    assert max(losses) <= epsilon * (1 + 1e-6)
    # Noisy max needs candidates far apart to reach its bound; the others are near it here.
    assert max(losses) >= epsilon * (0.45 if kind is ReportNoisyMax else 0.6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_price_is_reached(kind: type) -> None:
    """By the exponential mechanism with many candidates, by the others where one is far behind."""
    epsilon = 1.0
    mechanism = kind(epsilon=epsilon, sensitivity=1.0)
    if kind is PermuteAndFlip:
        one, other = (21, 0), (20, 1)
        p, q = law_of(mechanism, one)[1], law_of(mechanism, other)[1]
        assert math.log(q / p) == pytest.approx(epsilon, rel=1e-3)
    elif kind is ReportNoisyMax:
        p, q = law_of(mechanism, (20, 20, 0))[2], law_of(mechanism, (19, 19, 1))[2]
        assert math.log(q / p) == pytest.approx(epsilon, rel=2e-3)
    else:
        rest = 4000
        p, q = law_of(mechanism, (0, *[1] * rest))[0], law_of(mechanism, (1, *[0] * rest))[0]
        assert math.log(q / p) == pytest.approx(epsilon, rel=2e-3)


@pytest.mark.parametrize("monotone", [False, True])
@pytest.mark.parametrize("epsilon", [0.3, 2.0])
def test_the_log_ratios_of_the_exponential_mechanism_range_over_at_most_epsilon(
    epsilon: float, monotone: bool
) -> None:
    mechanism = ExponentialMechanism(epsilon=epsilon, sensitivity=1.0, monotone=monotone)
    ranges = []
    for one, other in neighbours(3, monotone=monotone):
        losses = [
            math.log(p / q)
            for p, q in zip(law_of(mechanism, one), law_of(mechanism, other), strict=True)
        ]
        ranges.append(max(losses) - min(losses))

    assert max(ranges) == pytest.approx(epsilon, rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [(PermuteAndFlip, (0, 1), (1, 0)), (ReportNoisyMax, (0,) * 12, (1, *[-1] * 11))],
)
def test_the_others_are_not_of_bounded_range(
    kind: type, one: tuple[int, ...], other: tuple[int, ...]
) -> None:
    """Hence their event is `PureDp`: a range of epsilon would be a false claim."""
    mechanism = kind(epsilon=1.0, sensitivity=1.0)

    losses = [
        math.log(p / q)
        for p, q in zip(law_of(mechanism, one), law_of(mechanism, other), strict=True)
    ]

    assert max(losses) - min(losses) > 1.1
    assert max(map(abs, losses)) <= 1.0


def test_delta_by_brute_force_is_below_the_price() -> None:
    mechanism = ExponentialMechanism(epsilon=1.0, sensitivity=1.0)
    for at in (0.0, 0.3, 0.8):
        worst = max(
            sum(
                max(0.0, p - math.exp(at) * q)
                for p, q in zip(law_of(mechanism, one), law_of(mechanism, other), strict=True)
            )
            for one, other in neighbours(3, monotone=False)
        )
        assert 0 < worst <= delta_of(mechanism.event, at)


def test_permute_and_flip_chooses_no_worse_than_the_exponential_mechanism() -> None:
    for scores in SCORES:
        flip, gumbel = (
            sum(p * s for p, s in zip(law(scores, 2.0), scores, strict=True))
            for law in (permute_and_flip_law, exponential_law)
        )
        assert flip >= gumbel - 1e-12


def test_exact_scores_are_not_rounded(follows: Follows) -> None:
    """Scores of 2^60 and 2^60 + 1 are the same float and different fractions."""
    mechanism = ExponentialMechanism(epsilon=2.0, sensitivity=1.0)
    scores = [Fraction(2**60), Fraction(2**60 + 1)]

    draws = [mechanism.release(scores, SeededEntropy(seed)) for seed in range(3000)]

    assert follows(draws, dict(enumerate(exponential_law((0, 1), 1.0))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("relation", list(NeighbouringRelation))
def test_the_event_prices_the_declared_epsilon(kind: type, relation: NeighbouringRelation) -> None:
    mechanism = kind(epsilon=0.7, sensitivity=2.0, relation=relation)

    assert guarantee_of(mechanism).epsilon == pytest.approx(0.7)
    assert guarantee_of(mechanism).relation is relation


def test_many_exponential_choices_cost_less_than_many_pure_ones() -> None:
    ranged, pure = (
        epsilon_of(SelfComposed(event, 50), 1e-6) for event in (BoundedRange(0.1), PureDp(0.1))
    )

    assert ranged < 0.6 * pure


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf, 1.0], [-math.inf, 0.0]])
def test_scores_that_bound_nothing_are_refused(kind: type, scores: list[float]) -> None:
    with pytest.raises(InvalidParameter, match="scores"):
        kind(epsilon=1.0, sensitivity=1.0).release(scores, SeededEntropy(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [{"epsilon": 0.0}, {"sensitivity": math.nan}, {"relation": "all"}])
def test_a_parameter_outside_its_domain_is_refused(kind: type, bad: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter):
        kind(**{"epsilon": 1.0, "sensitivity": 1.0, **bad})
