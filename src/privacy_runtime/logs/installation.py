"""Logging of a process: where lines go, from which level on, and written by a thread of its own.

Whoever logs appends a snapshot to a bounded deque and goes on, without a lock and without waking
anybody: waking a thread at every line would cost a request more than the line does. The writer
looks twenty times a second, and scrubs, renders and writes what is there at once. When the deque is
full the line is dropped and counted: a slow disk must not stop a request.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TextIO

from privacy_core.errors import InvalidParameter
from privacy_runtime.logs import literals
from privacy_runtime.logs.audited import Audited
from privacy_runtime.logs.correlation import current
from privacy_runtime.logs.hooks import uncaught, uncaught_in_thread
from privacy_runtime.logs.lines import KEPT, Kept, Lines
from privacy_runtime.logs.loggers import LINE
from privacy_runtime.logs.scrubbing import Scrubber
from privacy_runtime.logs.snapshots import failure, made, snapshot
from privacy_runtime.secret import Secret

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_WARNED: Final = (
    *("sqlalchemy", "httpx", "httpx2", "httpcore", "httpcore2", "urllib3", "asyncio", "filelock"),
    *("opentelemetry", "multipart", "python_multipart", "mcp", "matplotlib"),
)
"""Libraries whose `info` is about their insides."""
_OWN_HANDLERS: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error")
LOOK_S: Final = 0.05
"""How often the writer looks for lines."""
_BATCH: Final = 500
_TRUSTED: Final = "uvicorn"
"""A library whose sentences name addresses and signals, and are built before they are logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """How a process logs.

    Args:
        level: the least that is written.
        debug: texts are shown after redaction, instead of withheld. Never in production.
        on_terminal: `None`: where the stream is one.
        most_waiting: lines that may wait for the writer.
    """

    level: str = "info"
    debug: bool = False
    on_terminal: bool | None = None
    most_waiting: int = 10_000


class Logging:
    """What `install` started; close it to write what waits and put everything back."""

    def __init__(self, handler: _Entrance, writer: _Writer) -> None:
        self._handler = handler
        self._writer = writer
        self._hooks = (sys.excepthook, threading.excepthook)
        self._level = logging.getLogger().level
        self._is_open = True

    @property
    def dropped(self) -> int:
        """Lines that were dropped because the writer could not follow."""
        return self._handler.dropped

    @property
    def waiting(self) -> int:
        """Lines that wait for the writer."""
        return self._handler.waiting

    def close(self) -> None:
        """Write what waits, and let go. Twice is once."""
        if not self._is_open:
            return
        self._is_open = False
        root = logging.getLogger()
        root.removeHandler(self._handler)
        root.setLevel(self._level)
        logging.captureWarnings(False)
        sys.excepthook, threading.excepthook = self._hooks
        self._writer.stop()

    def __enter__(self) -> Logging:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def install(
    options: LogOptions | None = None,
    *,
    secrets: Iterable[Secret] = (),
    stream: TextIO | None = None,
    context: Callable[[], Mapping[str, str]] | None = None,
    audited: Audited | None = None,
) -> Logging:
    """Write the lines of this process, and of the libraries in it, to one stream.

    Uncaught errors, of threads too, and warnings become lines. A stream that cannot be written to
    loses lines and stops nothing. After a fork, install again: the writer's thread did not come.

    Args:
        options: see there.
        secrets: of this process; they are replaced wherever they stand.
        stream: None: standard error.
        context: identifiers to add to each line where it is logged: `tracing.current_ids`.
        audited: is shown each line as it is written.

    Raises:
        InvalidParameter: there is no such level.
    """
    options = options or LogOptions()
    if options.level not in LEVELS:
        found = f"{len(options.level)} characters"
        raise InvalidParameter("level", found=found, expected=f"one of {', '.join(LEVELS)}")
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty() if options.on_terminal is None else options.on_terminal
    lines = Lines(Scrubber(secrets, shows_texts=options.debug), on_terminal=terminal)
    waiting: deque[logging.LogRecord] = deque()
    handler = _Entrance(waiting, options.most_waiting, context)
    writer = _Writer(waiting, lines, stream, audited)
    running = Logging(handler, writer)
    _take_over(handler, options.level)
    writer.start()
    return running


