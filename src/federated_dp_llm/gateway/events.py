"""Server-sent events of a completion, on their way through: whole events, their usage, their end.

Source: WHATWG HTML, 9.2 (server-sent events); an event is over at an empty line.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from federated_dp_llm.gateway.completions import told

EVENT_MOST: Final = 1024 * 1024
_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_DONE: Final = re.compile(rb"^data: ?\[DONE\]\s*$", re.MULTILINE)


class EventTooLarge(ValueError):
    """One event is larger than is kept here."""


class Events:
    """Cuts what arrives into whole events, and listens.

    Attributes:
        spent: tokens that the backend has counted so far; None: it has said nothing.
        is_done: the backend has said that the answer is whole.
        has_failed: the backend has sent an error in an event.

    Args:
        wants_usage: whether the client is to see the event that holds nothing but the usage.
    """

    __slots__ = ("_rest", "_wants_usage", "has_failed", "is_done", "spent")

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._rest = b""
        self.spent: int | None = None
        self.is_done = self.has_failed = False

    def feed(self, piece: bytes) -> bytes:
        """Take a piece; return the events that are whole now, to be passed on.

        Raises:
            EventTooLarge: an event does not end.
        """
        rest = self._rest + piece if self._rest else piece
        known = max(0, len(self._rest) - 3)  # no event ends before this
        passed, begin = [], 0
        while end := _end(rest, max(begin, known)):
            event = rest[begin:end]
            begin = end
            if self._heard(event):
                passed.append(event)
        self._rest = rest[begin:]
        if len(self._rest) > EVENT_MOST:
            raise EventTooLarge
        return b"".join(passed)

    def _heard(self, event: bytes) -> bool:
        """Listen to an event; say whether the client is to see it."""
        if self.is_done:
            return False  # nothing follows the end
        if b"[DONE]" in event and _DONE.search(event):
            self.is_done = True
            return True
        has_usage = b'"usage"' in event and b'"usage":null' not in event
        if not has_usage and b'"error"' not in event:
            return True
        try:
            found = told(_data(event))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return True  # it is the client's to understand
        if found.error is not None:
            self.has_failed = True
        if found.usage is None:
            return True
        spent = found.usage.spent
        if spent is not None:
            self.spent = max(spent, self.spent or 0)
        return self._wants_usage or bool(found.choices)


def _end(rest: bytes, begin: int) -> int:
    """Where the first event from `begin` on ends; 0 if it does not."""
    found = rest.find(b"\n\n", begin)
    if b"\r" not in rest:
        return found + 2 if found >= 0 else 0
    match = _END.search(rest, begin)
    return match.end() if match else 0


def _data(event: bytes) -> bytes:
    """The data of an event: its `data` lines."""
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
