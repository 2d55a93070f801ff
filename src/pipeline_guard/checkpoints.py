"""Checkpoints: whether what lies on the disk is what was written.

A checkpoint is a folder. It is compared with the digests that were written with it:

=====================  ==========================================================================
a folder with          is
=====================  ==========================================================================
`state.json`           ours: its key `digests` has the SHA-256 of every other file; its own is in
                       the run's record, `run.jsonl`
`SHA256SUMS`           as `sha256sum` writes it
neither                without digests: only the headers of its `.safetensors` files are looked at
=====================  ==========================================================================

A header says where each tensor lies; a file that was cut off or grew does not fit it. It does not
say whether a tensor was changed: a folder without digests is never called *verified*.

Source of the header: the safetensors format, version 0.4 (8 bytes of length, JSON, tensors).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_STATE: Final = "state.json"
_SUMS: Final = "SHA256SUMS"
_RECORD: Final = "run.jsonl"
_SUM: Final = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_STEP: Final = re.compile(r"(.*?)(\d+)")
_HEADER_BYTES_MOST: Final = 100_000_000
_MANIFEST_BYTES_MOST: Final = 64 << 20
_CHUNK_BYTES: Final = 1 << 20

KeepGoing = Callable[[], bool]
"""Asked between pieces of a file: whether there is time left."""


class OutOfTime(Exception):
    """A verification was stopped before its end; nothing is known."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found in a checkpoint.

    Attributes:
        is_sound: nothing is wrong with it.
        has_digests: every byte was compared; without, only lengths and headers were.
        faults: one line each; empty where it is sound.
        files: so many were looked at.
        size_bytes: of them together.
    """

    is_sound: bool
    has_digests: bool
    faults: tuple[str, ...] = ()
    files: int = 0
    size_bytes: int = 0

    @property
    def is_verified(self) -> bool:
        """Every byte is what was written."""
        return self.is_sound and self.has_digests


def verify(folder: Path, *, may_go_on: KeepGoing = lambda: True) -> Verification:
    """Compare a checkpoint with what was written. Reads every file that has a digest, once.

    Guarantee: if any bit of a file with a digest differs, the result is not sound.

    Raises:
        OutOfTime: `may_go_on` said no.
        OSError: a file or the folder cannot be read; that says nothing about its content.
    """
    try:
        digests = digests_of(folder)
    except ValueError as error:
        return Verification(is_sound=False, has_digests=True, faults=(str(error),))
    faults: list[str] = []
    recorded = recorded_digest(folder)
    if recorded is not None and _digest(folder / _STATE, may_go_on) != recorded:
        faults.append(f"{_STATE} is not what the run's record says")
    size = 0
    names = sorted(digests) if digests is not None else []
    for name in names:
        path = folder / name
        if not path.is_file():
            faults.append(f"{name} is missing")
            continue
        size += path.stat().st_size
        if _digest(path, may_go_on) != (digests or {})[name]:
            faults.append(f"{name} differs from its digest")
    headed = sorted(folder.glob("*.safetensors"))
    for path in headed:
        wrong = fault_of_header(path)
        if wrong is not None:
            faults.append(f"{path.name} {wrong}")
        size += 0 if path.name in names else path.stat().st_size
    if not names and not headed:
        faults.append("there is neither a file with a digest nor a .safetensors file")
    files = len({*names, *(path.name for path in headed)})
    return Verification(not faults, digests is not None, tuple(faults), files, size)


def digests_of(folder: Path) -> dict[str, str] | None:
    """The SHA-256 of each file, as written with the checkpoint; `None` where none were.

    Raises:
        ValueError: the list of digests is damaged, or names a file outside the folder.
        OSError: it cannot be read.
    """
    if (folder / _STATE).is_file():
        found = _from_state(_text(folder / _STATE))
    elif (folder / _SUMS).is_file():
        found = _from_sums(_text(folder / _SUMS))
    else:
        return None
    for name in found:
        if name.startswith("/") or ".." in Path(name).parts or not name:
            raise ValueError("the list of digests names a file outside the folder")
    return found


def recorded_digest(folder: Path) -> str | None:
    """The SHA-256 of `state.json` that a run's record beside the checkpoint has; `None`: none.

    The list of digests has no digest of itself, so the record vouches for it.
    """
    record = folder.parent / _RECORD
    if not (folder / _STATE).is_file() or not record.is_file():
        return None
    found = None
    for line in record.read_text(errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            body = json.loads(line)["body"]
            if body.get("checkpoint") == folder.name and body.get("digest"):
                found = str(body["digest"])
    return found


def fault_of_header(path: Path) -> str | None:
    """What is wrong with the header of a `.safetensors` file; `None`: its tensors fill it exactly.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            return f"is {size} bytes long, too short for a header"
        (length,) = struct.unpack("<Q", start)
        if length > min(size - 8, _HEADER_BYTES_MOST):
            return f"names a header of {length} bytes, it is {size} bytes long: it was cut off"
        text = file.read(length)
    try:
        header = json.loads(text)
        ends = sorted(
            (int(entry["data_offsets"][0]), int(entry["data_offsets"][1]))
            for name, entry in header.items()
            if name != "__metadata__"
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return "has a header that cannot be read"
    at = 0
    for begin, end in ends:
        if begin != at or end < begin:
            return "has tensors that overlap or leave a gap"
        at = end
    if 8 + length + at != size:
        return f"is {size} bytes long, its header names {8 + length + at}: it was cut off or grew"
    return None


def found_in(run: Path, pattern: str = "checkpoint-*") -> list[Path]:
    """The checkpoints of a run's folder, newest last: by the number their name ends with."""
    numbered = []
    for path in run.glob(pattern):
        match = _STEP.fullmatch(path.name)
        if match is not None and path.is_dir() and not path.is_symlink():
            numbered.append((int(match[2]), path))
    return [path for _, path in sorted(numbered)]


def step_of(checkpoint: Path) -> int:
    """The number that a checkpoint's name ends with."""
    match = _STEP.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint.name} ends with no number")
    return int(match[2])


def stamp_of(folder: Path) -> tuple[tuple[str, int, int, int], ...]:
    """What changes when a file of the folder is written, replaced, added or removed.

    A flipped bit on the disk changes none of it: look again after a while.
    """
    with os.scandir(folder) as entries:
        stats = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    return tuple(sorted((name, s.st_size, s.st_mtime_ns, s.st_ino) for name, s in stats))


def _digest(path: Path, may_go_on: KeepGoing) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
            if not may_go_on():
                raise OutOfTime
    return digest.hexdigest()


def _text(path: Path) -> str:
    if path.stat().st_size > _MANIFEST_BYTES_MOST:
        raise ValueError(f"{path.name} is too large to be a list of digests")
    return path.read_text(errors="replace")


def _from_state(text: str) -> dict[str, str]:
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{_STATE} is not JSON") from error
    digests = document.get("digests") if isinstance(document, Mapping) else None
    if not isinstance(digests, dict) or not digests:
        raise ValueError(f"{_STATE} has no digests")
    if not all(isinstance(value, str) for value in digests.values()):
        raise ValueError(f"{_STATE} has digests that are no texts")
    return digests


def _from_sums(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        match = _SUM.fullmatch(line)
        if match is None:
            raise ValueError(f"{_SUMS} has a line that sha256sum did not write")
        found[match[2]] = match[1]
    if not found:
        raise ValueError(f"{_SUMS} is empty")
    return found
