"""Requests of late: the same id is answered once, and its answer is told again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock

T = TypeVar("T")

_MOST: Final = 10_000
_KEPT_S: Final = 3600.0


@dataclass(slots=True)
class _Entry(Generic[T]):
    asked: object
    at_s: float
    answer: asyncio.Future[T]


class Recent(Generic[T]):
    """Answers by request, of this process, for an hour and at most `most` of them."""

    def __init__(self, clock: Clock, *, most: int = _MOST) -> None:
        self._clock, self._most = clock, most
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()

    def claim(self, key: Hashable, asked: object) -> Claim[T]:
        """Begin to answer, or find out that it was begun before.

        Raises:
            InvalidParameter: the key was used for something else.
        """
        now_s = self._clock.monotonic_s()
        while self._entries:
            oldest = next(iter(self._entries))
            entry = self._entries[oldest]
            full = len(self._entries) > self._most
            if not entry.answer.done() or (now_s - entry.at_s < _KEPT_S and not full):
                break
            del self._entries[oldest]
        found = self._entries.get(key)
        if found is not None:
            if found.asked != asked:
                raise InvalidParameter(
                    "request_id",
                    found="one that was used for another request",
                    expected="a new one",
                )
            return Claim(self, key, found, mine=False)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        entry = self._entries[key] = _Entry(asked, now_s, future)
        return Claim(self, key, entry, mine=True)

    def forget(self, key: Hashable) -> None:
        """Whoever asks next begins anew."""
        self._entries.pop(key, None)


class Claim(Generic[T]):
    """One asker's hold on a request. A context: whoever leaves it without an answer failed."""

    def __init__(self, recent: Recent[T], key: Hashable, entry: _Entry[T], *, mine: bool) -> None:
        self._recent, self._key, self._entry, self._mine = recent, key, entry, mine

    async def earlier(self) -> T | None:
        """The answer of whoever asked before, once it is there; None: nobody did."""
        return None if self._mine else await asyncio.shield(self._entry.answer)

    def answered(self, answer: T) -> None:
        """Tell everybody who asks for the same."""
        if not self._entry.answer.done():
            self._entry.answer.set_result(answer)

    def __enter__(self) -> Claim[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._mine or self._entry.answer.done():
            return
        self._recent.forget(self._key)
        if isinstance(error, Exception):
            self._entry.answer.set_exception(error)
            self._entry.answer.exception()  # it is told to those who wait; nobody has to
        else:
            self._entry.answer.cancel()
