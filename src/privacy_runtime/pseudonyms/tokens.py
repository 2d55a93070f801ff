"""Sealed tokens: the value itself, encrypted, in the text. Nothing is stored anywhere.

    [EMAIL:7KQ2:9X4T...]   type : key id : base 32 of AES-SIV(key, value; "cg1", key id, type)

**Guarantee**: without the tenant's key a token tells what the table says and nothing else; any
change of its type, key id or ciphertext is refused with probability 1 - 2^-128 a trial. Keys are
64 bytes (AES-256 in both halves), from HKDF for each tenant.

====================  =============================================================================
what leaks            how much
====================  =============================================================================
type                  in clear
equality              equal spellings of one type give one token, for one tenant and key: frequent
                      values can be guessed from their frequency, and co-occurrence is visible
length                to the byte (UTF-8); with `pad=True` to the next of 16, 32, 64, 128, ... bytes
order                 where in the text values of this type stand
====================  =============================================================================

Reading is forgiving towards what language models and mailers do: lower case, O for 0, I and L for
1, lost or escaped brackets, back-ticks, quotes, bold, a possessive behind it, blanks and line
breaks inside. What does not authenticate stays as it is and is reported. Deterministic encryption
is pseudonymisation, not anonymisation (GDPR, recital 26): while a key exists it is personal data.

Sources: RFC 5297 (AES-SIV), section 6 for the determinism; notes of Tink on key sizes of AES-SIV.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.marks import KEY_ID_CHARACTERS, SHORTEST_SEALED
from privacy_core.redaction.operators import Scope
from privacy_runtime.pseudonyms import base32
from privacy_runtime.pseudonyms.errors import UnknownKey
from privacy_runtime.pseudonyms.keys import DEFAULT_TENANT, RedactionKeys
from privacy_runtime.pseudonyms.revealing import (
    Reason,
    Refused,
    Restored,
    Revealed,
    reveal_spans,
)

_KEY_BYTES: Final = 64
_PURPOSE: Final = "siv"
_EXACT: Final = b"cg1"
_PADDED: Final = b"cg1|padded"
_SMALLEST_BUCKET: Final = 16
_MOST_PIECES: Final = 12

_LABEL: Final = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_BLANK: Final = r"[\s\\]{0,4}"
# A colon with a key id behind it. The colon alone is taken: the next one may be another's first.
_KEY_ID: Final = re.compile(
    rf":(?={_BLANK}([0-9A-Za-z]{{{KEY_ID_CHARACTERS}}}){_BLANK}:({_BLANK}))"
)
_BEFORE: Final = re.compile(
    rf"(\\?\[{_BLANK})?(?<![A-Za-z0-9])([A-Za-z](?:\\?[A-Za-z0-9_]){{1,63}}){_BLANK}\Z"
)
_BEFORE_CHARACTERS: Final = 140
# What may be the beginning of a token whose ciphertext has not begun, at the end of a text.
_TAIL: Final = re.compile(
    rf"(?:\\?\[{_BLANK})?(?:(?<![A-Za-z0-9])[A-Za-z](?:\\?[A-Za-z0-9_]){{0,63}})?{_BLANK}"
    rf"(?::{_BLANK}(?:[0-9A-Za-z]{{0,{KEY_ID_CHARACTERS}}}"
    rf"|[0-9A-Za-z]{{{KEY_ID_CHARACTERS}}}{_BLANK}(?::{_BLANK})?))?\Z"
)
_TAIL_CHARACTERS: Final = 192
_BODY: Final = re.compile(r"[0-9A-Za-z]+")
_BETWEEN: Final = re.compile(r"[\s\\]{1,8}")
_CLOSING: Final = re.compile(r"[\s\\]{0,4}\]")


@dataclass(frozen=True, slots=True)
class _Candidate:
    start: int
    is_bracketed: bool
    label: str
    key_id: str
    ends: tuple[int, ...]  # where its ciphertext may end, the farthest first
    body: int  # where its ciphertext begins
    seen: int  # what stands before it decides all of this


class TokenCipher:
    """Seals values into tokens and reveals them; an operator.

    Args:
        keys: where keys come from.
        tenant: whose values these are; the tokens of one tenant are noise to another.
        pad: hide lengths behind buckets. Does not change what is read.
    """

    name: Final = "seal"
    reversible: Final = True

    def __init__(
        self, keys: RedactionKeys, tenant: str = DEFAULT_TENANT, *, pad: bool = False
    ) -> None:
        self._keys, self.tenant, self._pad = keys, tenant, pad
        self._ciphers: dict[bytes, AESSIV] = {}

    def seal(self, value: str, label: str) -> str:
        """Return the token of a value.

        Raises:
            InvalidParameter: the value is empty, or the label is not an entity type's name.
            TenantUnknown: the tenant has no key.
            TenantDestroyed: it had one.
        """
        if not value:
            raise InvalidParameter("value", found="", expected="at least one character")
        if not _LABEL.fullmatch(label):
            raise InvalidParameter("label", found=label, expected="capitals, digits and '_'")
        key_id = self._keys.key_id
        data = value.encode("utf-8", "surrogatepass")
        scheme = _EXACT
        if self._pad:
            data, scheme = _padded(data), _PADDED
        sealed = self._cipher(key_id).encrypt(data, _associated(scheme, key_id, label))
        return f"[{label}:{key_id}:{base32.encode(sealed)}]"

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return the token of a value, as an operator."""
        del scope
        return self.seal(value, finding.label)

    def reveal(self, text: str, labels: Collection[str] | None = None) -> Revealed:
        """Put the values of genuine tokens back.

        Args:
            text: holds tokens, possibly mangled; time is linear in its length.
            labels: entity types that may be revealed; all if left out.

        Raises:
            TenantDestroyed: nothing of this tenant can be read any more.
        """
        return reveal_spans(text, self.tokens_from(text, 0, labels))

    def tokens_from(
        self,
        text: str,
        start: int,
        labels: Collection[str] | None = None,
        longest: int = sys.maxsize,
    ) -> Iterator[Restored | Refused]:
        """Yield the tokens that begin at `start` or behind. See `streams.TokenReader`."""
        done = start
        for candidate in _candidates(text, start, longest):
            if candidate.start < done or not candidate.ends:
                continue
            token = self._open(text, candidate)
            if token is None:
                continue
            done = token.end
            if labels is not None and token.label not in labels and isinstance(token, Restored):
                token = Refused(token.start, token.end, token.label, Reason.NOT_ALLOWED)
            yield token

    def undecided_from(self, text: str, start: int, longest: int) -> int:
        """Where a token may begin that is not all there. See `streams.TokenReader`."""
        whole = (
            candidate.start
            for candidate in _candidates(text, start, longest)
            if candidate.seen >= len(text)
        )
        tail = _TAIL.search(text, max(start, len(text) - _TAIL_CHARACTERS))
        return min(next(whole, len(text)), len(text) if tail is None else tail.start())

    def is_authentic(self, token: str) -> bool:
        """Whether a text is one genuine token of this tenant."""
        found = list(self.tokens_from(token, 0))
        return (
            len(found) == 1
            and isinstance(found[0], Restored)
            and (found[0].start, found[0].end) == (0, len(token))
        )

    def rewrap(self, text: str) -> Revealed:
        """Seal the tokens of a text again with the key that seals now; refused ones stay."""
        found = (
            Restored(t.start, t.end, t.label, self.seal(t.value, t.label))
            if isinstance(t, Restored)
            else t
            for t in self.tokens_from(text, 0)
        )
        return reveal_spans(text, found)

    def __repr__(self) -> str:
        return f"TokenCipher(key_id={self._keys.key_id!r}, tenant={self.tenant!r})"

    def _open(self, text: str, candidate: _Candidate) -> Restored | Refused | None:
        """Try every place where the ciphertext may end."""
        reason = Reason.NOT_AUTHENTIC
        for end in candidate.ends:
            body = "".join(_BODY.findall(text, candidate.body, end))
            if len(body) < SHORTEST_SEALED:
                continue
            try:
                value = self._decrypt(body, candidate)
            except UnknownKey:
                reason = Reason.UNKNOWN_KEY
                break
            if value is not None:
                first, last = _span_of(text, candidate, end)
                return Restored(first, last, candidate.label, value)
        longest = "".join(_BODY.findall(text, candidate.body, candidate.ends[0]))
        is_prose = reason is Reason.UNKNOWN_KEY and not candidate.is_bracketed
        if is_prose or len(longest) < SHORTEST_SEALED:
            return None
        first, last = _span_of(text, candidate, candidate.ends[0])
        return Refused(first, last, candidate.label, reason)

    def _decrypt(self, body: str, candidate: _Candidate) -> str | None:
        sealed = base32.decode(body)
        cipher = self._cipher(candidate.key_id)
        if sealed is None:
            return None
        for scheme in (_EXACT, _PADDED):
            try:
                data = cipher.decrypt(
                    sealed, _associated(scheme, candidate.key_id, candidate.label)
                )
            except InvalidTag:
                continue
            data = data.rstrip(b"\0")[:-1] if scheme is _PADDED else data
            return data.decode("utf-8", "surrogatepass")
        return None

    def _cipher(self, key_id: str) -> AESSIV:
        key = self._keys.derive(_PURPOSE, self.tenant, size_bytes=_KEY_BYTES, key_id=key_id)
        cipher = self._ciphers.get(key)
        if cipher is None:
            if len(self._ciphers) > 16:
                self._ciphers.clear()
            cipher = self._ciphers[key] = AESSIV(key)
        return cipher


