"""How busy and how fast a node is: counters that cannot leak, and an average that fears peaks.

Source: peak EWMA of Finagle (Twitter): a slow answer counts at once, a quick one only by and by.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from privacy_runtime.world import Clock

_DECAY_S: Final = 10.0
_FIRST_S: Final = 0.1


class Load:
    """The calls that one node works on for this router.

    A call is counted from the moment that its node is chosen, by a context that takes it back
    however the call ends: health checks and errors never reset the counter.

    Args:
        clock: measures.
        decay_s: after which an old latency has lost 63 % of its weight.
    """

    __slots__ = ("_at_s", "_decay_s", "_latency_s", "_now_s", "errors", "in_flight", "served")

    def __init__(self, clock: Clock, *, decay_s: float = _DECAY_S) -> None:
        self._now_s = clock.monotonic_s
        self._decay_s = decay_s
        self._latency_s = 0.0
        self._at_s = self._now_s()
        self.in_flight = self.served = self.errors = 0

    @property
    def latency_s(self) -> float:
        """Peak EWMA of the time of a call; 0: none has ended."""
        return self._latency_s

    @property
    def cost(self) -> float:
        """Expected wait of one call more: latency x (calls under way + 1)."""
        return (self._latency_s or _FIRST_S) * (self.in_flight + 1)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call, and learn from how long it takes."""
        began_s = self._now_s()
        self.in_flight += 1
        try:
            yield
        except Exception:
            self.errors += 1
            raise
        else:
            self.served += 1
            self.took(self._now_s() - began_s)
        finally:
            self.in_flight -= 1

    def took(self, seconds: float) -> None:
        """Learn from one call."""
        now_s = self._now_s()
        if seconds > self._latency_s:
            self._latency_s = seconds
        else:
            weight = math.exp(-max(0.0, now_s - self._at_s) / self._decay_s)
            self._latency_s = self._latency_s * weight + seconds * (1 - weight)
        self._at_s = now_s
