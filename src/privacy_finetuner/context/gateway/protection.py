"""What the gateway asks of redaction: find, replace, and give back, for one session.

The proxy knows only the protocols on this page; `sessions` wires the product's detector and vault
behind them. Everything here may be called from several threads at once.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right, insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from privacy_core.redaction.findings import Detector
from privacy_core.redaction.marks import blanked, find_marks
from privacy_finetuner.context.gateway.known_values import KnownValues
from privacy_finetuner.context.pieces import digits_of


@dataclass(frozen=True, slots=True)
class Spot:
    """One sensitive span of a text, in code points. `rule` says what decided."""

    start: int
    end: int
    label: str
    rule: str


@dataclass(frozen=True, slots=True)
class TokenSpot:
    """One span of a text that has the form of a token.

    `value` is what it stands for; `None` when this session did not issue it as it is. No `repr`
    shows it.
    """

    start: int
    end: int
    label: str
    value: str | None = field(default=None, repr=False)


class Tokens(Protocol):
    """A session's tokens: the same value of the same type has one token, in both directions."""

    def token(self, value: str, label: str) -> str:
        """Return the token of a value, a new one when it has none."""
        ...

    def read(self, text: str) -> Sequence[TokenSpot]:
        """Return every span of a text that has the form of a token, in order."""
        ...

    def fingerprint(self, value: str, label: str) -> str:
        """Return a keyed hash of a value, for the audit trail."""
        ...


class Protector(Protocol):
    """One session's view of redaction.

    `prompt_bytes`: messages up to this size are examined within milliseconds, whatever is in them;
    0 when nobody knows. Larger ones get a thread and a deadline.
    """

    tokens: Tokens
    prompt_bytes: int

    def detect(
        self, text: str, hints: Sequence[str] = (), *, is_address: bool = False
    ) -> Sequence[Spot]:
        """Return what is sensitive in a text by itself. May be slow; nothing is remembered.

        Args:
            text: any string.
            hints: names beside it.
            is_address: it is a URI that stays one; what matters is what its parts carry.
        """
        ...

    def standing(self, text: str, detected: Sequence[Spot]) -> Sequence[Spot]:
        """Return what was detected and what the session knows: in order, disjoint, not tokens."""
        ...

    def learn(self, value: str, label: str) -> None:
        """Remember that a value is sensitive, wherever it occurs from now on in this session."""
        ...


# Digits under these keys are what the key says, whatever a checksum thinks of them.
_SENSITIVE_KEYS: Final = {
    "ssn": "US_SSN",
    "socialsecuritynumber": "US_SSN",
    "socialsecurity": "US_SSN",
    "nationalid": "NATIONAL_ID",
    "taxid": "TAX_ID",
    "passport": "PASSPORT",
    "passportnumber": "PASSPORT",
    "mrn": "MEDICAL_RECORD",
    "medicalrecordnumber": "MEDICAL_RECORD",
    "patientid": "MEDICAL_RECORD",
    "creditcard": "PAYMENT_CARD",
    "cardnumber": "PAYMENT_CARD",
    "ccnumber": "PAYMENT_CARD",
    "phone": "PHONE",
    "phonenumber": "PHONE",
    "mobile": "PHONE",
    "telephone": "PHONE",
    "accountnumber": "BANK_ACCOUNT",
    "iban": "IBAN",
    "password": "SECRET",
    "passwd": "SECRET",
    "pin": "SECRET",
    "cvv": "SECRET",
    "cvc": "SECRET",
    "secret": "SECRET",
    "clientsecret": "SECRET",
    "apikey": "SECRET",
    "accesstoken": "SECRET",
    "authtoken": "SECRET",
    "privatekey": "SECRET",
}
SHORT: Final = 64
PLAIN_MAX: Final = 5000
ADDRESS: Final = "URL"
_PARTS: Final = re.compile(r"[^/?&=#]+")
_LONGEST_KEY: Final = max(map(len, _SENSITIVE_KEYS))


def label_of_key(hints: Sequence[str]) -> str | None:
    """The type that the nearest key gives to what stands under it, when it is an obvious one."""
    if not hints or len(hints[-1]) > 2 * _LONGEST_KEY:
        return None
    key = "".join(letter for letter in hints[-1].casefold() if letter.isalnum())
    return _SENSITIVE_KEYS.get(key)


