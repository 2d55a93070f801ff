"""Surrogates: values that read like the real ones, the same one for the same entity.

    John Smith, (212) 664-7665, 4539 1488 0343 6467  ->  Mark Lopez, (640) 555-0147, 4000 0051 ...

What a surrogate is drawn from: HMAC-SHA256(key, type, canonical value). So one entity has one
surrogate in all texts of a tenant, as long as the key and Faker's version stay.

======================  ===========================================================================
leaks                   how much
======================  ===========================================================================
type                    as much as a real value tells
equality                of canonical values, for one tenant and key; a word of a name for itself
layout, length          of numbers
dates                   all of a person's by one step (`date_shifts`)
which is which          nothing says that a value is a surrogate, so what the detector missed is
                        hidden among them. A reader must be told that values were replaced
======================  ===========================================================================

A candidate is refused, and the next drawn, if it is the value, stands in the text, stands for
another value of the scope, or has a word of a name or place that was replaced in the scope.

==================  ===============================================================================
without a vault     there is no way back. Nothing is remembered beyond the scope (a document, a
                    record): what stands for a value depends on no other document. So two people
                    of two documents can have one surrogate, and a second pass replaces surrogates
                    again, because nothing tells them from values
with a vault        the way back is exact for every spelling, and no two values of a session share
                    a surrogate: what was given to one document decides what another gets. A
                    surrogate that the session gave out is left as it is; if it is by chance the
                    real name of somebody in a later text, it stays as well
==================  ===============================================================================

Dates are always shifted: a second pass shifts them again.
"""

from __future__ import annotations

import hmac
import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from ahocorasick_rs import AhoCorasick, MatchKind

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.canonical_forms import canonical
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Operator, Placeholder, Scope
from privacy_runtime.pseudonyms import base32, date_shifts, surrogate_values
from privacy_runtime.pseudonyms.errors import NoSurrogate
from privacy_runtime.pseudonyms.keys import DEFAULT_TENANT, RedactionKeys
from privacy_runtime.pseudonyms.revealing import Reason, Refused, Restored, Revealed, reveal_spans
from privacy_runtime.pseudonyms.surrogate_values import Chance
from privacy_runtime.pseudonyms.vault_rows import SealedRows

_ATTEMPTS: Final = 64
_DATES: Final = frozenset({"DATE", "DATE_OF_BIRTH"})
_REMEMBERED: Final = 100_000
_PREFIX: Final = "~"
_WORDY: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "USERNAME"})
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_UNSAFE: Final = frozenset('"\\<>&')


@dataclass(slots=True)
class _Memory:
    """What is known inside one scope: what surrogates stand for, and words of names and places."""

    given: OrderedDict[str, tuple[str, str]] = field(default_factory=OrderedDict, repr=False)
    real: OrderedDict[str, None] = field(default_factory=OrderedDict, repr=False)


