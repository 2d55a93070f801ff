"""What is done about an alert without asking: five acts, each through a door that exists.

================  =====================================  ========================================
act               through                                for how long
================  =====================================  ========================================
`halt`            the job's cancellation, or the         for good; what was charged stays charged
                  callback's `should_training_stop`
`throttle`        the request rates (`restraints`)       half an hour
`quarantine`      the digest's list (`quarantine`)       until a person releases it
`revoke`          identity: sessions and tokens          for good; the user logs in again
`new_plan`        nothing is changed: a plan is priced   a person decides
                  and proposed
================  =====================================  ========================================

Where responses are off, an alert says what would have been done. Either way the journal's audit
stream has an entry `operations.response` for each, written once however many processes see the
alert. Noise is never changed in a run: another noise is another plan, and a run's plan was priced
before its first step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from privacy_core.errors import PrivacyError
from privacy_finetuner.operations.alerts import Alert
from privacy_finetuner.operations.trail import STREAM
from privacy_runtime.journal import Change, Draft, Journal, View

ANSWERED: Final = "operations.response"
SERVICE: Final = "service"
_log = logging.getLogger(__name__)


class Act(StrEnum):
    """What may be done."""

    HALT = "halt"
    THROTTLE = "throttle"
    QUARANTINE = "quarantine"
    REVOKE = "revoke"
    NEW_PLAN = "new_plan"


class Outcome(StrEnum):
    """What became of it."""

    DONE = "done"
    WOULD = "would_have"
    IMPOSSIBLE = "impossible"
    FAILED = "failed"


ACTS: Final[Mapping[str, tuple[Act, ...]]] = {
    "refresh_reuse": (Act.REVOKE,),
    "foreign_objects": (Act.THROTTLE, Act.REVOKE),
    "canary_probing": (Act.THROTTLE,),
    "membership_queries": (Act.THROTTLE,),
    "run_budget": (Act.NEW_PLAN,),
    "gradient_bound": (Act.HALT, Act.NEW_PLAN),
    "scores_fell": (Act.HALT, Act.QUARANTINE),
    "source_changed": (Act.QUARANTINE,),
    "silo_outlier": (Act.HALT,),
    "sealed_state": (Act.HALT,),
}
"""Which rule asks for which acts. A rule that is not named asks a person: guessing at a password,
for one, must not log its victim out."""

Door = Callable[[Alert], str]
"""Does one act for an alert, and says in a few words what it did.

Raises:
    NotPossible: the alert does not say whom or what to act on.
"""


class NotPossible(Exception):
    """Nothing can be done here: the alert names nobody, or there is no such door."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One act, and what became of it. `says` holds ids and counts, never a value."""

    act: Act
    outcome: Outcome
    says: str

    def document(self) -> dict[str, str]:
        """JSON-ready."""
        return {"act": self.act.value, "outcome": self.outcome.value, "says": self.says}


class Responses:
    """Answers alerts.

    Args:
        doors: from acts to what does them; an act without a door is impossible here.
        journal: gets an entry of each response.
        is_on: whether anything is done; else it is said what would have been.
    """

    def __init__(self, doors: Mapping[Act, Door], journal: Journal, *, is_on: bool) -> None:
        self._doors, self._journal, self.is_on = dict(doors), journal, is_on

    def answer(self, alert: Alert) -> tuple[Response, ...]:
        """Do what the alert's rule asks for; a door that fails keeps no other from opening.

        Raises:
            JournalError: the journal is away: what was done is not recorded, and says so so.
        """
        given = tuple(self._given(act, alert) for act in ACTS.get(alert.rule, ()))
        for response in given:
            self._record(alert, response)
        return given

    def _given(self, act: Act, alert: Alert) -> Response:
        door = self._doors.get(act)
        if door is None:
            says = "there is no such door here: a service has it"
            return Response(act=act, outcome=Outcome.IMPOSSIBLE, says=says)
        if not self.is_on and act is not Act.NEW_PLAN:  # a proposal changes nothing
            about = ", ".join(f"{name} {value[:24]}" for name, value in alert.about.items())
            says = f"automated responses are off; it would have been done to {about or 'the run'}"
            return Response(act=act, outcome=Outcome.WOULD, says=says)
        try:
            return Response(act=act, outcome=Outcome.DONE, says=door(alert))
        except NotPossible as reason:
            return Response(act=act, outcome=Outcome.IMPOSSIBLE, says=str(reason))
        except (PrivacyError, OSError) as error:
            _log.exception("a response to an alert failed")
            says = f"it failed: {getattr(error, 'code', type(error).__name__)}"
            return Response(act=act, outcome=Outcome.FAILED, says=says)

    def _record(self, alert: Alert, response: Response) -> None:
        key = f"response:{alert.id}:{response.act}:{response.outcome}"
        body: dict[str, Any] = {
            "tenant": alert.tenant,
            "by": SERVICE,
            "alert": alert.id,
            "rule": alert.rule,
            **response.document(),
        }

        def decide(view: View) -> Change:
            return Change() if key in view.entries else Change([Draft(ANSWERED, key, body)])

        self._journal.transact(STREAM, decide, keys=(key,))


def named(alert: Alert, field: str) -> str:
    """Whom or what an alert is about.

    Raises:
        NotPossible: it does not say.
    """
    value = alert.about.get(field)
    if not value or value == "None":
        raise NotPossible(f"the alert names no {field}")
    return value
