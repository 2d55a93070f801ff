"""What a sink is given, and what it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from privacy_runtime.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One message for one endpoint.

    Attributes:
        message: its id, the same at every attempt.
        event: what it is about.
        body: JSON, the same bytes at every attempt.
        content: the same, read.
        address: of the endpoint.
        secrets: that sign, newest first.
        now: time of the attempt.
    """

    message: str
    event: str
    body: bytes = field(repr=False)
    content: Any = field(repr=False)
    address: Secret
    secrets: tuple[Secret, ...]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        is_delivered: whether the receiver has it.
        is_gone: whether the receiver wants nothing any more.
        status: of the answer, where there was one.
        reason: why not, as a word.
        asked_s: how long the receiver asked to wait.
    """

    is_delivered: bool = False
    is_gone: bool = False
    status: int | None = None
    reason: str | None = None
    asked_s: float | None = None


class Sink(Protocol):
    """One way out."""

    def send(self, parcel: Parcel) -> Outcome:
        """Try once, within the sink's own time limit."""
        ...
