"""Whether the client is still there, while a backend works for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Final, Self

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
LOOK_AFTER_S: Final = 0.05
"""A client that leaves is noticed from then on; most answers of small models are there before."""

_SPURIOUS_MOST: Final = 16


class ClientLeft(Exception):
    """The client has hung up; nobody reads an answer."""


class Presence:
    """A block that ends with `ClientLeft` when the client hangs up.

    Looking costs a task, so it begins only when the answer takes longer than a moment; who left
    before is noticed then.

    Args:
        receive: of the request, after its body was read.
    """

    __slots__ = ("_has_left", "_loop", "_receive", "_task", "_timer", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._watcher: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_left = False

    def __enter__(self) -> Self:
        """Begin to look, soon."""
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(LOOK_AFTER_S, self._begin)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._has_left and isinstance(error, asyncio.CancelledError) and self._task is not None:
            self._task.uncancel()
            raise ClientLeft from None

    def _begin(self) -> None:
        self._watcher = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        for _ in range(_SPURIOUS_MOST):
            if (await self._receive())["type"] == "http.disconnect":
                break
        else:
            return  # a server that does not wait here: asking on would stop everybody
        if self._task is not None and not self._task.done():
            self._has_left = True
            self._task.cancel()
