from __future__ import annotations

import math

import numpy as np
import pytest

from privacy_core.accounting.dominating_pairs import (
    DominatingPair,
    ExchangePair,
    LabelledPair,
    LaplacePair,
    MixturePair,
    ReversedPair,
    WithoutReplacementPair,
)
from privacy_core.accounting.loss_distribution import Act, LossSum, rough_bound
from privacy_core.accounting.loss_law import connect_the_dots, lattice_edges

SAMPLED = MixturePair(0.8, (1.0,), (0.1,))
PAIRS: list[DominatingPair] = [
    SAMPLED,
    MixturePair(2.0, (0.3, 0.7, 1.0), (0.2, 0.2, 0.1)),
    MixturePair(2.0, (1.0,), (1.0,)),
    ExchangePair(0.9, 0.3),
    LaplacePair(2.0),
    LaplacePair(0.5, 0.2),
    LabelledPair(SAMPLED, ExchangePair(1.0, 0.2), 0.25),
    WithoutReplacementPair(1.5, 0.2),
]
BOTH_WAYS = [*PAIRS, *(ReversedPair(pair) for pair in PAIRS)]


def edges_of(pair: DominatingPair) -> np.ndarray:
    low, high = pair.span(1e-12)
    return lattice_edges(low, high, spacing=1, widest=20, step=0.01)


@pytest.mark.parametrize("pair", BOTH_WAYS)
def test_the_masses_of_a_pair_add_to_one(pair: DominatingPair) -> None:
    found = pair.masses(edges_of(pair))

    assert math.fsum(found.p) + found.p_below + found.p_above == pytest.approx(1, abs=1e-12)
    assert math.fsum(found.q) + found.q_below + found.q_above == pytest.approx(1, abs=1e-12)
    assert found.p_above <= 1e-12
    assert found.q_below <= 1e-12


@pytest.mark.parametrize("pair", BOTH_WAYS)
def test_inside_an_interval_the_ratio_of_masses_is_that_of_its_losses(
    pair: DominatingPair,
) -> None:
    edges = edges_of(pair)
    found = pair.masses(edges)
    kept = (found.p > 1e-14) & (found.q > 1e-14)

    ratio = np.log(found.p[kept] / found.q[kept])

    assert np.all(ratio >= edges[:-1][kept] - 1e-9)
    assert np.all(ratio <= edges[1:][kept] + 1e-9)


@pytest.mark.parametrize("pair", BOTH_WAYS)
def test_connecting_the_dots_keeps_both_masses(pair: DominatingPair) -> None:
    edges = edges_of(pair)
    found = pair.masses(edges)

    law = connect_the_dots(pair, edges, 1)

    assert math.fsum(law.p) + law.infinite == pytest.approx(1, abs=1e-12)
    kept_q = math.fsum(law.p * np.exp(-law.losses))
    assert kept_q == pytest.approx(math.fsum(found.q), abs=1e-9 + found.p_below)


@pytest.mark.parametrize("pair", [MixturePair(0.9, (0.3, 1.0), (0.2, 0.1)), ExchangePair(0.9, 0.3)])
def test_the_output_of_a_loss_has_that_loss(pair: MixturePair | ExchangePair) -> None:
    losses = np.array([-0.2, -1e-6, 0.0, 1e-9, 0.01, 1.0, 20.0, 400.0])

    assert pair.loss(pair.output(losses)) == pytest.approx(losses, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("sigma", "q", "steps", "delta", "remove", "add"),
    [
        (1.0, 0.01, 1000, 1e-5, 1.82824, 1.41668),
        (0.8, 256 / 50000, 10000, 1e-6, 5.27017, 4.32949),
        (10.0, 0.25, 2000, 1e-6, 5.58344, 5.53034),
    ],
)
def test_both_directions_have_their_known_price(
    sigma: float, q: float, steps: int, delta: float, remove: float, add: float
) -> None:
    pair = MixturePair(sigma, (1.0,), (q,))

    def price(one: DominatingPair) -> float | None:
        total = LossSum.of((Act(pair=one, count=steps),), tail=1e-17, accuracy=2e-4)
        return total.tail(0.5, delta).epsilon(delta)

    assert price(pair) == pytest.approx(remove, rel=5e-4)
    assert price(ReversedPair(pair)) == pytest.approx(add, rel=5e-4)


@pytest.mark.parametrize("delta", [1e-2, 1e-6, 1e-12])
@pytest.mark.parametrize(
    ("sigma", "q", "steps"), [(1.0, 0.01, 1000), (0.6, 1e-4, 20_000), (10.0, 0.25, 2000)]
)
def test_the_quick_bound_is_above_the_tight_price_of_its_direction(
    sigma: float, q: float, steps: int, delta: float
) -> None:
    pair = MixturePair(sigma, (1.0,), (q,))

    for one in (pair, ReversedPair(pair)):
        acts = (Act(pair=one, count=steps),)
        total = LossSum.of(acts, tail=1e-20, accuracy=2e-4)
        tight = total.tail(0.0, delta).epsilon(delta)
        assert rough_bound(acts, delta) >= (tight or 0.0)
