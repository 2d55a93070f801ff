from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.budget.amounts import (
    DELTA_BITS,
    EPSILON_BITS,
    INFINITE,
    as_float,
    from_digits,
    minus,
    plus,
    rounded_down,
    rounded_up,
    to_digits,
)
from privacy_core.errors import InvalidParameter, MalformedEntry

FINITE = st.floats(min_value=0, max_value=1e15, allow_nan=False)


@given(FINITE, st.sampled_from([EPSILON_BITS, DELTA_BITS]))
def test_spending_rounds_up_and_granting_down_by_less_than_one_unit(
    value: float, bits: int
) -> None:
    exact = Fraction(value) * 2**bits
    if exact <= 2**104:
        assert 0 <= rounded_up(value, bits) - exact < 1
        assert 0 <= exact - rounded_down(value, bits) < 1


def test_a_delta_is_whole() -> None:
    for delta in (1e-5, 1e-8, 3e-14):
        assert Fraction(rounded_up(delta, DELTA_BITS), 2**DELTA_BITS) == Fraction(delta)


def test_infinity_is_above_every_cap_and_can_be_given_back() -> None:
    spent = plus((5,), (rounded_up(math.inf, EPSILON_BITS),))

    assert spent[0] > rounded_down(math.inf, EPSILON_BITS)
    assert rounded_up(1e300, EPSILON_BITS) == INFINITE
    assert as_float(spent[0], EPSILON_BITS) == math.inf
    assert minus(spent, (INFINITE,)) == (5,)
    assert rounded_down(-math.inf, EPSILON_BITS) == -INFINITE


@pytest.mark.parametrize("bad", [-1e-300, -1.0, math.nan, -math.inf])
def test_an_amount_is_a_number_from_zero_up(bad: float) -> None:
    with pytest.raises(InvalidParameter):
        rounded_up(bad, EPSILON_BITS)


def test_a_cap_is_a_number() -> None:
    with pytest.raises(InvalidParameter):
        rounded_down(math.nan, EPSILON_BITS)


@given(st.lists(st.integers(min_value=-(2**150), max_value=2**150)))
def test_digits_come_back(amounts: list[int]) -> None:
    assert from_digits(to_digits(amounts), path="x") == tuple(amounts)


@pytest.mark.parametrize(
    "bad", [7, "7", [7], ["7.0"], ["--7"], ["\u0667"], [""], ["1" * 70], [None]]
)
def test_what_is_not_digits_is_refused(bad: object) -> None:
    with pytest.raises(MalformedEntry, match="here"):
        from_digits(bad, path="here")
