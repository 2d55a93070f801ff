"""What is wrong with settings, as values: every fault at once, each with where and why.

SettingsRefused (PrivacyError)    settings contradict their schema; all faults are listed
SecretUnavailable (PrivacyError)  a secret is named and cannot be had; says where it was looked for

No message holds the value of a secret, nor of anything that was filled in from a variable.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from privacy_core.errors import PrivacyError


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a file with its line, a variable, a keyword, or `default`."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Args:
        path: the key, with dots; empty for the document as a whole.
        line: in the file, from 1; 0 when it did not come from a file.
        message: what is wrong, as the rest of a sentence that the path begins.
        source: the file, the variable or the keyword that it came from.
        column: in the line, from 1; 0 when unknown.
        value: what was found, as it may be shown; secrets are masked.
        expected: what the key takes.
        nearest: the known key that resembles an unknown one.
    """

    path: str
    line: int
    message: str
    source: str = ""
    column: int = 0
    value: str = ""
    expected: str = ""
    nearest: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else self.source
        return f"{place}{': ' if place else ''}{self.path or 'the document'}: {self.message}"

    @classmethod
    def at(cls, place: Place, path: str, message: str, **more: str) -> Fault:
        """A fault of what stands at a place."""
        return cls(path, place.line, message, place.source, place.column, **more)

    def document(self) -> dict[str, Any]:
        """The fault for programs."""
        return {
            "path": self.path,
            "source": self.source,
            "line": self.line or None,
            "column": self.column or None,
            "value": self.value or None,
            "expected": self.expected or None,
            "nearest": self.nearest or None,
            "message": str(self),
        }


class SettingsRefused(PrivacyError, ValueError):
    """Settings cannot be used. Nothing was started; all faults are listed."""

    code: ClassVar[str] = "settings_refused"

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        super().__init__(source, tuple(faults))
        self.source = source
        self.faults = tuple(faults)

    def __str__(self) -> str:
        listed = "".join(f"\n  {fault}" for fault in self.faults)
        return f"{self.source} cannot be used; nothing was started{listed}"


class SecretUnavailable(PrivacyError):
    """A secret that settings name cannot be had. Nothing was started."""

    code: ClassVar[str] = "secret_unavailable"


def nearest(name: str, known: Collection[str]) -> str:
    """The known name that resembles `name` most, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return close[0] if close else ""


def unknown(message: str, near: str) -> str:
    """The words for a name that nobody knows."""
    return f"{message}; did you mean {near!r}?" if near else message