def _associated(scheme: bytes, key_id: str, label: str) -> list[bytes]:
    return [scheme, key_id.encode("ascii"), label.encode("ascii")]


def _padded(data: bytes) -> bytes:
    """Append 0x80 and zeros up to the next bucket (ISO/IEC 7816-4)."""
    size = _SMALLEST_BUCKET
    while size < len(data) + 1:
        size *= 2
    return (data + b"\x80").ljust(size, b"\0")


def _candidates(text: str, start: int, longest: int) -> Iterator[_Candidate]:
    """Yield what has the form of a token behind `start`, in order; also what may yet become one."""
    for match in _KEY_ID.finditer(text, start):
        head = text[max(0, match.start() - _BEFORE_CHARACTERS) : match.start()]
        before = _BEFORE.search(head)
        if before is None:
            continue
        bracket, label = before.groups()
        first = match.start() - len(head) + before.start()
        pieces, seen = _pieces(text, match.end(2), first + longest)
        yield _Candidate(
            start=first,
            is_bracketed=bracket is not None,
            label=label.replace("\\", "").upper(),
            key_id=base32.normalise(match.group(1)),
            ends=tuple(_ends(text, match.end(2), pieces, is_bracketed=bracket is not None)),
            body=match.end(2),
            seen=seen,
        )


