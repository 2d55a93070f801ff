"""Forwarding one request: to which backend, how often, and what comes back of it.

A request is given to another backend only while no byte of an answer is here; and once a backend
may have worked for nothing, all that is held is spent, whatever the next one says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from federated_dp_llm.errors import Overloaded
from federated_dp_llm.gateway import refusals
from federated_dp_llm.gateway.backends import Backends, Lease, Member, can_go_elsewhere, note_cut
from federated_dp_llm.gateway.completions import Asked, told
from federated_dp_llm.gateway.connection import Answer
from federated_dp_llm.gateway.events import Events, EventTooLarge
from federated_dp_llm.gateway.faults import (
    AnswerTooLarge,
    BackendFault,
    ConnectionLost,
    MalformedAnswer,
)
from federated_dp_llm.gateway.refusals import Refusal
from privacy_runtime.resilience import CircuitOpen

Headers = Sequence[tuple[bytes, bytes]]
_IDLE: Final = frozenset({429, 503, 529})
"""Statuses with which a backend says that it has not begun."""
_PASSED_ON: Final = frozenset({400, 404, 413, 422})
"""Refusals of a backend that are about the request, and so the client's to read."""
PLAIN: Final = frozenset({b"", b"identity"})
"""Encodings of an answer that can be read; others nobody has asked for."""
_END_S: Final = 1.0
_SSE: Final = b"text/event-stream"


class Reply(Protocol):
    """Where an answer goes. What a call returns is to be awaited; None: nothing to wait for."""

    def whole(
        self, status: int, body: bytes, request_id: str, headers: Headers = ()
    ) -> Awaitable[None] | None:
        """Send a JSON document, and that is all."""
        ...

    def begin(self, request_id: str) -> Awaitable[None] | None:
        """Send the header of a stream of events."""
        ...

    def piece(self, data: bytes) -> Awaitable[None] | None:
        """Send some of them; the wait is over when the client has read enough of what was sent."""
        ...

    def end(self, data: bytes) -> Awaitable[None] | None:
        """Send the last, and that is all."""
        ...


@dataclass(slots=True)
class Ended:
    """How a request ended, kept true at every step: whoever is interrupted knows what to charge.

    Attributes:
        ending: one of `figures.ENDINGS`.
        status: that the client saw; 0 if it saw none.
        tokens: that the last backend used; None: not known.
        is_unknown: an earlier one may have worked, and nobody knows how much.
        has_begun: a byte of an answer came: nobody else is asked.
        refusal: to be sent; None: an answer was sent.
        backend: that was asked last.
    """

    ending: str = "failed"
    status: int = 0
    tokens: int | None = 0
    is_unknown: bool = False
    has_begun: bool = False
    refusal: Refusal | None = None
    backend: str = ""

    @property
    def spent(self) -> int | None:
        """Tokens to charge; None: all that is held."""
        return None if self.is_unknown else self.tokens


First = tuple[Lease, Answer | BackendFault]
"""How the first backend that was asked has answered, and the place there, which is given back."""


def head_of(member: Member, path: str, asked: Asked, request_id: str) -> bytes:
    """The head of a request to a backend."""
    return b"%scontent-length: %d\r\nx-request-id: %s\r\n\r\n" % (
        member.heads[path],
        len(asked.body),
        request_id.encode(),
    )


