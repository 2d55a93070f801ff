"""Exact random numbers from bytes: no floating-point number decides anything.

==================  =========================================================================
law                 how
==================  =========================================================================
Bernoulli(e^-x)     von Neumann's alternating series, on whole numbers
discrete Laplace    Canonne, Kamath & Steinke 2020 (arXiv:2004.00010), Algorithm 2
discrete Gaussian   the same, Algorithm 3
uniform on (0, 1)   binary digits, drawn when a comparison needs them
exponential         a geometric whole part and an accepted uniform fraction
normal              Karney 2016 (arXiv:1303.6257), Algorithm N
==================  =========================================================================

The continuous laws are numbers with infinitely many digits of which a few are known. They are
compared, or rounded to a public lattice, by drawing digits until the answer is certain. So a
rounded release is *exactly* a rounded real-valued release, and costs what the textbook says; the
attacks on floating-point noise (Mironov 2012; Jin et al. 2022) have nothing to hold on to.

What stays: the number of bytes drawn, hence the running time, depends on the noise and slightly
on the value. Who can time single releases learns something; return answers on a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

from privacy_core.mechanisms.mechanism import Entropy

_DIGITS: Final = 64
_BUFFER_BYTES: Final = 256

Bounds: TypeAlias = Callable[["Uniform"], tuple[int, int, int]]
"""Whole numbers (low, high, denominator): a function of the uniform lies in [low, high] / den."""


class Bits:
    """Whole numbers from an `Entropy`, which is asked for a few hundred bytes at a time."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._buffer = b""
        self._place = 0

    def whole(self, size_bits: int) -> int:
        """Uniform on 0 .. 2^size_bits - 1."""
        size_bytes = (size_bits + 7) // 8
        if self._place + size_bytes > len(self._buffer):
            self._buffer = self._entropy.token_bytes(max(_BUFFER_BYTES, size_bytes))
            self._place = 0
        taken = self._buffer[self._place : self._place + size_bytes]
        self._place += size_bytes
        return int.from_bytes(taken) >> (8 * size_bytes - size_bits)

    def below(self, bound: int) -> int:
        """Uniform on 0 .. bound - 1, by rejection."""
        size_bits = (bound - 1).bit_length()
        while True:
            drawn = self.whole(size_bits) if size_bits else 0
            if drawn < bound:
                return drawn


class Uniform:
    """A uniform number on (0, 1): it lies in [digits, digits + 1] / 2^size_bits."""

    __slots__ = ("digits", "size_bits")

    def __init__(self, bits: Bits) -> None:
        self.digits = bits.whole(_DIGITS)
        self.size_bits = _DIGITS

    def refine(self, bits: Bits) -> None:
        """Draw more digits."""
        self.digits = self.digits << _DIGITS | bits.whole(_DIGITS)
        self.size_bits += _DIGITS


@dataclass(slots=True)
class Deviate:
    """The real number sign * (whole + fraction)."""

    sign: int
    whole: int
    fraction: Uniform


@dataclass(slots=True)
class NoisyNumber:
    """The real number centre + scale * noise, known as far as digits were drawn. scale > 0."""

    centre: Fraction
    scale: Fraction
    noise: Deviate

    def bounds(self) -> tuple[Fraction, Fraction]:
        """An interval that holds the number."""
        fraction = self.noise.fraction
        digits = (self.noise.whole << fraction.size_bits) + fraction.digits
        near, far = (
            self.centre + self.scale * Fraction(self.noise.sign * d, 1 << fraction.size_bits)
            for d in (digits, digits + 1)
        )
        return (near, far) if self.noise.sign > 0 else (far, near)

    def rounded(self, bits: Bits, step: Fraction) -> int:
        """The multiple of `step` that is nearest, as a whole number of steps."""
        while True:
            low, high = (math.floor(end / step + Fraction(1, 2)) for end in self.bounds())
            if low == high:
                return low
            self.noise.fraction.refine(bits)

    def is_below(self, other: NoisyNumber, bits: Bits) -> bool:
        """Whether this number is smaller. Two independent ones are never equal."""
        while True:
            low, high = self.bounds()
            other_low, other_high = other.bounds()
            if high <= other_low:
                return True
            if other_high <= low:
                return False
            self.noise.fraction.refine(bits)
            other.noise.fraction.refine(bits)


