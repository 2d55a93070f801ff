"""Whether a text stands in the source code of whoever logs it.

A literal is a constant of its function's code object. An f-string, a sum or a format is made when
the program runs and is none. So the question has an exact answer, and costs a walk of a few frames.
A constant of a module (`MESSAGE = "..."`) is not in the function that uses it: write the sentence
where it is logged.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Final

_OURS: Final = frozenset({"structlog", "logging"})
_ROOM: Final = tuple(f"privacy_runtime.logs.{name}" for name in ("loggers", "installation"))
_DEEPEST: Final = 24


def caller() -> FrameType | None:
    """The frame that logs: the innermost one outside the logging libraries and loggers."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_DEEPEST):
        if frame is None:
            return None
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] not in _OURS and name not in _ROOM:
            return frame
        frame = frame.f_back
    return None


def is_literal(text: str, frame: FrameType | None) -> bool:
    """Whether `text` is a constant of the code that `frame` runs."""
    return frame is not None and _holds(frame.f_code, text)


def place(frame: FrameType | None) -> str:
    """Module and line, for a text that is withheld."""
    if frame is None:
        return ""
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno}"


def _holds(code: CodeType, text: str) -> bool:
    return any(type(constant) is str and constant == text for constant in code.co_consts)
