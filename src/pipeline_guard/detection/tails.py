"""How surprising a number is, from the tail of what came before it.

Peaks over threshold: what exceeds a high quantile follows a generalised Pareto distribution
(Pickands 1975; Balkema and de Haan 1974), whatever the numbers are, so that one probability stands
for numbers of every kind and scale. The streaming form is that of Siffer, Fouque, Termier and
Largouet, "Anomaly detection in streams with extreme value theory" (KDD 2017), written from the
paper, with these differences:

- the two parameters come from the mean and variance of the excesses (method of moments, Hosking
  and Wallis 1987, section 2) instead of Grimshaw's maximum likelihood: constant time, and no peaks
  to keep;
- the shape leans towards the exponential while there are few excesses;
- every excess teaches, an extreme one no more than ten times the largest before it, so that a new
  regime becomes normal, and one absurd value does not end the watch;
- what was learned fades over some ten thousand numbers; a tail that nothing has reached for so long
  begins anew from the newest ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

SURPRISE_MOST: Final = 8.0
"""Beyond one in a hundred million the fit says nothing: surprises end here."""

_MEMORY: Final = 8192
_DECAY: Final = 1.0 - 1.0 / _MEMORY
_FORGOTTEN: Final = 2 * _MEMORY
_LEAST_SHAPE: Final = -0.5
_PRIOR: Final = 3.0
"""An exponential tail has the weight of the three excesses that a warm-up leaves."""


@dataclass(slots=True)
class Tail:
    """The upper tail of a stream of numbers.

    Attributes:
        warm_up: how many numbers set the threshold first; until then nothing is surprising.
        quantile: where the tail begins.
    """

    warm_up: int = 150
    quantile: float = 0.98
    threshold: float = 0.0
    count: float = 0.0
    excesses: float = 0.0
    excess_mean: float = 0.0
    excess_square: float = 0.0
    largest: float = 0.0
    quiet: int = 0
    collected: list[float] = field(default_factory=list)
    is_collecting: bool = True

    def surprise(self, number: float) -> float:
        """Return -log10 of the chance of a number this high, in [0, `SURPRISE_MOST`]; then learn.

        0 during the warm-up and up to the threshold.
        """
        if self.is_collecting and not self._collect(number):
            return 0.0
        self.quiet += 1
        if number > self.threshold:
            return self._exceed(number - self.threshold)
        if self.quiet > _FORGOTTEN:
            self.is_collecting = True
        return 0.0

    def _collect(self, number: float) -> bool:
        """Gather `warm_up` numbers, then begin the tail above their quantile.

        Returns whether there is a tail to look at.
        """
        self.collected.append(number)
        if len(self.collected) < self.warm_up:
            return self.count > 0.0
        ordered = sorted(self.collected)
        threshold = ordered[min(int(self.quantile * len(ordered)), len(ordered) - 1)]
        above = [each - threshold for each in ordered if each > threshold]
        self.threshold = threshold
        self.count = max(self.count, float(len(ordered)))
        self.excesses = len(above) * self.count / len(ordered)
        self.excess_mean = sum(above) / len(above) if above else 0.0
        self.excess_square = sum(each * each for each in above) / len(above) if above else 0.0
        self.largest = above[-1] if above else 0.0
        self.collected = []
        self.is_collecting = False
        self.quiet = 0
        return True

    def _exceed(self, excess: float) -> float:
        kept = _DECAY**self.quiet
        self.count = self.count * kept + (1.0 - kept) / (1.0 - _DECAY)
        self.excesses *= kept
        self.quiet = 0
        surprise = self._surprise_of(excess)
        taught = min(excess, 10.0 * self.largest) if self.largest > 0.0 else excess
        self.largest = max(self.largest, taught)
        self.excesses += 1.0
        weight = 1.0 / self.excesses
        self.excess_mean += weight * (taught - self.excess_mean)
        self.excess_square += weight * (taught * taught - self.excess_square)
        return surprise

    def _surprise_of(self, excess: float) -> float:
        """-log10 of the chance that a number exceeds the threshold by more than this."""
        if self.excesses < 1.0:
            return min(math.log10(self.count) + 1.0, SURPRISE_MOST)
        mean = self.excess_mean
        variance = max(self.excess_square - mean * mean, 0.0)
        variance = (self.excesses * variance + _PRIOR * mean * mean) / (self.excesses + _PRIOR)
        if variance <= 0.0:
            return min(math.log10(self.count) + 1.0, SURPRISE_MOST)
        ratio = mean * mean / variance
        shape = max(0.5 * (1.0 - ratio), _LEAST_SHAPE)
        scale = 0.5 * mean * (ratio + 1.0) if shape > _LEAST_SHAPE else mean * (1.0 - shape)
        inside = 1.0 + shape * excess / scale
        if inside <= 0.0:
            return SURPRISE_MOST
        steepness = excess / scale if abs(shape) < 1e-6 else math.log(inside) / shape
        surprise = (steepness - math.log(self.excesses / self.count)) / math.log(10.0)
        return min(max(surprise, 0.0), SURPRISE_MOST)