class SessionProtector:
    """A detector, a session's tokens, and what the session already knows to be sensitive.

    Guarantee: a value that was learned once is found again wherever it stands between word borders,
    also where the detector alone would not see it (bounds: `known_values`).

    Args:
        detector: finds; fresh for this session, or safe to share.
        tokens: of this session.
        level: which types count.
        keep: types that everybody may see.
        prompt_bytes: what the detector is known to examine within milliseconds; see `Protector`.
    """

    def __init__(
        self,
        detector: Detector,
        tokens: Tokens,
        *,
        level: str = "medium",
        keep: Collection[str] = (),
        prompt_bytes: int = 0,
    ) -> None:
        self.tokens = tokens
        self.prompt_bytes = prompt_bytes
        self._detector = detector
        self._level = level
        self._keep = frozenset(keep)
        self._known = KnownValues()
        self._plain: set[tuple[str, Sequence[str]]] = set()
        self._lock = threading.Lock()

    def detect(
        self, text: str, hints: Sequence[str] = (), *, is_address: bool = False
    ) -> Sequence[Spot]:
        """See `Protector`. A text under a key that says what it is counts as a whole."""
        hints = tuple(hints)
        if not text.strip():
            return ()
        if is_address:
            return self._in_address(text, 0, len(text))
        label = label_of_key(hints)
        if label is not None and label not in self._keep:
            return (Spot(len(text) - len(text.lstrip()), len(text.rstrip()), label, "key"),)
        is_short = len(text) <= SHORT
        if is_short and (text, hints) in self._plain:
            return ()
        spots = self._number(text, hints)
        if spots:
            return spots
        # A word inside a mark is said about nobody.
        seen = blanked(text, find_marks(text))
        for finding in self._detector.detect(seen, level=self._level, hints=hints):
            if finding.label not in self._keep:
                spots.append(Spot(finding.start, finding.end, finding.label, finding.rule))
            elif finding.label == ADDRESS:
                # Everybody may see addresses, and still nothing else that is written in one.
                spots += self._in_address(text, finding.start, finding.end)
        if is_short and not spots:
            self._remember_plain(text, hints)
        return spots

    def _number(self, text: str, hints: tuple[str, ...]) -> list[Spot]:
        """A whole number that was written as a fraction, if it is somebody's."""
        digits = digits_of(text)
        found = (
            () if digits is None else self._detector.detect(digits, level=self._level, hints=hints)
        )
        return [
            Spot(0, len(text), finding.label, finding.rule)
            for finding in found
            if finding.label not in self._keep
        ][:1]

    def _remember_plain(self, text: str, hints: Sequence[str]) -> None:
        """Names of fields and the like come again with every message; nothing is in them."""
        with self._lock:
            if len(self._plain) >= PLAIN_MAX:
                self._plain.clear()
            self._plain.add((text, hints))

    def _in_address(self, text: str, start: int, end: int) -> list[Spot]:
        return [
            Spot(part.start() + found.start, part.start() + found.end, found.label, found.rule)
            for part in _PARTS.finditer(text, start, end)
            for found in self._detector.detect(part[0], level=self._level)
            if found.label != ADDRESS and found.label not in self._keep
        ]

    def standing(self, text: str, detected: Sequence[Spot]) -> Sequence[Spot]:
        """See `Protector`."""
        with self._lock:
            known = self._known.find(text)
        if not detected and not known:
            return ()
        spots = [*detected, *(Spot(start, end, label, "known") for start, end, label in known)]
        # A genuine token, or a mark of another session letter by letter: `[Passport X1234567]` has
        # the form of a token that a model bent, and is a passport number.
        taken = [(one.start, one.end) for one in self.tokens.read(text) if one.value is not None]
        taken += [(mark.start, mark.end) for mark in find_marks(text)]
        first = spots[0]
        if not taken and all(spot.start == first.start and spot.end == first.end for spot in spots):
            spots = [first]  # the usual text is one value, found once more because it is known
        else:
            spots = list(disjoint(spots, taken))
        return tuple(spot for spot in spots if any(map(str.isalnum, text[spot.start : spot.end])))

    def learn(self, value: str, label: str) -> None:
        """See `Protector`."""
        with self._lock:
            self._known.add(value, label)


def disjoint(spots: Sequence[Spot], taken: Sequence[tuple[int, int]]) -> tuple[Spot, ...]:
    """Return spots in order, none overlapping: earlier ones in the list win, and `taken` ones.

    What is left of a spot beside one that won is kept as a spot of its own: nothing that was found
    may stay in clear because something else was found inside it.
    """
    won: list[tuple[int, int]] = _joined(taken)
    kept: list[Spot] = []
    for spot in spots:
        first = max(bisect_right(won, (spot.start, spot.start)) - 1, 0)
        pieces = _without(spot.start, spot.end, won, first)
        kept += [Spot(start, end, spot.label, spot.rule) for start, end in pieces]
        for piece in pieces:
            insort(won, piece)
    return tuple(sorted(kept, key=lambda spot: spot.start))


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in order, overlapping ones as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _without(
    start: int, end: int, taken: Sequence[tuple[int, int]], first: int
) -> list[tuple[int, int]]:
    """The pieces of a span that no taken span covers; `taken` is in order, and none overlap.

    Those before `first` end before the span.
    """
    pieces = []
    for index in range(first, len(taken)):
        low, high = taken[index]
        if low >= end:
            break
        if high <= start:
            continue
        if low > start:
            pieces.append((start, low))
        start = max(start, high)
    if start < end:
        pieces.append((start, end))
    return pieces
