"""The audit trail: one hash-chained line for each request, written in groups beside the loop.

The lines are those of `privacy_runtime.append_log`: `read_log` verifies them. A line says who asked
which model, what it cost and how it ended; never what was asked or answered.

Guarantee: a line is on the disk at most `FLUSH_S` and one wait for the disk after its request
ended. A crash loses at most those; their debits are in the store of allowances all the same, under
the request's id, from before they were forwarded. While the disk refuses, nothing is answered.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final

import msgspec

from privacy_runtime.append_log import AppendLog, RunRecordLocked
from privacy_runtime.files import WriteFailed, reason_of, write_all

FLUSH_S: Final = 0.02
WAITING_MOST: Final = 50_000
_RETRY_S: Final = 1.0
_TYPE: Final = "gateway.request"
_NAMES_KEPT: Final = 4096


class Line(msgspec.Struct, kw_only=True):
    """What is noted of a request: ids and configured names, in which only printable ASCII stays.

    Attributes:
        request_id: of the gateway's own making.
        at: the instant of its end, RFC 3339.
        subject: who asked.
        model, backend: asked, and who answered last; empty where it did not come so far.
        status: that the client saw; 0 if it had left.
        held, spent: in the accounts' unit.
        ms: from the request to its end.
    """

    request_id: str
    at: str
    subject: str
    model: str
    backend: str
    status: int
    held: int
    spent: int
    ms: int


class AuditTrail:
    """A chain of lines in one file. For one event loop; one writer at a time.

    Attributes:
        count: lines so far, written or not.
        head: hash of the last one.
        is_failing: the disk refused lately: lines wait, and nothing new may begin.

    Args:
        path: the file; its directory exists. An intact one is continued.

    Raises:
        RunRecordDamaged, RunRecordLocked, WriteFailed: as `AppendLog`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with AppendLog(self.path) as log:  # verifies all of it, and cuts off a torn line
            self.count, self.head = len(log), log.head
            size = self.path.stat().st_size
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise RunRecordLocked(self.path) from None
        self._size = os.fstat(self._descriptor).st_size
        if self._size != size:  # somebody appended between the two locks
            os.close(self._descriptor)
            raise RunRecordLocked(self.path)
        self._lines: list[bytes] = []
        self._thread = ThreadPoolExecutor(1, "gateway-audit")
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self.is_failing = False

    @property
    def is_ready(self) -> bool:
        """Whether a request may begin: its line will find room and a disk."""
        return not self.is_failing and len(self._lines) < WAITING_MOST

    def add(self, line: Line) -> None:
        """Chain one line; it is written soon."""
        body = (
            f'"body":{{"at":"{line.at}","backend":"{_plain(line.backend)}","held":{line.held},'
            f'"model":"{_plain(line.model)}","ms":{line.ms},"request_id":"{line.request_id}",'
            f'"spent":{line.spent},"status":{line.status},"subject":"{_plain(line.subject)}"}}'
        )
        chain = f'"index":{self.count},"prev_hash":"{self.head}","type":"{_TYPE}"}}'
        digest = hashlib.sha256(f"{{{body},{chain}".encode()).hexdigest()
        self._lines.append(f'{{{body},"hash":"{digest}",{chain}\n'.encode())
        self.count += 1
        self.head = digest
        if self._timer is None and self._writing is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FLUSH_S, self._flush)

    async def aclose(self) -> None:
        """Write what waits, and close.

        Raises:
            WriteFailed: the disk refuses; how many lines are lost is in the message.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await asyncio.wait([self._writing])
        lines, self._lines = self._lines, []
        try:
            if lines:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._write, b"".join(lines))
        except OSError as error:
            state = f"{len(lines)} lines are lost"
            raise WriteFailed(self.path, reason=reason_of(error), state=state) from error
        finally:
            self._thread.shutdown(wait=False)
            os.close(self._descriptor)

    def _flush(self) -> None:
        self._timer = None
        lines, self._lines = self._lines, []
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._thread, self._write, b"".join(lines))
        self._writing.add_done_callback(lambda done: self._written(done, lines))

    def _written(self, done: asyncio.Future[None], lines: list[bytes]) -> None:
        self._writing = None
        self.is_failing = done.exception() is not None
        if self.is_failing:
            self._lines[:0] = lines
        if self._lines:
            wait_s = _RETRY_S if self.is_failing else FLUSH_S
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._flush)

    def _write(self, content: bytes) -> None:
        """Write and wait for the disk; after a failure the file ends where it did before."""
        try:
            write_all(self._descriptor, content)
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)


@lru_cache(maxsize=_NAMES_KEPT)
def _plain(text: str) -> str:
    """A text as it stands between quotes: printable ASCII without quotes and backslashes."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else "?" for c in text)
