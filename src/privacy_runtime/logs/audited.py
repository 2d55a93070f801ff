"""Lines that belong in an audit trail: taken while the log is written, kept where nobody edits.

A log file can be edited by whoever can write to it; an entry of a hash-chained journal cannot, not
unnoticed. Lines of `error` and above, and those that say so themselves, wait here until somebody
writes them there:

    log.info("the service has started", version=__version__, audited=True)

What waits is the line as it was written, scrubbed. Nothing waits for the journal: where that is
away for long, the oldest lines are dropped and counted, and the next round says how many.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

MARK: Final = "audited"
"""The field by which a line says that it belongs in the trail."""
_MOST: Final = 1000


class Audited:
    """What waits. For any number of threads.

    Args:
        most: lines that may wait.
    """

    def __init__(self, *, most: int = _MOST) -> None:
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._most = most
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self.dropped = 0

    def see(self, level: int, line: Mapping[str, Any]) -> None:
        """Keep a line, if it belongs here. Never waits."""
        if level < logging.ERROR and line.get(MARK) is not True:
            return
        with self._lock:
            if len(self._waiting) >= self._most:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(line)

    def write(self, keep: Callable[[Mapping[str, Any]], None]) -> int:
        """Hand every waiting line to `keep`, oldest first; returns how many.

        A line that `keep` refuses waits on, with those behind it, and its error is raised.
        """
        count = 0
        with self._writing:
            while True:
                with self._lock:
                    if not self._waiting:
                        return count
                    line = self._waiting.popleft()
                try:
                    keep(line)
                except BaseException:
                    with self._lock:
                        self._waiting.appendleft(line)
                    raise
                count += 1
