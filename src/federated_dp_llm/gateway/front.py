"""The short way in: HTTP/1.1 as an `asyncio.Protocol`, for completions that can begin at once.

A request takes it when nothing about it is unusual: a plain head, a body of a told length, a
credential that was verified moments ago, a model that is served. Every other request is handed,
every byte of it, to the general server (uvicorn with the runtime's limits) and its application,
which answer it as if this did not exist; afterwards the connection comes back. So there is one
place that is strict about HTTP, one that refuses, and this, which does neither.

One request at a time: what a client sends ahead waits, unread, for the end of the answer before.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, cast

from federated_dp_llm.gateway import refusals
from federated_dp_llm.gateway.exchange import Exchange
from federated_dp_llm.gateway.heads import BEGINNING, END, LENGTH, Head, read_head
from federated_dp_llm.gateway.lobby import Lobby
from federated_dp_llm.gateway.passage import Passage
from federated_dp_llm.gateway.presence import ClientLeft
from federated_dp_llm.gateway.refusals import Refusal
from federated_dp_llm.gateway.relay import Headers

UNKNOWN_BODY_MOST: Final = 64 * 1024
"""So much of a body is held for somebody whose credential was not verified yet."""
_log: Final = logging.getLogger(__name__)
_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_WHOLE: Final = (
    b"%scontent-type: application/json\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
    b"x-request-id: %s\r\n%s%s\r\n%s"
)
_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-store\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n"
    b"x-request-id: %s\r\n%s\r\n"
)
_RETURN: Final = 13
_CLOSE: Final = b"connection: close\r\n"


class Front(asyncio.Protocol):
    """One connection of a client. As a block it watches whether the client is still there.

    Guarantees: an answer goes to the request that it is for, and in their order; an answer is
    written in one piece unless it is a stream; a stream that breaks off inside does not end.

    ===========================================  ===========================================
    a client that                                is
    ===========================================  ===========================================
    does not end a head in `headers_s`           answered 408, closed
    does not end a body in `body_s`              closed
    is silent for `keep_alive_s`                 closed
    reads nothing of an answer for so long       closed
    hangs up, also with one direction only       gone: the backend's work ends
    ===========================================  ===========================================

    Args:
        lobby: what connections share.
    """

    __slots__ = (
        "_around", "_body_at", "_buffer", "_drained", "_exchange", "_general", "_has_begun",
        "_head", "_is_held", "_is_kept", "_is_stopping", "_last", "_last_head", "_lobby",
        "_passage", "_rest", "_searched", "_task", "_transport", "_unsent", "_watched", "deadline",
        "has_left",
    )  # fmt: skip

    def __init__(self, lobby: Lobby) -> None:
        self._lobby = lobby
        self.deadline = math.inf
        self._transport = cast("asyncio.Transport", None)
        self._general: Any = None
        self._buffer: bytearray | None = None  # a request that is not whole yet
        self._searched = self._body_at = 0
        self._head: Head | None = None  # of that request
        self._last = b""  # the last head that was read: many clients repeat theirs
        self._last_head: Head | None = None
        self._around: tuple[bytes, bytes] | None = None  # its length
        self._exchange: Exchange | None = None  # what is being answered
        self._passage: Passage | None = None  # of it, while it goes straight through
        self._task: asyncio.Task[None] | None = None
        self._watched: asyncio.Task[None] | None = None
        self._rest = b""  # what a client sent ahead
        self._is_kept = True
        self._is_held = self.has_left = self._has_begun = self._is_stopping = False
        self._drained: asyncio.Future[None] | None = None
        self._unsent = 0

    # what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self._transport = cast("asyncio.Transport", transport)
        self._lobby.enter(self)
        options = self._lobby.options
        if len(self._lobby.state.connections) > options.connections_most:
            self._hand_over(b"")  # which says that there are too many
        else:
            self.deadline = self._lobby.loop.time() + options.headers_s

    def data_received(self, data: bytes) -> None:
        """Answer a request that is whole; keep what is not."""
        if self._exchange is not None:
            self._rest += data
            if not self._is_held:
                self._is_held = True
                self._transport.pause_reading()
        elif self._buffer is not None:
            self._buffer += data
            self._more()
        else:
            self._look(data)

    def eof_received(self) -> None:
        """The client says no more, and that is how one leaves."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and whoever works for it may stop."""
        self._lobby.leave(self)
        self._buffer = None
        if self._general is not None:
            self._general.connection_lost(exc)
            self._general = None
        self.resume_writing()
        if self._watched is not None:
            self.has_left = True
            self._watched.cancel()
        elif self._exchange is not None:
            self.has_left = True
            if self._passage is not None:
                self._passage.leave()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        self._drained = self._lobby.loop.create_future()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # what the server says

    def shutdown(self) -> None:
        """Take no more requests; end after the one that is being answered."""
        self._is_kept, self._is_stopping = False, True
        if self._exchange is None:
            self._transport.close()
        elif self._task is not None:
            self._lobby.wait_for(self._task)
        elif self._passage is not None:
            self._lobby.wait_for(self._lobby.loop.create_task(self._ended(self._passage)))

    def come_back(self) -> None:
        """The general server has answered what it was given: the next request begins here."""
        self._lobby.state.connections.discard(self._general)
        self._lobby.enter(self)
        self._transport.set_protocol(self)
        self.deadline = self._lobby.loop.time() + self._lobby.options.keep_alive_s

    def late(self, now: float) -> None:
        """What was to come by now did not."""
        transport, unsent = self._transport, self._transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:  # it still reads the last answer
            self._unsent = unsent
            self.deadline = now + self._lobby.options.keep_alive_s
            return
        if unsent or transport.is_closing():
            transport.abort()
        elif self._buffer is not None and self._head is None:
            self._refuse(refusals.TOO_SLOW)
        else:
            transport.close()

    # requests

    def _look(self, data: bytes) -> None:
        """The beginning of a request, and mostly all of it."""
        if not _may_begin(data):
            self._hand_over(data)
            return
        end = data.find(END) + 4
        if 3 < end <= self._lobby.options.headers_bytes:
            head = self._read(data[:end])
            if head is None:
                self._hand_over(data)
                return
            if len(data) == end + head.length:
                self._begin(head, data, end)
                return
        self._buffer, self._searched, self._head = bytearray(data), 0, None
        self.deadline = self._lobby.loop.time() + self._lobby.options.headers_s
        self._more()

    def _more(self) -> None:
        """More of a request that is not whole yet, or is now."""
        buffer, options = cast("bytearray", self._buffer), self._lobby.options
        if self._head is None:
            at = buffer.find(END, max(0, self._searched - 3))
            self._searched = len(buffer)
            if at < 0:
                if len(buffer) > options.headers_bytes:
                    self._refuse(refusals.HEAD_TOO_LARGE)
                elif not _may_begin(buffer):
                    self._hand_over(bytes(buffer))
                return
            self._body_at = at + 4
            if self._body_at > options.headers_bytes:
                self._refuse(refusals.HEAD_TOO_LARGE)
                return
            self._head = self._read(bytes(buffer[: self._body_at]))
            if self._head is None or not self._is_worth_waiting(self._head):
                self._hand_over(bytes(buffer))
                return
            self.deadline = self._lobby.loop.time() + options.body_s
        end = self._body_at + self._head.length
        if len(buffer) >= end:
            self._buffer, self._rest = None, bytes(buffer[end:])
            self._begin(self._head, bytes(buffer[:end]), self._body_at)

    def _read(self, head: bytes) -> Head | None:
        """Read a head, unless it is the same as the last."""
        if head != self._last:
            found = LENGTH.search(head)
            around = (head[: found.start(1)], head[found.end(1) :]) if found else None
            last = self._last_head
            if last is not None and found is not None and around == self._around:
                length = int(found[1])  # of the same head as the last, but for this number
                self._last_head = Head(last.path, length, last.credentials, last.is_kept)
            else:
                most = self._lobby.options.headers_most
                self._last_head, self._around = read_head(head, headers_most=most), around
            self._last = head
        return self._last_head

    def _is_worth_waiting(self, head: Head) -> bool:
        """Whether a body is held here until it is whole: a large one only of whom is known."""
        gateway = self._lobby.gateway
        if head.length <= UNKNOWN_BODY_MOST:
            return True
        is_known = gateway.principal_known(head.credentials) is not None
        return is_known and head.length <= gateway.policy.body_bytes

    def _begin(self, head: Head, data: bytes, body_at: int) -> None:
        """Answer a whole request, or let the general server do it."""
        gateway = self._lobby.gateway
        is_short = head.length <= gateway.policy.body_bytes
        body = data[body_at:]
        exchange = gateway.at_once(head.path, head.credentials, body) if is_short else None
        if exchange is None:
            rest, self._rest = self._rest, b""
            self._hand_over(data + rest)
            return
        self.deadline = math.inf
        self._is_kept, self._has_begun = head.is_kept, False
        self._exchange = exchange
        if exchange.asked is None or exchange.asked.is_stream:
            self.go_on(exchange, gateway.counter.answer(exchange, self))
            return
        self._passage = Passage(gateway.counter, exchange, self)
        self._passage.begin()

    def go_on(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        """Answer as a task: `passage.Client`."""
        task = self._lobby.loop.create_task(self._answer(exchange, work))
        if self._exchange is exchange:
            self._passage, self._task = None, task
        if self._is_stopping:
            self._lobby.wait_for(task)

    async def _ended(self, passage: Passage) -> None:
        try:
            await passage.whole()
        except asyncio.CancelledError:
            self._transport.abort()  # as a client that leaves
            raise

    async def _answer(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001  as every server: it is logged, and the client is told
            _log.exception("a request failed here")
            if self._exchange is exchange and not self._has_begun:
                self._is_kept = False
                self.whole(refusals.FAILED.status, refusals.FAILED.body(), exchange.request_id)
        finally:
            if self._exchange is exchange:  # it has no answer, or half of one
                self._transport.abort()

    def _hand_over(self, data: bytes) -> None:
        """Let the general server answer, until it has."""
        self._buffer = self._head = None
        self.deadline = math.inf
        self._lobby.leave(self)
        general, transport = self._general, self._transport
        if general is None:
            general = self._general = self._lobby.general(self)
            transport.set_protocol(general)
            general.connection_made(transport)
        else:
            self._lobby.state.connections.add(general)
            transport.set_protocol(general)
        if data:
            general.data_received(data)

    def _refuse(self, refusal: Refusal) -> None:
        """Say why, and close: what follows cannot be told from what came."""
        self._buffer = None
        self._is_kept = False
        self.whole(refusal.status, refusal.body(), "")

    # answers: `relay.Reply`

    def whole(self, status: int, body: bytes, request_id: str, headers: Headers = ()) -> None:
        """Send a JSON document, in one piece."""
        if not self._transport.is_closing():
            more = b"".join(b"%s: %s\r\n" % one for one in headers) if headers else b""
            own = self._lobby.headers() if self._is_kept else self._lobby.headers() + _CLOSE
            self._transport.write(
                _WHOLE % (_LINES[status], len(body), request_id.encode(), more, own, body)
            )
        self._done()

    def begin(self, request_id: str) -> None:
        """Send the header of a stream of events."""
        self._has_begun = True
        if not self._transport.is_closing():
            own = self._lobby.headers() if self._is_kept else self._lobby.headers() + _CLOSE
            self._transport.write(_STREAM % (request_id.encode(), own))

    def piece(self, data: bytes) -> asyncio.Future[None] | None:
        """Send some of them; wait for a client that reads slowly."""
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return self._drained

    def end(self, data: bytes) -> None:
        """Send the last."""
        if not self._transport.is_closing():
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
            self._transport.write(last)
        self._done()

    def _done(self) -> None:
        """The answer is whole: the next request."""
        lobby, transport = self._lobby, self._transport
        self._exchange = self._passage = self._task = self._watched = None
        self._unsent = 0
        lobby.state.total_requests += 1
        self.deadline = lobby.loop.time() + lobby.options.keep_alive_s
        if not self._is_kept:
            transport.close()
            return
        if transport.is_closing():
            return
        if self._is_held:
            self._is_held = False
            transport.resume_reading()
        if self._rest:
            rest, self._rest = self._rest, b""
            self._look(rest)

    def __enter__(self) -> None:
        """From now on a client that leaves ends the work for it."""
        if self.has_left:
            raise ClientLeft
        self._watched = self._task

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say that it left, where that is what happened."""
        if error is None:
            return
        watched, self._watched = self._watched, None
        if self.has_left and watched is not None and isinstance(error, asyncio.CancelledError):
            watched.uncancel()
            raise ClientLeft from None


def _may_begin(data: bytes | bytearray) -> bool:
    """Whether this can be the beginning of a request that is answered here."""
    line = data.find(b"\n")
    return data.startswith(BEGINNING[: len(data)]) and (line < 0 or data[line - 1] == _RETURN)
