"""Answers that go on: Server-Sent Events with a heartbeat.

A stream ends when its events end, when the client leaves, when the server stops, or when the
principal who opened it is logged out or loses their rights. A client that comes back sends the
last id it saw in `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
from fastapi.sse import format_sse_event
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse

from privacy_core.errors import PrivacyError
from privacy_runtime.http.refusals import Fault, InvalidRequest, TooManyRequests

HEARTBEAT_S: Final = 15.0
RECHECK_S: Final = 30.0
STOP: Final = "privacy_runtime.stop"
"""Where a server keeps, in each scope, the event that says that it stops."""
_ID_MAX: Final = 2**53
_STREAMS_OF_ONE: Final = 50
_STREAMS: Final = 2000
_BUSY_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a stream: its data as JSON, its id and its name."""

    data: Any
    id: str | None = None
    name: str | None = None

    def encoded(self) -> bytes:
        """The event as it goes out."""
        data = orjson.dumps(self.data, option=orjson.OPT_UTC_Z).decode()
        return format_sse_event(data_str=data, event=self.name, id=self.id)


class Seats:
    """How many streams are open, in all and of each principal.

    Args:
        each: of one principal.
        most: of this process.
    """

    def __init__(self, *, each: int = _STREAMS_OF_ONE, most: int = _STREAMS) -> None:
        self._each, self._most = each, most
        self._taken: Counter[str] = Counter()
        self.open = 0

    def take(self, subject: str) -> None:
        """Take a seat.

        Raises:
            TooManyRequests: none is left. Nothing was opened.
        """
        if self.open >= self._most or self._taken[subject] >= self._each:
            raise TooManyRequests("streams", retry_after_s=_BUSY_S)
        self._taken[subject] += 1
        self.open += 1

    def leave(self, subject: str) -> None:
        """Give a seat back."""
        self.open -= 1
        self._taken[subject] -= 1
        if self._taken[subject] <= 0:
            del self._taken[subject]

    @contextlib.contextmanager
    def taken(self, subject: str) -> Iterator[None]:
        """A seat for as long as a block runs."""
        self.take(subject)
        try:
            yield
        finally:
            self.leave(subject)


class Keeper(Protocol):
    """Who lets streams in, and looks again whether they may stay. `Access` is one."""

    seats: Seats

    def subject_of(self, connection: HTTPConnection) -> str:
        """Whose stream it is."""
        ...

    async def again(self, connection: HTTPConnection) -> object:
        """Return if the client may still listen, else raise."""
        ...


def last_event_id(connection: HTTPConnection) -> int | None:
    """Where a client that comes back left off; `None` if it begins.

    Raises:
        InvalidRequest: the header is no number of ours.
    """
    text = connection.headers.get("last-event-id")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > _ID_MAX:
        raise InvalidRequest([Fault("header.last-event-id", "should be the id of an event")])
    return int(text)


def sse(
    connection: HTTPConnection,
    events: AsyncIterable[Event],
    access: Keeper,
    *,
    heartbeat_s: float = HEARTBEAT_S,
    recheck_s: float = RECHECK_S,
) -> StreamingResponse:
    """Answer with a stream of events.

    Args:
        connection: the request; a guard has let it in.
        events: closed when the stream ends, whatever ends it.
        access: asked again every `recheck_s` whether the client still may.
        heartbeat_s: after so long without an event a comment goes out, so that proxies keep the
            connection and a client that is gone is noticed.
        recheck_s: in seconds.

    Raises:
        TooManyRequests: the principal has too many streams open.
    """
    subject = access.subject_of(connection)
    access.seats.take(subject)

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in _chunks(connection, events, access, heartbeat_s, recheck_s):
                yield chunk
        finally:
            await _closed(events)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    response = _Seated(chunks(), headers=headers, media_type="text/event-stream")
    response.leave = lambda: access.seats.leave(subject)
    return response


class _Seated(StreamingResponse):
    """A stream that gives its seat back however it ends, also if it never began."""

    leave: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.leave()


async def _chunks(
    connection: HTTPConnection,
    events: AsyncIterable[Event],
    access: Keeper,
    heartbeat_s: float,
    recheck_s: float,
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    stop: asyncio.Event = connection.scope.get(STOP) or asyncio.Event()
    stopped = loop.create_task(stop.wait())
    source = aiter(events)
    coming: asyncio.Task[Event] = loop.create_task(_next(source))
    check_at = loop.time() + recheck_s
    yield format_sse_event(comment="open")
    try:
        while True:
            await asyncio.wait(
                {coming, stopped}, timeout=heartbeat_s, return_when=asyncio.FIRST_COMPLETED
            )
            if stopped.done():
                return
            if loop.time() >= check_at:
                check_at = loop.time() + recheck_s
                if not await _still(access, connection):
                    return
            if not coming.done():
                yield format_sse_event(comment="still here")
                continue
            try:
                event = coming.result()
            except StopAsyncIteration:
                return
            coming = loop.create_task(_next(source))
            yield event.encoded()
    finally:
        for task in (stopped, coming):
            task.cancel()
        await asyncio.gather(stopped, coming, return_exceptions=True)


async def _next(events: AsyncIterator[Event]) -> Event:
    return await anext(events)


async def _still(access: Keeper, connection: HTTPConnection) -> bool:
    try:
        await access.again(connection)
    except PrivacyError:
        return False
    return True


async def _closed(events: AsyncIterable[Any]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
