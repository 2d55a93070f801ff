"""Signs of an injection attempt in a short field: a signal, and never a filter.

Nothing here changes, escapes or refuses a value. What keeps an attack out is elsewhere: types,
lengths, allow-lists of paths, bound parameters, escaping where a page is made. A list of bad texts
is no boundary (it finds some of the attacks that are known, and an attacker tries until it does
not), and as one it would do harm: code and clinical notes look like attacks. As a sign that
somebody is trying, in fields where nobody writes code, it is worth its microseconds.

Texts are read as a careless receiver would: percent-encoding (twice), entities, full-width letters,
comments inside SQL keywords, quotes inside shell words. Four families, each a set of RE2 patterns
with weights, so the time is linear in the text whatever it is; the idea of adding up weights is
that of the OWASP Core Rule Set.

Measured recall and false alarms: docs/validation.md, by `benchmarks/injection.py`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import unquote

import re2  # type: ignore[import-untyped]  # the binding has no types

from privacy_runtime.http import injection_patterns

LOOKED_AT: Final = 1024
"""Characters of a field that are looked at: its first half and its last."""
THRESHOLD: Final = 5
"""From which score on a family counts as found."""


class Family(StrEnum):
    """What an attacker hopes that the field ends in."""

    SQL = "sql_injection"
    XSS = "cross_site_scripting"
    PATH = "path_traversal"
    COMMAND = "command_injection"


@dataclass(frozen=True, slots=True)
class Sign:
    """One family that was found in a field.

    Attributes:
        family: which.
        score: sum of the weights that matched, at least `THRESHOLD`.
    """

    family: Family
    score: int


class InputValidator:
    """The documented checks for SQL, script, path and command injection, as a signal.

    Guarantee: linear time, no exception for any text, and the text is not kept.
    """

    def __init__(self) -> None:
        self._sets = {
            Family.SQL: _Weighed(injection_patterns.SQL),
            Family.XSS: _Weighed(injection_patterns.XSS),
            Family.PATH: _Weighed(injection_patterns.PATH),
            Family.COMMAND: _Weighed(injection_patterns.COMMAND),
        }

    def signs(self, text: str) -> tuple[Sign, ...]:
        """What a field looks like, the highest score first; mostly nothing.

        >>> [sign.family.value for sign in InputValidator().signs("1' OR '1'='1")]
        ['sql_injection']
        >>> InputValidator().signs("visits of O'Neil's ward; 2026, part 1/3")
        ()
        """
        if _PLAIN(text) is not None and _WORDS(text) is None:
            return ()
        views = _views(text)
        found = []
        for family, weighed in self._sets.items():
            score = max(map(weighed.score, views[family]))
            if score >= THRESHOLD:
                found.append(Sign(family, score))
        return tuple(sorted(found, key=lambda sign: -sign.score))


class _Weighed:
    """A set of patterns that RE2 looks for at once."""

    def __init__(self, rows: injection_patterns.Rows) -> None:
        options = re2.Options()
        options.case_sensitive = False
        options.encoding = re2.Options.Encoding.LATIN1  # bytes in, and none of them invalid
        options.dot_nl = True
        self._set = re2._re2.Set(re2._re2.RE2.Anchor.UNANCHORED, options)
        self._weights = tuple(weight for weight, _ in rows)
        for _, pattern in rows:
            self._set.Add(pattern.encode("latin-1"))
        self._set.Compile()

    def score(self, raw: bytes) -> int:
        return sum(self._weights[number] for number in self._set.Match(raw))


def _views(text: str) -> Mapping[Family, tuple[bytes, ...]]:
    """The field as different receivers would read it; each at most `LOOKED_AT` characters."""
    if len(text) > LOOKED_AT:
        text = f"{text[: LOOKED_AT // 2]}\n{text[-LOOKED_AT // 2 :]}"
    seen = raw = text
    if not text.isascii():
        seen = unicodedata.normalize("NFKC", text)
    for _ in range(2):
        if "%" in seen:
            seen = unquote(_WIDE_PERCENT.sub(_letter, seen), errors="replace")
    if "&" in seen:
        seen = html.unescape(seen)
    plain = (_bytes(seen),)
    path = plain if seen == raw else (*plain, _bytes(raw))
    if _ODD(seen) is None:
        return {Family.SQL: plain, Family.XSS: plain, Family.PATH: path, Family.COMMAND: plain}
    sql = {_bytes(_BLANKS.sub(" ", seen))}
    if "/*" in seen:
        opened = _VERSIONED.sub(" ", seen)
        sql = {_bytes(_BLANKS.sub(" ", _COMMENT.sub(by, opened))) for by in ("", " ")}
    unquoted = _SHELL_QUOTES.sub("", _SHELL_BLANK.sub(" ", seen))
    return {
        Family.SQL: tuple(sql),
        Family.XSS: tuple({*plain, _bytes(_HIDING.sub("", seen))}),
        Family.PATH: path,
        Family.COMMAND: tuple({*plain, _bytes(unquoted)}),
    }


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _letter(found: re.Match[str]) -> str:
    return chr(int(found.group(1), 16))


_PLAIN: Final = re.compile(r"\w++(?:[ @:/+.-]\w++)*+", re.ASCII).fullmatch
_WORDS: Final = re.compile(
    r"\b(?:union|select|insert|drop|xp_|sp_|javascript|vbscript|etc|proc|sleep|waitfor)", re.I
).search
_ODD: Final = re.compile(r"[\x00-\x1f\\'\"^$]|  |/\*").search
_BLANKS: Final = re.compile(r"[\s\x00]+")
_VERSIONED: Final = re.compile(r"/\*!\d{0,6}")
_COMMENT: Final = re.compile(r"/\*[^*]{0,80}\*/|\*/")
_HIDING: Final = re.compile(r"[\x00-\x1f\\]+")
_SHELL_QUOTES: Final = re.compile(r"['\"\\^]|\$[@*!]")
_SHELL_BLANK: Final = re.compile(r"\$\{?IFS\}?(?:\$\d)?", re.IGNORECASE)
_WIDE_PERCENT: Final = re.compile(r"%u([0-9a-fA-F]{4})")
