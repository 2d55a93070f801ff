"""One record, one vote: laws, prices, and when a flag is worth having."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from privacy_core.accounting import epsilon_of as priced
from privacy_core.accounting import rdp_curve
from privacy_core.accounting.rdp import ORDERS
from privacy_core.decoding import (
    VoteTerms,
    agreement,
    choose_label,
    epsilon_of,
    error_of_flag,
    error_of_label,
    least_flag_epsilon,
    least_flag_rho,
    least_label_rho,
    noisy_counts,
    rho_of,
    votes_needed,
)
from privacy_core.decoding.terms import Adjacency
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import SeededEntropy

Follows = Callable[[Sequence[int], Sequence[float]], bool]
ADJACENCIES: tuple[Adjacency, ...] = ("replace", "null")


def gaussian_law(sigma: float, reach: int) -> list[float]:
    """The discrete Gaussian on [-reach, reach], by its definition."""
    masses = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(-reach, reach + 1)]
    whole = math.fsum(masses)
    return [m / whole for m in masses]


@pytest.mark.parametrize("rho", [0.5, 0.02])
def test_noisy_counts_follow_the_discrete_gaussian(follows: Follows, rho: float) -> None:
    terms, entropy = VoteTerms(slots=20, rho=rho), SeededEntropy(4)
    reach = math.ceil(9 * terms.counts_sigma)

    released = [noisy_counts([12, 5, 0], terms, entropy) for _ in range(600)]

    law = gaussian_law(terms.counts_sigma, reach)
    for option, count in enumerate((12, 5, 0)):
        assert follows([r[option] - count + reach for r in released], law)


def test_an_agreement_is_a_function_of_one_noisy_count(follows: Follows) -> None:
    terms, entropy = VoteTerms(slots=30, rho=0.05), SeededEntropy(5)
    found = [agreement(21, terms, entropy) for _ in range(1500)]

    wrong = error_of_flag(30, 0.05, agreeing=0.7)
    assert follows([int(a.reached) for a in found], [wrong, 1 - wrong])
    for a in found:
        low, high = a.interval
        assert 0 <= low <= a.share <= high <= 1
        assert a.reached == (a.share * 30 >= 20 - 1e-9)
    held = sum(low <= 21 / 30 <= high for low, high in (a.interval for a in found))
    # At least 95 % of the noise, at most that and the two whole numbers at its ends.
    assert 0.92 * 1500 < held < 0.998 * 1500


def vote_neighbours(
    slots: int, options: int, adjacency: Adjacency
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All pairs of counts that one slot can cause."""
    moves = [
        tuple(-(i == a) + (i == b) for i in range(options))
        for a in range(options)
        for b in range(options if adjacency == "replace" else 0)
    ] + [tuple(-(i == a) for i in range(options)) for a in range(options)]
    for counts in itertools.product(range(slots + 1), repeat=options):
        for move in moves:
            after = tuple(c + m for c, m in zip(counts, move, strict=True))
            if sum(counts) <= slots and min(after) >= 0:
                yield counts, after


def label_law(counts: Sequence[int], terms: VoteTerms) -> np.ndarray:
    weight = math.sqrt(8 * terms.rho) / (2 if terms.adjacency == "replace" else 1)
    exponents = np.array(counts) * weight
    law = np.exp(exponents - exponents.max())
    return law / law.sum()


@pytest.mark.parametrize("adjacency", ADJACENCIES)
@pytest.mark.parametrize("rho", [0.01, 0.3])
def test_no_vote_moves_the_label_further_than_its_price(
    adjacency: Adjacency, rho: float, divergence: Callable[..., float]
) -> None:
    """Every pair of neighbours with three labels and four slots."""
    terms, worst = VoteTerms(slots=4, rho=rho, adjacency=adjacency), 0.0
    for one, other in vote_neighbours(4, 3, adjacency):
        p, q = label_law(one, terms), label_law(other, terms)
        losses = np.log(p / q)
        assert losses.max() - losses.min() <= terms.range_epsilon * (1 + 1e-9)
        for order in (1.1, 4.0, 64.0):
            both = (divergence(p, q, order), divergence(q, p, order))
            assert max(both) <= order * rho * (1 + 1e-9)
            worst = max(worst, *both)
    assert worst > 0


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_labels_follow_the_exponential_mechanism(follows: Follows, adjacency: Adjacency) -> None:
    terms, entropy = VoteTerms(slots=12, rho=0.05, adjacency=adjacency), SeededEntropy(6)

    draws = [choose_label([5, 4, 0, 2], terms, entropy) for _ in range(6000)]

    assert follows(draws, label_law([5, 4, 0, 2], terms).tolist())


@pytest.mark.parametrize("adjacency", ADJACENCIES)
@pytest.mark.parametrize("rho", [0.01, 0.4])
def test_events_cost_at_most_rho(adjacency: Adjacency, rho: float) -> None:
    """Read as they are: what an exchange does is in their numbers already."""
    terms = VoteTerms(slots=9, rho=rho, adjacency=adjacency)
    orders = np.array(ORDERS)
    for event in (terms.flag_event, terms.counts_event, terms.label_event):
        assert np.all(rdp_curve(event) <= orders * rho * (1 + 1e-9))
    assert priced(terms.label_event, 1e-6) <= epsilon_of(rho, 1e-6)