def exponential_coin(bits: Bits, numerator: int, denominator: int) -> bool:
    """True with probability e^-(numerator / denominator), which is >= 0.

    Source: Canonne, Kamath & Steinke 2020 (arXiv:2004.00010), Algorithm 1.
    """
    wholes, rest = divmod(numerator, denominator)
    return all(_small_coin(bits, 1, 1) for _ in range(wholes)) and _small_coin(
        bits, rest, denominator
    )


def discrete_laplace(bits: Bits, scale: Fraction) -> int:
    """A whole number k with probability proportional to e^(-|k| / scale)."""
    top, bottom = scale.numerator, scale.denominator
    while True:
        low = bits.below(top)
        if not exponential_coin(bits, low, top):
            continue
        size = (low + top * _successes(bits, 1, 1)) // bottom
        negative = bits.whole(1)
        if not (negative and size == 0):
            return -size if negative else size


def discrete_gaussian(bits: Bits, sigma: Fraction) -> int:
    """A whole number k with probability proportional to e^(-k^2 / (2 sigma^2))."""
    variance = sigma * sigma
    top, bottom = variance.numerator, variance.denominator
    width = math.floor(sigma) + 1
    while True:
        drawn = discrete_laplace(bits, Fraction(width))
        away = abs(drawn) * bottom * width - top
        if exponential_coin(bits, away * away, 2 * top * bottom * width * width):
            return drawn


def exponential(bits: Bits) -> Deviate:
    """A number x > 0 with density e^-x."""
    return Deviate(1, _successes(bits, 1, 1), _accepted(bits, _itself, times=1))


def laplace(bits: Bits) -> Deviate:
    """A number x with density e^-|x| / 2."""
    size = exponential(bits)
    size.sign = _sign(bits)
    return size


def normal(bits: Bits) -> Deviate:
    """A number x with density proportional to e^(-x^2 / 2)."""
    while True:
        whole = _successes(bits, 1, 2)
        if not exponential_coin(bits, whole * (whole - 1), 2):
            continue
        fraction = Uniform(bits)
        bounds = _normal_bounds(whole)
        if all(_falls(bits, fraction, bounds) for _ in range(whole + 1)):
            return Deviate(_sign(bits), whole, fraction)


def _sign(bits: Bits) -> int:
    return 1 if bits.whole(1) else -1


def _successes(bits: Bits, numerator: int, denominator: int) -> int:
    """How many coins of probability e^-(numerator / denominator) <= 1 come up in a row."""
    count = 0
    while _small_coin(bits, numerator, denominator):
        count += 1
    return count


def _small_coin(bits: Bits, numerator: int, denominator: int) -> bool:
    """`exponential_coin` for a ratio of at most 1."""
    k = 1
    while bits.below(denominator * k) < numerator:
        k += 1
    return k % 2 == 1


def _accepted(bits: Bits, bounds: Bounds, *, times: int) -> Uniform:
    """A uniform number x, accepted with probability e^-(times g(x))."""
    while True:
        x = Uniform(bits)
        if all(_falls(bits, x, bounds) for _ in range(times)):
            return x


def _falls(bits: Bits, x: Uniform, bounds: Bounds) -> bool:
    """True with probability e^-g(x), where `bounds` encloses g(x) in [0, 1]."""
    k = 1
    while _is_below(bits, x, bounds, k):
        k += 1
    return k % 2 == 1


def _is_below(bits: Bits, x: Uniform, bounds: Bounds, k: int) -> bool:
    """Whether a fresh uniform number is below g(x) / k."""
    u = Uniform(bits)
    while True:
        low, high, denominator = bounds(x)
        denominator *= k
        if (u.digits + 1) * denominator <= low << u.size_bits:
            return True
        if u.digits * denominator >= high << u.size_bits:
            return False
        u.refine(bits)
        x.refine(bits)


def _itself(x: Uniform) -> tuple[int, int, int]:
    return x.digits, x.digits + 1, 1 << x.size_bits


def _normal_bounds(whole: int) -> Bounds:
    """g(x) = x (2 whole + x) / (2 whole + 2), increasing in x."""

    def bounds(x: Uniform) -> tuple[int, int, int]:
        n, twice = x.size_bits, 2 * whole << x.size_bits
        low, high = (d * (twice + d) for d in (x.digits, x.digits + 1))
        return low, high, (2 * whole + 2) << (2 * n)

    return bounds
