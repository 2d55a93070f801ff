"""Recoveries that would have run, and whether that would have been right.

A guard that only observes still decides. Each such decision is judged: the fault stood for as long
as the recovery would have had to help, so that acting was right; or it went by itself. After
`promote_after` right ones in a row a person is told that the recovery could be trusted. Promoting
it stays a person's act.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from pipeline_guard.config import RecoverySettings
from pipeline_guard.decide import DryVerdict, judged, right_in_a_row
from pipeline_guard.guard.events import Event, Happening


class DryRuns:
    """Verdicts by recovery and incident.

    Args:
        verdicts: of an earlier process.
    """

    def __init__(self, verdicts: Mapping[tuple[str, str], DryVerdict]) -> None:
        self.verdicts = dict(verdicts)
        self.changed: dict[tuple[str, str], DryVerdict] = {}
        self._told: set[str] = set()

    @property
    def keys(self) -> frozenset[tuple[str, str]]:
        """For which recovery and incident something was noted."""
        return frozenset(self.verdicts)

    def note(self, recovery: RecoverySettings, incident: str, now_s: float) -> None:
        """A recovery would have run now."""
        until_s = now_s + recovery.verify.within_s
        self._keep(
            DryVerdict(recovery=recovery.name, incident=incident, noted_s=now_s, until_s=until_s)
        )

    def due_s(self) -> float:
        """When the next one can be judged."""
        pending = (v.until_s for v in self.verdicts.values() if v.is_right is None)
        return min(pending, default=float("inf"))

    def judge(
        self,
        is_standing: Callable[[str], bool],
        recovery: Callable[[str], RecoverySettings | None],
        at: datetime,
        now_s: float,
    ) -> list[Event]:
        """Judge what can be judged."""
        events: list[Event] = []
        for verdict in [v for v in self.verdicts.values() if v.is_right is None]:
            standing = is_standing(verdict.incident)
            is_right = judged(verdict, is_standing=standing, now_s=now_s)
            if is_right is None:
                continue
            self._keep(replace(verdict, is_right=is_right))
            words = "the fault stood: acting was right" if is_right else "it went by itself"
            events.append(
                Event(
                    kind=Happening.JUDGED,
                    at=at,
                    text=f"{verdict.recovery} would have run; {words}",
                    incident=verdict.incident,
                    recovery=verdict.recovery,
                    data={"is_right": is_right},
                )
            )
            events += self._promotion(recovery(verdict.recovery), is_right, at)
        return events

    def forget(self, before_s: float) -> None:
        """Drop what was judged long ago."""
        for key, verdict in list(self.verdicts.items()):
            if verdict.is_right is not None and verdict.noted_s < before_s:
                del self.verdicts[key]

    def right_in_a_row(self, recovery: str) -> int:
        """How many of a recovery's newest verdicts were right."""
        mine = [v for v in self.verdicts.values() if v.recovery == recovery]
        return right_in_a_row(sorted(mine, key=lambda each: each.noted_s))

    def _promotion(
        self, recovery: RecoverySettings | None, is_right: bool, at: datetime
    ) -> list[Event]:
        if recovery is None:
            return []
        if not is_right:
            self._told.discard(recovery.name)
            return []
        count = self.right_in_a_row(recovery.name)
        if recovery.name in self._told or count < recovery.promote_after:
            return []
        self._told.add(recovery.name)
        words = f"was right {count} times in a row: pipeline-guard promote {recovery.name}"
        text = f"{recovery.name} {words}"
        return [Event(kind=Happening.PROMOTABLE, at=at, text=text, recovery=recovery.name)]

    def _keep(self, verdict: DryVerdict) -> None:
        key = (verdict.recovery, verdict.incident)
        self.verdicts[key] = self.changed[key] = verdict
