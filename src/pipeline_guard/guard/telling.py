"""From what happens to who is told: nobody about what is silenced, maintained or explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pipeline_guard.config.rules import destination_of
from pipeline_guard.guard.events import Event, Happening
from pipeline_guard.guard.plan import maintained
from pipeline_guard.guard.status import alert_of
from pipeline_guard.guard.watch import Watch
from pipeline_guard.notices import Notices

if TYPE_CHECKING:
    from pipeline_guard.guard.facade import SelfHealingPipelineGuard

_WORDS: Final = {
    Happening.OPENED: "opened",
    Happening.WORSE: "opened",
    Happening.INTERRUPTED: "opened",
    Happening.RESOLVED: "resolved",
    Happening.SUGGESTED: "suggested",
    Happening.PROMOTABLE: "suggested",
    Happening.ESCALATED: "escalated",
}


class Telling:
    """An observer that hands to the notices what people should hear.

    Args:
        guard: whose configuration says who they are.
    """

    def __init__(self, guard: SelfHealingPipelineGuard) -> None:
        settings = guard.config.notify
        self._guard = guard
        self._notices = Notices(settings, guard.config.beside(settings.outbox))

    def __call__(self, events: Sequence[Event], watch: Watch) -> None:
        """Take in what happened; never waits."""
        for event in events:
            if event.kind is Happening.STARTED:
                for name in watch.incidents:
                    self._tell("opened", name, "", watch, {})
            elif event.kind in _WORDS and event.incident:
                self._tell(_WORDS[event.kind], event.incident, event.text, watch, event.data)

    def standing(self) -> dict[str, int]:
        """How many notices wait, were delivered, and were given up."""
        return self._notices.standing()

    def close(self) -> None:
        """Stop telling; what waits is told after the next start."""
        self._notices.close()

    def _tell(self, kind: str, name: str, text: str, watch: Watch, data: Any) -> None:
        incident = watch.incidents.get(name) or next(
            (each for each in watch.resolved if each.id == name), None
        )
        if incident is None:
            return
        component = str(incident.component)
        names = [str(each) for each in watch.plan.components()]
        if component in maintained(watch.plan.config, incident.last_seen, names):
            return
        if kind != "resolved" and self._is_silenced({name, incident.check, component, "*"}):
            return
        known = watch.plan.config.notify.destinations
        wanted = [destination_of(each, known) for each in data.get("to", ())]
        alert = alert_of(incident, root=watch.roots().get(name))
        self._notices.tell(kind, alert, text, only=[each for each in wanted if each])

    def _is_silenced(self, scopes: set[str]) -> bool:
        now = self._guard.now()
        return any(each.until > now and each.scope in scopes for each in self._guard.silences())
