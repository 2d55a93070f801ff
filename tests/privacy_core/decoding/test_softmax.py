"""Floats propose, exact numbers decide: every draw is the one of exact inversion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from privacy_core.decoding.softmax import draw_place, enclosed, exact_place
from privacy_core.mechanisms.deviates import Bits, Uniform
from privacy_runtime.testing import SeededEntropy

Follows = Callable[[Sequence[int], Sequence[float]], bool]


class Told:
    """An entropy whose first 8 bytes are given; the others come from a seed."""

    def __init__(self, digits: int, seed: int = 0) -> None:
        self._first = digits.to_bytes(8)
        self._rest = SeededEntropy(seed)

    def token_bytes(self, size_bytes: int) -> bytes:
        first, self._first = self._first[:size_bytes], b""
        return first + self._rest.token_bytes(size_bytes - len(first))


def softmax(exponents: Sequence[float]) -> np.ndarray:
    weights = np.exp(np.array(exponents) - max(exponents))
    return weights / weights.sum()


def certain() -> Sequence[Fraction]:
    raise AssertionError("floats were certain here")


CASES = [
    [0.0, 0.0],
    [0.0, -1.0, -2.0],
    [3.5, 3.5, 3.5, -20.0],
    [-5.0, 0.25, -1e-9, -700.0, 0.25],
    list(np.linspace(0, -9, 16)),
]


@pytest.mark.parametrize("exponents", CASES)
def test_floats_and_exact_numbers_choose_the_same_place(exponents: list[float]) -> None:
    """At the ends of the steps, just beside them, and in the middle."""
    ends = np.concatenate(([0.0], np.cumsum(softmax(exponents))))
    near = [int(end * 2**64) + away for end in ends for away in (-5000, -1, 0, 1, 2**30)]
    digits = [d for d in [*near, *range(7, 2**64, 2**61)] if 0 <= d < 2**64]
    exact = [Fraction(x) for x in exponents]
    for d in digits:
        bits, again = Bits(Told(d)), Bits(Told(d))

        place = draw_place(np.array(exponents), 1e-15, lambda: exact, bits)

        assert place == exact_place(exact, Uniform(again), again)


@pytest.mark.parametrize("exponents", CASES)
def test_away_from_the_ends_no_exact_number_is_asked_for(exponents: list[float]) -> None:
    law = softmax(exponents)
    for i, middle in enumerate(np.cumsum(law) - law / 2):
        if law[i] > 1e-6:
            bits = Bits(Told(int(middle * 2**64)))
            assert draw_place(np.array(exponents), 1e-15, certain, bits) == i


@pytest.mark.parametrize("error", [1e-15, 1.0])
@pytest.mark.parametrize("exponents", CASES[:4])
def test_places_follow_the_law_on_either_way(
    follows: Follows, exponents: list[float], error: float
) -> None:
    """An error of 1 sends every draw the exact way."""
    bits, exact = Bits(SeededEntropy(8)), [Fraction(x) for x in exponents]
    draws = [
        draw_place(np.array(exponents), error, lambda: exact, bits)
        for _ in range(8000 if error < 1 else 800)
    ]

    assert follows(draws, softmax(exponents).tolist())


def test_an_end_that_is_a_binary_number_is_decided_by_later_digits() -> None:
    """Two equal weights: all 64 digits of 1/2 leave the place open on neither side."""
    exact = [Fraction(0), Fraction(0)]
    places = set()
    for digits, expected in ((2**63 - 1, 0), (2**63, 1)):
        for seed in range(5):
            bits = Bits(Told(digits, seed))
            place = draw_place(np.zeros(2), 0.0, lambda: exact, bits)
            assert place == expected
            places.add(place)
    assert places == {0, 1}


def test_numbers_that_floats_cannot_tell_apart_keep_their_order() -> None:
    """2^60 + 1 is e times as likely as 2^60, and both are the same float."""
    exact = [Fraction(2**60), Fraction(2**60 + 1)]
    with mpmath.workdps(40):
        boundary = int(mpmath.mpf(2) ** 64 / (1 + mpmath.e))
    for digits, expected in ((boundary - 10, 0), (boundary + 10, 1)):
        bits = Bits(Told(digits))
        assert draw_place(np.full(2, 2.0**60), math.inf, lambda: exact, bits) == expected


def test_a_single_candidate_costs_no_byte() -> None:
    class Empty:
        def token_bytes(self, size_bytes: int) -> bytes:
            raise AssertionError(size_bytes)

    assert draw_place(np.array([-3.0]), 0.0, certain, Bits(Empty())) == 0


def test_a_hopeless_candidate_is_still_possible() -> None:
    """e^-60 has an end of its own, below the last digits of a float."""
    exact = [Fraction(0), Fraction(-60)]
    last = 2**64 - 1

    bits = Bits(Told(last))

    # U is above 1 - 2^-64, and the second place begins at 1 - e^-60: later digits decide.
    assert draw_place(np.array([0.0, -60.0]), 1e-15, lambda: exact, bits) in (0, 1)
    bits = Bits(Told(last))
    bits_all_ones = [Fraction(0), Fraction(-40)]  # 1 - e^-40 is below 1 - 2^-57
    assert draw_place(np.array([0.0, -40.0]), 1e-15, lambda: bits_all_ones, bits) == 1


@pytest.mark.parametrize("digits", [6, 40])
def test_weights_lie_inside_their_interval(digits: int) -> None:
    """Gaps with no finite decimal expansion: both roundings of the quotient matter."""
    context = Context(prec=120)
    for numerator in range(0, 3 * digits * 7, 5):
        gap = Fraction(numerator, 7)
        exact = context.exp(context.divide(Decimal(-numerator), Decimal(7)))

        low, high = enclosed(gap, digits)

        assert low <= exact <= high
        assert high - low <= Decimal(10) ** (2 - digits)


def test_exp_is_as_good_as_the_proof_takes_for_granted() -> None:
    x = -(10 ** np.random.default_rng(1).uniform(-9, 2.8, 4000))  # noqa: TID251 -- which numbers
    context = Context(prec=40)
    exact = [context.exp(Decimal(float(v))) for v in x]

    worst = max(
        abs(Decimal(float(f)) / e - 1)
        for f, e in zip(np.exp(x), exact, strict=True)
        if e > Decimal("1e-300")
    )

    assert worst < Decimal(2) ** -45
