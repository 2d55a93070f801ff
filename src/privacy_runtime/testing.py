"""Stand-ins for the outside world, for tests only. Nothing in `src` imports this module.

They implement the protocols of `privacy_runtime.world`, so a test passes one where the program
passes the system's own. What they give is predictable: a run keyed by `SeededEntropy` protects
nobody.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

from privacy_core.errors import InvalidParameter

DEFAULT_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock that stands still until it is told to move.

    Args:
        start: the first instant; must carry a time zone.

    Raises:
        InvalidParameter: `start` has no time zone.
    """

    def __init__(self, start: datetime = DEFAULT_START) -> None:
        if start.tzinfo is None:
            raise InvalidParameter("start", found=start, expected="an instant with a time zone")
        self._now = start
        self._monotonic_s = 0.0

    def now(self) -> datetime:
        """Return the instant the clock stands at."""
        return self._now

    def monotonic_s(self) -> float:
        """Return the seconds that have passed so far."""
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both readings forward.

        Raises:
            InvalidParameter: `seconds` is negative or not finite; the clock did not move.
        """
        if not 0 <= seconds < float("inf"):
            raise InvalidParameter("seconds", found=seconds, expected="a finite number >= 0")
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds

    def set_time_of_day(self, instant: datetime) -> None:
        """Let the time of day jump, also backwards, as real clocks do; `monotonic_s` is unmoved."""
        if instant.tzinfo is None:
            raise InvalidParameter("instant", found=instant, expected="an instant with a time zone")
        self._now = instant


class SeededEntropy:
    """The same bytes in the same order for the same seed. Predictable: for tests only.

    The i-th call returns SHAKE-256 of (seed, i). After a fork both processes continue the same
    sequence; only the system's entropy tells them apart.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = 0

    def token_bytes(self, size_bytes: int) -> bytes:
        """Return the next `size_bytes` bytes of the sequence."""
        label = f"{self._seed}/{self._calls}".encode()
        self._calls += 1
        return hashlib.shake_256(label).digest(size_bytes)
