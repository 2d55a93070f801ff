"""Proof that a data subject is who they say: a token that an officer issues after looking.

The service cannot see a passport. An officer checks the person by a stated means and issues a
token for that person; the request shows it. What is checked is the token: it was issued here, for
this organisation and this person, its time is not over, and no other request was opened with it.
How the person was checked is the officer's word, and is kept.

The token is shown once and kept as SHA-256 (256 random bits leave nothing to guess).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from privacy_core.errors import InvalidParameter
from privacy_finetuner.governance.errors import UnknownRecord, VerificationRefused
from privacy_finetuner.governance.records import Document, Records, Step, new_id
from privacy_finetuner.governance.subjects import Subjects
from privacy_runtime.journal import Journal
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, Entropy

STREAM: Final = "compliance"
DAYS_MOST: Final = 30
_SECRET_BYTES: Final = 32
_LONGEST: Final = 200


class Means(StrEnum):
    """How an officer made sure of a person."""

    IDENTITY_DOCUMENT = "identity_document"
    KNOWN_ACCOUNT = "known_account"  # they logged in to an account of ours
    KNOWN_CONTACT = "known_contact"  # they answered at an address that was on file
    IN_PERSON = "in_person"
    AUTHORISED_AGENT = "authorised_agent"  # with a signed permission (11 CCR 7063)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """A person was checked. `subject` is a pseudonym."""

    id: str
    subject: str
    means: Means
    issued_by: str
    created_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, held: Document) -> Self:
        """Read a record."""
        return cls(
            id=held["id"],
            subject=held["subject"],
            means=Means(held["means"]),
            issued_by=held["issued_by"],
            created_at=datetime.fromisoformat(held["created_at"]),
            expires_at=datetime.fromisoformat(held["expires_at"]),
        )


class Verifications:
    """Issues tokens and checks them.

    Args:
        journal: holds the stream.
        subjects: names persons.
        clock, entropy: the world.
    """

    def __init__(
        self, journal: Journal, subjects: Subjects, *, clock: Clock, entropy: Entropy
    ) -> None:
        self._records = Records(journal, STREAM, "verification")
        self._subjects, self._clock, self._entropy = subjects, clock, entropy

    def issue(
        self, tenant: str, *, subject: str, means: Means, by: str, days: int = 7
    ) -> tuple[Verification, Secret]:
        """Record that an officer checked a person; return the token, which is shown this once.

        Args:
            tenant: the organisation.
            subject: the person's id there; not kept.
            means: how they were checked.
            by: the officer.
            days: how long the token is good for, 1 to 30.

        Raises:
            InvalidParameter: the days or the id are out of their domain.
            JournalError: the database is away; no token was issued.
        """
        if not 1 <= days <= DAYS_MOST:
            raise InvalidParameter("days", found=days, expected=f"1 to {DAYS_MOST}")
        record, secret = new_id("ver", self._entropy), self._entropy.token_bytes(_SECRET_BYTES)
        token = f"{record}.{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"
        named = self._subjects.pseudonym(tenant, subject)

        def decide(_: Document | None, at: str) -> Step:
            expires = datetime.fromisoformat(at) + timedelta(days=days)
            document = {
                "id": record,
                "subject": named,
                "means": means.value,
                "issued_by": by,
                "created_at": at,
                "expires_at": expires.isoformat(),
                "token_sha256": _digest(token),
            }
            return Step(type="verification.issued", document=document, more={"by": by})

        held = self._records.write(tenant, record, decide, key=record)
        return Verification.of(held), Secret(token)

    def check(self, tenant: str, *, token: str, subject: str) -> Verification:
        """The verification that a token stands for. Whether it was spent is the request's to say.

        Raises:
            VerificationRefused: it is not this organisation's, not this person's, or too old.
        """
        record, dot, _ = token.partition(".")
        if not dot or len(token) > _LONGEST:
            raise VerificationRefused
        try:
            held = self._records.get(tenant, record)
        except UnknownRecord:
            raise VerificationRefused from None
        is_genuine = hmac.compare_digest(held["token_sha256"], _digest(token))
        found = Verification.of(held)
        is_theirs = found.subject in self._subjects.pseudonyms(tenant, subject)
        if not (is_genuine and is_theirs and self._clock.now() < found.expires_at):
            raise VerificationRefused
        return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
