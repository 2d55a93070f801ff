"""The bytes of a download: how far it came, whether it is the right file. Nothing here waits."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from privacy_finetuner.client.errors import DownloadDamaged, UnexpectedAnswer
from privacy_finetuner.client.shapes.training import Artefact
from privacy_runtime.files import fsync_directory

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes that there are."""

_PIECE: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")


class Part:
    """A file on its way: `.NAME.SHA.part` beside where it will be.

    The first digits of the announced digest are in its name: what is left of an older file of the
    same name is never continued.

    Raises:
        UnexpectedAnswer: what was announced is no name or no digest; nothing was made.
    """

    def __init__(self, artefact: Artefact, target: Path) -> None:
        name = artefact.name.rpartition("/")[2]
        if name in {"", ".", ".."} or "\0" in name or not _DIGEST.fullmatch(artefact.sha256):
            raise UnexpectedAnswer(
                "the service announced a file under a name that leads elsewhere, or without its "
                "SHA-256; nothing was fetched"
            )
        self.artefact = artefact
        self.target = target / name if target.is_dir() else target
        digits = artefact.sha256[:16]
        self.path = self.target.with_name(f".{self.target.name}.{digits}.part")
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self.size_bytes = 0

    def open(self) -> None:
        """Go on where an earlier download stopped."""
        self._file = self.path.open("a+b")
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            self._digest.update(piece)
            self.size_bytes += len(piece)
        if self.size_bytes > self.artefact.size_bytes:
            self.restart()

    def restart(self) -> None:
        """Begin again: what is here does not count."""
        file = self._opened()
        file.truncate(0)
        file.seek(0)
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def append(self, piece: bytes) -> None:
        """Keep the next bytes.

        Raises:
            DownloadDamaged: there are more than were announced.
        """
        if self.size_bytes + len(piece) > self.artefact.size_bytes:
            self._refuse(f"more than {self.artefact.size_bytes} bytes")
        self._opened().write(piece)
        self._digest.update(piece)
        self.size_bytes += len(piece)

    def close(self) -> None:
        """Keep what is here for a later attempt."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def is_whole(self) -> bool:
        """Whether all bytes are here."""
        return self.size_bytes == self.artefact.size_bytes

    def finish(self) -> Path:
        """Put the file in its place, if it is the one that was announced.

        Raises:
            DownloadDamaged: it is not; it was removed.
        """
        if self._digest.hexdigest() != self.artefact.sha256.lower():
            self._refuse(f"sha256 {self._digest.hexdigest()}")
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        self.close()
        self.path.replace(self.target)
        fsync_directory(self.target.parent)
        return self.target

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("a part is opened before it is written")
        return self._file

    def _refuse(self, found: str) -> None:
        self.close()
        self.path.unlink(missing_ok=True)
        raise DownloadDamaged(
            self.artefact.name,
            found=found,
            expected=f"{self.artefact.size_bytes} bytes with sha256 {self.artefact.sha256}",
        )