class Relay:
    """Forwards requests.

    Args:
        backends: to whom.
        attempts: how many backends are asked at most for one request.
        wait_s: how long a request waits for a place at one.

    Attributes:
        retries: requests that were given to another backend.
    """

    def __init__(self, backends: Backends, *, attempts: int = 2, wait_s: float = 30.0) -> None:
        self.backends = backends
        self.retries = 0
        self._attempts, self._wait_s = attempts, wait_s

    async def forward(
        self,
        asked: Asked,
        path: str,
        request_id: str,
        ended: Ended,
        reply: Reply,
        *,
        first: First | None = None,
    ) -> None:
        """Ask backends, and send the answer on; or leave in `ended` what is to be said instead.

        `first`: how the first one that was asked has answered.
        """
        failure: Refusal | None = None
        but: Member | None = None
        asks = 0
        if first is not None:
            lease, outcome = first
            failure = await self._attempt(lease, asked, path, request_id, ended, reply, outcome)
            if failure is None:
                return
            asks, but = 1, lease.member
            self.retries += asks < self._attempts and not ended.has_begun
        while failure is None or (asks < self._attempts and not ended.has_begun):
            try:
                lease = await self.backends.take(asked.model, wait_s=self._wait_s, but=but)
            except Overloaded as full:
                if failure is None:
                    ended.ending = "overloaded"
                    ended.refusal = refusals.of(full, exhausted_retry_s=1.0)
                    return
                break
            with lease:
                try:
                    failure = await self._attempt(lease, asked, path, request_id, ended, reply)
                except CircuitOpen:
                    continue  # it is left in peace from now on: `take` passes it over
            if failure is None:
                return
            asks, but = asks + 1, lease.member
            self.retries += asks < self._attempts and not ended.has_begun
        ended.ending, ended.refusal = "backend_failed", failure

    async def _attempt(
        self,
        lease: Lease,
        asked: Asked,
        path: str,
        request_id: str,
        ended: Ended,
        reply: Reply,
        outcome: Answer | BackendFault | None = None,
    ) -> Refusal | None:
        """Ask one backend. None: the client has its answer; else what it may be told.

        `outcome`: it was asked already, and this came of it.

        Raises:
            CircuitOpen: the backend is left in peace; it was not asked.
        """
        member = lease.member
        before, ended.tokens = ended.tokens, None
        ended.backend = member.backend.name
        try:
            if isinstance(outcome, BackendFault):
                raise outcome
            answer = outcome or await self.backends.ask(
                member,
                head_of(member, path, asked, request_id),
                asked.body,
                is_stream=asked.is_stream,
            )
            try:
                return await self._passed_on(answer, lease, asked, request_id, ended, reply)
            finally:
                if not answer.is_whole:
                    answer.close()
        except CircuitOpen:
            ended.tokens = before
            raise
        except BackendFault as fault:
            member.failed += 1
            if not fault.is_sent:
                ended.tokens = 0
            ended.has_begun = ended.has_begun or fault.is_begun
            return refusals.of(fault, exhausted_retry_s=1.0)
        finally:
            ended.is_unknown = ended.is_unknown or ended.tokens is None

    async def _passed_on(
        self,
        answer: Answer,
        lease: Lease,
        asked: Asked,
        request_id: str,
        ended: Ended,
        reply: Reply,
    ) -> Refusal | None:
        """Send an answer on; or return what is to be said if nobody else can give a better one.

        Raises:
            BackendFault: it broke off before anything was sent on.
        """
        member, status = lease.member, answer.status
        if can_go_elsewhere(status):
            member.failed += 1
            ended.tokens = 0 if status in _IDLE else None
            return refusals.of_status(status, answer.header(b"retry-after"))
        lease.is_timed = status == 200
        member.answered += 1
        kind = answer.header(b"content-type").partition(b";")[0].strip().lower()
        if answer.header(b"content-encoding") not in PLAIN:
            raise MalformedAnswer(member.backend.name, detail="a content-encoding nobody asked for")
        if status == 200 and kind == _SSE and asked.is_stream:
            await self._streamed(answer, member, asked, request_id, ended, reply)
            return None
        body = answer.body() if answer.is_whole else await _whole(answer, member)
        if status in _PASSED_ON:
            ended.tokens = 0
            ended.ending = "refused"
        elif status == 200:
            ended.tokens = usage(body, member)
            ended.ending = "answered"
        else:
            ended.tokens = 0 if 400 <= status < 500 else None
            return refusals.of_status(status)
        ended.status = status
        waiting = reply.whole(status, body, request_id)
        if waiting is not None:
            await waiting
        return None

    async def _streamed(
        self,
        answer: Answer,
        member: Member,
        asked: Asked,
        request_id: str,
        ended: Ended,
        reply: Reply,
    ) -> None:
        """Pass a stream on as it comes. What breaks off ends with an error, never as if whole.

        Raises:
            BackendFault: it broke off before its first byte.
        """
        piece = await answer.piece()
        if not piece:
            raise ConnectionLost(member.backend.name, detail="an empty stream")
        events = Events(wants_usage=asked.wants_usage)
        ended.status, ended.ending = 200, "client_left"  # unless it ends in another way
        await _through(reply.begin(request_id))
        try:
            while piece:
                passed = events.feed(piece)
                ended.tokens = events.spent
                if passed:
                    await _through(reply.piece(passed))
                if events.is_done:
                    break
                piece = await answer.piece()
            if not events.is_done:
                raise ConnectionLost(member.backend.name, is_begun=True, detail="no [DONE]")
            ended.ending = "backend_failed" if events.has_failed else "answered"
            last = b""
        except (BackendFault, EventTooLarge) as error:
            fault = error
            if isinstance(fault, EventTooLarge):
                fault = AnswerTooLarge(member.backend.name, is_begun=True, detail="one event")
            member.failed += 1
            note_cut(member, fault)
            ended.ending = "cut"
            last = refusals.of(fault, exhausted_retry_s=1.0).event()
        await _through(reply.end(last))
        if events.is_done and not answer.is_whole:
            await _end(answer)


async def _through(waiting: Awaitable[None] | None) -> None:
    """Wait, if there is something to wait for."""
    if waiting is not None:
        await waiting


async def _end(answer: Answer) -> None:
    """Read what follows the last event, so that the connection can be used again."""
    try:
        async with asyncio.timeout(_END_S):
            while await answer.piece():
                pass
    except (BackendFault, TimeoutError):
        return


async def _whole(answer: Answer, member: Member) -> bytes:
    """Read the answer to a request for a stream that is none, as if it was not asked as one."""
    pieces, size = [], 0
    while piece := await answer.piece():
        pieces.append(piece)
        size += len(piece)
        if size > member.pool.limits.body_bytes:
            raise AnswerTooLarge(member.backend.name, is_begun=True, detail=f"{size} bytes")
    return b"".join(pieces)


def usage(body: bytes, member: Member) -> int | None:
    """The tokens that an answer says it used; None if it says nothing that can be.

    Raises:
        MalformedAnswer: it is no JSON object.
    """
    try:
        found = told(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise MalformedAnswer(member.backend.name, is_begun=True, detail="no JSON") from None
    return None if found.usage is None else found.usage.spent