class _Entrance(logging.Handler):
    """Takes the snapshot, in the thread that logs, and hands it over without waiting."""

    def __init__(
        self,
        waiting: deque[logging.LogRecord],
        most: int,
        context: Callable[[], Mapping[str, str]] | None,
    ) -> None:
        super().__init__()
        self._waiting = waiting
        self._most = most
        self._context = context
        self._counting = threading.Lock()
        self.dropped = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def createLock(self) -> None:
        """Have no lock: appending to a deque needs none."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over plain values only, or count."""
        if len(self._waiting) >= self._most:
            with self._counting:
                self.dropped += 1
            return
        taken = logging.LogRecord(record.name, record.levelno, "", 0, "", None, None)
        taken.created = record.created
        more = dict(self._context()) if self._context is not None else {}
        line = getattr(record, LINE, None)
        if line is not None:
            setattr(taken, LINE, {**line, **more})
        else:
            setattr(taken, KEPT, _kept(record, more))
        self._waiting.append(taken)


class _Writer(threading.Thread):
    """Writes what waits, in batches. What cannot be written is lost, and nothing is stopped."""

    def __init__(
        self,
        waiting: deque[logging.LogRecord],
        lines: Lines,
        stream: TextIO,
        audited: Audited | None,
    ) -> None:
        super().__init__(name="log-writer", daemon=True)
        self._waiting, self._lines, self._stream = waiting, lines, stream
        self._audited = audited
        self._ended = threading.Event()

    def run(self) -> None:
        """Look every 50 ms, and once more at the end."""
        while not self._ended.wait(LOOK_S):
            self._drain()
        self._drain()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._ended.set()
        self.join()

    def _drain(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
            with suppress(OSError, ValueError):  # a full disk; a stream that was closed
                self._stream.write("".join(map(self._line, batch)))
                self._stream.flush()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            content = self._lines.content(record)
            if self._audited is not None:
                self._audited.see(record.levelno, dict(content))
            return f"{self._lines.rendered(content)}\n"
        except Exception as error:  # noqa: BLE001  one line must not end the thread
            return f"{record.levelname} {record.name} <line lost: {type(error).__name__}>\n"


def _kept(record: logging.LogRecord, more: Mapping[str, str]) -> Kept:
    """What is kept of a foreign record."""
    frame = literals.caller()
    template: Any = record.msg
    trusted = record.name.partition(".")[0] == _TRUSTED and not record.exc_info
    if not isinstance(template, str):
        template = str(snapshot(template))
    elif not trusted and not literals.is_literal(template, frame):
        template = made(template)
    fields: dict[str, Any] = {key: snapshot(each) for key, each in current().items()} | dict(more)
    if not isinstance(template, str):
        fields["at"] = f"{record.module}:{record.lineno}"
    if record.exc_info and isinstance(record.exc_info[1], BaseException):
        fields["error"] = failure(record.exc_info[1])
    arguments = record.args or ()
    if isinstance(arguments, Mapping):
        return Kept(template, {str(k): snapshot(v) for k, v in arguments.items()}, fields)
    return Kept(template, tuple(snapshot(each) for each in arguments), fields)


def _take_over(handler: logging.Handler, level: str) -> None:
    """Send every logger to one handler."""
    root = logging.getLogger()
    for existing in list(root.handlers):
        if isinstance(existing, _Entrance):
            root.removeHandler(existing)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _OWN_HANDLERS:
        theirs = logging.getLogger(name)
        theirs.handlers.clear()
        theirs.propagate = True
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)  # its lines hold the query
    for name in _WARNED:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.captureWarnings(True)
    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
