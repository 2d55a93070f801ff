"""What happened lately: how many calls, failures and slow ones, by count or by time."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from privacy_core.errors import InvalidParameter

GOOD: Final = 0
FAILED: Final = 1
SLOW: Final = 2  # may be added to FAILED


class Tally(NamedTuple):
    """Calls in the window."""

    calls: int
    failures: int
    slow: int


class Window(Protocol):
    """Keeps outcomes for a while. Not safe to share: its owner holds a lock."""

    def add(self, outcome: int, now_s: float) -> bool:
        """Take one more outcome: GOOD, FAILED, SLOW or FAILED + SLOW.

        Returns:
            whether there may be a bad one in the window.
        """
        ...

    def tally(self, now_s: float) -> Tally:
        """What is in the window now."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


class CountWindow:
    """The last `size` calls, in O(1) time a call and `size` bytes."""

    __slots__ = ("_at", "_calls", "_failures", "_ring", "_size", "_slow")

    def __init__(self, size: int) -> None:
        if size < 1:
            raise InvalidParameter("size", found=size, expected="at least one call")
        self._size = size
        self._ring = bytearray(size)
        self._at = self._calls = self._failures = self._slow = 0

    def add(self, outcome: int, now_s: float) -> bool:
        """Take one more outcome; the oldest of a full window goes."""
        del now_s
        at = self._at
        ring = self._ring
        gone = ring[at]
        if outcome != gone:
            if gone:
                self._failures -= gone & 1
                self._slow -= gone >> 1
            if outcome:
                self._failures += outcome & 1
                self._slow += outcome >> 1
            ring[at] = outcome
        if self._calls < self._size:
            self._calls += 1
        at += 1
        self._at = 0 if at == self._size else at
        return self._failures > 0 or self._slow > 0

    def tally(self, now_s: float) -> Tally:
        """What the last calls were."""
        del now_s
        return Tally(self._calls, self._failures, self._slow)

    def clear(self) -> None:
        """Forget everything."""
        self._ring = bytearray(self._size)
        self._at = self._calls = self._failures = self._slow = 0


class TimeWindow:
    """The calls of the last `seconds`, in parts of a tenth: the oldest part goes as a whole."""

    __slots__ = ("_part_s", "_parts", "_span")

    def __init__(self, seconds: float, *, parts: int = 10) -> None:
        if not (seconds > 0 and parts >= 1):
            raise InvalidParameter(
                "seconds", found=(seconds, parts), expected="a time above zero, parts from one"
            )
        self._part_s = seconds / parts
        self._span = parts
        self._parts: list[list[int]] = []

    def add(self, outcome: int, now_s: float) -> bool:
        """Take one more outcome."""
        part = int(now_s / self._part_s)
        parts = self._parts
        if not parts or parts[-1][0] < part:
            parts.append([part, 0, 0, 0])
            while parts[0][0] <= part - self._span:
                del parts[0]
        row = parts[-1]  # a clock that went back counts into the newest part
        row[1] += 1
        row[2] += outcome & 1
        row[3] += outcome >> 1
        return True

    def tally(self, now_s: float) -> Tally:
        """What the calls since then were."""
        oldest = int(now_s / self._part_s) - self._span
        rows = [row for row in self._parts if row[0] > oldest]
        return Tally(*(sum(row[k] for row in rows) for k in (1, 2, 3)))

    def clear(self) -> None:
        """Forget everything."""
        self._parts = []
