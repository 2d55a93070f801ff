"""How long to wait before the next attempt.

Source: exponential back-off with full and decorrelated jitter: Brooker, "Exponential Backoff And
Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Entropy


class Growth(StrEnum):
    """How waits grow from attempt to attempt."""

    CONSTANT = "constant"
    LINEAR = "linear"
    FIBONACCI = "fibonacci"
    EXPONENTIAL = "exponential"


class Jitter(StrEnum):
    """What chance does to a wait `d`."""

    NONE = "none"  # d
    EQUAL = "equal"  # uniform in [d/2, d]
    FULL = "full"  # uniform in [0, d]
    DECORRELATED = "decorrelated"  # uniform in [base, 3 x the wait before], whatever the growth


_STEPS_MOST: Final = 60  # later waits are as long as this one's: far above any cap


def uniform(entropy: Entropy) -> float:
    """A number in [0, 1), of 53 random bits."""
    return (int.from_bytes(entropy.token_bytes(7)) >> 3) / 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits between attempts.

    Attributes:
        base_s: the first wait, before chance.
        most_s: no wait is longer.
        growth: how they grow.
        jitter: what chance does to them.
    """

    base_s: float = 0.5
    most_s: float = 30.0
    growth: Growth = Growth.EXPONENTIAL
    jitter: Jitter = Jitter.FULL

    def __post_init__(self) -> None:
        if not 0 < self.base_s <= self.most_s:
            raise InvalidParameter(
                "base_s", found=self.base_s, expected=f"above 0 and at most {self.most_s:g} s"
            )

    def steady_s(self, retry: int) -> float:
        """The wait before retry 1, 2, ..., without chance."""
        if retry < 1:
            raise InvalidParameter("retry", found=retry, expected="1 for the first retry")
        step = min(retry, _STEPS_MOST)
        match self.growth:
            case Growth.CONSTANT:
                factor = 1
            case Growth.LINEAR:
                factor = step
            case Growth.FIBONACCI:
                factor = _fibonacci(step)
            case Growth.EXPONENTIAL:
                factor = 2 ** (step - 1)
        return min(self.base_s * factor, self.most_s)

    def wait_s(self, retry: int, before_s: float, entropy: Entropy) -> float:
        """The wait before retry 1, 2, ...

        Args:
            retry: the first is 1.
            before_s: the wait before the previous retry; `base_s` if there was none.
            entropy: chance.
        """
        steady_s = self.steady_s(retry)
        match self.jitter:
            case Jitter.NONE:
                return steady_s
            case Jitter.EQUAL:
                return steady_s * (0.5 + 0.5 * uniform(entropy))
            case Jitter.FULL:
                return steady_s * uniform(entropy)
            case Jitter.DECORRELATED:
                room_s = max(0.0, 3 * before_s - self.base_s)
                return min(self.most_s, self.base_s + room_s * uniform(entropy))


def _fibonacci(step: int) -> int:
    """1, 1, 2, 3, 5, ..."""
    one, other = 1, 1
    for _ in range(step - 1):
        one, other = other, one + other
    return one
