"""A log that only grows: JSON lines, hash-chained, each on the disk before it counts.

FilesError
+-- RunRecordDamaged     a stored log is not one that this program wrote
+-- RunRecordLocked      another process, or another object in this one, appends to the log

Local POSIX file systems only: the guarantees rest on `fsync` and `flock`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from privacy_core.errors import InvalidParameter
from privacy_runtime.files import FilesError, WriteFailed, fsync_directory, reason_of, write_all

GENESIS_HASH: Final = "0" * 64
MAX_LINE_BYTES: Final = 2**20

_FIELDS: Final = {"index", "type", "body", "prev_hash", "hash"}


class RunRecordDamaged(FilesError):
    """A line of a log is not what was appended. Nothing was read past it."""

    code: ClassVar[str] = "run_record_damaged"

    def __init__(self, path: Path, *, line: int, reason: str) -> None:
        super().__init__(path, line, reason)
        self.path = path
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.reason}; the record was not used"


class RunRecordLocked(FilesError):
    """Somebody else holds the log open for appending. Nothing was written."""

    code: ClassVar[str] = "run_record_locked"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} is open for appending elsewhere; one writer at a time, nothing written"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One line of an `AppendLog`; `hash` covers the other fields, so also every line before."""

    index: int
    type: str
    body: Mapping[str, Any]
    prev_hash: str
    hash: str


