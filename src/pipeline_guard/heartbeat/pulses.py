"""The reading side: what a heartbeat file says, and how long silence may last."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pipeline_guard.heartbeat.sketch import Spans
from pipeline_guard.processes import ProcessName

VERSION: Final = 1
_FEW: Final = 3
SIZE_BYTES: Final = 4_096
"""Of the file: one page, so that one write covers it."""

_SEAL: Final = ', "checksum": "'
_TRIES: Final = 5
_BETWEEN_TRIES_S: Final = 0.002


class Ended(StrEnum):
    """How the work ended: done, stopped in order, or by an error."""

    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What a heartbeat file says.

    Attributes:
        process: who wrote it; `None` where it could not be named.
        section: where it is.
        step, steps: how far it is, of how many; `None` where it did not say.
        is_finite: whether what the newest step gave out is finite.
        checkpoint: the step of the newest checkpoint that it wrote.
        ended: how it ended; `None`: it says that it runs.
        reason: the name of the error that ended it.
        progress_s: monotonic seconds of its boot when it last got on.
        at: when this was written.
        spans: how long things take there, by section.
    """

    process: ProcessName | None
    section: str
    step: int | None
    steps: int | None
    is_finite: bool
    checkpoint: int | None
    ended: Ended | None
    reason: str
    progress_s: float
    at: datetime
    spans: Mapping[str, Spans]

    def limit_s(self, section: str, *, factor: float, at_least_s: float, before_s: float) -> float:
        """How long a section may go without progress: `max(at_least_s, factor * p99)`.

        Before the section was seen three times the figure means little: then `before_s`, if that is
        longer.
        """
        seen = self.spans.get(section)
        if seen is None or seen.count == 0:
            return max(at_least_s, before_s)
        automatic = max(at_least_s, factor * seen.p99_s)
        return max(automatic, before_s) if seen.count < _FEW else automatic


def sealed(fields: str) -> bytes:
    """The content of the file: a JSON document, still open, closed by its checksum, and padding."""
    checksum = zlib.crc32(fields.encode())
    return f'{fields}{_SEAL}{checksum:08x}"}}\n'.encode().ljust(SIZE_BYTES)


def read_pulse(path: Path) -> Pulse:
    """Read a heartbeat file; one that is being written is read again, for at most 10 ms.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is empty or no heartbeat; the message says what is wrong, never its content.
    """
    for _ in range(_TRIES - 1):
        try:
            return _read_once(path)
        except ValueError:
            time.sleep(_BETWEEN_TRIES_S)
    return _read_once(path)


def _read_once(path: Path) -> Pulse:
    with path.open("rb") as file:
        data = file.read(SIZE_BYTES + 1)
    if not data:
        raise ValueError("it is empty")
    if len(data) > SIZE_BYTES:
        raise ValueError(f"it is longer than {SIZE_BYTES} bytes: it is no heartbeat")
    text = data.decode(errors="replace")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError(f"it is not a heartbeat of version {VERSION}")
    fields, _, seal = text.rpartition(_SEAL)
    if f"{zlib.crc32(fields.encode()):08x}" != seal[:8]:
        raise ValueError("its checksum is not that of its content")
    try:
        return _pulse(document)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"it lacks a field, or has a wrong one ({error})") from error


def _pulse(document: Mapping[str, Any]) -> Pulse:
    process, ended = document["process"], document["ended"]
    at = datetime.fromisoformat(document["at"])
    if at.tzinfo is None:
        raise ValueError("at has no time zone")
    return Pulse(
        process=None if process is None else ProcessName.read(process),
        section=str(document["section"]),
        step=_count(document["step"]),
        steps=_count(document["steps"]),
        is_finite=document["is_finite"] is True,
        checkpoint=_count(document["checkpoint"]),
        ended=None if ended is None else Ended(ended),
        reason=str(document["reason"]),
        progress_s=float(document["progress_s"]),
        at=at,
        spans={
            str(name): Spans(int(s[0]), float(s[1]), float(s[2]), float(s[3]))
            for name, s in document["spans"].items()
        },
    )


def _count(value: Any) -> int | None:
    return None if value is None else int(value)
