"""Bytes on their way to and from files: counted, summed up, and made ahead of their writing.

AES and `write` let go of the interpreter for large pieces, so both overlap: the time of the slower
counts, not the sum.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from privacy_runtime.blobs.manifests import SealedFile, Sums
from privacy_runtime.blobs.stores import BlobStore

_READ_BYTES: Final = 2**20
_AHEAD: Final = 8  # pieces that may wait: 8 MiB


def ahead(pieces: Iterable[bytes]) -> Generator[bytes, None, None]:
    """Yield pieces that a thread makes, a few ahead of whoever takes them.

    An error of the maker is raised here.
    """
    made: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def make() -> None:
        end: BaseException | None = None
        try:
            for piece in pieces:
                if stopped.is_set():
                    return
                made.put(piece)
        except BaseException as error:  # noqa: BLE001  handed to the taker
            end = error
        made.put(end)

    thread = threading.Thread(target=make, name="pieces", daemon=True)
    thread.start()
    has_ended = False
    try:
        while isinstance(piece := made.get(), bytes):
            yield piece
        has_ended = True
        if piece is not None:
            raise piece
    finally:
        stopped.set()
        while not has_ended and thread.is_alive():  # it may wait for room
            with suppress(queue.Empty):
                made.get(timeout=0.05)
        thread.join()


class FilePieces:
    """The pieces of a file; opened when they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        """Every piece, once."""
        with self._path.open("rb", buffering=0) as file:
            while piece := file.read(_READ_BYTES):
                yield piece


class Counted:
    """Hands pieces on, and knows how many bytes they had."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.size_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        """Every piece, once."""
        for piece in self._pieces:
            self.size_bytes += len(piece)
            yield piece


class Passed:
    """The sum and the number of bytes of what went by."""

    def __init__(self, sums: Sums) -> None:
        self.sums = sums
        self.size_bytes = 0

    def see(self, piece: bytes) -> None:
        """Take note of a piece."""
        self.sums.update(piece)
        self.size_bytes += len(piece)

    def pieces(self, made: Iterable[bytes]) -> Iterator[bytes]:
        """Every piece, once it was seen."""
        for piece in made:
            self.see(piece)
            yield piece

    def is_of(self, file: SealedFile) -> bool:
        """Whether sum and size are those that a manifest says."""
        return (self.sums.hexdigest(), self.size_bytes) == (file.sum, file.sealed_bytes)


class Reader:
    """Pieces of any length, read as a file is."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        if not self._held:
            self._held = next(self._pieces, b"")
        data, self._held = self._held[:size], self._held[size:]
        return data


def streamed(store: BlobStore, name: str) -> Generator[bytes, None, None]:
    """A blob that can be closed before its end."""
    yield from store.get(name)
