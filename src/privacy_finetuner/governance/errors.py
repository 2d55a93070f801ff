"""What governance refuses, as a tree.

GovernanceError
+-- UnknownRecord          there is no such record here; another organisation's does not exist
+-- RecordConflict         the record is not in a state in which this may happen
+-- VerificationRefused    a verification token is unknown, spent, expired or for another person
+-- UnknownLaw             no deadline is known for this request in this region; names the known

No message holds a data subject's id or a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from privacy_core.errors import PrivacyError


class GovernanceError(PrivacyError):
    """Governance refused. Nothing was written."""

    code: ClassVar[str] = "governance_error"


class UnknownRecord(GovernanceError, KeyError):
    """There is no such record in this organisation."""

    code: ClassVar[str] = "not_found"

    def __init__(self, kind: str, record: str) -> None:
        super().__init__(kind, record)
        self.kind = kind
        self.record = record

    def __str__(self) -> str:
        return f"there is no {self.kind} {self.record!r}; nothing was changed"


class RecordConflict(GovernanceError):
    """The record stands where this cannot happen."""

    code: ClassVar[str] = "conflict"

    def __init__(self, record: str, *, found: str, expected: str) -> None:
        super().__init__(record, found, expected)
        self.record = record
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.record} is {self.found}, expected {self.expected}; nothing was changed"


class VerificationRefused(GovernanceError):
    """A verification token does not count. Which part is wrong is not said."""

    code: ClassVar[str] = "verification_refused"

    def __init__(self) -> None:
        super().__init__(
            "the verification token is unknown, spent, expired, or was issued for another person "
            "or kind of request; no request was opened"
        )


class UnknownLaw(GovernanceError, ValueError):
    """No deadline is known for a kind of request in a region. There is no default.

    `known` are the regions in which one is known for this kind of request.
    """

    code: ClassVar[str] = "unknown_law"

    def __init__(self, *, request: str, region: str, known: Sequence[str]) -> None:
        super().__init__(request, region, tuple(known))
        self.request = request
        self.region = region
        self.known = tuple(known)

    def __str__(self) -> str:
        known = f"in {', '.join(self.known)}" if self.known else "nowhere"
        return (
            f"no deadline is known for {self.request!r} in {self.region!r}; one is known "
            f"{known}; no request was opened"
        )
