"""A pool of connections to one backend: HTTP/1.1 on `asyncio.Protocol`, and nothing in between.

General HTTP clients cost more than everything else that a gateway does in Python together; this
one writes a prepared head and a body, and hands the answer on.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from federated_dp_llm.gateway.connection import Answer, Connection, Limits, Timeouts
from federated_dp_llm.gateway.faults import (
    BackendFault,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    PoolExhausted,
)
from federated_dp_llm.gateway.ready import Then
from privacy_core.errors import InvalidParameter

KEEP_ALIVE_S: Final = 4.0
"""An idle connection is kept so long: uvicorn, and so vLLM, ends it after 5 s."""
_LOOK_AFTER_S: Final = 0.5
_RECENT: Final = 0.05  # weight of the latest wait in the mean
_CLOSED: Final = select.POLLIN | select.POLLHUP | select.POLLERR


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a backend is.

    Attributes:
        host, port: to connect to.
        authority: as the `host` header says it.
        path: before every path, without a slash at its end.
        is_tls: whether the connection is encrypted.
    """

    host: str
    port: int
    authority: str
    path: str
    is_tls: bool

    @classmethod
    def of(cls, url: str) -> Origin:
        """Read `http://host:port/path` or `https://...`.

        Raises:
            InvalidParameter: it is something else, or holds a password, query or fragment.
        """
        parts = urlsplit(url)
        is_plain = not (parts.username or parts.password or parts.query or parts.fragment)
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            port = 0
        printable = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme not in {"http", "https"} or not (
            parts.hostname and port and is_plain and printable
        ):
            raise InvalidParameter(
                "url", found="another form", expected="http(s)://host[:port][/path], no password"
            )
        path = parts.path.rstrip("/")
        return cls(parts.hostname, port, parts.netloc, path, parts.scheme == "https")


