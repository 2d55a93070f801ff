"""Finds personal data in text: by form and checksum, by label and context, by name.

>>> from privacy_core.redaction.detection import PatternDetector
>>> text = "Card 4111 1111 1111 1111, mail jo@example.org"
>>> [(f.label, f.rule) for f in PatternDetector().detect(text)]
[('PAYMENT_CARD', 'card.luhn_context'), ('EMAIL', 'email.address')]

The way of a text: folded (`normalization`), scanned by patterns that cannot backtrack (`scanning`),
candidates judged by tables (`recognizers`), names added by a tagger where one was given, allow and
deny lists, the level's policy (`policies`), overlaps resolved (`overlaps`). Nothing is kept between
calls; the compiled tables are shared by the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.calibration import SCORES, UNLISTED, strength
from privacy_core.redaction.entities import resolve
from privacy_core.redaction.findings import Finding, NameTagger
from privacy_core.redaction.lists import Terms
from privacy_core.redaction.normalization import Folded, fold
from privacy_core.redaction.overlaps import resolve_overlaps
from privacy_core.redaction.policies import Policy, policy
from privacy_core.redaction.recognizers import RECOGNIZERS
from privacy_core.redaction.scanning import Page, Recognizer, Scanner

_SCORES: Final = dict(SCORES)  # faster to ask than the view
_NAMES: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION"})


@lru_cache(maxsize=1)
def _shared_scanner() -> Scanner:
    """The built-in tables, compiled once for the process."""
    return Scanner(RECOGNIZERS)


class PatternDetector:
    """Finds everything that a level redacts. Immutable; safe to share between threads.

    **Guarantee**: time is linear in the length of the text for every text; the answer depends on
    the text, the level, the hints and the arguments here, and on nothing else; positions are code
    points of the text as given, whatever invisible or look-alike characters it holds.

    Args:
        names: finds names of people, places and organisations; without one none are found.
        allow: values that are never findings: an exact match of the whole finding, any case.
        deny: values that always are, as `value` (a PERSON) or `(value, label)`; whole words, any
            case; they win every overlap.
        locales: countries (ISO 3166, any case) whose national schemes are on; None: all of them.
        extra: recognizers of your own, beside the built-in ones (see `scanning.Recognizer`).

    Raises:
        UnknownEntity: a label of `deny` is no entity type.
        InvalidParameter: a locale is not two letters.
    """

    __slots__ = ("_allow", "_deny", "_extra", "_locales", "_names")

    def __init__(
        self,
        names: NameTagger | None = None,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str | tuple[str, str]] = (),
        locales: Sequence[str] | None = None,
        extra: Sequence[Recognizer] = (),
    ) -> None:
        self._names = names
        self._allow = frozenset(" ".join(value.casefold().split()) for value in allow)
        self._deny = Terms(_labelled(deny))
        self._locales = None if locales is None else frozenset(map(_country, locales))
        self._extra = Scanner(tuple(extra)) if extra else None

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        """Findings in the order of the text, not overlapping. See `findings.Detector`.

        Raises:
            InvalidParameter: there is no such level.
        """
        return self.detect_under(policy(level), text, hints=hints)

    def detect_under(
        self, held: Policy, text: str, *, hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        """Findings under a policy of your own: other labels, another threshold."""
        folded = fold(text)
        found = self._by_pattern(folded, held, hints)
        if self._names is not None:
            tagged = [f for f in self._names.tag(text) if held.admits(f.label, f.score)]
            found.extend(tagged)
            if held.propagate:
                found.extend(_mentions(text, tagged))
        found.extend(self._deny.find(text))
        if self._allow:
            found = [f for f in found if not self._allowed(text[f.start : f.end])]
        if len(found) < 2:
            return tuple(found)
        return resolve_overlaps(found, lambda f: strength(f.rule), text)

    def _by_pattern(self, folded: Folded, held: Policy, hints: Sequence[str]) -> list[Finding]:
        page = Page(folded, hints)
        marks = _shared_scanner().scan(page, held.labels)
        if self._extra is not None:
            marks.extend(self._extra.scan(page, held.labels))
        found: list[Finding] = []
        labels, threshold = held.labels, held.threshold
        for start, end, label, rule, evidence in marks:
            score = _SCORES.get(rule, UNLISTED)
            if label in labels and score >= threshold and start < end:
                if self._locales is not None and not self._is_local(evidence):
                    continue
                first, last = folded.span(start, end)
                found.append(Finding(first, last, label, score, rule, evidence))
        return found

    def _is_local(self, evidence: tuple[str, ...]) -> bool:
        """Whether the scheme that decided belongs to a country that is on."""
        if not evidence or not evidence[0].startswith("checksum: "):
            return True
        scheme = evidence[0].removeprefix("checksum: ")
        return "." not in scheme or self._locales is None or scheme[:2] in self._locales

    def _allowed(self, value: str) -> bool:
        return " ".join(value.casefold().split()) in self._allow


def _labelled(deny: Iterable[str | tuple[str, str]]) -> list[tuple[str, str]]:
    pairs = [("PERSON", d) if isinstance(d, str) else (d[1], d[0]) for d in deny]
    return [(value, resolve(label).name) for label, value in pairs]


def _country(locale: str) -> str:
    code = locale.replace("_", "-").split("-")[-1].lower()
    if len(code) != 2 or not code.isalpha():
        raise InvalidParameter("locales", found=locale, expected="a country, as 'ES' or 'en-GB'")
    return code


def _mentions(text: str, tagged: Sequence[Finding]) -> list[Finding]:
    """Other places where a name stands that the tagger found once; whole words, exact case."""
    names = {text[f.start : f.end]: f.label for f in tagged if f.label in _NAMES}
    parts = {
        part: "PERSON"
        for name, label in names.items()
        if label == "PERSON"
        for part in name.split()
        if len(part) >= 4 and part[0].isupper() and part[1:].islower()
    }
    every = [(n, label) for n, label in {**parts, **names}.items() if len(n) >= 3]
    found = Terms(every, rule="name.propagated", exact_case=True).find(text) if every else []
    taken = {(f.start, f.end) for f in tagged}
    return [f for f in found if (f.start, f.end) not in taken]
