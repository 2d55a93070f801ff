"""Which of many questions have an answer above a threshold, for the price of those that have.

Answers below the threshold are free: the whole stream costs one epsilon, declared before it opens,
and closes after a declared number of positive answers. Most published variants are wrong (no noise
on some query, noise that forgets the number of positives, the noisy answer that decided reused);
this is Algorithm 7 of Lyu, Su & Li 2017 (arXiv:1603.01699), with fresh noise for numeric answers:

=================  ====================================  =======================================
share of epsilon   noise                                 Laplace scale
=================  ====================================  =======================================
threshold          once, on the threshold                sensitivity / epsilon_threshold
queries            on every answer, before comparing     2 c sensitivity / epsilon_queries
numbers            on every positive answer, afresh      c sensitivity / epsilon_numbers
=================  ====================================  =======================================

c is the number of positives. `monotone` (all answers move in the same direction between neighbours)
halves the middle one. Every comparison is exact (`deviates`), on real-valued noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from privacy_core.accounting.gdp import sensitivity_under
from privacy_core.dp_events import DpEvent, PureDp
from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import deviates
from privacy_core.mechanisms.additive import ADD_OR_REMOVE, lattice_step, nearest_float, read_names
from privacy_core.mechanisms.deviates import Bits, NoisyNumber
from privacy_core.mechanisms.mechanism import Entropy


class StreamClosed(PrivacyError):
    """All positive answers that were paid for have been given. The question was not looked at."""

    code: ClassVar[str] = "stream_closed"

    def __init__(self, positives: int) -> None:
        super().__init__(positives)
        self.positives = positives

    def __str__(self) -> str:
        return (
            f"the stream has given its {self.positives} positive answers; "
            "nothing was answered, open another one"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the answer was above the threshold, and the noisy answer if numbers were paid for."""

    above: bool
    answer: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseVector:
    """AboveThreshold for a stream of questions that may depend on earlier verdicts.

    Args:
        epsilon: of the whole stream, between neighbours under `relation`.
        sensitivity: how far one answer moves between neighbours under `relation`.
        positives: how many answers above the threshold are given before the stream closes.
        numeric_share: part of epsilon spent on numbers, in [0, 1); 0: verdicts only.
        monotone: all answers move in the same direction between neighbours.
        relation: which data sets are neighbours.

    What is left for verdicts is split 1 : (2c)^(2/3) between threshold and queries, or
    1 : c^(2/3) if monotone, which makes the comparison least noisy (section 4.2 of the source).
    """

    epsilon: float
    sensitivity: float
    positives: int = 1
    numeric_share: float = 0.0
    monotone: bool = False
    relation: NeighbouringRelation = ADD_OR_REMOVE

    def __post_init__(self) -> None:
        read_names(self)
        for name in ("epsilon", "sensitivity"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InvalidParameter(name, found=value, expected="a finite number > 0")
        if isinstance(self.positives, bool) or self.positives < 1:
            raise InvalidParameter(
                "positives", found=self.positives, expected="a whole number >= 1"
            )
        if not 0 <= self.numeric_share < 1:
            raise InvalidParameter(
                "numeric_share", found=self.numeric_share, expected="a number in [0, 1)"
            )

    @property
    def event(self) -> DpEvent:
        """Pure epsilon for the whole stream, however long it is."""
        return PureDp(self.epsilon / sensitivity_under(self.relation))

    @property
    def shares(self) -> tuple[Fraction, Fraction, Fraction]:
        """Epsilon for threshold, queries and numbers. Exact: they add to epsilon."""
        whole = Fraction(self.epsilon)
        numbers = whole * Fraction(self.numeric_share)
        moves = self.positives * (1 if self.monotone else 2)
        threshold = (whole - numbers) / (1 + Fraction(moves ** (2 / 3)))
        return threshold, whole - numbers - threshold, numbers

    @property
    def scales(self) -> tuple[Fraction, Fraction, Fraction | None]:
        """Laplace scales on the threshold, on the queries and on the numbers."""
        threshold, queries, numbers = self.shares
        unit = Fraction(self.sensitivity)
        moves = self.positives * (1 if self.monotone else 2)
        return (
            unit / threshold,
            moves * unit / queries,
            self.positives * unit / numbers if numbers else None,
        )

    def open(self, threshold: float, entropy: Entropy) -> Stream:
        """Start a stream against a public threshold. Its whole epsilon is spent here.

        Raises:
            InvalidParameter: the threshold is not finite.
        """
        return Stream(self, _exact("threshold", threshold), Bits(entropy))

    def release(self, data: Sequence[float], entropy: Entropy) -> tuple[Verdict, ...]:
        """The verdicts on a list of answers minus their thresholds, until the stream closes."""
        stream, verdicts = self.open(0.0, entropy), []
        for value in data:
            if stream.is_closed:
                break
            verdicts.append(stream.ask(value))
        return tuple(verdicts)


class Stream:
    """An open stream: holds the noisy threshold, which must never leave it."""

    def __init__(self, mechanism: SparseVector, threshold: Fraction, bits: Bits) -> None:
        self._mechanism = mechanism
        self._bits = bits
        on_threshold, self._on_queries, self._on_numbers = mechanism.scales
        self._threshold = NoisyNumber(threshold, on_threshold, deviates.laplace(bits))
        self._left = mechanism.positives

    def __repr__(self) -> str:
        return f"Stream({self._left} of {self._mechanism.positives} positive answers left)"

    @property
    def is_closed(self) -> bool:
        """All positive answers have been given."""
        return self._left == 0

    def ask(self, answer: float) -> Verdict:
        """Compare the exact answer to one more question with the threshold.

        Raises:
            StreamClosed: nothing was compared.
            InvalidParameter: the answer is not finite; its sensitivity cannot be bounded.
        """
        if self.is_closed:
            raise StreamClosed(self._mechanism.positives)
        exact = _exact("answer", answer)
        noisy = NoisyNumber(exact, self._on_queries, deviates.laplace(self._bits))
        if noisy.is_below(self._threshold, self._bits):
            return Verdict(above=False)
        self._left -= 1
        if self._on_numbers is None:
            return Verdict(above=True)
        number = NoisyNumber(exact, self._on_numbers, deviates.laplace(self._bits))
        step = lattice_step(float(self._on_numbers), None)
        return Verdict(above=True, answer=nearest_float(number.rounded(self._bits, step), step))


def _exact(name: str, value: float) -> Fraction:
    if not math.isfinite(value):
        raise InvalidParameter(
            name, found="a number that is not finite", expected="a finite number"
        )
    return Fraction(float(value))
