"""Who may ask less for a while: kept in the journal, so that every process knows and a restart too.

The HTTP layer asks `most_of` for every request of a principal: a look into a dictionary. What other
processes wrote comes in with `refresh`, which the monitoring loop calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from privacy_finetuner.operations.errors import NotRestrained
from privacy_runtime.journal import REPAIRED, Change, Draft, Journal, View
from privacy_runtime.world import Clock

RESTRAINTS: Final = "restraints"
LABEL: Final = "restraints-1"
MOST: Final = 6
"""Requests in a minute of somebody who is restrained: enough for a person to ask why."""
LASTS: Final = timedelta(minutes=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraint:
    """A user who may ask less for now, until when, and who said so and why."""

    subject: str
    until: datetime
    by: str
    reason: str


class Restraints:
    """Restrained users. For any number of threads.

    Args:
        journal: keeps the stream `restraints`.
        clock: tells when one is over.

    Raises, in every method but `most_of`: JournalError: the journal cannot be used.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal, self._clock = journal, clock
        self._until: dict[str, datetime] = {}
        self._is_projected = False

    def most_of(self, subject: str) -> int | None:
        """How many requests a minute a user may make for now; None: as many as anybody."""
        until = self._until.get(subject)
        return MOST if until is not None and self._clock.now() < until else None

    def restrain(self, tenant: str, subject: str, *, by: str, reason: str) -> datetime:
        """Restrain a user for half an hour from now; returns when it ends."""
        until = self._clock.now() + LASTS
        body = {"tenant": tenant, "subject": subject, "until": until.isoformat(), "by": by}
        self._write("restraint.begun", subject, {**body, "reason": reason})
        self._until[subject] = until
        return until

    def lift(self, tenant: str, subject: str, *, by: str, reason: str) -> None:
        """End a restraint early; also one that another process wrote.

        Raises:
            NotRestrained: the user is not restrained in this organisation; nothing was changed.
        """
        if all(each.subject != subject for each in self.standing(tenant)):
            raise NotRestrained(subject)
        now = self._clock.now()
        body = {"tenant": tenant, "subject": subject, "until": now.isoformat(), "by": by}
        self._write("restraint.lifted", subject, {**body, "reason": reason})
        self._until.pop(subject, None)

    def standing(self, tenant: str) -> list[Restraint]:
        """The restraints of an organisation's users that hold now, the last to end first."""
        self._project()
        now = self._clock.now()
        documents = [body for _, body in self._journal.documents(RESTRAINTS)]
        held = [_restraint(body) for body in documents if body["tenant"] == tenant]
        return sorted((each for each in held if each.until > now), key=_end, reverse=True)

    def refresh(self) -> None:
        """Take in what other processes wrote, and forget what is over."""
        self._project()
        now = self._clock.now()
        held = {name: document["until"] for name, document in self._journal.documents(RESTRAINTS)}
        until = {name: datetime.fromisoformat(text) for name, text in held.items()}
        self._until = {name: instant for name, instant in until.items() if instant > now}

    def _write(self, type_: str, name: str, body: dict[str, Any]) -> None:
        self._project()

        def decide(view: View) -> Change:
            return Change([Draft(type_, f"{name}:{view.head.seq + 1}", body)], {name: body})

        self._journal.transact(RESTRAINTS, decide, names=(name,))

    def _project(self) -> None:
        if not self._is_projected:
            self._journal.project(RESTRAINTS, LABEL, _fold)
            self._is_projected = True


def _restraint(body: Mapping[str, Any]) -> Restraint:
    until = datetime.fromisoformat(body["until"])
    return Restraint(subject=body["subject"], until=until, by=body["by"], reason=body["reason"])


def _end(restraint: Restraint) -> datetime:
    return restraint.until


def _fold(entries: Any) -> dict[str, Any]:
    documents: dict[str, Any] = {}
    for entry in entries:
        if entry.type == REPAIRED:
            documents = dict(entry.body["documents"])
        else:
            documents[entry.body["subject"]] = entry.body
    return documents
