"""Shares of an epsilon compose to it: exactly, through the accountant, or as the largest."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.accounting import epsilon_of
from privacy_core.accounting.gdp import gaussian_delta
from privacy_core.accounting.shares import Allocation, Composition, epsilon_shares
from privacy_core.dp_events import Composed, Gaussian
from privacy_core.errors import InvalidParameter

DOCUMENTED = [0.2, 0.8, 0.5, 0.9, 0.3]
SCORES = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40)


@given(scores=SCORES, total=st.floats(1e-6, 1e6), rule=st.sampled_from(list(Allocation)))
def test_shares_of_a_basic_composition_add_up_to_the_total_exactly(
    scores: list[float], total: float, rule: Allocation
) -> None:
    shares = epsilon_shares(scores, total, allocation=rule)

    assert sum(map(Fraction, shares)) == Fraction(total)
    assert math.fsum(shares) == total
    assert min(shares) >= 0


def test_a_batch_twice_as_sensitive_gets_half() -> None:
    first, second, least = epsilon_shares([0.4, 0.8, 0.0], 2.0)

    assert first == pytest.approx(2 * second, rel=1e-12)
    assert least == pytest.approx(4 * first, rel=1e-12)  # as if its score were 0.1


def test_the_documented_example_gives_the_most_sensitive_batch_the_least() -> None:
    shares = epsilon_shares(DOCUMENTED, 2.0)

    assert math.fsum(shares) == 2.0
    assert sorted(range(5), key=lambda i: -shares[i]) == [0, 4, 2, 1, 3]


def test_no_other_division_has_less_variance() -> None:
    """Laplace noise of scale s / epsilon has variance 2 (s / epsilon)^2; a grid search agrees."""
    scores, total = [0.1, 0.5, 1.0], 3.0

    def variance(shares: tuple[float, ...]) -> float:
        return sum(2 * (s / e) ** 2 for s, e in zip(scores, shares, strict=True))

    best = variance(epsilon_shares(scores, total, allocation="least_variance"))
    steps = [i * total / 60 for i in range(1, 59)]
    others = [
        variance((a, b, total - a - b)) for a, b in itertools.product(steps, steps) if a + b < 2.99
    ]
    assert best <= min(others)
    assert best == pytest.approx(min(others), rel=0.01)


@pytest.mark.parametrize("rule", list(Allocation))
@pytest.mark.parametrize("total", [0.1, 1.0, 8.0])
def test_gaussian_releases_of_the_shares_compose_to_the_total(
    rule: Allocation, total: float
) -> None:
    delta = 1e-6
    shares = epsilon_shares(DOCUMENTED, total, allocation=rule, composition="gaussian", delta=delta)

    releases = tuple(Gaussian(1 / _mu(share, delta)) for share in shares)
    price = epsilon_of(Composed(releases), delta, "gdp")
    assert total * (1 - 1e-6) < price <= total
    assert sum(shares) > total  # better than adding epsilons


def _mu(epsilon: float, delta: float) -> float:
    """The mu of a share, found apart from the product's own search."""
    low, high = 1e-9, 1e3
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if gaussian_delta(middle, epsilon) <= delta else (low, middle)
    return low


def test_disjoint_batches_may_each_have_up_to_the_total() -> None:
    shares = epsilon_shares(DOCUMENTED, 2.0, composition=Composition.PARALLEL)

    assert max(shares) == shares[0] == 2.0
    assert shares[1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"scores": []}, "scores"),
        ({"scores": [0.5, 1.5]}, "scores"),
        ({"scores": [math.nan]}, "scores"),
        ({"scores": [0.0, 0.0], "allocation": "proportional"}, "scores"),
        ({"total_epsilon": 0.0}, "total_epsilon"),
        ({"total_epsilon": math.inf}, "total_epsilon"),
        ({"allocation": "fair"}, "allocation"),
        ({"composition": "advanced"}, "composition"),
        ({"composition": "gaussian"}, "delta"),
    ],
)
def test_what_cannot_be_divided_is_refused_by_name(change: dict[str, object], names: str) -> None:
    arguments: dict[str, object] = {"scores": DOCUMENTED, "total_epsilon": 2.0} | change
    with pytest.raises(InvalidParameter, match=names):
        epsilon_shares(**arguments)  # type: ignore[arg-type]  # the table mixes types
