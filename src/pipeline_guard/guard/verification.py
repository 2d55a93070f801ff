"""Recoveries whose steps are done: the same checks say whether they helped, or time does.

Only looks that began after the last step count. A remedy that returned has proven nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_guard.model import Verdict


@dataclass(slots=True)
class Verifying:
    """One of them.

    Attributes:
        attempt, incident: which run, of what.
        check: whose looks count.
        needed: good looks in a row.
        since_s, deadline_s: when the steps ended, and until when it must be well.
        good: so far.
    """

    attempt: str
    incident: str
    check: str
    needed: int
    since_s: float
    deadline_s: float
    good: int = 0


class Verifications:
    """All of them, by run."""

    def __init__(self) -> None:
        self._pending: dict[str, Verifying] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, each: Verifying) -> None:
        """Begin one."""
        self._pending[each.attempt] = each

    def end(self, attempt: str) -> None:
        """It is over."""
        self._pending.pop(attempt, None)

    def seen(self, check: str, verdict: Verdict, began_s: float) -> list[Verifying]:
        """Take in a look; returns those that it healed."""
        healed = []
        for each in self._pending.values():
            if each.check == check and began_s >= each.since_s:
                each.good = each.good + 1 if verdict is Verdict.OK else 0
                if each.good >= each.needed:
                    healed.append(each)
        return healed

    def overdue(self, now_s: float) -> list[Verifying]:
        """Those that were not well in time."""
        return [each for each in self._pending.values() if now_s >= each.deadline_s]

    def next_s(self) -> float:
        """When the next one would be overdue."""
        return min((each.deadline_s for each in self._pending.values()), default=float("inf"))
