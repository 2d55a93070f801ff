"""One connection to a backend, and one answer on it: HTTP/1.1 as an `asyncio.Protocol`.

The parser is llhttp's (httptools). A connection carries one request at a time. Whatever it hears
that nobody asked for ends it: what follows could be taken for the answer to somebody else.

Source: RFC 9112, sections 6.3 (message body length), 9.3 (persistence).
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Final, Protocol, cast

import httptools

from federated_dp_llm.gateway.faults import (
    AnswerTooLarge,
    BackendFault,
    ConnectionLost,
    FirstByteTimeout,
    HeaderTimeout,
    IdleTimeout,
    MalformedAnswer,
    TotalTimeout,
)
from federated_dp_llm.gateway.ready import Ready

_HIGH_WATER: Final = 256 * 1024
"""So much of a stream is held while its reader is slow; then the backend is made to wait."""
_INTERIM_MOST: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a backend may take, in seconds; each has an error of its own.

    Attributes:
        connect_s: to take a connection, TLS included.
        wait_s: for a connection of a full pool to come free.
        header_s: from the request to the header of the answer. Servers that do not stream send the
            header when all is generated.
        first_byte_s: from the header to the first byte of the body.
        idle_s: between two pieces of the body; stands still while the reader is slow.
        total_s: for all of it.
    """

    connect_s: float = 3.0
    wait_s: float = 5.0
    header_s: float = 120.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a backend may send.

    Attributes:
        header_bytes: of one answer.
        body_bytes: of an answer that is read whole.
        stream_bytes: of an answer that is passed on in pieces.
    """

    header_bytes: int = 64 * 1024
    body_bytes: int = 16 * 1024 * 1024
    stream_bytes: int = 256 * 1024 * 1024


class Owner(Protocol):
    """What a connection tells whoever made it."""

    name: str
    timeouts: Timeouts
    limits: Limits

    def released(self, connection: Connection) -> None:
        """It may carry another request."""
        ...

    def lost(self, connection: Connection) -> None:
        """It is closed."""
        ...


class Answer:
    """The answer to one request, as it arrives. For one reader.

    Attributes:
        status: of the answer; 0 until the header came.
        headers: with names in lower case.
        is_whole: all of it came.
    """

    __slots__ = (
        "_connection", "_fault", "_held", "_pieces", "_ready", "_total_at", "_waiter", "deadline",
        "headers", "is_paused", "is_stream", "is_unframed", "is_whole", "late", "size", "status",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, *, is_stream: bool, ready: Ready, now: float
    ) -> None:
        timeouts = connection.owner.timeouts
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_whole = self.is_unframed = self.is_paused = False
        self.is_stream = is_stream
        self.size = self._held = 0
        self._pieces: list[bytes] = []
        self._connection: Connection | None = connection
        self._ready = ready
        self._waiter: asyncio.Future[None] | None = None
        self._fault: BackendFault | None = None
        self._total_at = now + timeouts.total_s
        self.late: type[BackendFault] = HeaderTimeout
        self.deadline = 0.0
        self.expect(HeaderTimeout, now + timeouts.header_s)

    def header(self, name: bytes) -> bytes:
        """The first header of this name (lower case); empty if there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    def body(self) -> bytes:
        """All that came and was not read yet."""
        pieces, self._pieces, self._held = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def piece(self) -> bytes:
        """What came since; waits for something to come. Empty at the end.

        Raises:
            BackendFault: it ended in another way; what came before that was returned first.
        """
        while not self._pieces:
            if self._fault is not None:
                raise self._fault
            if self.is_whole or self._connection is None:
                return b""
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        body = self.body()
        if self.is_paused and self._connection is not None:
            self.is_paused = False
            self._connection.go_on()
        return body

    def close(self) -> None:
        """Read no more; a backend that is still at it hears that by losing the connection."""
        if self._connection is not None:
            self._connection.abort()

    def expect(self, late: type[BackendFault], deadline: float) -> None:
        """The next thing must come by then, or `late` is what happened."""
        if deadline < self._total_at:
            self.late, self.deadline = late, deadline
        else:
            self.late, self.deadline = TotalTimeout, self._total_at

    def feed(self, piece: bytes) -> bool:
        """Take a piece; say whether its reader lags behind."""
        self._pieces.append(piece)
        self.size += len(piece)
        self._held += len(piece)
        self._wake()
        if self.is_stream and not self.is_paused and self._held > _HIGH_WATER:
            self.is_paused = True
            self.expect(TotalTimeout, math.inf)
            return True
        return False

    def begin(self) -> None:
        """The header is there."""
        if self.is_stream and not self._ready.done():
            self._ready.set_result(None)

    def end(self, fault: BackendFault | None = None) -> None:
        """Nothing more will come."""
        self._connection = None
        self._fault, self.is_whole = fault, fault is None
        if not self._ready.done():
            if fault is None:
                self._ready.set_result(None)
            else:
                self._ready.set_exception(fault)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """A connection to one backend; made by a pool, which owns it."""

    __slots__ = (
        "_answer", "_head_bytes", "_interim", "_is_done", "_is_framed", "_is_kept", "_is_spoilt",
        "_parser", "_transport", "idle_since", "loop", "owner",
    )  # fmt: skip

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self.owner, self.loop = owner, loop
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._answer: Answer | None = None
        self._head_bytes = self._interim = 0
        self._is_done = self._is_framed = self._is_spoilt = self._is_kept = False

    @property
    def answer(self) -> Answer | None:
        """What is under way."""
        return self._answer

    @property
    def is_open(self) -> bool:
        """Whether a request can be written, as far as is known."""
        return self._transport is not None and not self._transport.is_closing()

    def fileno(self) -> int:
        """The socket's number; -1 when it is closed."""
        if self._transport is None:
            return -1
        socket = self._transport.get_extra_info("socket")
        return -1 if socket is None else int(socket.fileno())

    def ask(self, head: bytes, body: bytes, *, is_stream: bool) -> asyncio.Future[None]:
        """Send a request. The result comes with the header of a stream, else with the last byte.

        The caller has checked `is_open`, and finds the answer in `answer`.
        """
        ready: asyncio.Future[None] = self.loop.create_future()
        self.ask_then(head, body, ready, is_stream=is_stream)
        return ready

    def ask_then(
        self, head: bytes, body: bytes, ready: Ready, *, is_stream: bool = False
    ) -> Answer:
        """`ask`, and tell somebody else; the answer, as far as it has come."""
        transport = cast("asyncio.Transport", self._transport)
        answer = self._answer = Answer(self, is_stream=is_stream, ready=ready, now=self.loop.time())
        self._head_bytes = self._interim = 0
        self._is_done = self._is_framed = False
        transport.write(head + body if len(body) < 65536 else head)
        if len(body) >= 65536:
            transport.write(body)
        return answer

    def go_on(self) -> None:
        """Read again, after the reader of a stream lagged behind."""
        if self._transport is not None and self._answer is not None:
            self._answer.expect(IdleTimeout, self.loop.time() + self.owner.timeouts.idle_s)
            self._transport.resume_reading()

    def abort(self, fault: BackendFault | None = None) -> None:
        """Close at once; an answer that is under way ends with the fault."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end(fault or self._fault(ConnectionLost, answer, "closed here"))
        if self._transport is not None:
            self._transport.abort()

    def expire(self, now: float) -> None:
        """End what is late."""
        answer = self._answer
        if answer is not None and now >= answer.deadline:
            self.abort(self._fault(answer.late, answer))

    # what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse; whatever nobody asked for ends the connection."""
        answer, parser = self._answer, self._parser
        if answer is None or parser is None:
            self.abort()
            return
        if not answer.status:
            self._head_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._answer is answer:
                self.abort(self._fault(MalformedAnswer, answer, type(error).__name__))
            return
        if self._answer is not answer:
            return  # a callback has ended it
        if not answer.status and self._head_bytes > self.owner.limits.header_bytes:
            self.abort(self._fault(AnswerTooLarge, answer, "header"))
        elif self._is_done:
            self._finish(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        answer, self._answer = self._answer, None
        if answer is not None:
            if exc is None and answer.is_unframed:
                answer.end()
            else:
                answer.end(self._fault(ConnectionLost, answer))
        self._transport = self._parser = None  # the parser holds this object: let both go
        self.owner.lost(self)

    # what the parser says

    def on_message_begin(self) -> None:
        """An answer begins: the first one, or one too many."""
        if self._is_done:
            self._is_spoilt = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        answer = self._answer
        if answer is None or self._is_done:
            return
        name = name.lower()
        if name in {b"content-length", b"transfer-encoding"}:
            self._is_framed = True
        answer.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The header is whole, unless it is one of those that only announce another."""
        answer, parser = self._answer, self._parser
        if answer is None or parser is None or self._is_done:
            return
        status = parser.get_status_code()
        if status < 200:
            self._interim += 1
            answer.headers.clear()
            self._is_framed = False
            if self._interim > _INTERIM_MOST or status == 101:
                self.abort(self._fault(MalformedAnswer, answer, f"status {status}"))
            return
        answer.status = status
        answer.is_unframed = not self._is_framed and status not in {204, 304}
        answer.expect(FirstByteTimeout, self.loop.time() + self.owner.timeouts.first_byte_s)
        answer.begin()

    def on_body(self, body: bytes) -> None:
        """Hand a piece on."""
        answer = self._answer
        if answer is None or self._is_done:
            return
        answer.expect(IdleTimeout, self.loop.time() + self.owner.timeouts.idle_s)
        limits = self.owner.limits
        most = limits.stream_bytes if answer.is_stream else limits.body_bytes
        if answer.size + len(body) > most:
            self.abort(self._fault(AnswerTooLarge, answer, f"more than {most} bytes"))
        elif answer.feed(body) and self._transport is not None:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole, unless it only announced another."""
        if self._answer is not None and self._answer.status and self._parser is not None:
            self._is_done = True
            self._is_kept = self._parser.should_keep_alive()  # the parser forgets it after this

    def _finish(self, answer: Answer) -> None:
        """Let the answer go, and the connection be used again, if nothing speaks against it."""
        transport = cast("asyncio.Transport", self._transport)
        self._answer = None
        is_clean = (
            not self._is_spoilt
            and self._is_kept
            and not transport.get_write_buffer_size()  # it answered before it had read all
        )
        if answer.is_paused:
            transport.resume_reading()
        if is_clean:
            self.owner.released(self)
        else:
            transport.abort()
        answer.end()  # last: whoever is told may ask again

    def _fault(self, kind: type[BackendFault], answer: Answer, detail: str = "") -> BackendFault:
        return kind(self.owner.name, is_begun=bool(answer.size), detail=detail)
