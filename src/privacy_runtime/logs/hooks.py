"""What Python does with errors that nobody caught: they become lines, without values."""

from __future__ import annotations

import logging
import threading
from types import TracebackType


def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log an error that ended the process; in the place of `sys.excepthook`."""
    if not issubclass(kind, KeyboardInterrupt):
        log = logging.getLogger("privacy_runtime")
        log.critical("an error was not caught", exc_info=(kind, error, trace))


def uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    """Log an error that ended a thread; in the place of `threading.excepthook`."""
    if found.exc_value is not None and not issubclass(found.exc_type, SystemExit):
        uncaught(found.exc_type, found.exc_value, found.exc_traceback)
