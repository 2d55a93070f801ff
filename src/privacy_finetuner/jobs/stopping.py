"""Requests to stop a process in order: from a signal, or from the end of a supervisor's pipe.

A signal handler runs between any two instructions of the main thread, which may hold the lock of
the very event that it waits on: a handler that set it would wait for itself. So the handler puts a
word into a queue that may be used at any time (`queue.SimpleQueue`), and a thread does the rest.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

_ENDED = "supervisor_ended"


@contextmanager
def stop_requests(
    asked: Callable[[str], None], *, supervisor: int | None = None
) -> Iterator[threading.Event]:
    """Set an event at the first SIGINT, SIGTERM or end of a pipe. For the main thread.

    Args:
        asked: told once, in words, from another thread.
        supervisor: a descriptor whose end is a request too; None: there is none.
    """
    stop, words = threading.Event(), SimpleQueue[str]()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        words.put(signal.Signals(number).name)

    def follow() -> None:
        while os.read(supervisor or 0, 4096):
            continue
        words.put(_ENDED)

    def heed() -> None:
        asked(words.get())
        stop.set()

    previous = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    threading.Thread(target=heed, name="stop-requests", daemon=True).start()
    if supervisor is not None:
        threading.Thread(target=follow, name="supervisor", daemon=True).start()
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
