"""Answers in pieces, as Server-Sent Events.

The first piece is waited for before anything goes out, so that a refusal has its status. After
that an error is an event, and the stream ends: a stream that was cut never looks complete. The
answer is made at its own pace, whatever the client's: a slow reader keeps no node waiting, and one
that leaves ends it; what was released by then is paid.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar

import orjson
from starlette.responses import Response, StreamingResponse

from privacy_runtime.http import ErrorTable, Problem
from privacy_runtime.http.streams import Seats

DONE: Final = b"data: [DONE]\n\n"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_END: Final = object()
T = TypeVar("T")


def event(data: Any, name: str = "") -> bytes:
    """One event, its data as JSON."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + orjson.dumps(data, option=orjson.OPT_UTC_Z) + b"\n\n"


async def streamed(
    source: AsyncIterator[T],
    *,
    write: Callable[[T], Iterable[bytes]],
    fail: Callable[[Problem], Iterable[bytes]],
    errors: ErrorTable,
    seats: Seats,
    subject: str,
) -> Response:
    """Answer with what comes from `source`.

    Args:
        source: an asynchronous generator; closed when the stream ends, whatever ends it.
        write: the events of one item.
        fail: the events of an error after the first item.
        errors: says what a client is told.
        seats: streams that may be open.
        subject: whose stream it is.

    Raises:
        Exception: what `source` raises before its first item; nothing has gone out.
        TooManyRequests: the subject has too many streams open.
    """
    seats.take(subject)
    taken: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(_drain(source, taken))
    try:
        first = await taken.get()
    except BaseException:
        await _ended(task)
        seats.leave(subject)
        raise
    if isinstance(first, Exception):
        seats.leave(subject)
        raise first

    async def chunks() -> AsyncIterator[bytes]:
        item = first
        while item is not _END:
            if isinstance(item, Exception):
                for chunk in fail(errors.answer(item)):
                    yield chunk
                return
            for chunk in write(item):
                yield chunk
            item = await taken.get()

    response = _Kept(chunks(), headers=_HEADERS, media_type="text/event-stream")
    response.task, response.leave = task, lambda: seats.leave(subject)
    return response


class _Kept(StreamingResponse):
    """A stream that ends what it streams, and gives its seat back, however it ends."""

    task: asyncio.Task[None]
    leave: Callable[[], None]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await _ended(self.task)
            self.leave()


async def _drain(source: AsyncIterator[Any], into: asyncio.Queue[Any]) -> None:
    """Read to the end; an error is the last thing that is put."""
    try:
        async with aclosing(source) as items:  # type: ignore[type-var]  # generators, all of them
            async for item in items:
                into.put_nowait(item)
    except Exception as error:  # noqa: BLE001  whoever reads the queue answers it by the table
        into.put_nowait(error)
    into.put_nowait(_END)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
