"""The outside world, as arguments: what time it is, and where chance comes from.

Everything that depends on the clock or on chance takes one of these protocols, so that a test can
stand in for the world without patching. The system implementations below are the only place in
`src` that reads the real clock or the operating system's generator.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day, and measures durations."""

    def now(self) -> datetime:
        """Return the current instant, with a time zone. It may jump; never measure with it."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds since an arbitrary start; never goes back."""
        ...


class Entropy(Protocol):
    """Gives bytes that nobody outside this process can predict."""

    def token_bytes(self, size_bytes: int) -> bytes:
        """Return `size_bytes` fresh bytes; no two calls return the same ones, except by chance."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current instant in UTC."""
        return datetime.now(UTC)  # noqa: TID251  the one place that reads the real clock

    def monotonic_s(self) -> float:
        """Return seconds since an arbitrary start, unaffected by changes of the time of day."""
        return time.monotonic()


class SystemEntropy:
    """The operating system's generator (`os.urandom`)."""

    def token_bytes(self, size_bytes: int) -> bytes:
        """Return `size_bytes` bytes from the operating system. Blocks until it is seeded."""
        return os.urandom(size_bytes)
