"""A clock whose time of day is moved by a file, for all processes that share the file."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from privacy_runtime.world import SystemClock


class JumpingClock:
    """The machine's clock, plus the seconds that a file holds. Durations are unmoved.

    Args:
        path: of the file; missing or empty: no offset.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._true = path, SystemClock()

    def now(self) -> datetime:
        """The time of day, as a clock that was set wrongly shows it."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            text = ""
        return self._true.now() + timedelta(seconds=float(text or 0))

    def monotonic_s(self) -> float:
        """Seconds since some start: these do not jump."""
        return self._true.monotonic_s()

    def jump(self, offset_s: float) -> None:
        """Set the offset, for everybody who reads the file."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(str(offset_s))
        fresh.replace(self._path)
