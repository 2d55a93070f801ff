"""Session tokens: short stand-ins for a model to read, whose values are kept here, encrypted.

    [PERSON_7KQ2M3]   type _ 28 bits of HMAC-SHA256(session's key, type, value)

==============  ===================================================================================
leaks           how much
==============  ===================================================================================
in the text     type; equality of equal spellings inside one session; order. Another session of the
                same tenant gives other tokens, so texts of two sessions cannot be linked by them
in the file     how many values a session and a subject have, their types and lengths, when they
                end; names of sessions and subjects are keyed hashes
==============  ===================================================================================

A value is AES-SIV ciphertext bound to tenant, session and token: a row that was moved is refused.
Rows end after `ttl_s`; `end_session` and `erase_subject` delete theirs at once (SQLite's
secure_delete and a truncated log; a copy of the file keeps what it had, and the tenant's key reads
it: destroy the tenant's key for erasure beyond copies).

A token can be guessed: with n values of a type in a session, one guess hits one of them with
probability n / 2^28 (n / 2^18 with `code_characters=4`; six characters have 30 bits, less what
`marks.is_short_code` asks of a code). Who may show guesses to `reveal` should be counted: guesses
are reported as unknown tokens.

Source: RFC 5297, section 6 (AES-SIV without a nonce); SQLite, "PRAGMA secure_delete".
"""

from __future__ import annotations

import hmac
import re
import sys
from collections.abc import Collection, Iterator
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.marks import LABELS, SHORT_CODE_CHARACTERS, is_short_code
from privacy_core.redaction.operators import Scope
from privacy_runtime.pseudonyms import base32
from privacy_runtime.pseudonyms.errors import VaultRefused
from privacy_runtime.pseudonyms.keys import DEFAULT_TENANT, RedactionKeys
from privacy_runtime.pseudonyms.revealing import (
    Reason,
    Refused,
    Restored,
    Revealed,
    reveal_spans,
)
from privacy_runtime.pseudonyms.vault_rows import SealedRows
from privacy_runtime.pseudonyms.vault_store import VaultStore

DEFAULT_TTL_S: Final = 24 * 3600.0
DEFAULT_CODE_CHARACTERS: Final = 6
_ATTEMPTS: Final = 64
_LABEL: Final = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_FOUND: Final = re.compile(
    r"(?:(?P<open>\\?\[[\s\\]{0,4})"
    r"(?P<words>[A-Za-z][A-Za-z0-9]{0,40}(?:[\s\\_-]{1,4}[A-Za-z0-9]{1,40}){1,6})[\s\\]{0,4}\]"
    r"|(?<![A-Za-z0-9_])(?P<bare>[A-Za-z][A-Za-z0-9]{0,40}(?:\\?_[A-Za-z0-9]{1,40}){1,6}))"
)
LONGEST_TOKEN: Final = 320
# What may be the beginning of a token at the end of a text.
_TAIL: Final = re.compile(
    r"(?:\\|\\?\[[\s\\]{0,4}"
    r"(?:[A-Za-z][A-Za-z0-9]{0,40}(?:[\s\\_-]{1,4}[A-Za-z0-9]{1,40}){0,6}[\s\\_-]{0,4})?"
    r"|(?<![A-Za-z0-9_])[A-Za-z][A-Za-z0-9]{0,40}(?:\\?_[A-Za-z0-9]{1,40}){0,6}\\?_?)\Z"
)
_JOINS: Final = re.compile(r"[\s\\_-]+")