class SurrogateMaker:
    """Replaces values by surrogates; an operator.

    Args:
        keys: where keys come from.
        tenant: whose values these are.
        rows: `SessionVault.rows`, where the way back is kept; none without.
        locale: of Faker's lists, and of dates such as 03/04/2020.
        otherwise: what replaces values that have no surrogate (secrets, ages, odd dates).
        region: two-letter country of telephone numbers that name none.
    """

    name: Final = "surrogate"

    def __init__(
        self,
        keys: RedactionKeys,
        tenant: str = DEFAULT_TENANT,
        *,
        rows: SealedRows | None = None,
        locale: str = "en_US",
        otherwise: Operator | None = None,
        region: str | None = None,
    ) -> None:
        if rows is not None and rows.tenant != tenant:
            raise InvalidParameter("rows", found="another tenant's", expected="the tenant's own")
        self._keys, self.tenant, self._rows = keys, tenant, rows
        self._locale, self._region = locale, region
        self._otherwise = Placeholder() if otherwise is None else otherwise
        self._lock = threading.Lock()  # Faker has one generator

    @property
    def reversible(self) -> bool:
        """Whether a vault keeps the way back, also of what has no surrogate."""
        return self._rows is not None and self._otherwise.reversible

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return the surrogate of a value, as an operator.

        Raises:
            NoSurrogate: 64 candidates in a row stood in the text or for other values.
            TenantUnknown: the tenant has no key.
            TenantDestroyed: it had one.
        """
        label = finding.label
        with self._lock:
            if label in _DATES:
                stands = self._shifted(value, label, scope)
            elif label == "PERSON" or label in surrogate_values.MAKERS:
                is_kept = self._rows is not None and self._is_given(value, scope)
                stands = value if is_kept else self._made(value, label, scope)
            else:
                stands = None
        return self._otherwise.replace(value, finding, scope) if stands is None else stands

    def reveal(self, text: str, labels: Collection[str] | None = None) -> Revealed:
        """Put the values of this session's surrogates back.

        A surrogate is found where it stands as given out, between signs that are no letters or
        digits; the longest first. A language model that bends a name ("Lopez's" is found,
        "the Lopezes" is not) leaves a surrogate behind, which nobody can tell.

        Args:
            text: holds surrogates.
            labels: entity types that may be revealed; all if left out.

        Raises:
            InvalidParameter: there is no vault.
            VaultRefused: the file refused, or a row was changed.
        """
        if self._rows is None:
            raise InvalidParameter("rows", found=None, expected="a vault, which keeps the way back")
        known = {s: (label, v) for s, label, v in self._kept()}
        return reveal_spans(text, _found(text, known, labels))

    def __repr__(self) -> str:
        return f"SurrogateMaker(key_id={self._keys.key_id!r}, tenant={self.tenant!r})"

    def _made(self, value: str, label: str, scope: Scope) -> str:
        known = canonical(label, value, region=self._region)
        self._note_words(value, label, scope)
        for attempt in range(_ATTEMPTS):
            stands = self._candidate(value, label, known, attempt)
            if canonical(label, stands, region=self._region) == known or _UNSAFE & {*stands}:
                continue
            if self._keep(stands, label, value, scope):
                return stands
        raise NoSurrogate(
            f"{_ATTEMPTS} surrogates of type {label} in a row stand in the text or for other "
            "values; nothing was replaced"
        )

    def _candidate(self, value: str, label: str, known: str, attempt: int) -> str:
        lists = surrogate_values.faces(self._locale)
        if label == "PERSON":
            return surrogate_values.person(
                value, lambda word: self._chance("word", word, attempt), lists
            )
        make = surrogate_values.MAKERS[label]
        return make(value, self._chance(label, known, attempt), lists)

    def _shifted(self, value: str, label: str, scope: Scope) -> str | None:
        days = date_shifts.offset_days(self._chance("dates", scope.subject, 0).seed)
        month_first = self._locale.endswith("_US")
        stands = date_shifts.shifted(value, days, month_first=month_first)
        if stands is None or self._rows is None:
            return stands
        return stands if self._remember(stands, label, value, scope) else None

    def _chance(self, purpose: str, known: str, attempt: int) -> Chance:
        key = self._keys.derive("surrogate", self.tenant, size_bytes=32)
        message = f"{purpose}\0{known}\0{attempt}".encode("utf-8", "surrogatepass")
        return Chance(hmac.digest(key, message, "sha512"))

    def _keep(self, stands: str, label: str, value: str, scope: Scope) -> bool:
        """Keep what a candidate stands for, unless it is taken or stands in the text."""
        if not self._is_given(stands, scope):
            if stands.casefold() in scope.text.casefold():
                return False
            real = scope.memory(self, _Memory).real
            if any(word in real for word in _WORD.findall(stands.casefold())):
                return False
        return self._remember(stands, label, value, scope)

    def _note_words(self, value: str, label: str, scope: Scope) -> None:
        if label not in _WORDY:
            return
        real = scope.memory(self, _Memory).real
        for word in _WORD.findall(value.casefold()):
            if word not in surrogate_values.TITLES:
                real[word] = None
                real.move_to_end(word)
        while len(real) > _REMEMBERED:
            real.popitem(last=False)

    def _is_given(self, stands: str, scope: Scope) -> bool:
        if self._rows is None:
            return stands in scope.memory(self, _Memory).given
        names = self._row_names(self._rows, stands)
        return any(self._rows.value(name) is not None for name in names)

    def _remember(self, stands: str, label: str, value: str, scope: Scope) -> bool:
        """Keep what a surrogate stands for; say whether it stands for this and nothing else."""
        if self._rows is None:
            given = scope.memory(self, _Memory).given
            meaning = (label, canonical(label, value, region=self._region))
            kept = given.setdefault(stands, meaning)
            given.move_to_end(stands)
            if len(given) > _REMEMBERED:
                given.popitem(last=False)
            return kept == meaning
        data = _packed(stands, label, value)
        name, *older = self._row_names(self._rows, stands)
        earlier = next((held for n in older if (held := self._rows.value(n)) is not None), None)
        held = self._rows.add(name, data, subject=scope.subject) if earlier is None else earlier
        return hmac.compare_digest(held, data)

    def _row_names(self, rows: SealedRows, stands: str) -> list[str]:
        """Name a surrogate's row under every key that reads, the sealing one first."""
        codes = (rows.code(b"surrogate", _bytes(stands), key_id=k) for k in self._keys.key_ids)
        return [_PREFIX + base32.encode(code[:20]) for code in codes]

    def _kept(self) -> Iterator[tuple[str, str, str]]:
        for _, data in self._rows.values(_PREFIX) if self._rows else ():
            yield _unpacked(data)


def _found(
    text: str, known: dict[str, tuple[str, str]], labels: Collection[str] | None
) -> Iterator[Restored | Refused]:
    """Yield the surrogates of a text, the longest first where they overlap."""
    if not known:
        return
    surrogates = list(known)
    search = AhoCorasick(surrogates, matchkind=MatchKind.LeftmostLongest)
    for which, start, end in search.find_matches_as_indexes(text):
        if _goes_on(text, start - 1, start) or _goes_on(text, end - 1, end):
            continue
        label, value = known[surrogates[which]]
        if labels is not None and label not in labels:
            yield Refused(start, end, label, Reason.NOT_ALLOWED)
        else:
            yield Restored(start, end, label, value)


def _goes_on(text: str, before: int, after: int) -> bool:
    """Whether two neighbouring signs belong to one word."""
    if before < 0 or after >= len(text):
        return False
    return text[before].isalnum() and text[after].isalnum()


def _packed(stands: str, label: str, value: str) -> bytes:
    parts = (label.encode("ascii"), _bytes(stands), _bytes(value))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _unpacked(data: bytes) -> tuple[str, str, str]:
    parts = []
    while data:
        size = int.from_bytes(data[:4], "big")
        parts.append(data[4 : 4 + size].decode("utf-8", "surrogatepass"))
        data = data[4 + size :]
    label, stands, value = parts
    return stands, label, value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
