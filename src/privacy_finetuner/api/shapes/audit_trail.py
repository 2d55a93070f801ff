"""The audit trail as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import Field

from privacy_finetuner.api.shapes.bodies import Answer
from privacy_finetuner.operations.trail import Verified, body_of
from privacy_runtime.journal import Entry


class TrailEntry(Answer):
    """One entry of the chain: ids, counts and reasons; no name, address, password or key."""

    seq: int
    at: datetime
    type: str = Field(examples=["identity.login_refused"])
    body: dict[str, Any]
    prev_hash: str
    hash: str

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """An entry as it is stored."""
        return cls(
            seq=entry.seq,
            at=datetime.fromisoformat(entry.at),
            type=entry.type,
            body=body_of(entry),
            prev_hash=entry.prev_hash,
            hash=entry.hash,
        )


class TrailVerified(Answer):
    """What checking the chain found."""

    is_intact: bool
    entries: int = Field(description="Of the whole installation: the chain is one.")
    head: str = Field(examples=["9f2c"], description="Hash of the newest entry.")
    broken_at: int | None
    reason: str | None

    @classmethod
    def of(cls, found: Verified) -> Self:
        """A verdict."""
        return cls(
            is_intact=found.is_intact,
            entries=found.entries,
            head=found.head,
            broken_at=found.broken_at,
            reason=found.reason,
        )
