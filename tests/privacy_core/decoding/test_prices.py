"""Prices: never below the truth, and the terms that a budget buys."""

from __future__ import annotations

import math

import dp_accounting
import mpmath
import pytest
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_core.decoding import (
    CLIP_LEAST,
    CLIP_MOST,
    DecodingTerms,
    Shortfall,
    affordable_tokens,
    epsilon_of,
    least_epsilon,
    rho_of,
    terms_for,
    total_rho,
)
from privacy_core.decoding.terms import TOKENS_MAX, Adjacency
from privacy_core.errors import InvalidParameter

FEW = settings(deadline=None, max_examples=50, derandomize=True)
rhos = st.floats(-9, 3).map(lambda x: 10.0**x)
deltas = st.floats(-14, -0.5).map(lambda x: 10.0**x)
epsilons = st.floats(-6, 3).map(lambda x: 10.0**x)


def published(rho: float, delta: float) -> mpmath.mpf:
    """Corollary 13 by golden section on the order, in 40 digits."""
    with mpmath.workdps(40):
        rho, delta = mpmath.mpf(rho), mpmath.mpf(delta)

        def at(x: mpmath.mpf) -> mpmath.mpf:
            a = 1 + mpmath.e**x
            return a * rho + mpmath.log(1 - 1 / a) - (mpmath.log(delta) + mpmath.log(a)) / (a - 1)

        low, high = mpmath.mpf(-30), -mpmath.log(delta)
        golden = (mpmath.sqrt(5) - 1) / 2
        for _ in range(120):
            width = (high - low) * golden
            one, other = high - width, low + width
            low, high = (low, other) if at(one) < at(other) else (one, high)
        return max(mpmath.mpf(0), at((low + high) / 2))


@pytest.mark.parametrize("rho", [1e-9, 1e-5, 3.8e-4, 0.01, 0.5, 7.0, 400.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 1e-2, 0.3])
def test_epsilon_is_the_published_minimum_rounded_up(rho: float, delta: float) -> None:
    exact, found = published(rho, delta), epsilon_of(rho, delta)

    assert found >= exact
    assert found <= exact * (1 + 1e-9) + 1e-13


@pytest.mark.parametrize("rho", [1e-4, 0.03, 2.0])
def test_epsilon_is_at_most_the_reference_accountants(rho: float) -> None:
    """Its orders are a list, ours are all."""
    orders = [1 + x / 50 for x in range(1, 500)] + list(range(11, 1500))
    theirs = RdpAccountant(orders).compose(dp_accounting.ZCDpEvent(rho)).get_epsilon(1e-6)

    assert epsilon_of(rho, 1e-6) <= theirs * (1 + 1e-9)
    assert epsilon_of(rho, 1e-6) == pytest.approx(theirs, rel=1e-3)


def test_epsilon_is_below_the_textbook_conversion() -> None:
    """Bun and Steinke 2016, Proposition 1.3: rho + 2 sqrt(rho log(1 / delta))."""
    for rho in (1e-4, 0.1, 3.0):
        assert epsilon_of(rho, 1e-6) < rho + 2 * math.sqrt(rho * math.log(1e6))


@FEW
@given(epsilons, deltas)
def test_what_a_budget_buys_costs_no_more_than_the_budget(epsilon: float, delta: float) -> None:
    rho = rho_of(epsilon, delta)

    assert epsilon_of(rho, delta) <= epsilon
    # And a little more of it costs more.
    assert epsilon_of(rho * (1 + 1e-6) + 1e-13, delta) > epsilon * (1 - 1e-9) - 1e-12


@FEW
@given(rhos, rhos, deltas)
def test_epsilon_grows_with_rho_and_less_than_in_proportion(
    rho: float, more: float, delta: float
) -> None:
    assert epsilon_of(rho + more, delta) >= epsilon_of(rho, delta)
    sum_of_both = epsilon_of(rho, delta) + epsilon_of(more, delta)
    if min(rho, more) > 1e-3 and delta < 1e-3:
        assert epsilon_of(rho + more, delta) <= sum_of_both * (1 + 1e-9)


def test_the_ends_of_the_scale() -> None:
    assert epsilon_of(0.0, 1e-6) == 0
    assert epsilon_of(math.inf, 1e-6) == math.inf
    assert rho_of(math.inf, 1e-6) == math.inf
    assert 0 <= rho_of(0.0, 1e-6) < 1e-11


@pytest.mark.parametrize("convert", [epsilon_of, rho_of])
@pytest.mark.parametrize(
    ("amount", "delta"),
    [(-1.0, 1e-6), (math.nan, 1e-6), (1.0, 0.0), (1.0, 1.0), (1.0, math.nan)],
)
def test_numbers_outside_their_domain_are_refused(
    convert: object, amount: float, delta: float
) -> None:
    with pytest.raises(InvalidParameter):
        convert(amount, delta)  # type: ignore[operator]


def terms(clip: float = 2.0, slots: int = 64, adjacency: Adjacency = "replace") -> DecodingTerms:
    return DecodingTerms(
        slots=slots, clip=clip, temperature=1.0, max_tokens=64, adjacency=adjacency
    )


@FEW
@given(epsilons, deltas, st.floats(0, 0.1), st.floats(0.05, 4), st.integers(1, 512))
def test_one_token_more_than_affordable_would_cost_too_much(
    epsilon: float, delta: float, spent: float, clip: float, slots: int
) -> None:
    given_terms = terms(clip, slots)
    tokens = affordable_tokens(epsilon, delta, given_terms, spent)

    assert 0 <= tokens <= TOKENS_MAX
    if tokens:
        assert epsilon_of(total_rho(tokens, given_terms, spent), delta) <= epsilon * (1 + 1e-12)
    if tokens < TOKENS_MAX:
        more = total_rho(tokens + 1, given_terms, spent) * (1 + 1e-6) + 1e-13
        assert epsilon_of(more, delta) > epsilon * (1 - 1e-9) - 1e-12


