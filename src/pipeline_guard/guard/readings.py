"""Looks in a row that found the same, kept as one row: what `replay history` reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pipeline_guard.guard.records import Stretch
from pipeline_guard.model import Reading

_LONGEST_S: Final = 3_600.0


class Stretches:
    """The stretch under way of every check."""

    def __init__(self) -> None:
        self._open: dict[str, Stretch] = {}
        self._ended: list[Stretch] = []

    def add(self, check: str, reading: Reading, now_s: float) -> None:
        """Take in a look."""
        under_way = self._open.get(check)
        fault = reading.fault.value if reading.fault else None
        if (
            under_way is not None
            and under_way.verdict == reading.verdict.name
            and under_way.fault == fault
            and now_s - under_way.first_s < _LONGEST_S
        ):
            self._open[check] = replace(under_way, last_s=now_s, count=under_way.count + 1)
            return
        if under_way is not None:
            self._ended.append(under_way)
        self._open[check] = Stretch(
            check=check,
            verdict=reading.verdict.name,
            fault=fault,
            summary=reading.summary,
            first_s=now_s,
            last_s=now_s,
            count=1,
        )

    def taken(self, *, all_of_them: bool) -> list[Stretch]:
        """Those that ended since the last call; at the end of the guard, all."""
        if all_of_them:
            self._ended += self._open.values()
            self._open = {}
        found, self._ended = self._ended, []
        return found
