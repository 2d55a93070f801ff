"""Loggers: structlog's, over the standard library's, with what is bound added and a snapshot taken.

They carry their own chain of processors, so nothing depends on a global configuration of structlog,
and a library that only imports this writes nothing anywhere.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, Protocol, cast

import structlog
from structlog.typing import EventDict

from privacy_runtime.logs import literals
from privacy_runtime.logs.correlation import current
from privacy_runtime.logs.snapshots import failure, made, snapshot

LINE: Final = "privacy_runtime_line"
"""The attribute of a record that holds the snapshot of a line."""
_RESERVED: Final = frozenset({"event", "exc_info", "stack_info", "stacklevel", "level", "time"})


class Logger(Protocol):
    """What modules log with. The event is a sentence in the source; the rest are keywords."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Say what only a developer of this module needs."""

    def info(self, event: str, **fields: Any) -> Any:
        """Say what happened."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Say what should not have happened and was dealt with."""

    def error(self, event: str, **fields: Any) -> Any:
        """Say what failed."""

    def exception(self, event: str, **fields: Any) -> Any:
        """As `error`, with the error that is being handled."""

    def bind(self, **fields: Any) -> Logger:
        """Return a logger whose lines all have these fields."""


def logger(name: str) -> Logger:
    """The logger of a module: `logger(__name__)`."""
    underneath = logging.getLogger(name)
    logging.getLogger(name.partition(".")[0]).addHandler(_SILENT)
    return cast(
        "Logger",
        structlog.wrap_logger(
            underneath,
            processors=[structlog.stdlib.filter_by_level, _taken],
            wrapper_class=structlog.stdlib.BoundLogger,
            context_class=dict,
            cache_logger_on_first_use=True,
        ),
    )


_SILENT: Final = logging.NullHandler()


def line_of(event: Any, fields: dict[str, Any], error: Any) -> dict[str, Any]:
    """The snapshot of one line, with what is bound where it is logged."""
    frame = literals.caller()
    line: dict[str, Any] = {}
    if isinstance(event, str) and literals.is_literal(event, frame):
        line["event"] = event
    else:
        line["event"] = made(str(event)) if isinstance(event, str) else snapshot(event)
        line["at"] = literals.place(frame)
    for key, value in (*current().items(), *fields.items()):
        if key.isidentifier() and key not in _RESERVED:
            line[key] = snapshot(value)
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        line["error"] = failure(error)
    return line


def _taken(_logger: Any, method: str, event_dict: EventDict) -> Any:
    """The last processor: the keyword arguments of the standard library's method."""
    error = event_dict.pop("exc_info", None)
    if error is True or (error is None and method == "exception"):
        error = sys.exception()
    event = event_dict.pop("event", "")
    return {"msg": "", "extra": {LINE: line_of(event, dict(event_dict), error)}}
