"""Seeded chance: the same seed draws the same schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from privacy_runtime.testing import SeededEntropy

_Item = TypeVar("_Item")


class Chance:
    """Draws from a seed.

    Args:
        seed: printed with every report, so that a schedule can be run again.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._entropy = SeededEntropy(seed)

    def below(self, most: int) -> int:
        """A whole number from 0 to `most - 1`."""
        return int.from_bytes(self._entropy.token_bytes(8)) % most

    def between(self, least: float, most: float) -> float:
        """A number in an interval."""
        return least + (most - least) * self.below(1 << 30) / (1 << 30)

    def one_of(self, items: Sequence[_Item]) -> _Item:
        """One of several."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[_Item]) -> list[_Item]:
        """All of them in another order (Fisher and Yates)."""
        found = list(items)
        for last in range(len(found) - 1, 0, -1):
            other = self.below(last + 1)
            found[last], found[other] = found[other], found[last]
        return found
