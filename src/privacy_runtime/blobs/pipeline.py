"""Bytes on their way to a file: encrypted here, digested and written by threads beside.

SHA-256 and `write` let go of the interpreter for large pieces, so the three overlap: the time of
the slowest counts, not the sum.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import Final

_AHEAD: Final = 8  # pieces that may wait: 8 MiB


class Digested:
    """Hands pieces on, and knows the SHA-256 and the number of bytes of what went by.

    The digest is computed in a thread; `finish` waits for it.
    """

    __slots__ = ("_pieces", "_queue", "_sums", "_thread", "size_bytes")

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._sums = hashlib.sha256()
        self._thread = threading.Thread(target=self._digest, name="digest", daemon=True)
        self.size_bytes = 0

    def __iter__(self) -> Generator[bytes, None, None]:
        """Every piece, once."""
        self._thread.start()
        try:
            for piece in self._pieces:
                self.size_bytes += len(piece)
                self._queue.put(piece)
                yield piece
        finally:
            self._queue.put(None)
            self._thread.join()

    def finish(self) -> str:
        """The digest of all pieces, in hexadecimal; only after the iteration ended."""
        return self._sums.hexdigest()

    def _digest(self) -> None:
        while (piece := self._queue.get()) is not None:
            self._sums.update(piece)


class Ahead:
    """Makes pieces in a thread, a few ahead of whoever takes them."""

    __slots__ = ("_pieces",)

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        """Every piece, once; an error of the maker is raised here."""
        made: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        stopped = threading.Event()

        def make() -> None:
            end: BaseException | None = None
            try:
                for piece in self._pieces:
                    if stopped.is_set():
                        return
                    made.put(piece)
            except BaseException as error:  # noqa: BLE001  handed to the taker
                end = error
            made.put(end)

        thread = threading.Thread(target=make, name="pieces", daemon=True)
        thread.start()
        try:
            while True:
                piece = made.get()
                if piece is None:
                    return
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            stopped.set()
            while thread.is_alive():
                try:
                    made.get(timeout=0.05)
                except queue.Empty:
                    continue
            thread.join()
