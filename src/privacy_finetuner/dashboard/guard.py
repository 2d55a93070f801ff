"""The guard of the pipeline, as the page of routers and guards shows it: its state in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.service.guard_reading import GuardAlert, GuardView

FAULTS: Final = {
    "unreachable": marked(
        "The guard's server does not answer. Whether anybody looks is not known: take it that "
        "nobody does."
    ),
    "refused": marked(
        "The guard does not take the configured token: its time is over, or it lacks guard:read. "
        "pipeline-guard token makes another."
    ),
    "unexpected": marked("The guard answers in a form that this page does not know."),
    "blind": marked(
        "The guard's server has nothing to show: no guard has looked yet, or what it wrote cannot "
        "be read. Nobody knows how things stand."
    ),
}
TONES: Final = {
    "healthy": "good",
    "recovering": "info",
    "degraded": "warn",
    "critical": "bad",
    "failed": "bad square",
    "unknown": "ring",
    "ok": "good",
    "warning": "warn",
}
WORDS: Final = (
    *(marked("healthy"), marked("recovering"), marked("degraded"), marked("unknown")),
    *(marked("critical"), marked("failed"), marked("ok"), marked("warning")),
    *(marked("observe"), marked("suggest"), marked("act")),
)
"""The guard's own words for health, looks and modes, so that they are translated where shown."""
MODES: Final = {
    "": marked("There is no recovery: it looks and tells."),
    "observe": marked("It writes down what it would do, and does nothing."),
    "suggest": marked("It tells people what it would do, and does nothing."),
    "act": marked("It does what its recoveries say."),
}
"""What the most that any recovery may do means."""
ACTIONS: Final = {
    "held": (marked("Held back"), "warn"),
    "noted": (marked("Would be done"), ""),
    "suggested": (marked("Suggested"), "info"),
    "acting": (marked("Begun"), "info"),
    "step": (marked("Step"), ""),
    "applied": (marked("Done"), "info"),
    "rolled_back": (marked("Undone"), "warn"),
    "healed": (marked("Healed"), "good"),
    "not_healed": (marked("Not healed"), "bad"),
    "refused": (marked("Refused"), "bad"),
    "interrupted": (marked("Interrupted"), "warn"),
    "escalated": (marked("People were called"), "bad"),
}
SHOWN: Final = 50
LATE_S: Final = 5.0
"""From when on the loop counts as late: that of the alert rule `GuardLoopLate`."""
_LEAST: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class GuardPart:
    """What the page needs of a guard, beside its view.

    Attributes:
        view: of the guard; `None`: none is configured, or it is not the reader's to see.
        is_installed: whether the guard's program is there.
        now: of the page.
    """

    view: GuardView | None
    is_installed: bool
    now: datetime

    @property
    def fault(self) -> str:
        """Why nothing, or not everything, is known; empty: all is."""
        return "" if self.view is None else FAULTS.get(self.view.fault, "")

    @property
    def looked_at(self) -> datetime | None:
        """When it last looked, by the clock of this service."""
        age_s = None if self.view is None else self.view.age_s
        return None if age_s is None else self.now - max(timedelta(seconds=age_s), _LEAST)

    @property
    def mode(self) -> str:
        """What the guard may do, as a sentence; empty for a mode that is not known."""
        return "" if self.view is None else MODES.get(self.view.mode, "")

    @property
    def is_late(self) -> bool:
        """Whether its looks begin so late that the host, or the intervals, are to blame."""
        return self.view is not None and self.view.lag_s is not None and self.view.lag_s >= LATE_S

    @property
    def alerts(self) -> tuple[GuardAlert, ...]:
        """Those that stand, the worst first; so many as a page bears."""
        return () if self.view is None else (self.view.alerts or ())[:SHOWN]

    def root_of(self, alert: GuardAlert) -> str:
        """The component whose alert explains this one; empty: none does."""
        found = (each.component for each in self.alerts if each.id == alert.root)
        return next(found, "")

    def tone(self, state: str) -> str:
        """The colour of a health or a look."""
        return TONES.get(state, "warn")

    def did(self, kind: str) -> tuple[str, str]:
        """What an action is called, and its colour."""
        return ACTIONS.get(kind, (kind.replace("_", " "), ""))