class Pool:
    """Connections to one backend, for one event loop.

    Guarantee: a request is written at most once. A kept connection that is found closed before
    anything was written is replaced by a new one; after that, whether to ask again is the
    caller's decision (`BackendFault.is_sent`, `is_begun`). A connection is used again only if the
    last answer on it was whole, its request was read whole, and nothing else was heard since.
    Whoever is cancelled while waiting for an answer ends the connection, and so tells the backend.

    Args:
        name: of the backend, for errors.
        url: where it is; see `Origin.of`.
        min_size: so many connections are opened ahead, once `enable_connection_preallocation` ran.
        max_size: never more at once; further requests wait for `timeouts.wait_s`.
        timeouts, limits: how long, how much.
        tls: for `https`; None: the system's certificates.

    Raises:
        InvalidParameter: the URL, or sizes that are not 0 <= min <= max, 1 <= max.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        min_size: int = 0,
        max_size: int = 128,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.origin = Origin.of(url)
        self.timeouts, self.limits = timeouts or Timeouts(), limits or Limits()
        self._tls = (tls or ssl.create_default_context()) if self.origin.is_tls else None
        self._all: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting = 0
        self._wait_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._last: asyncio.Future[None] | None = None
        self._is_ahead = self._is_closed = False
        self.resize(min_size, max_size)
        times = self.timeouts
        shortest = min(times.header_s, times.first_byte_s, times.idle_s, times.total_s)
        self._tick_s = min(0.25, max(0.005, shortest / 8))

    def head(self, path: str, headers: Sequence[tuple[str, str]] = ()) -> bytes:
        """The fixed beginning of requests to a path: all but their own headers and the blank line.

        Raises:
            InvalidParameter: a name or value that is no header.
        """
        fixed = [("host", self.origin.authority), ("accept-encoding", "identity"), *headers]
        for name, value in fixed:
            if not (name + value).isascii() or not (name + value).isprintable() or ":" in name:
                raise InvalidParameter("headers", found="control characters", expected="headers")
        lines = [f"POST {self.origin.path}{path} HTTP/1.1", *(f"{k}: {v}" for k, v in fixed)]
        return ("\r\n".join(lines) + "\r\n").encode()

    async def ask(self, head: bytes, body: bytes, *, is_stream: bool = False) -> Answer:
        """Send a request; return with the header of a stream, else with the whole answer.

        Args:
            head: up to the blank line, `content-length` included.
            body: of the request.
            is_stream: return at the header; the rest is read in pieces, and held back while the
                reader is slow.

        Raises:
            BackendFault: there is no answer; which and why is in its type.
        """
        connection = self._fresh() or await self._connection()
        ready = connection.ask(head, body, is_stream=is_stream)
        answer = connection.answer
        if answer is None:  # it closed inside the write
            raise ConnectionLost(self.name)
        if self._timer is None:
            self._sweep()
        try:
            await ready
        except asyncio.CancelledError:
            answer.close()
            raise
        return answer

    def ask_then(
        self, head: bytes, body: bytes, done: Callable[[BackendFault | None], None]
    ) -> Answer | None:
        """Send a request on a connection that stands open; `done` is called when it is answered.

        As `ask` for an answer that is read whole, without waiting for anything.

        Args:
            head: up to the blank line, `content-length` included.
            body: of the request.
            done: called with None when all of the answer is there, or with the fault.

        Returns:
            The answer as it comes; None: no connection stands open, and nothing was sent.
        """
        connection = self._fresh()
        if connection is None:
            return None
        answer = connection.ask_then(head, body, Then(done))
        if self._timer is None:
            self._sweep()
        return answer

    def get_statistics(self) -> dict[str, float]:
        """How the pool is used.

        `size`, `active`, `idle`, `connecting`, `waiting` count; `utilization` is the share of
        `current_max` in use; `wait_time` is the recent mean of the seconds that a request waited
        for its connection; `current_min` and `current_max` are the bounds.
        """
        active = len(self._all) - len(self._idle)
        return {
            "size": len(self._all),
            "active": active,
            "idle": len(self._idle),
            "connecting": self._connecting,
            "waiting": len(self._waiting),
            "utilization": (active + self._connecting) / self._max,
            "wait_time": self._wait_s,
            "current_min": self._min,
            "current_max": self._max,
        }

    def resize(self, min_size: int, max_size: int) -> None:
        """Change the bounds; connections beyond them are closed as they come free.

        Raises:
            InvalidParameter: not 0 <= min <= max, 1 <= max.
        """
        if not 0 <= min_size <= max_size or max_size < 1:
            raise InvalidParameter(
                "size", found=(min_size, max_size), expected="0 <= min <= max, and 1 <= max"
            )
        self._min, self._max = min_size, max_size
        while self._idle and len(self._all) > self._max:
            self._idle.popleft().abort()
        while self._waiting and len(self._all) + self._connecting < self._max:
            if not self._invite():
                break
        self._fill()

    def enable_connection_preallocation(self) -> None:
        """From now on keep `min_size` connections open ahead of requests."""
        self._is_ahead = True
        self._fill()

    async def aclose(self) -> None:
        """Close every connection; answers under way end with `ConnectionLost`."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(PoolExhausted(self.name, is_sent=False, detail="closing"))
        for connection in list(self._all):
            connection.abort()
        if self._all:  # aborted transports say so in the next round of the loop
            self._last = asyncio.get_running_loop().create_future()
            await self._last

    # what connections say

    def released(self, connection: Connection) -> None:
        """A connection may be used again."""
        if self._is_closed or len(self._all) > self._max:
            connection.abort()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        connection.idle_since = connection.loop.time()
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is closed: forget it, and let somebody who waits open another."""
        self._all.discard(connection)
        if self._last is not None and not self._all and not self._last.done():
            self._last.set_result(None)
        with suppress(ValueError):
            self._idle.remove(connection)
        if self._waiting and len(self._all) + self._connecting < self._max:
            self._invite()

    # getting a connection

    def _fresh(self) -> Connection | None:
        """The idle connection that was used last, if there is one that still stands."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                idle_s = connection.loop.time() - connection.idle_since
                if idle_s < _LOOK_AFTER_S or not _has_news(connection):
                    self._wait_s -= _RECENT * self._wait_s
                    return connection
            connection.abort()
        return None

    async def _connection(self) -> Connection:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(self.timeouts.wait_s):
                while self._is_closed or len(self._all) + self._connecting >= self._max:
                    if self._is_closed:
                        raise PoolExhausted(self.name, is_sent=False, detail="closed")
                    handed = await self._turn(loop)
                    if handed is not None:
                        break
                else:
                    handed = None
        except TimeoutError:
            raise PoolExhausted(self.name, is_sent=False, detail=f"{self._max} in use") from None
        connection = handed or await self._open()
        self._wait_s += _RECENT * (loop.time() - begun - self._wait_s)
        return connection

    async def _turn(self, loop: asyncio.AbstractEventLoop) -> Connection | None:
        """Wait for a connection, or for room to open one (None)."""
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiting.append(waiter)
        try:
            handed = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(waiter.result())
            raise
        return handed if handed is None or handed.is_open else None

    def _pass_on(self, handed: Connection | None) -> None:
        """Who was handed this has gone: it is the next one's."""
        if handed is not None and handed.is_open:
            self.released(handed)
        else:
            self._invite()

    def _invite(self) -> bool:
        """Tell the next in line that there is room to open a connection."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return True
        return False

    async def _open(self) -> Connection:
        loop, origin = asyncio.get_running_loop(), self.origin
        self._connecting += 1
        try:
            async with asyncio.timeout(self.timeouts.connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, loop),
                    origin.host,
                    origin.port,
                    ssl=self._tls,
                    server_hostname=origin.host if self._tls else None,
                )
        except TimeoutError:
            raise ConnectTimeout(self.name, is_sent=False) from None
        except (OSError, ssl.SSLError) as error:
            raise ConnectFailed(self.name, is_sent=False, detail=type(error).__name__) from error
        finally:
            self._connecting -= 1
            if self._waiting and len(self._all) + self._connecting < self._max:
                self._invite()
        self._all.add(connection)
        return connection

    def _fill(self) -> None:
        """Open what is missing to `min_size`, if that is wanted."""
        missing = self._min - len(self._all) - self._connecting
        if not self._is_ahead or self._is_closed or missing < 1 or self._tasks:
            return
        task = asyncio.get_running_loop().create_task(self._open_some(missing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_some(self, count: int) -> None:
        for _ in range(count):
            try:
                connection = await self._open()
            except BackendFault:
                return  # the next sweep tries again
            self.released(connection)

    # time

    def _sweep(self) -> None:
        """End what is late and what was idle for too long: one timer for all connections."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._all):
            connection.expire(now)
        while self._idle and now - self._idle[0].idle_since > KEEP_ALIVE_S:
            self._idle.popleft().abort()
        self._fill()
        is_needed = (self._all or self._is_ahead) and not self._is_closed
        self._timer = loop.call_later(self._tick_s, self._sweep) if is_needed else None


def _has_news(connection: Connection) -> bool:
    """Whether an idle connection has something to read: its end, or what nobody asked for."""
    number = connection.fileno()
    if number < 0:
        return True
    poll = select.poll()
    poll.register(number, _CLOSED)
    return bool(poll.poll(0))
