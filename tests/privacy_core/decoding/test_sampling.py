"""The next token: its law, and how far one record moves it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy_core.accounting import epsilon_of as priced
from privacy_core.decoding import DecodingTerms, clipped_sum, draw, epsilon_of, scores
from privacy_core.decoding.terms import GRID
from privacy_core.dp_events import BoundedRange, SelfComposed
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import SeededEntropy

Follows = Callable[[Sequence[int], Sequence[float]], bool]
ORDERS = (1.01, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
TERMS = DecodingTerms(slots=6, clip=2.0, temperature=0.8, max_tokens=4)


def random_instance(size: int, terms: DecodingTerms, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)  # noqa: TID251 -- which logits
    public = np.sort(rng.normal(size=size).astype(np.float32) * 3)[::-1].copy()
    private = (public + rng.normal(size=(terms.slots, size)) * 2).astype(np.float32)
    return public, clipped_sum(private, public, terms.clip)


@pytest.mark.parametrize("size", [1, 2, 7, 128])
def test_tokens_follow_the_law_on_paper(follows: Follows, law: Any, size: int) -> None:
    public, sums = random_instance(size, TERMS, size)
    entropy = SeededEntropy(size)

    draws = [draw(public, sums, TERMS, entropy) for _ in range(4000)]

    assert follows(draws, law(public, sums, TERMS).tolist())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_many_tokens_follow_the_law_on_paper(follows: Follows, law: Any, seed: int) -> None:
    terms = replace(TERMS, temperature=(0.1, 0.7, 2.0)[seed % 3], clip=(0.5, 4.0)[seed % 2])
    public, sums = random_instance(64, terms, seed)
    entropy = SeededEntropy(seed)

    draws = [draw(public, sums, terms, entropy) for _ in range(200_000)]

    assert follows(draws, law(public, sums, terms).tolist())


def test_scores_are_the_formula_of_the_terms() -> None:
    public = np.array([1.0, -2.0], dtype=np.float32)
    sums = np.array([3 * GRID, -GRID], dtype=np.int32)

    # 6 slots, C = 2: the means are 3 * 2 / 6 and -2 / 6; the temperature is 0.8.
    assert scores(public, sums, TERMS).tolist() == pytest.approx([2.0 / 0.8, (-2 - 1 / 3) / 0.8])


def test_logits_too_large_for_floats_are_drawn_from_exact_scores(follows: Follows) -> None:
    """At 2^40 a float64 score is off by 2^-13: only the rational one is asked."""
    public = np.full(3, 2.0**40, dtype=np.float32)
    sums = np.array([3 * GRID, 0, -6 * GRID], dtype=np.int32)
    entropy = SeededEntropy(9)

    draws = [draw(public, sums, TERMS, entropy) for _ in range(1000)]

    # 6 slots, C = 2, temperature 0.8: exponents of 1 / 0.8, 0 and -2 / 0.8 beyond the common one.
    weights = np.exp(np.array([1.25, 0.0, -2.5]))
    assert follows(draws, (weights / weights.sum()).tolist())


def test_extreme_numbers_are_drawn_exactly_too() -> None:
    terms = replace(TERMS, temperature=1e-12)
    public = np.array([3e38, -3e38, 2.9999e38], dtype=np.float32)

    places = {draw(public, np.zeros(3, np.int32), terms, SeededEntropy(s)) for s in range(20)}

    assert places == {0}


def divergences(pair: Any, divergence: Any) -> list[float]:
    """Renyi divergences both ways, in units of order * rho."""
    one, other = pair.laws()
    return [
        divergence(p, q, order) / (order * pair.terms.rho_per_token)
        for order in ORDERS
        for p, q in ((one, other), (other, one))
        if p.min() > 1e-250 and q.min() > 1e-250
    ]


def check_pairs(cases: int, seed: int, neighbours: Any, divergence: Any) -> float:
    """The largest divergence among so many pairs; scores are checked on the way."""
    rng, worst = np.random.default_rng(seed), 0.0  # noqa: TID251 -- which pairs
    for _ in range(cases):
        pair = neighbours(rng)
        one, other = (scores(pair.public, sums, pair.terms) for sums in pair.sums)
        # Scores are floats here; their exact values keep the bound in whole numbers.
        assert np.abs(one - other).max() <= pair.terms.reach + 1e-12 * (1 + np.abs(one).max())
        found = divergences(pair, divergence)
        # Divergences near 0 are differences of numbers near 1.
        slack = 1e-9 + 1e-14 / pair.terms.rho_per_token
        assert max(found, default=0.0) <= 1 + slack
        worst = max(worst, *found, 0.0)
    return worst


def test_no_record_moves_a_token_further_than_its_price(neighbours: Any, divergence: Any) -> None:
    """Both adjacencies; records that shout, contradict and break among them."""
    assert check_pairs(250, 1, neighbours, divergence) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_of_ten_thousand_pairs_none_costs_more(neighbours: Any, divergence: Any, seed: int) -> None:
    assert check_pairs(5000, 100 + seed, neighbours, divergence) > 0.9


@pytest.mark.parametrize("adjacency", ["replace", "null"])
def test_the_price_is_reached_by_two_tokens(adjacency: str, law: Any, divergence: Any) -> None:
    """One record for, then against (or gone): within a thousandth of rho, at equal logits."""
    terms = replace(TERMS, slots=40, clip=0.01, adjacency=adjacency)  # type: ignore[arg-type]
    against = np.array([0, 0] if adjacency == "null" else [-GRID, GRID], dtype=np.int32)
    for_it = np.array([GRID, -GRID], dtype=np.int32)
    public = np.zeros(2, np.float32)

    p, q = (law(public, sums, terms) for sums in (for_it, against))

    for order in (1.01, 2.0, 8.0, 64.0):
        ratio = divergence(p, q, order) / (order * terms.rho_per_token)
        assert 0.999 <= ratio <= 1 + 1e-6


def test_half_the_price_is_a_false_claim_under_the_other_adjacency() -> None:
    null = replace(TERMS, adjacency="null")

    assert TERMS.reach == 2 * null.reach
    assert TERMS.rho_per_token == pytest.approx(4 * null.rho_per_token)


@pytest.mark.parametrize("tokens", [1, 16, 256])
@pytest.mark.parametrize("clip", [0.2, 1.5])
def test_the_accountants_price_of_the_event_is_no_higher(tokens: int, clip: float) -> None:
    """The event says more than its rho does; the exact price of the composition is below."""
    terms = replace(TERMS, slots=32, clip=clip)
    event = terms.event(tokens)

    exact = priced(event, 1e-6, "pld")

    assert event == SelfComposed(BoundedRange(terms.epsilon_per_token), tokens)
    assert exact <= epsilon_of(tokens * terms.rho_per_token, 1e-6) * (1 + 1e-9)
    assert exact <= tokens * terms.epsilon_per_token * (1 + 1e-9)


@pytest.mark.parametrize("bad", ["length", "nan", "bound", "floats", "empty", "least"])
def test_what_cannot_be_drawn_from_is_refused(bad: str) -> None:
    public, sums = np.zeros(3, np.float32), np.zeros(3, np.int32)
    match bad:
        case "length":
            sums = sums[:2]
        case "nan":
            public[1] = math.nan
        case "bound":
            sums[0] = 6 * GRID + 1
        case "floats":
            sums = sums.astype(np.float32)
        case "empty":
            public, sums = public[:0], sums[:0]
        case "least":
            sums[0] = -(1 << 31)
    for act in (
        lambda: draw(public, sums, TERMS, SeededEntropy(0)),
        lambda: scores(public, sums, TERMS),
    ):
        with pytest.raises(InvalidParameter):
            act()
