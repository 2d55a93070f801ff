"""Every law against its formula. Each statistical test fails by chance once in ten million."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from fractions import Fraction

import pytest
import scipy

from privacy_core.mechanisms import deviates
from privacy_core.mechanisms.deviates import Bits, Deviate, NoisyNumber, Uniform
from privacy_core.mechanisms.opendp_noise import noisy_whole_numbers
from privacy_runtime.testing import SeededEntropy

Follows = Callable[[Sequence[Hashable], Mapping[Hashable, float]], bool]
DRAWS = 20_000
REACH = 400


def discrete_laplace_law(scale: float) -> dict[Hashable, float]:
    unit = math.tanh(1 / (2 * scale))
    return {k: unit * math.exp(-abs(k) / scale) for k in range(-REACH, REACH + 1)}


def discrete_gaussian_law(sigma: float) -> dict[Hashable, float]:
    weights = {k: math.exp(-(k**2) / (2 * sigma**2)) for k in range(-REACH, REACH + 1)}
    total = math.fsum(weights.values())
    return {k: weight / total for k, weight in weights.items()}


def as_float(x: Deviate) -> float:
    return x.sign * (x.whole + x.fraction.digits / 2**x.fraction.size_bits)


@pytest.mark.parametrize(("numerator", "denominator"), [(0, 1), (1, 3), (1, 1), (7, 4), (25, 10)])
def test_a_coin_has_its_exponential_probability(
    follows: Follows, numerator: int, denominator: int
) -> None:
    bits = Bits(SeededEntropy(1))
    up = math.exp(-numerator / denominator)

    draws = [deviates.exponential_coin(bits, numerator, denominator) for _ in range(DRAWS)]

    assert follows(draws, {True: up, False: 1 - up})


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 256, 1000])
def test_whole_numbers_are_uniform(follows: Follows, bound: int) -> None:
    bits = Bits(SeededEntropy(2))

    draws = [bits.below(bound) for _ in range(DRAWS)]

    assert follows(draws, {k: 1 / bound for k in range(bound)})


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.75, 10.0])
def test_discrete_laplace_noise_has_its_law(follows: Follows, scale: float) -> None:
    bits = Bits(SeededEntropy(3))

    draws = [deviates.discrete_laplace(bits, Fraction(scale)) for _ in range(DRAWS)]

    assert follows(draws, discrete_laplace_law(scale))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.75, 10.0])
def test_discrete_gaussian_noise_has_its_law(follows: Follows, sigma: float) -> None:
    bits = Bits(SeededEntropy(4))

    draws = [deviates.discrete_gaussian(bits, Fraction(sigma)) for _ in range(DRAWS)]

    assert follows(draws, discrete_gaussian_law(sigma))


@pytest.mark.parametrize("scale", [0.3, 2.75])
def test_opendp_draws_the_same_laws(follows: Follows, scale: float) -> None:
    """OpenDP cannot be seeded: these two fail by chance once in ten million runs."""
    zeros = [0] * DRAWS

    assert follows(
        noisy_whole_numbers(zeros, law="laplace", scale=scale), discrete_laplace_law(scale)
    )
    assert follows(
        noisy_whole_numbers(zeros, law="gaussian", scale=scale), discrete_gaussian_law(scale)
    )


def test_opendp_clamps_what_does_not_fit_and_moves_nothing_apart() -> None:
    found = noisy_whole_numbers([10**30, -(10**30)], law="laplace", scale=1.0)

    assert found[0] > 2**62
    assert found[1] < -(2**62)
    assert noisy_whole_numbers([], law="laplace", scale=1.0) == []


@pytest.mark.parametrize(
    ("draw", "law"),
    [
        (deviates.exponential, scipy.stats.expon),
        (deviates.laplace, scipy.stats.laplace),
        (deviates.normal, scipy.stats.norm),
    ],
)
def test_real_noise_has_its_law(
    draw: Callable[[Bits], Deviate], law: scipy.stats.rv_continuous
) -> None:
    """Kolmogorov-Smirnov on the size, a chi-square on the sign's side of it."""
    bits = Bits(SeededEntropy(5))

    draws = [as_float(draw(bits)) for _ in range(DRAWS)]

    assert scipy.stats.kstest(draws, law.cdf).pvalue > 1e-7


def test_the_tail_of_the_normal_is_there(follows: Follows) -> None:
    bits = Bits(SeededEntropy(6))
    law = {k: 2 * (scipy.stats.norm.cdf(k + 1) - scipy.stats.norm.cdf(k)) for k in range(12)}

    assert follows([deviates.normal(bits).whole for _ in range(DRAWS)], law)


def with_digits(sign: int, whole: int, digits: int, size_bits: int) -> Deviate:
    fraction = Uniform(Bits(SeededEntropy(0)))
    fraction.digits, fraction.size_bits = digits, size_bits
    return Deviate(sign, whole, fraction)


@pytest.mark.parametrize("sign", [1, -1])
def test_rounding_draws_digits_until_it_is_certain(follows: Follows, sign: int) -> None:
    """From no digit at all: 3.25 +- a uniform number, to thirds."""
    bits = Bits(SeededEntropy(7))
    start = Fraction(13, 4)

    draws = [
        NoisyNumber(start, Fraction(1), with_digits(sign, 0, 0, 0)).rounded(bits, Fraction(1, 3))
        for _ in range(DRAWS)
    ]

    ends = sorted((start, start + sign))

    def overlap(k: int) -> Fraction:
        return min(ends[1], Fraction(2 * k + 1, 6)) - max(ends[0], Fraction(2 * k - 1, 6))

    law = {k: max(0.0, float(overlap(k))) for k in range(20)}
    assert follows(draws, law)


def test_comparing_draws_digits_until_it_is_certain(follows: Follows) -> None:
    """Two uniform numbers of which no digit is known, one of them on (1/4, 5/4)."""
    bits = Bits(SeededEntropy(8))

    draws = [
        NoisyNumber(Fraction(0), Fraction(1), with_digits(1, 0, 0, 0)).is_below(
            NoisyNumber(Fraction(1, 4), Fraction(1), with_digits(1, 0, 0, 0)), bits
        )
        for _ in range(DRAWS)
    ]

    assert follows(draws, {True: 1 - 9 / 32, False: 9 / 32})


def test_equal_bytes_give_equal_noise_and_others_do_not() -> None:
    def three(seed: int) -> list[float]:
        bits = Bits(SeededEntropy(seed))
        return [as_float(deviates.normal(bits)) for _ in range(3)]

    assert three(1) == three(1)
    assert three(1) != three(2)


def test_a_wrong_law_is_seen(follows: Follows) -> None:
    """The check can fail: noise of scale 1.1 is no noise of scale 1."""
    bits = Bits(SeededEntropy(9))

    draws = [deviates.discrete_laplace(bits, Fraction(11, 10)) for _ in range(DRAWS)]

    assert not follows(draws, discrete_laplace_law(1.0))
