"""Languages of the pages: catalogs of translations, which one a reader gets, and formats.

A catalog is a `.po` file below `locales/`; it is compiled in memory when the process starts, so
that what is reviewed is what is shown. English is what the templates say themselves.

Which language: the reader's own choice (a cookie); else, where the environment allows it, what the
browser prefers; else the environment's default; else English.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

from babel import Locale
from babel.dates import format_date, format_skeleton, format_timedelta
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from babel.support import NullTranslations, Translations

FOLDER: Final = Path(__file__).parent / "locales"
NAMES: Final = {"en": "English", "de": "Deutsch"}
"""The languages that the pages speak, each in its own words."""
FALLBACK: Final = "en"
UNKNOWN: Final = "\N{EN DASH}"
"""What stands where there is no figure."""
_SMALL: Final = 1e-4
_MINUTE_S: Final = 60
_ALWAYS: Final = 10_000
_Unit: TypeAlias = Literal["day", "hour", "minute", "second"]
_SIZES: Final[dict[_Unit, int]] = {"day": 86_400, "hour": 3600, "minute": 60, "second": 1}
_UNITS: Final[tuple[tuple[_Unit, _Unit], ...]] = (
    ("day", "hour"),
    ("hour", "minute"),
    ("minute", "second"),
)


def marked(text: str) -> str:
    """Mark a text for translation where it is written; it is translated where it is shown."""
    return text


@dataclass(frozen=True, slots=True)
class Language:
    """One language: its translations and its formats.

    Times are shown in UTC, and say so: readers of one budget sit in several time zones.
    """

    code: str
    translations: NullTranslations

    @property
    def locale(self) -> Locale:
        """What babel formats by."""
        return Locale.parse(self.code)

    @property
    def gettext(self) -> Callable[[str], str]:
        """Translate a text."""
        return self.translations.ugettext

    @property
    def ngettext(self) -> Callable[[str, str, int], str]:
        """Translate a text by number."""
        return self.translations.ungettext

    def figure(self, value: float | None, *, digits: int = 4) -> str:
        """A number for people: so many significant digits; a dash for what is not known."""
        if value is None:
            return UNKNOWN
        if not math.isfinite(value):
            return "∞" if value > 0 else UNKNOWN
        if value == 0:
            return "0"
        if isinstance(value, int):
            return str(format_decimal(value, locale=self.locale))
        if abs(value) < _SMALL:
            mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
            shown = format_decimal(float(mantissa), format="0.###", locale=self.locale)
            return f"{shown}e{int(power)}"
        places = max(0, digits - 1 - _power(value))
        pattern = "#,##0." + "#" * min(places, 6) if places else "#,##0"
        return str(format_decimal(value, format=pattern, locale=self.locale))

    def percent(self, share: float | None, *, places: int = 0) -> str:
        """A share in per cent."""
        if share is None:
            return UNKNOWN
        pattern = "#,##0." + "0" * places + "%" if places else "#,##0%"
        return str(format_percent(share, format=pattern, locale=self.locale))

    def instant(self, at: datetime | None) -> str:
        """A date with its time, in UTC."""
        if at is None:
            return UNKNOWN
        at = at.astimezone(UTC)
        return f"{format_date(at, 'medium', locale=self.locale)}, {self._time('Hm', at)} UTC"

    def clock(self, at: datetime | None) -> str:
        """A time of day with seconds, in UTC: for lines of one day."""
        if at is None:
            return UNKNOWN
        at = at.astimezone(UTC)
        return f"{self._time('MMMd', at)}, {self._time('Hms', at)}"

    def _time(self, skeleton: str, at: datetime) -> str:
        """A part of an instant in UTC; hours up to 24 in every language."""
        return str(format_skeleton(skeleton, at, locale=self.locale))

    def day(self, at: datetime | date | None) -> str:
        """A date."""
        return UNKNOWN if at is None else str(format_date(at, "medium", locale=self.locale))

    def ago(self, at: datetime | None, now: datetime) -> str:
        """How long ago, or how soon, in the largest unit that fits."""
        if at is None:
            return UNKNOWN
        return str(format_timedelta(at - now, add_direction=True, locale=self.locale))

    def duration(self, seconds: float | None) -> str:
        """A duration: two units at most."""
        if seconds is None:
            return UNKNOWN
        whole = round(seconds)
        if whole < _MINUTE_S:
            wait = timedelta(seconds=whole)
            return str(format_timedelta(wait, threshold=10, locale=self.locale))
        larger, smaller = next(pair for pair in _UNITS if whole >= _SIZES[pair[0]])
        rest = whole % _SIZES[larger]
        shown = [self._units(whole, larger)]
        if rest >= _SIZES[smaller]:
            shown.append(self._units(rest, smaller))
        return " ".join(shown)

    def _units(self, seconds: int, unit: _Unit) -> str:
        """The whole units in a time."""
        whole = timedelta(seconds=seconds // _SIZES[unit] * _SIZES[unit])
        return str(
            format_timedelta(
                whole, granularity=unit, threshold=_ALWAYS, format="short", locale=self.locale
            )
        )

    def size(self, size_bytes: int) -> str:
        """A size in units of 1,000 bytes."""
        value, unit = float(size_bytes), "B"
        for larger in ("kB", "MB", "GB", "TB"):
            if value < 1000:
                break
            value, unit = value / 1000, larger
        return f"{self.figure(round(value, 1) if unit != 'B' else size_bytes, digits=3)} {unit}"


@lru_cache(maxsize=len(NAMES))
def language(code: str) -> Language:
    """The language of a code; of an unknown one, English."""
    path = FOLDER / code / "LC_MESSAGES" / "dashboard.po"
    if code not in NAMES or not path.is_file():
        return Language(FALLBACK, NullTranslations())
    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=code))
    compiled.seek(0)
    return Language(code, Translations(compiled))


def offered(locales: Sequence[str]) -> list[str]:
    """The languages of the pages that an environment supports; English where it supports none."""
    supported = {locale.partition("_")[0] for locale in locales}
    return [code for code in NAMES if code in supported] or [FALLBACK]


def chosen(
    *, choice: str | None, accepted: str | None, defaults: Sequence[str], offer: Sequence[str]
) -> Language:
    """The language that a reader gets.

    Args:
        choice: their own, from a cookie.
        accepted: the header `Accept-Language`; `None` where the environment does not follow it.
        defaults: the environment's, such as `en_US`, most wanted first.
        offer: the languages that can be had.
    """
    if choice in offer:
        return language(str(choice))
    tags = [*_preferences(accepted or ""), *(locale.replace("_", "-") for locale in defaults)]
    for tag in tags:
        code = tag.partition("-")[0].lower()
        if code in offer:
            return language(code)
    return language(offer[0])


def _preferences(header: str) -> Sequence[str]:
    """The tags of a header, most wanted first; what cannot be read is left out (RFC 9110)."""
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(header[:512].split(",")):
        tag, _, weight = part.strip().partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if quality > 0 and tag.replace("-", "").isalnum() and len(tag) <= 35:
            wanted.append((-quality, place, tag.replace("_", "-")))
    return [tag for _, _, tag in sorted(wanted)]


def _power(value: float) -> int:
    """The power of ten of a number's first digit."""
    return int(f"{abs(value):e}".partition("e")[2])
