"""From a snapshot to what may be written: texts in their form and redacted, or withheld.

Redaction is the product's own (`privacy_core.redaction`) at level `medium`: everything that is, or
points at, one person, and every secret. `low` would leave names of accounts and phones; `high`
would take dates, places and sums, of which a line about a machine is made. Names of people are not
found without a name model, which is too slow for a line of a log; that is why free text is withheld
and not only redacted. What it costs is in docs/observability.md.

Besides, the process's own secrets are replaced wherever they stand, whatever form they have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from privacy_core.redaction.detection import PatternDetector
from privacy_core.redaction.scanning import Mark, Page, Recognizer
from privacy_runtime.logs.snapshots import Made
from privacy_runtime.logs.vocabulary import FORMS, fits
from privacy_runtime.secret import MASK, Secret

LEVEL: Final = "medium"
_SHORTEST_SECRET: Final = 6  # a shorter one is in words of every line
_SHORT: Final = 128
_SMALL: Final = 999
_UNITS: Final = ("_s", "_ms", "_us", "_bytes", "steps", "step", "port", "pid", "line", "count")
_TOKENS: Final = (
    r"\bpf_[a-z2-7]{16}_[a-z2-7]{59}|\bpr_[A-Za-z0-9_-]{24}[A-Za-z0-9_-]*"
    r"|\bwhsec_[A-Za-z0-9+/=_-]{24}[A-Za-z0-9+/=_-]*"
    r"|\b[a-z2-7]{6}-[a-z2-7]{6}-[a-z2-7]{6}-[a-z2-7]{6}\b"
)


def _decide_token(page: Page, start: int, end: int) -> Iterator[Mark]:
    yield Mark(start, end, "SECRET", "secret.issuer", ("key format: privacy finetuner",))


_OURS: Final = Recognizer(
    "own_token", r"pf_|pr_|whsec_|[a-z2-7]-[a-z2-7]{6}-", _TOKENS, _decide_token
)


@lru_cache(maxsize=1)
def _detector() -> PatternDetector:
    """Compiled once for the process."""
    return PatternDetector(extra=(_OURS,))


def _redacted(text: str) -> str:
    pieces: list[str] = []
    at = 0
    for finding in _detector().detect(text, level=LEVEL):
        pieces += (text[at : finding.start], f"[{finding.label}]")
        at = finding.end
    return "".join((*pieces, text[at:]))


_remembered = lru_cache(maxsize=2048)(_redacted)
"""For words, routes and states, which come again and again: half of a line's cost."""


class Scrubber:
    """Decides what of a line comes out.

    Guarantee: without `shows_texts`, every character that comes out is a number's, a literal's, a
    name of the source code, or has the form of its key; and no known secret is in it.

    Args:
        secrets: of this process; also the passwords inside addresses among them.
        shows_texts: show texts of any form after redaction. For development.
    """

    def __init__(self, secrets: Iterable[Secret] = (), *, shows_texts: bool = False) -> None:
        self._known = tuple(sorted(_spellings(secrets), key=len, reverse=True))
        self._shows_texts = shows_texts

    def field(self, key: str, value: Any) -> Any:
        """What comes out under a key."""
        if isinstance(value, Made):
            return self._text(key, value)
        if isinstance(value, str):
            return self._without_known(value)
        if isinstance(value, int) and abs(value) > _SMALL:
            return self._number(key, value)
        if isinstance(value, Mapping):
            return {inner: self.field(inner, each) for inner, each in value.items()}
        if isinstance(value, list):
            return [self.field(key, each) for each in value]
        return value

    def event(self, template: str | Made, arguments: tuple[Any, ...] | Mapping[str, Any]) -> str:
        """A sentence: its literal template with its arguments filled in, each by the rules."""
        if isinstance(template, Made):
            return self._text("event", template)
        if not arguments:
            return self._without_known(template)
        try:
            filled = template % self._arguments(arguments)
        except (TypeError, ValueError, KeyError):
            filled = template  # the arguments do not fit; the sentence alone says where
        return self._without_known(filled)

    def text(self, text: str) -> str:
        """A text without what the rules recognise."""
        text = self._without_known(text)
        return _remembered(text) if len(text) <= _SHORT else _redacted(text)

    def _text(self, key: str, value: Made) -> str:
        if value.size == len(value.text) and fits(key, value.text):
            clean = self.text if FORMS[key].is_scrubbed else self._without_known
            return clean(value.text)
        if self._shows_texts:
            rest = f" <{value.size - len(value.text)} more>" if value.size > len(value.text) else ""
            return self.text(value.text) + rest
        return repr(value)

    def _number(self, key: str, value: int) -> int | str:
        """A number, unless it is what its key calls it: a card, an account, a PIN."""
        if key.endswith(_UNITS):
            return value
        text = f"{key.replace('_', ' ')}: {value}"
        found = _detector().detect(text, level=LEVEL)
        return f"[{found[-1].label}]" if found else value

    def _arguments(self, arguments: tuple[Any, ...] | Mapping[str, Any]) -> Any:
        if isinstance(arguments, Mapping):
            return {key: _Argument.of(self.field(key, each)) for key, each in arguments.items()}
        return tuple(_Argument.of(self.field("", each)) for each in arguments)

    def _without_known(self, text: str) -> str:
        for known in self._known:
            if known in text:
                text = text.replace(known, MASK)
        return text


class _Argument:
    """Stands in for an argument that a template would format as a number or by its `repr`."""

    __slots__ = ("_shown",)

    def __init__(self, shown: str) -> None:
        self._shown = shown

    @staticmethod
    def of(value: Any) -> Any:
        return value if isinstance(value, int | float) else _Argument(str(value))

    def __str__(self) -> str:
        return self._shown

    __repr__ = __str__


def _spellings(secrets: Iterable[Secret]) -> Iterator[str]:
    """Each secret as it is, and of an address its password, as written and as meant."""
    for secret in secrets:
        text = secret.reveal()
        spellings = {text}
        if "://" in text:
            try:
                password = urlsplit(text).password or ""
            except ValueError:
                password = ""
            spellings = {password, unquote(password)}
        yield from (each for each in spellings if len(each) >= _SHORTEST_SECRET)
