"""Files that survive a crash: replaced as a whole or not at all.

FilesError
+-- WriteFailed          the disk refused; says what the file holds now
+-- (append_log)         a log is damaged or locked

Local POSIX file systems only: the guarantees rest on `rename`, `fsync` and `flock`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final

from privacy_core.errors import PrivacyError

_temporary_numbers = itertools.count()
_BUFFER_BYTES: Final = 1 << 18
_WORDED: Final = re.compile(r"\(os error (\d+)\)")


class FilesError(PrivacyError):
    """A file could not be written or read as promised."""

    code: ClassVar[str] = "files_error"


class WriteFailed(FilesError):
    """The operating system refused a write. `state` says what the file holds now."""

    code: ClassVar[str] = "write_failed"

    def __init__(self, path: Path, *, reason: str, state: str) -> None:
        super().__init__(path, reason, state)
        self.path = path
        self.reason = reason
        self.state = state

    def __str__(self) -> str:
        return f"could not write {self.path}: {self.reason}; {self.state}"


def write_atomic(path: Path | str, data: bytes) -> None:
    """Replace the content of `path` by `data`, entirely or not at all.

    Guarantee: whenever a reader looks, also after a crash or a power cut, the file holds the old
    content or the new, never a mixture; when the call returns, the new content is on the disk.

    ================================  ================================================
    when                              then
    ================================  ================================================
    the disk is full, or any error    old content intact, the temporary file removed
    the process is killed             old content intact; a `.NAME.*.tmp` may remain
    `path` is a symbolic link         the file it points to is replaced
    `path` exists                     its permission bits are kept
    ================================  ================================================

    Args:
        path: the file; its directory exists.
        data: the new content.

    Raises:
        WriteFailed: the operating system refused; the message says what the file holds now.
    """
    with replacing(path) as (_, write):
        write(data)


@contextmanager
def replacing(path: Path | str) -> Iterator[tuple[Path, Callable[[bytes], None]]]:
    """Write a file piece by piece; it takes the place of `path` when the block ends without error.

    Guarantee: as `write_atomic`; an exception in the block leaves `path` as it was.

    Yields the temporary file, for libraries that open a path themselves, and a function that
    appends bytes to it. Use one of the two.

    Raises:
        WriteFailed: the operating system refused; the message says what the file holds now.
    """
    target = Path(os.path.realpath(path))
    state = "the old content is intact" if target.exists() else "no file was created"
    temporary: Path | None = None
    try:
        with _refusals(target, state):
            temporary, descriptor = _create_temporary(target)
        with os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES) as file:
            with _refusals(target, state):
                if target.exists():  # before the first byte: the old may be for few eyes only
                    os.fchmod(descriptor, target.stat().st_mode & 0o7777)

            def write(data: bytes) -> None:
                with _refusals(target, state):
                    file.write(data)

            try:
                yield temporary, write
                with _refusals(target, state):
                    file.flush()
                    os.fsync(descriptor)
            except BaseException:
                with suppress(OSError):  # what is buffered may not fit: it is not wanted any more
                    file.close()
                raise
        with _refusals(target, state):
            temporary.replace(target)
            temporary = None
        with _refusals(target, "the new content is in place, but may not survive a power cut"):
            fsync_directory(target.parent)
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def _refusals(target: Path, state: str) -> Iterator[None]:
    """Say of what the operating system refuses which file it is about, and what that holds now."""
    try:
        yield
    except OSError as error:
        raise WriteFailed(target, reason=reason_of(error), state=state) from error


def _create_temporary(target: Path) -> tuple[Path, int]:
    """Create a file beside `target`: on the same file system, so that it can be renamed."""
    while True:
        name = f".{target.name}.{os.getpid()}-{next(_temporary_numbers)}.tmp"
        temporary = target.with_name(name)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return temporary, os.open(temporary, flags, 0o666)
        except FileExistsError:  # left by a killed process that had our id
            continue


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; the system may take them in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def fsync_directory(directory: Path) -> None:
    """Make a creation or a rename in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason_of(error: OSError) -> str:
    """Say what the operating system refused, without the path."""
    return os.strerror(error.errno) if error.errno else type(error).__name__


def errno_of(error: BaseException) -> int | None:
    """The number of the system's error, also where a library written in Rust only words it.

    safetensors raises a type of its own and tokenizers a plain `Exception`, both with "(os error
    28)" in the text. `None`: the error is not the system's.
    """
    if isinstance(error, OSError):
        return error.errno
    found = _WORDED.search(str(error))
    return int(found[1]) if found else None