@pytest.mark.parametrize("adjacency", ADJACENCIES)
def test_noisy_counts_cost_what_the_moved_counts_cost(
    adjacency: Adjacency, divergence: Callable[..., float]
) -> None:
    """By brute force on two counts: the joint law before and after."""
    terms = VoteTerms(slots=3, rho=0.4, adjacency=adjacency)
    law = np.array(gaussian_law(terms.counts_sigma, 40))
    shifted = np.concatenate(([0.0], law[:-1]))
    stays = law if adjacency == "null" else np.concatenate((law[1:], [0.0]))
    p, q = np.outer(law, law).ravel(), np.outer(shifted, stays).ravel()
    inside = (p > 1e-280) & (q > 1e-280)

    for order in (1.5, 4.0):
        found = divergence(p[inside], q[inside], order)
        assert found == pytest.approx(order * 0.4, rel=1e-3)
        assert found <= order * 0.4 * (1 + 1e-9)


@pytest.mark.parametrize("slots", [3, 4, 33, 128])
@pytest.mark.parametrize("rho", [0.002, 0.1, 3.0])
@pytest.mark.parametrize("agreeing", [0.9, 0.4, 1.0, 2 / 3])
def test_the_error_of_a_flag_is_the_tail_of_the_noise(
    slots: int, rho: float, agreeing: float
) -> None:
    """Summed anew, case by case."""
    sigma = VoteTerms(slots=slots, rho=rho).flag_sigma
    reach = math.ceil(14 * sigma) + 2
    law = dict(zip(range(-reach, reach + 1), gaussian_law(sigma, reach), strict=True))
    if agreeing >= 2 / 3:
        votes = max(math.floor(agreeing * slots + 1e-9), votes_needed(slots))
        wrong = sum(p for k, p in law.items() if votes + k < 2 * slots / 3)
    else:
        votes = min(math.ceil(agreeing * slots - 1e-9), votes_needed(slots) - 1)
        wrong = sum(p for k, p in law.items() if votes + k >= 2 * slots / 3)

    assert error_of_flag(slots, rho, agreeing=agreeing) == pytest.approx(wrong, rel=1e-6, abs=1e-15)


def test_a_flag_of_four_hospitals_is_a_coin_flip() -> None:
    assert error_of_flag(4, rho_of(1.0, 1e-6)) > 0.4
    assert error_of_flag(128, rho_of(0.25, 1e-6)) < 0.1
    assert least_flag_epsilon(4, 1e-6) > 5


@pytest.mark.parametrize("slots", [4, 16, 64])
def test_the_least_rho_is_the_least(slots: int) -> None:
    rho = least_flag_rho(slots)

    assert error_of_flag(slots, rho) <= 0.1 < error_of_flag(slots, rho * 0.995)
    for adjacency in ADJACENCIES:
        rho = least_label_rho(slots, options=3, adjacency=adjacency)
        wrong = [
            error_of_label(slots, r, options=3, adjacency=adjacency) for r in (rho, rho * 0.995)
        ]
        assert wrong[0] <= 0.1 < wrong[1]


def test_the_error_of_a_label_is_the_law_of_the_others() -> None:
    terms = VoteTerms(slots=20, rho=0.01)

    assert error_of_label(20, 0.01, options=4) == pytest.approx(
        float(label_law([18, 2, 0, 0], terms)[1:].sum())
    )
    assert error_of_label(20, 0.01, options=1) == pytest.approx(0)


@pytest.mark.parametrize("slots", range(1, 40))
def test_two_thirds_is_counted_in_whole_votes(slots: int) -> None:
    needed = votes_needed(slots)

    assert 3 * needed >= 2 * slots
    assert 3 * (needed - 1) < 2 * slots


@pytest.mark.parametrize("counts", [[], [7], [4, 4], [-1, 2]])
def test_counts_that_one_vote_a_slot_cannot_give_are_refused(counts: list[int]) -> None:
    terms = VoteTerms(slots=6, rho=0.1)
    for act in (
        lambda: noisy_counts(counts, terms, SeededEntropy(0)),
        lambda: choose_label(counts, terms, SeededEntropy(0)),
    ):
        with pytest.raises(InvalidParameter, match="counts"):
            act()


@pytest.mark.parametrize(
    "bad",
    [
        {"slots": 0},
        {"slots": 2.0},
        {"rho": 0.0},
        {"rho": math.nan},
        {"rho": 1e-12},
        {"adjacency": "x"},
    ],
)
def test_terms_outside_their_domain_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter):
        VoteTerms(**{"slots": 8, "rho": 0.1, **bad})  # type: ignore[arg-type]
    with pytest.raises(InvalidParameter):
        least_flag_rho(8, error=0.0)
    with pytest.raises(InvalidParameter):
        error_of_flag(8, 0.1, agreeing=1.5)
    with pytest.raises(InvalidParameter):
        error_of_label(8, 0.1, options=0)
