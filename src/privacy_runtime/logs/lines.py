"""From a record to a line: JSON for programs, colours for a terminal. Runs in the writer's thread.

Records of foreign libraries have no snapshot of their keywords; their template and arguments were
kept by the handler (`Kept`), and the template comes out where it is a literal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog

from privacy_runtime.logs.loggers import LINE
from privacy_runtime.logs.scrubbing import Scrubber
from privacy_runtime.logs.snapshots import Made

_FIRST: Final = ("time", "level", "logger", "event")
KEPT: Final = "privacy_runtime_kept"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a foreign library's record.

    Attributes:
        template: its sentence; `Made` when it is no literal.
        arguments: snapshots.
        fields: what is bound, and the error if there is one.
    """

    template: str | Made
    arguments: tuple[Any, ...] | Mapping[str, Any]
    fields: Mapping[str, Any]


class Lines(logging.Formatter):
    """Makes lines.

    Args:
        scrubber: decides what comes out.
        context: further identifiers of the moment, by record; see `installation`.
        on_terminal: write for people.
    """

    def __init__(self, scrubber: Scrubber, *, on_terminal: bool = False) -> None:
        super().__init__()
        self._scrubber = scrubber
        self._render: Callable[[dict[str, Any]], str] = _console() if on_terminal else _json

    def format(self, record: logging.LogRecord) -> str:
        """One line, without its end."""
        return self.rendered(self.content(record))

    def rendered(self, content: dict[str, Any]) -> str:
        """What a line says, as it is written."""
        return self._render(content)

    def content(self, record: logging.LogRecord) -> dict[str, Any]:
        """What a line says, in order."""
        kept: Kept | None = getattr(record, KEPT, None)
        line: Mapping[str, Any] = getattr(record, LINE, {})
        if kept is not None:
            said = self._scrubber.event(kept.template, kept.arguments)
            rest = kept.fields
        else:
            event = line.get("event", "")
            said = self._scrubber.event(event, ()) if isinstance(event, str | Made) else str(event)
            rest = line
        found: dict[str, Any] = {
            "time": _instant(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": said,
        }
        for key, value in rest.items():
            if key not in _FIRST:
                found[key] = self._scrubber.field(key, value)
        return found


def _instant(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(content: dict[str, Any]) -> str:
    return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS).decode()


def _console() -> Callable[[dict[str, Any]], str]:
    renderer = structlog.dev.ConsoleRenderer(colors=True, timestamp_key="time", sort_keys=False)

    def render(content: dict[str, Any]) -> str:
        error = content.pop("error", None)
        text = str(renderer(None, "", dict(content)))
        return text if error is None else f"{text}\n{_spelled(error)}"

    return render


def _spelled(error: Mapping[str, Any], indent: str = "    ") -> str:
    """An error over several lines."""
    head = f"{indent}{error['type']} {error.get('code', '')}".rstrip()
    lines = [f"{head}: {error['message']}", *(f"{indent}  {f}" for f in error["frames"])]
    lines += [_spelled(cause, indent + "  ") for cause in error.get("causes", ())]
    return "\n".join(lines)
