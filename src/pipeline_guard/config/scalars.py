"""Values of one line: whether one is what a type takes, and what the type takes instead."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from pipeline_guard.config.values import (
    DURATION,
    SIZE,
    Automatic,
    Within,
    automatic_of,
    bytes_of,
    seconds_of,
)
from privacy_runtime.secret import Secret
from privacy_runtime.settings.documents import plain


class Refused:
    """The type of `REFUSED`."""

    def __repr__(self) -> str:
        return "REFUSED"


REFUSED: Final = Refused()
"""In the place of a value that cannot be read."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a type takes, in words; `choices` where it takes one of a few."""

    words: str
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.words


def scalar_of(hint: Any, raw: Any, unit: str = "", *, is_filled: bool = False) -> Any:
    """Return `(value, expected)`; the value is `REFUSED` where `raw` is not of the type.

    Args:
        hint: the type.
        raw: what the file says.
        unit: of a number: `s` or `bytes`.
        is_filled: whether it came from a variable, which knows only texts.
    """
    if typing.get_origin(hint) is typing.Annotated:
        inner, *markers = typing.get_args(hint)
        value, expected = scalar_of(inner, raw, unit, is_filled=is_filled)
        return _narrowed(value, expected, [m for m in markers if isinstance(m, Within)])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _either(typing.get_args(hint), raw, unit, is_filled)
    if isinstance(raw, Secret):
        return (raw, expected_of(hint)) if hint is Secret else _read(hint, raw.reveal(), unit, True)
    return _read(hint, raw, unit, is_filled)


def expected_of(hint: Any, unit: str = "") -> Expected:
    """What a type takes, in words."""
    if typing.get_origin(hint) is typing.Literal:
        choices = tuple(str(choice) for choice in typing.get_args(hint))
        return Expected(f"one of {', '.join(choices)}", choices)
    if isinstance(hint, type) and issubclass(hint, Enum):
        choices = tuple(str(member.value) for member in hint)
        return Expected(f"one of {', '.join(choices)}", choices)
    if hint is float and unit == "s":
        return Expected(DURATION)
    if hint is int and unit == "bytes":
        return Expected(SIZE)
    return Expected(_WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}"))


_WORDS: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "a text",
    Path: "a path",
    Secret: "a secret, such as ${NAME}",
    Automatic: "auto, or a multiple such as auto*5",
    datetime: "an instant with a time zone, such as 2026-01-31T22:00:00Z",
    type(None): "null",
}


def _either(hints: Sequence[Any], raw: Any, unit: str, is_filled: bool) -> Any:
    words: list[Expected] = []
    for hint in hints:
        value, expected = scalar_of(hint, raw, unit, is_filled=is_filled)
        if value is not REFUSED:
            return value, expected
        words.append(expected)
    choices = tuple(choice for each in words for choice in each.choices)
    return REFUSED, Expected(" or ".join(map(str, words)), choices)


def _narrowed(value: Any, expected: Expected, domains: list[Within]) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    words = Expected(" and ".join([str(expected), *map(str, domains)]), expected.choices)
    inside = not is_number or all(domain.has(value) for domain in domains)
    return (value if inside else REFUSED), words


def _read(hint: Any, raw: Any, unit: str, is_filled: bool) -> Any:
    expected = expected_of(hint, unit)
    if is_filled and isinstance(raw, str) and hint not in (str, Path, Secret):
        raw = plain(raw)
    if expected.choices:
        return _chosen(hint, raw), expected
    reader = _READERS.get(hint)
    if reader is not None:
        return reader(raw), expected
    if hint is float:
        found = seconds_of(raw) if unit == "s" else _number(raw)
        return (REFUSED if found is None else found), expected
    if hint is int:
        whole = bytes_of(raw) if unit == "bytes" else _whole(raw)
        return (REFUSED if whole is None else whole), expected
    return (raw if isinstance(hint, type) and isinstance(raw, hint) else REFUSED), expected


def _chosen(hint: Any, raw: Any) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        return raw if raw in typing.get_args(hint) else REFUSED
    for member in hint:
        if raw == member.value or raw is member:
            return member
    return REFUSED


def _number(raw: Any) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        return None
    return float(raw)


def _whole(raw: Any) -> int | None:
    return raw if isinstance(raw, int) and not isinstance(raw, bool) else None


def _text(raw: Any) -> Any:
    return raw if isinstance(raw, str) else REFUSED


def _path(raw: Any) -> Any:
    if isinstance(raw, Path):
        return raw
    return Path(raw).expanduser() if isinstance(raw, str) and raw else REFUSED


def _instant(raw: Any) -> Any:
    if isinstance(raw, datetime):
        return raw if raw.tzinfo else REFUSED
    try:
        found = datetime.fromisoformat(raw)
    except (TypeError, ValueError):
        return REFUSED
    return found.astimezone(UTC) if found.tzinfo else REFUSED


_READERS: Final[dict[Any, Any]] = {
    bool: lambda raw: raw if isinstance(raw, bool) else REFUSED,
    str: _text,
    Path: _path,
    Secret: lambda raw: Secret(raw) if isinstance(raw, str) and raw else REFUSED,
    Automatic: lambda raw: automatic_of(raw) or REFUSED,
    datetime: _instant,
    type(None): lambda raw: None if raw is None else REFUSED,
}
