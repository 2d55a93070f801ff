"""Requests of data subjects: received, worked on, answered in time, with the evidence kept.

::

    processing -> extended -> completed
         |           '-------> refused        with the reason that the person is told
         |---------------------^
         '-------> withdrawn                  by the person

One verification opens one request: the request's id is computed from it, so a second submission
of the same finds the first, and another request with the same token is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from privacy_core.errors import InvalidParameter
from privacy_finetuner.governance.deadlines import Cell, RequestType, law
from privacy_finetuner.governance.erasure import ArtefactOutcome, Outcome
from privacy_finetuner.governance.errors import RecordConflict, VerificationRefused
from privacy_finetuner.governance.records import Document, Records, Step
from privacy_finetuner.governance.subjects import Subjects
from privacy_finetuner.governance.verification import STREAM, Verifications
from privacy_runtime.journal import Journal
from privacy_runtime.world import Clock

REASON_MOST: Final = 1000
EVIDENCE_MOST: Final = 100
URL_MOST: Final = 2000
_SHA256_HEX: Final = 64


class RequestStatus(StrEnum):
    """Where a request stands."""

    PROCESSING = "processing"
    EXTENDED = "extended"
    COMPLETED = "completed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"

    @property
    def is_open(self) -> bool:
        """Whether an answer is owed."""
        return self in {RequestStatus.PROCESSING, RequestStatus.EXTENDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalClock:
    """What one regime wants of this request."""

    regime: str
    law: str
    due_at: datetime
    extendable_to: datetime | None
    notice: str
    source: str
    confidence: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRequest:
    """One request. `subject` is a pseudonym; no name or id of a person is in it.

    Attributes:
        due_at: the earliest of its clocks, with the extension if there is one.
        law_version: of the table that dated it.
        evidence: what was attached: `{label, sha256, by, at}` each.
        artefacts: what became of each thing, of an erasure.
        package_url: where the person's data package is, once an officer put it there.
    """

    id: str
    type: RequestType
    subject: str
    region: str
    status: RequestStatus
    received_at: datetime
    due_at: datetime
    clocks: tuple[LegalClock, ...]
    law_version: str
    verification: str
    opened_by: str
    evidence: tuple[Document, ...]
    artefacts: tuple[Document, ...]
    package_url: str | None
    reason: str | None
    answered_at: datetime | None

    @classmethod
    def of(cls, held: Document) -> Self:
        """Read a record."""
        answered = held["answered_at"]
        rest = {
            name: held[name]
            for name in ("id", "subject", "region", "law_version", "verification", "opened_by")
        }
        return cls(
            **rest,
            type=RequestType(held["type"]),
            status=RequestStatus(held["status"]),
            received_at=datetime.fromisoformat(held["created_at"]),
            due_at=datetime.fromisoformat(held["due_at"]),
            clocks=tuple(_clock_of(each) for each in held["clocks"]),
            evidence=tuple(held["evidence"]),
            artefacts=tuple(held["artefacts"]),
            package_url=held["package_url"],
            reason=held["reason"],
            answered_at=None if answered is None else datetime.fromisoformat(answered),
        )

    def is_overdue(self, now: datetime) -> bool:
        """Whether an answer is owed and late."""
        return self.status.is_open and now > self.due_at


class SubjectRequests:
    """The desk of requests. Who may open and answer them is checked by the caller.

    Args:
        journal: holds the stream.
        verifications: checks tokens.
        subjects: names persons.
        clock: tells the time.

    Raises, in every method: JournalError where the database is away; nothing was written then.
    """

    def __init__(
        self,
        journal: Journal,
        verifications: Verifications,
        subjects: Subjects,
        *,
        clock: Clock,
    ) -> None:
        self._records = Records(journal, STREAM, "data subject request")
        self._verifications, self._subjects, self._clock = verifications, subjects, clock

    def open(
        self,
        tenant: str,
        *,
        request: RequestType,
        subject: str,
        region: str,
        token: str,
        by: str,
    ) -> SubjectRequest:
        """Open a request for a person who was verified.

        Raises:
            UnknownLaw: no deadline is known for this in that region.
            VerificationRefused: the token does not count, or opened another request.
        """
        cells = law().applying(request.value, region)
        verified = self._verifications.check(tenant, token=token, subject=subject)
        record = _id_of(verified.id)

        def decide(_: Document | None, at: str) -> Step:
            received = datetime.fromisoformat(at)
            document = {
                "id": record,
                "type": request.value,
                "subject": verified.subject,
                "region": region,
                "status": RequestStatus.PROCESSING.value,
                "created_at": at,
                "due_at": min(each.due(received) for each in cells).isoformat(),
                "clocks": [_clock(each, received) for each in cells],
                "law_version": law().version,
                "verification": verified.id,
                "opened_by": by,
                "evidence": [],
                "artefacts": [],
                "package_url": None,
                "reason": None,
                "answered_at": None,
            }
            return Step(type="subject_request.opened", document=document, more={"by": by})

        held = self._records.write(tenant, record, decide, key=record)
        if (held["type"], held["region"]) != (request.value, region):
            raise VerificationRefused
        return SubjectRequest.of(held)

    def extend(self, tenant: str, record: str, *, by: str, reason: str) -> SubjectRequest:
        """Take the one extension that the law allows; the person must be told, with the reason.

        Raises:
            RecordConflict: it was extended or answered before, a clock of it cannot be extended,
                or the time to say so is over.
        """
        _require_reason(reason)

        def decide(held: Document, at: str) -> Step:
            request = SubjectRequest.of(held)
            if request.status is not RequestStatus.PROCESSING:
                raise RecordConflict(record, found=request.status.value, expected="processing")
            ends = [each.extendable_to for each in request.clocks]
            if None in ends:
                which = next(each.law for each in request.clocks if each.extendable_to is None)
                raise RecordConflict(
                    record, found=f"under {which}, which allows no extension", expected="another"
                )
            if datetime.fromisoformat(at) > request.due_at:
                raise RecordConflict(record, found="overdue", expected="extended before it is due")
            due = min(end for end in ends if end is not None)
            document = {**held, "status": RequestStatus.EXTENDED.value, "due_at": due.isoformat()}
            more = {"by": by, "reason": reason}
            return Step(type="subject_request.extended", document=document, more=more)

        return self._change(tenant, record, decide, f"{record}:extended")

    def attach(
        self, tenant: str, record: str, *, label: str, sha256: str, by: str
    ) -> SubjectRequest:
        """Attach evidence by its digest: the file itself stays where it is.

        Raises:
            RecordConflict: the request has no room for more.
        """
        _require_reason(label)
        if len(sha256) != _SHA256_HEX or not set(sha256) <= set("0123456789abcdef"):
            raise InvalidParameter("sha256", found="another form", expected="64 hexadecimal digits")

        def decide(held: Document, at: str) -> Step:
            if len(held["evidence"]) >= EVIDENCE_MOST:
                raise RecordConflict(record, found="full", expected=f"<= {EVIDENCE_MOST} items")
            item = {"label": label, "sha256": sha256, "by": by, "at": at}
            document = {**held, "evidence": [*held["evidence"], item]}
            return Step(type="subject_request.evidence", document=document, more={"by": by})

        return self._change(tenant, record, decide, f"{record}:evidence:{sha256}")

    def complete(
        self,
        tenant: str,
        record: str,
        *,
        by: str,
        artefacts: Sequence[ArtefactOutcome] = (),
        package_url: str | None = None,
    ) -> SubjectRequest:
        """Answer a request.

        Args:
            tenant: the organisation.
            record: the request.
            by: the officer.
            artefacts: what became of each thing; an erasure needs at least one, all decided.
            package_url: https address of the package, of an access or portability request.

        Raises:
            RecordConflict: it was answered before.
            InvalidParameter: an erasure without outcomes, or with undecided ones.
        """
        if package_url is not None and (
            not package_url.startswith("https://") or len(package_url) > URL_MOST
        ):
            raise InvalidParameter("data_package_url", found="another form", expected="https://...")

        def decide(held: Document, at: str) -> Step:
            request = _still_open(held)
            if request.type is RequestType.ERASURE:
                _require_decided(artefacts)
            document = {
                **held,
                "status": RequestStatus.COMPLETED.value,
                "artefacts": [_outcome(each) for each in artefacts],
                "package_url": package_url,
                "answered_at": at,
            }
            return Step(type="subject_request.completed", document=document, more={"by": by})

        return self._finish(tenant, record, decide, RequestStatus.COMPLETED)

    def refuse(self, tenant: str, record: str, *, by: str, reason: str) -> SubjectRequest:
        """Refuse a request, with the reason that the person is told; `RecordConflict` if late."""
        return self._close(tenant, record, RequestStatus.REFUSED, by, reason)

    def withdraw(self, tenant: str, record: str, *, by: str, reason: str) -> SubjectRequest:
        """The person took it back."""
        return self._close(tenant, record, RequestStatus.WITHDRAWN, by, reason)

    def get(self, tenant: str, record: str) -> SubjectRequest:
        """One request; `UnknownRecord` if there is none."""
        return SubjectRequest.of(self._records.get(tenant, record))

    def find(
        self, tenant: str, *, status: RequestStatus | None = None, subject: str | None = None
    ) -> list[SubjectRequest]:
        """Requests, newest first; of one status, or of one person by their id."""
        names = None if subject is None else self._subjects.pseudonyms(tenant, subject)
        found = [SubjectRequest.of(each) for each in self._records.all(tenant)]
        return [
            each
            for each in found
            if (status is None or each.status is status)
            and (names is None or each.subject in names)
        ]

    def overdue(self, tenant: str) -> list[SubjectRequest]:
        """Requests whose answer is late, the longest first."""
        now = self._clock.now()
        late = [each for each in self.find(tenant) if each.is_overdue(now)]
        return sorted(late, key=lambda each: each.due_at)

    def _close(
        self, tenant: str, record: str, status: RequestStatus, by: str, reason: str
    ) -> SubjectRequest:
        _require_reason(reason)

        def decide(held: Document, at: str) -> Step:
            _still_open(held)
            ended = {"status": status.value, "reason": reason, "answered_at": at}
            document = {**held, **ended}
            more = {"by": by, "reason": reason}
            return Step(type=f"subject_request.{status.value}", document=document, more=more)

        return self._finish(tenant, record, decide, status)

    def _finish(
        self, tenant: str, record: str, decide: Any, status: RequestStatus
    ) -> SubjectRequest:
        """One answer for ever: a repetition returns it, another one conflicts."""
        done = self._change(tenant, record, decide, f"{record}:answered")
        if done.status is not status:
            raise RecordConflict(record, found=done.status.value, expected="open")
        return done

    def _change(self, tenant: str, record: str, decide: Any, key: str) -> SubjectRequest:
        return SubjectRequest.of(self._records.change(tenant, record, decide, key=key))


def _still_open(held: Document) -> SubjectRequest:
    request = SubjectRequest.of(held)
    if not request.status.is_open:
        raise RecordConflict(request.id, found=request.status.value, expected="open")
    return request


def _require_decided(artefacts: Sequence[ArtefactOutcome]) -> None:
    undecided = [each.artefact for each in artefacts if each.outcome is Outcome.UNDECIDED]
    if not artefacts or undecided:
        raise InvalidParameter(
            "artefacts",
            found=f"{len(undecided)} undecided" if artefacts else "none",
            expected="what became of each thing that was made of the data",
        )


def _clock(cell: Cell, received: datetime) -> dict[str, Any]:
    extended = cell.due_extended(received)
    return {
        "regime": cell.regime,
        "law": cell.law,
        "due_at": cell.due(received).isoformat(),
        "extendable_to": None if extended is None else extended.isoformat(),
        "notice": cell.notice,
        "source": cell.source,
        "confidence": cell.confidence,
        "kind": cell.kind,
    }


def _clock_of(held: Document) -> LegalClock:
    end = held["extendable_to"]
    ends = {"extendable_to": None if end is None else datetime.fromisoformat(end)}
    return LegalClock(**{**held, "due_at": datetime.fromisoformat(held["due_at"]), **ends})


def _outcome(each: ArtefactOutcome) -> dict[str, Any]:
    until = None if each.until is None else each.until.isoformat()
    return {**asdict(each), "until": until}


def _id_of(verification: str) -> str:
    return f"req_{hashlib.sha256(verification.encode()).hexdigest()[:32]}"


def _require_reason(text: str) -> None:
    if not 0 < len(text.strip()) <= REASON_MOST:
        raise InvalidParameter(
            "reason", found=f"{len(text)} characters", expected=f"1 to {REASON_MOST}"
        )