def _pieces(text: str, position: int, limit: int) -> tuple[list[int], int]:
    """Where the pieces of a ciphertext end, and how far one must see to know that."""
    ends: list[int] = []
    while len(ends) < _MOST_PIECES and (piece := _BODY.match(text, position)):
        if piece.end() > limit:
            return ends, position
        ends.append(piece.end())
        between = _BETWEEN.match(text, piece.end())
        if between is None:
            return ends, piece.end()
        position = between.end()
    return ends, position


def _ends(text: str, start: int, ends: list[int], *, is_bracketed: bool) -> Iterator[int]:
    """Yield where a ciphertext may end: at its bracket, or else at every blank, farthest first."""
    if not ends:
        return
    if is_bracketed and _CLOSING.match(text, ends[-1]):
        yield ends[-1]
        return
    for end in reversed(ends):
        yield end
        if end - start > SHORTEST_SEALED and text[end - 1] in "sS":
            yield end - 1  # a plural or possessive without its apostrophe


def _span_of(text: str, candidate: _Candidate, end: int) -> tuple[int, int]:
    """Where a token begins and ends, brackets included, and their backslashes if both have one."""
    if not candidate.is_bracketed:
        return candidate.start, end
    closing = _CLOSING.match(text, end)
    last = closing.end() if closing else end
    is_escaped = text[candidate.start] == "\\"
    if is_escaped and text[last - 2] != "\\":
        return candidate.start + 1, last  # the text's own backslash before the token
    return candidate.start, last
