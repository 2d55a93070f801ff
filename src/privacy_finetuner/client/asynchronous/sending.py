"""A file on its way to the service, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

_PIECE: Final = 1 << 20


async def pieces(file: Path) -> AsyncIterator[bytes]:
    """The bytes of a file, a mebibyte at a time."""
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE):
            yield piece