@FEW
@given(st.integers(1, 4000), deltas, st.floats(0, 0.1), st.floats(0.05, 4))
def test_the_least_epsilon_affords_the_tokens(
    tokens: int, delta: float, spent: float, clip: float
) -> None:
    given_terms = terms(clip)
    least = least_epsilon(tokens, delta, given_terms, spent)

    assert affordable_tokens(least, delta, given_terms, spent) >= tokens
    if least > 1e-3:
        assert affordable_tokens(least * (1 - 1e-6), delta, given_terms, spent) < tokens


@pytest.mark.parametrize("adjacency", ["replace", "null"])
@pytest.mark.parametrize(
    ("epsilon", "tokens", "slots", "clip"),
    [(1, 64, 32, 0.88), (3, 64, 32, 2.4), (3, 256, 64, 2.4), (1, 16, 16, 0.88)],
)
def test_clips_are_those_of_the_derived_table(
    adjacency: Adjacency, epsilon: float, tokens: int, slots: int, clip: float
) -> None:
    """At temperature 1 and delta 1e-6; where records are exchanged, twice the slots."""
    doubled = slots * (2 if adjacency == "replace" else 1)

    found = terms_for(
        epsilon=epsilon,
        delta=1e-6,
        tokens=tokens,
        slots=doubled,
        temperature=1.0,
        adjacency=adjacency,
    )

    assert isinstance(found, DecodingTerms)
    assert found.clip == pytest.approx(clip, rel=0.03)
    assert (found.max_tokens, found.slots, found.adjacency) == (tokens, doubled, adjacency)


@FEW
@given(
    epsilons,
    st.integers(1, 512),
    st.integers(1, 1024),
    st.floats(0.2, 2),
    st.sampled_from([0.0, 1e-3]),
)
def test_a_budget_buys_what_is_asked_or_says_what_would(
    epsilon: float, tokens: int, slots: int, temperature: float, spent: float
) -> None:
    asked = {"delta": 1e-6, "tokens": tokens, "slots": slots, "temperature": temperature}
    found = terms_for(epsilon=epsilon, spent_rho=spent, **asked)  # type: ignore[arg-type]

    if isinstance(found, Shortfall):
        assert found.clip < CLIP_LEAST
        assert found.least_epsilon > epsilon
        found = terms_for(epsilon=found.least_epsilon, spent_rho=spent, **asked)  # type: ignore[arg-type]
        assert isinstance(found, DecodingTerms)
        assert found.clip == pytest.approx(CLIP_LEAST, rel=1e-6)
    else:
        assert CLIP_LEAST <= found.clip <= CLIP_MOST
        assert affordable_tokens(epsilon, 1e-6, found, spent) >= tokens


def test_a_large_budget_does_not_buy_a_large_clip() -> None:
    found = terms_for(epsilon=50.0, delta=1e-6, tokens=8, slots=64, temperature=1.0)

    assert isinstance(found, DecodingTerms)
    assert found.clip == CLIP_MOST
    assert least_epsilon(8, 1e-6, found) < 10


def test_one_vote_a_hospital_buys_no_text() -> None:
    found = terms_for(epsilon=0.1, delta=1e-6, tokens=64, slots=4, temperature=1.0)

    assert isinstance(found, Shortfall)
    assert found.least_epsilon > 5


@pytest.mark.parametrize("bad", [{"clip_most": 0.1}, {"clip_most": math.inf}, {"slots": 0}])
def test_terms_outside_their_domain_are_refused(bad: dict[str, float]) -> None:
    asked = {"epsilon": 1.0, "delta": 1e-6, "tokens": 8, "slots": 64, "temperature": 1.0, **bad}
    with pytest.raises(InvalidParameter):
        terms_for(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("spent", [-0.1, math.nan, math.inf])
def test_what_is_no_amount_was_not_spent(spent: float) -> None:
    for act in (
        lambda: affordable_tokens(1.0, 1e-6, terms(), spent),
        lambda: least_epsilon(8, 1e-6, terms(), spent),
        lambda: terms_for(
            epsilon=1.0, delta=1e-6, tokens=8, slots=64, temperature=1.0, spent_rho=spent
        ),
    ):
        with pytest.raises(InvalidParameter, match="spent_rho"):
            act()


@pytest.mark.parametrize("delta", [1e-300, 1e-6, 0.3, 0.999])
@pytest.mark.parametrize("clip", [1e-12, 1e-6, 1e-3, 1e3])
def test_hardly_any_and_huge_prices_have_an_epsilon(delta: float, clip: float) -> None:
    """Where delta alone pays for it, epsilon is 0 or next to it."""
    least = least_epsilon(3, delta, terms(clip))

    assert affordable_tokens(least, delta, terms(clip)) >= 3
    assert least == pytest.approx(
        epsilon_of(total_rho(3, terms(clip)), delta), rel=1e-9, abs=1e-6 * delta
    )


@pytest.mark.parametrize("tokens", [-1, TOKENS_MAX + 1])
def test_no_answer_has_so_many_tokens(tokens: int) -> None:
    with pytest.raises(InvalidParameter, match="tokens"):
        least_epsilon(tokens, 1e-6, terms())
