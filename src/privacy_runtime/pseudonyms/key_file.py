"""The file that holds redaction keys: its owner's alone, changed whole, shared by processes.

Version 1 is JSON: `{"version", "current", "masters": {id: hex}, "salts": {tenant: hex or null}}`.
A null salt is a tenant that was destroyed. Changes are made under a lock (`PATH.lock`) on what the
file holds at that moment, and replace it atomically.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from privacy_runtime.files import (
    WriteFailed,
    fsync_directory,
    reason_of,
    write_all,
    write_atomic,
)
from privacy_runtime.pseudonyms.errors import KeyFileRefused

_VERSION: Final = 1
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeySet:
    """What a key file holds. Shows the ids only.

    Attributes:
        current: id of the master that seals.
        masters: masters by id.
        salts: salts by tenant, None for a destroyed one; None as a whole where tenants need none.
    """

    current: str
    masters: Mapping[str, bytes] = field(repr=False)
    salts: Mapping[str, bytes | None] | None = field(repr=False)

    def with_salts(self, salts: Mapping[str, bytes | None]) -> Self:
        """Return a set with other salts."""
        return replace(self, salts=salts)

    def with_masters(self, current: str, masters: Mapping[str, bytes]) -> Self:
        """Return a set with other masters."""
        return replace(self, current=current, masters=masters)

    def to_json(self) -> bytes:
        """Return the file's content."""
        document = {
            "version": _VERSION,
            "current": self.current,
            "masters": {kid: master.hex() for kid, master in self.masters.items()},
            "salts": {name: salt and salt.hex() for name, salt in (self.salts or {}).items()},
        }
        return json.dumps(document, indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a file's content; a `ValueError` says only that it is not one."""
        document: dict[str, Any] = json.loads(data)
        if document.keys() != {"version", "current", "masters", "salts"}:
            raise ValueError("fields")
        masters = {kid: bytes.fromhex(text) for kid, text in document["masters"].items()}
        salts = {
            name: None if text is None else bytes.fromhex(text)
            for name, text in document["salts"].items()
        }
        secrets = [*masters.values(), *(salt for salt in salts.values() if salt is not None)]
        if document["version"] != _VERSION or document["current"] not in masters:
            raise ValueError("version")
        if any(len(secret) != _KEY_BYTES for secret in secrets):
            raise ValueError("length")
        return cls(document["current"], masters, salts)


ChangeKeys: TypeAlias = Callable[[KeySet], KeySet]


class KeyFile:
    """One key file.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self._name = str(self.path)
        self._seen: tuple[int, int, int] | None = None

    def create(self, held: KeySet) -> None:
        """Make the file, mode 0600.

        Raises:
            KeyFileRefused: there is one; it was not touched.
            WriteFailed: the disk refused; no file was made.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o600)
            try:
                write_all(descriptor, held.to_json())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            fsync_directory(self.path.parent)
        except FileExistsError:
            raise KeyFileRefused(f"{self.path} exists; it was not touched") from None
        except OSError as error:
            raise WriteFailed(self.path, reason=reason_of(error), state="no key was made") from None
        self._seen = self._mark()

    def read(self) -> KeySet:
        """Read the file.

        Raises:
            KeyFileRefused: it is missing, others may read it, or it holds something else.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KeyFileRefused(
                f"{self.path}: {reason_of(error)}; no key was loaded. RedactionKeys.generate "
                "makes a key file"
            ) from None
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise KeyFileRefused(
                    f"{self.path} has mode {mode:04o}, expected 0600: readable by its owner alone; "
                    f"no key was loaded. After chmod 600, rotate: others may have read it"
                )
            data = file.read()
        self._seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        try:
            return KeySet.from_json(data)
        except (ValueError, TypeError, AttributeError):
            pass  # the error of the parser would quote the file
        raise KeyFileRefused(
            f"{self.path} is not a key file of version {_VERSION}; no key was loaded"
        )

    def read_if_changed(self, held: KeySet) -> KeySet:
        """Return `held`, or what the file holds if somebody replaced it.

        Raises:
            KeyFileRefused: the file is gone or damaged.
        """
        return held if self._mark() == self._seen else self.read()

    def change(self, change: ChangeKeys) -> KeySet:
        """Apply `change` to what the file holds now, and write the result.

        Raises:
            KeyFileRefused: the file is gone or damaged.
            WriteFailed: the disk refused; the file holds what it held.
        """
        with self._locked():
            held = self.read()
            changed = change(held)
            if changed is not held:
                write_atomic(self.path, changed.to_json())
                self._seen = self._mark()
        return changed

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WriteFailed(
                lock, reason=reason_of(error), state="the key file was not changed"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._name)  # asked at every use; pathlib is slower
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
