"""Sliding window counts in memory: constant work for a request, bounded memory, our clock.

The same law as `limits`' sliding window counter in Redis: what was counted in the window before
counts in proportion to how much of it is still within reach. `limits`' own memory storage looks
through all of its keys at every request; this one does not, so a flood from many addresses costs
what it sends.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from privacy_runtime.world import Clock

MOST_KEYS: Final = 100_000

Window = tuple[int, float, int, float]
"""Counts of the previous and the current window, each with the seconds until it is gone."""


class WindowCounts:
    """Counts by key in the current window and the one before. For one event loop.

    Above `most_keys` the key that was counted longest ago is forgotten.

    Args:
        clock: measures.
        most_keys: how many keys are kept.
    """

    def __init__(self, clock: Clock, *, most_keys: int = MOST_KEYS) -> None:
        self._clock, self._most = clock, most_keys
        self._counts: OrderedDict[str, tuple[int, int, int]] = OrderedDict()

    def hit(self, key: str, limit: int, window_s: int) -> tuple[bool, Window]:
        """Count one, if the weighted count stays within `limit`.

        Returns:
            Whether it was counted, and the windows after it.
        """
        now = self._clock.monotonic_s()
        index, left_s = int(now // window_s), window_s - now % window_s
        known, previous, current = self._counts.get(key, (index, 0, 0))
        if known == index - 1:
            previous, current = current, 0
        elif known != index:
            previous, current = 0, 0
        passes = previous * left_s / window_s + current + 1 <= limit
        if passes:
            current += 1
            self._counts[key] = (index, previous, current)
            self._counts.move_to_end(key)
            if len(self._counts) > self._most:
                self._counts.popitem(last=False)
        return passes, (previous, left_s, current, left_s + window_s)
