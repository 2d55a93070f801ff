"""Answers by idempotency key: what was told once is told again, also after a restart.

An answer is kept in the same transaction as its entry in the audit trail, before it is shown, and
sealed: whoever reads the database learns neither question nor answer. So a key has one answer, paid
once, for a day; a key whose answer was never written down has none, and its request is not made
again (the nodes refuse it).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from federated_dp_llm.core.query import Answer
from privacy_runtime.http.refusals import KeyReused
from privacy_runtime.identity.sealing import Seal
from privacy_runtime.journal import Change, Journal

KEPT: Final = timedelta(days=1)
_PREFIX: Final = "told/"
_PURPOSE: Final = "answer that was told"
_AT_ONCE: Final = 500


class _Kept(msgspec.Struct, frozen=True):
    """What is sealed: a digest of the request, and its answer as it came from the nodes."""

    asked: bytes
    answer: Answer


@dataclass(frozen=True, slots=True)
class Slip:
    """Where one request's answer is kept.

    Attributes:
        request_id: of the user and the key.
        asked: a digest of everything that was asked.
    """

    request_id: str
    asked: bytes

    @classmethod
    def of(cls, request_id: str, request: BaseModel, *others: str) -> Slip:
        """Of a request; whether it is streamed is no part of the question."""
        text = request.model_dump_json(exclude={"stream"})
        return cls(request_id, hashlib.sha256("\0".join((text, *others)).encode()).digest())


class ToldAnswers:
    """Sealed answers in a stream of the journal.

    Args:
        journal: where they are.
        stream: beside whose entries.
        seal: seals them.
    """

    def __init__(self, journal: Journal, *, stream: str, seal: Seal) -> None:
        self._journal, self._stream, self._seal = journal, stream, seal

    def earlier(self, slip: Slip, *, now: datetime) -> Answer | None:
        """What was told under this key; None: nothing.

        Raises:
            KeyReused: it was told to another request; nothing was spent.
            SealBroken: it was changed, or its key is gone.
        """
        for day in (now, now - KEPT):
            name = _name(slip.request_id, day)
            found = self._journal.document(self._stream, name)
            if found is None or datetime.fromisoformat(found["until"]) <= now:
                continue
            sealed = base64.b64decode(found["sealed"])
            opened = self._seal.open(sealed, purpose=_PURPOSE, owner=slip.request_id)
            kept = msgspec.msgpack.decode(opened, type=_Kept)
            if kept.asked != slip.asked:
                raise KeyReused("this key belongs to another request; nothing was spent")
            return kept.answer
        return None

    def document(self, slip: Slip, answer: Answer, *, now: datetime) -> tuple[str, dict[str, Any]]:
        """Name and content of the document that keeps an answer."""
        plain = msgspec.msgpack.encode(_Kept(slip.asked, answer))
        sealed = self._seal.seal(plain, purpose=_PURPOSE, owner=slip.request_id)
        content = {
            "until": (now + KEPT).isoformat(),
            "sealed": base64.b64encode(sealed).decode(),
        }
        return _name(slip.request_id, now), content

    def forget(self, *, now: datetime) -> int:
        """Remove what is older than a day; returns how many."""

        def is_over(named: tuple[str, Mapping[str, Any]]) -> bool:
            return datetime.fromisoformat(named[1]["until"]) <= now

        # By name: the oldest day comes first. What stands behind a younger one of its day is over
        # and not told any more; it goes on the next day.
        kept = self._journal.documents(self._stream, _PREFIX)
        over = [name for name, _ in takewhile(is_over, kept)][:_AT_ONCE]
        if over:
            gone = Change((), dict.fromkeys(over))
            self._journal.transact(self._stream, lambda _: gone, names=over)
        return len(over)


def _name(request_id: str, day: datetime) -> str:
    return f"{_PREFIX}{day.date().isoformat()}/{request_id}"
