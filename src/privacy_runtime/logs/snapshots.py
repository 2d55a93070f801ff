"""What is kept of a value at the moment it is logged, in the thread that logs it.

The line is written later and elsewhere, so nothing that can change is handed over, and no method of
an unknown object is called: its `repr` may hold a record, a password, or block. What is a text and
not a literal becomes a `Made`, which the writer scrubs or withholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final
from uuid import UUID

from privacy_runtime.secret import Secret

LONGEST: Final = 4_096
_MOST_ITEMS: Final = 32
_DEEPEST: Final = 4
_MOST_FRAMES: Final = 24
_MOST_CAUSES: Final = 4


@dataclass(frozen=True, slots=True)
class Made:
    """A text that was made while the program ran: data, until it is shown not to be.

    Attributes:
        text: its beginning.
        size: of all of it, in characters.
    """

    text: str
    size: int

    def __repr__(self) -> str:
        return f"<text of {self.size} characters>"


def made(text: str) -> Made:
    """Keep a text's beginning."""
    return Made(text[:LONGEST], len(text))


def snapshot(value: Any, depth: int = 0) -> Any:
    """A value that nobody can change any more, of plain types and `Made`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return snapshot(value.value, depth) if not isinstance(value.value, str) else value.value
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if isinstance(value, str):
        return made(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value.tzinfo else "naive"
    return _other(value, depth)


def failure(error: BaseException) -> dict[str, Any]:
    """An error without its message and without a local variable: what, where, and because of what.

    The message is left out because it may quote what was being worked on; a stable `code` and the
    frames say which sentence of ours it was.
    """
    found = _one(error)
    causes: list[dict[str, Any]] = []
    seen = {id(error)}
    inner = _cause(error)
    while inner is not None and id(inner) not in seen and len(causes) < _MOST_CAUSES:
        seen.add(id(inner))
        causes.append(_one(inner))
        inner = _cause(inner)
    if causes:
        found["causes"] = causes
    if isinstance(error, BaseExceptionGroup):
        found["parts"] = [_one(part) for part in error.exceptions[:_MOST_CAUSES]]
    return found


def _number(value: float | Decimal) -> int | float | str | None:
    if isinstance(value, int):
        return int(value) if abs(value) < 1 << 63 else "<whole number beyond 64 bits>"
    number = float(value)
    return number if math.isfinite(number) else None


def _other(value: Any, depth: int) -> Any:
    for kinds, keep in _KEEPERS:
        if isinstance(value, kinds):
            return keep(value, depth)
    return f"<{type(value).__name__}>"


def _several(value: Any, depth: int) -> Any:
    if depth >= _DEEPEST:
        return f"<{len(value)} values>"
    kept = [snapshot(each, depth + 1) for each in list(value)[:_MOST_ITEMS]]
    return kept if len(value) <= _MOST_ITEMS else [*kept, f"<{len(value)} values>"]


def _mapping(value: dict[Any, Any], depth: int) -> Any:
    """Keys of a mapping are data as well: only those that are plain words are shown."""
    if depth >= _DEEPEST or len(value) > _MOST_ITEMS:
        return f"<mapping of {len(value)}>"
    if not all(isinstance(key, str) and key.isidentifier() and len(key) <= 40 for key in value):
        return f"<mapping of {len(value)}>"
    return {key: snapshot(each, depth + 1) for key, each in value.items()}


def _one(error: BaseException) -> dict[str, Any]:
    kind = type(error)
    found: dict[str, Any] = {"type": f"{kind.__module__}.{kind.__qualname__}"}
    code = getattr(kind, "code", None)  # of the class: an instance's may be anything
    if isinstance(code, str) and len(code) <= 64:
        found["code"] = code
    found["message"] = made(_message(error))
    found["frames"] = _frames(error.__traceback__)
    return found


def _message(error: BaseException) -> str:
    """The words of an error; those of a foreign class may fail, and a log line must not."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  whatever a foreign `__str__` raises
        return ""


def _frames(trace: TracebackType | None) -> list[str]:
    """`module:line function`, the innermost last; of a deep stack the outermost are left out."""
    frames: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        module = trace.tb_frame.f_globals.get("__name__", "?")
        frames.append(f"{module}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames[-_MOST_FRAMES:]


def _cause(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None:
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__


_KEEPERS: Final[tuple[tuple[Any, Callable[[Any, int], Any]], ...]] = (
    (date, lambda value, _: value.isoformat()),
    (timedelta, lambda value, _: value.total_seconds()),
    (UUID, lambda value, _: str(value)),
    (Secret, lambda _value, _: "Secret(***)"),
    ((bytes, bytearray, memoryview), lambda value, _: f"<{len(value)} bytes>"),
    (PurePath, lambda value, _: made(str(value))),
    (BaseException, lambda value, _: failure(value)),
    (dict, _mapping),
    ((list, tuple, set, frozenset), _several),
)