class SessionVault:
    """Gives out session tokens and takes them back; an operator.

    Args:
        store: the file that holds the values; shared by sessions, tenants and processes.
        keys: where keys come from.
        tenant: whose values these are.
        session: name of the conversation; equal names are one session in every process.
        subject: whom the values are about, for `erase_subject`; the scope's subject goes first.
        ttl_s: how long a value is kept after its token was last given out, in seconds.
        code_characters: length of a token's code, 4 to 8.
    """

    name: Final = "session_token"
    reversible: Final = True

    def __init__(
        self,
        store: VaultStore,
        keys: RedactionKeys,
        tenant: str = DEFAULT_TENANT,
        session: str = "default",
        *,
        subject: str = "",
        ttl_s: float = DEFAULT_TTL_S,
        code_characters: int = DEFAULT_CODE_CHARACTERS,
    ) -> None:
        if code_characters not in SHORT_CODE_CHARACTERS:
            raise InvalidParameter("code_characters", found=code_characters, expected="4 to 8")
        self.rows = SealedRows(store, keys, tenant, session, ttl_s=ttl_s)
        self._subject, self._characters = subject, code_characters

    def seal(self, value: str, label: str, *, text: str = "", subject: str = "") -> str:
        """Return the session's token of a value; keep the value.

        Args:
            value: what the token stands for.
            label: entity type.
            text: where the token will stand; a token that it holds already is not newly given.
            subject: whom the value is about.

        Raises:
            InvalidParameter: the value is empty, or the label is not an entity type's name.
            VaultRefused: the file refused, or 64 tokens in a row were taken. Nothing was kept.
            TenantDestroyed: the tenant's key is gone.
        """
        if not value or not _LABEL.fullmatch(label):
            raise InvalidParameter(
                "value or label", found=label, expected="a value, and capitals, digits and '_'"
            )
        data = value.encode("utf-8", "surrogatepass")
        for attempt in range(_ATTEMPTS):
            code = self._code(label, data, attempt)
            token = f"{label}_{code}"
            if not code or (f"[{token}]" in text and self.rows.value(token) is None):
                continue  # somebody's own words; they must not come back as this value
            kept = self.rows.add(token, data, subject=subject or self._subject)
            if hmac.compare_digest(kept, data):
                return f"[{token}]"
        raise VaultRefused(
            f"{_ATTEMPTS} tokens of type {label} in a row were taken; use longer codes or another "
            "session. Nothing was kept"
        )

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return the session's token of a value, as an operator."""
        return self.seal(value, finding.label, text=scope.text, subject=scope.subject)

    def reveal(self, text: str, labels: Collection[str] | None = None) -> Revealed:
        """Put the values of this session's tokens back.

        Args:
            text: holds tokens, possibly mangled.
            labels: entity types that may be revealed; all if left out.

        Raises:
            VaultRefused: the file refused.
            TenantDestroyed: the tenant's key is gone.
        """
        return reveal_spans(text, self.tokens_from(text, 0, labels))

    def is_authentic(self, token: str) -> bool:
        """Whether a text is one token that this session gave out."""
        found = list(self.tokens_from(token, 0))
        return (
            len(found) == 1
            and isinstance(found[0], Restored)
            and (found[0].start, found[0].end) == (0, len(token))
        )

    def end_session(self) -> int:
        """Delete all values of the session; return how many there were."""
        return self.rows.delete()

    def erase_subject(self, subject: str) -> int:
        """Delete all values about a person, in every session of the tenant; return how many."""
        return self.rows.erase_subject(subject)

    def __repr__(self) -> str:
        return f"SessionVault(tenant={self.rows.tenant!r}, store={self.rows.store!r})"

    def tokens_from(
        self,
        text: str,
        start: int,
        labels: Collection[str] | None = None,
        longest: int = sys.maxsize,
    ) -> Iterator[Restored | Refused]:
        """Yield the tokens that begin at `start` or behind. See `streams.TokenReader`."""
        del longest  # no token is longer than `LONGEST_TOKEN`
        if "_" not in text and "[" not in text:
            return
        for match in _FOUND.finditer(text, start):
            token = _read_token(match["words"] or match["bare"])
            if token is None:
                continue
            first, end = match.span()
            if text[first] == "\\" and text[end - 2] != "\\":
                first += 1  # the text's own backslash before the token
            label = token.rpartition("_")[0]
            value = self.rows.value(token)
            if value is None:
                if match["open"] is not None and label in LABELS:
                    yield Refused(first, end, label, Reason.UNKNOWN_CODE)
            elif labels is not None and label not in labels:
                yield Refused(first, end, label, Reason.NOT_ALLOWED)
            else:
                yield Restored(first, end, label, value.decode("utf-8", "surrogatepass"))

    def undecided_from(self, text: str, start: int, longest: int) -> int:
        """Where a token may begin that is not all there. See `streams.TokenReader`."""
        del longest
        tail = _TAIL.search(text, max(start, len(text) - LONGEST_TOKEN))
        return len(text) if tail is None else tail.start()

    def _code(self, label: str, data: bytes, attempt: int) -> str:
        """Return the attempt-th code of a value; "" for the few digests that hold none."""
        digest = self.rows.code(label.encode(), data, bytes([attempt]))
        spelled = base32.encode(digest)
        codes = (spelled[k : k + self._characters] for k in range(48 - self._characters))
        return next((code for code in codes if is_short_code(code)), "")


def _read_token(words: str) -> str | None:
    """Return the token that was meant, if the words have the form of one."""
    *label, code = _JOINS.split(words)
    code = base32.normalise(code)
    return f"{'_'.join(label).upper()}_{code}" if is_short_code(code) else None
