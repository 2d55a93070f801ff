"""Instants as signed documents hold them: UTC, whole seconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from privacy_core.errors import InvalidParameter

_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def text_of(instant: datetime) -> str:
    """An instant as documents hold it: UTC, whole seconds, `2026-01-31T12:00:00Z`.

    Raises:
        InvalidParameter: the instant has no time zone.
    """
    if instant.tzinfo is None:
        raise InvalidParameter("instant", found=instant, expected="an instant with a time zone")
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant_of(text: object) -> datetime:
    """Read what `text_of` wrote.

    Raises:
        InvalidParameter: it has another form, or is no day of the calendar.
    """
    try:
        if isinstance(text, str) and _INSTANT.fullmatch(text):
            return datetime.fromisoformat(text)
    except ValueError:
        pass
    raise InvalidParameter("instant", found="another form", expected="like 2026-01-31T12:00:00Z")
