"""Passwords that are known to have leaked, from a file of the operator's.

=================================  =================================================================
a line                             the file
=================================  =================================================================
`5BAA61E4C9B93F3F...:10434004`     SHA-1 in hexadecimal, a count or not; ordered by hash, any size:
                                   it stays on the disk, and a look reads some forty lines
`correct horse battery`            a password; at most 64 MiB, kept as digests in memory
=================================  =================================================================

SHA-1 is what such lists are published with. Nothing is asked outside, and nothing here
keeps a password of a user.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path
from typing import BinaryIO, Final

from privacy_core.errors import InvalidParameter

PLAIN_MOST: Final = 64 * 1024 * 1024
_LINE_MOST: Final = 4096
_HASH: Final = re.compile(rb"([0-9A-Fa-f]{40})(:[0-9]+)?\r?\n?")
_PROBES: Final = 256


class LeakedPasswords:
    """A list of leaked passwords.

    Guarantee: a password of the list is found, as it stands there or in small letters, composed or
    not (NFC).

    Args:
        path: the file; it is opened again at each look where it is too large for memory.

    Raises:
        InvalidParameter: the file cannot be read, is empty, is no such list, or is not in order.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._held: frozenset[bytes] | None = None
        try:
            with self._path.open("rb") as file:
                first = file.readline(_LINE_MOST)
                if _HASH.fullmatch(first):
                    _require_order(file, self._path)
                else:
                    self._held = _plain(file, self._path)
        except OSError as error:
            raise _refused(self._path, f"a file that cannot be read ({error.strerror})") from None

    def has(self, password: str) -> bool:
        """Whether the list has this password.

        Raises:
            InvalidParameter: the file is gone; nothing is known then, and nothing must be accepted.
        """
        composed = unicodedata.normalize("NFC", password)
        digests = {_digest(text) for text in (password, composed, composed.casefold())}
        if self._held is not None:
            return not digests.isdisjoint(self._held)
        try:
            with self._path.open("rb") as file:
                return any(_is_in(file, digest.hex().upper().encode()) for digest in digests)
        except OSError as error:
            raise _refused(self._path, f"a file that cannot be read ({error.strerror})") from None


def _digest(text: str) -> bytes:
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()


def _plain(file: BinaryIO, path: Path) -> frozenset[bytes]:
    size = os.fstat(file.fileno()).st_size
    if not 0 < size <= PLAIN_MOST:
        raise _refused(path, f"{size} bytes of passwords", f"1 to {PLAIN_MOST}, or ordered SHA-1")
    file.seek(0)
    held = set()
    for raw in file:
        text = raw.rstrip(b"\r\n").decode("utf-8", "replace")
        if text:
            held |= {_digest(text), _digest(unicodedata.normalize("NFC", text).casefold())}
    return frozenset(held)


def _require_order(file: BinaryIO, path: Path) -> None:
    """Look at some lines of a list of hashes: each greater than the one before."""
    size = os.fstat(file.fileno()).st_size
    before = b""
    for position in (*(size * probe // _PROBES for probe in range(_PROBES)), _last_line(file)):
        found = _line_at(file, position)
        if not found:
            break
        if not _HASH.fullmatch(found):
            raise _refused(path, "a line that is no hash", "SHA-1 in hexadecimal on every line")
        if found[:40].upper() < before:
            raise _refused(path, "hashes out of order", "a file that is ordered by hash")
        before = found[:40].upper()


def _line_at(file: BinaryIO, position: int) -> bytes:
    """The first whole line from a position on; empty at the end."""
    file.seek(max(0, position - 1))
    if position:
        file.readline(_LINE_MOST)
    return file.readline(_LINE_MOST)


def _last_line(file: BinaryIO) -> int:
    """Where the last line begins."""
    size = os.fstat(file.fileno()).st_size
    start = max(0, size - _LINE_MOST)
    file.seek(start)
    return start + file.read().rstrip(b"\r\n").rfind(b"\n") + 1


def _is_in(file: BinaryIO, digest: bytes) -> bool:
    """Whether an ordered file has a line of this hash: bisection over positions."""
    low, high = 0, os.fstat(file.fileno()).st_size
    while low < high:
        middle = (low + high) // 2
        line = _line_at(file, middle)
        if line and line[:40].upper() < digest:
            low = middle + 1
        else:
            high = middle
    return _line_at(file, low)[:40].upper() == digest


def _refused(path: Path, found: str, expected: str = "a list of leaked passwords") -> Exception:
    return InvalidParameter(f"the leaked passwords of {path}", found=found, expected=expected)