class AppendLog:
    """A file of JSON lines that only grows, each line on the disk before `append` returns.

    Every line carries the hash of the line before it, so a change, a removal or a swap anywhere
    but at the end is noticed. A removal *at* the end is not visible in the file alone: whoever
    must notice it keeps `head` elsewhere.

    Opening takes an advisory lock, held until `close` or the end of the process, however it ends.

    ===========================================  ===========================================
    on opening, the file                         then
    ===========================================  ===========================================
    does not exist                               it is created, empty
    ends in a line without a newline             a crash tore it; it was never acknowledged:
                                                 cut off
    is otherwise not what `append` wrote         `RunRecordDamaged`; the file is not touched
    is locked                                    `RunRecordLocked`
    ===========================================  ===========================================

    Args:
        path: the file; its directory exists.

    Raises:
        RunRecordDamaged, RunRecordLocked: as in the table.
        WriteFailed: the file cannot be opened or repaired.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._mutex = threading.Lock()
        self._process_id = os.getpid()
        self._failed = False
        self._descriptor: int | None = _open_locked(self.path)
        try:
            entries, self._size_bytes = _parse(_read_all(self._descriptor), self.path)
            if os.fstat(self._descriptor).st_size > self._size_bytes:
                os.ftruncate(self._descriptor, self._size_bytes)
                os.fsync(self._descriptor)
        except OSError as error:
            self.close()
            raise WriteFailed(
                self.path, reason=reason_of(error), state="no entry was changed"
            ) from error
        except FilesError:
            self.close()
            raise
        self._count = len(entries)
        self._head = entries[-1].hash if entries else GENESIS_HASH

    @property
    def head(self) -> str:
        """The hash of the last entry; 64 zeros when there is none."""
        return self._head

    def __len__(self) -> int:
        """The number of entries."""
        return self._count

    def append(self, type: str, body: Mapping[str, Any]) -> LogEntry:
        """Add one entry; when this returns, it is on the disk.

        Args:
            type: what kind of entry, not empty.
            body: JSON data with finite numbers, at most 1 MiB as a line. Never private data.

        Raises:
            InvalidParameter: `type` is empty or `body` is not such data; nothing was appended.
            RunRecordLocked: this object was made before a fork, or is closed; nothing was appended.
            WriteFailed: the disk refused. The entry is not part of the log, and if the file could
                not be restored, this object refuses to append until the log is opened again.
        """
        with self._mutex:
            descriptor = self._usable_descriptor()
            entry = _make_entry(self._count, type, body, self._head)
            line = _encode(entry)
            try:
                write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError as error:
                raise self._undo(descriptor, error) from error
            self._size_bytes += len(line)
            self._count += 1
            self._head = entry.hash
            return entry

    def read(self) -> list[LogEntry]:
        """Return all entries, verified again from the disk.

        Raises:
            RunRecordDamaged: the file was changed since it was opened.
        """
        return read_log(self.path)

    def close(self) -> None:
        """Release the lock. Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        """Return the log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        self.close()

    def _usable_descriptor(self) -> int:
        if self._descriptor is None or self._process_id != os.getpid():
            # A forked child shares the lock with its parent, so the lock cannot keep them apart.
            raise RunRecordLocked(self.path)
        if self._failed:
            raise WriteFailed(
                self.path, reason="an earlier write failed", state="nothing was appended; reopen it"
            )
        return self._descriptor

    def _undo(self, descriptor: int, error: OSError) -> WriteFailed:
        """Cut off what a failed append left, and say what the file holds now."""
        state = f"nothing was appended, {self._count} entries are intact"
        try:
            os.ftruncate(descriptor, self._size_bytes)
            os.fsync(descriptor)
        except OSError:
            self._failed = True
            state = f"{self._count} entries are intact; a torn line may follow until it is reopened"
        return WriteFailed(self.path, reason=reason_of(error), state=state)


def read_log(path: Path | str) -> list[LogEntry]:
    """Return the entries of a log without taking its lock, each verified.

    One torn last line (no newline at its end) is left out: it was never acknowledged. A missing
    file raises `FileNotFoundError`.

    Raises:
        RunRecordDamaged: any other line is not what `append` wrote.
    """
    path = Path(path)
    entries, _ = _parse(path.read_bytes(), path)
    return entries


def _make_entry(index: int, type_: str, body: Mapping[str, Any], prev_hash: str) -> LogEntry:
    """Build an entry whose body is exactly what a reader will get back."""
    if not isinstance(type_, str) or not type_:
        raise InvalidParameter("type", found=type_, expected="a string that is not empty")
    try:
        stored = json.loads(_canonical(dict(body)))
    except (TypeError, ValueError) as error:
        raise InvalidParameter(
            "body",
            found=f"data that JSON cannot hold ({type(error).__name__})",
            expected="JSON data",
        ) from None
    unsigned = {"index": index, "type": type_, "body": stored, "prev_hash": prev_hash}
    return LogEntry(**unsigned, hash=_hash(unsigned))


def _encode(entry: LogEntry) -> bytes:
    """Return the line of an entry, newline included."""
    line = _canonical(
        {
            "index": entry.index,
            "type": entry.type,
            "body": entry.body,
            "prev_hash": entry.prev_hash,
            "hash": entry.hash,
        }
    )
    if len(line) >= MAX_LINE_BYTES:
        raise InvalidParameter("body", found=f"{len(line)} bytes", expected=f"< {MAX_LINE_BYTES}")
    return line + b"\n"


def _parse(content: bytes, path: Path) -> tuple[list[LogEntry], int]:
    """Return the verified entries and the length of the content they take."""
    *lines, torn = content.split(b"\n")
    entries: list[LogEntry] = []
    prev_hash = GENESIS_HASH
    for number, line in enumerate(lines, start=1):
        try:
            entry = _decode(line, index=number - 1, prev_hash=prev_hash)
        except ValueError as error:
            raise RunRecordDamaged(path, line=number, reason=str(error)) from None
        entries.append(entry)
        prev_hash = entry.hash
    return entries, len(content) - len(torn)


def _decode(line: bytes, *, index: int, prev_hash: str) -> LogEntry:
    """Read one line; a `ValueError` says what is wrong with it, without quoting it."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError(f"{len(line)} bytes that are not JSON") from None
    if not isinstance(document, dict) or set(document) != _FIELDS:
        raise ValueError(f"not an entry with the fields {', '.join(sorted(_FIELDS))}")
    if not isinstance(document["type"], str) or not isinstance(document["body"], dict):
        raise ValueError("its type is not a string or its body not an object")  # noqa: TRY004
    if document["index"] != index:
        raise ValueError(f"not entry number {index}")
    if document["prev_hash"] != prev_hash:
        raise ValueError("does not follow the line before it")
    stored_hash = document.pop("hash")
    if stored_hash != _hash(document):
        raise ValueError("its hash does not match its content")
    entry = LogEntry(**document, hash=stored_hash)
    if _encode(entry) != line + b"\n":
        raise ValueError("not in the form in which entries are written")
    return entry


def _hash(unsigned: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(unsigned)).hexdigest()


def _canonical(data: Mapping[str, Any]) -> bytes:
    """Return the one JSON form of `data`: ASCII, sorted keys, no blanks, no NaN or infinity."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _open_locked(path: Path) -> int:
    """Open for appending under an exclusive lock, creating the file durably."""
    try:
        created = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise WriteFailed(path, reason=reason_of(error), state="nothing was written") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if created:
            fsync_directory(path.parent)
    except BlockingIOError:
        os.close(descriptor)
        raise RunRecordLocked(path) from None
    except OSError as error:
        os.close(descriptor)
        raise WriteFailed(path, reason=reason_of(error), state="nothing was written") from error
    return descriptor


def _read_all(descriptor: int) -> bytes:
    """Read the file from its start, whatever the position."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
