"""The rows of one session, opened: what the vault's file holds, seen with the keys."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from privacy_core.errors import InvalidParameter
from privacy_runtime.pseudonyms.errors import UnknownKey, VaultRefused
from privacy_runtime.pseudonyms.keys import RedactionKeys
from privacy_runtime.pseudonyms.vault_store import Row, VaultStore

_TAG_BYTES: Final = 16


class SealedRows:
    """Values of one session under names, encrypted with the tenant's key.

    After a rotation rows are written under the new key and found under all that read.
    """

    def __init__(
        self, store: VaultStore, keys: RedactionKeys, tenant: str, session: str, *, ttl_s: float
    ) -> None:
        if not ttl_s > 0:
            raise InvalidParameter("ttl_s", found=ttl_s, expected="more than 0 seconds")
        self.store, self.keys, self.tenant, self.session = store, keys, tenant, session
        self._ttl = timedelta(seconds=ttl_s)
        self._cipher_of = lru_cache(maxsize=16)(AESSIV)

    def value(self, name: str) -> bytes | None:
        """Return what stands under a name, if it has not ended."""
        row = self.store.row(self._tags("session", self.session), name)
        return None if row is None else self._open(row)

    def values(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Yield all names that begin with `prefix`, and what stands under them."""
        for row in self.store.rows(self._tags("session", self.session), prefix):
            yield row.token, self._open(row)

    def add(self, name: str, data: bytes, *, subject: str) -> bytes:
        """Keep `data` under a name; return what stands there, which may be somebody else's."""
        known = self.value(name)
        ends = self.store.now() + self._ttl
        if known is not None:
            self.store.prolong(self._tags("session", self.session), name, ends=ends)
            return known
        key_id = self.keys.key_id
        row = Row(
            session=self._tag("session", self.session, key_id),
            token=name,
            key_id=key_id,
            sealed=self._cipher(key_id).encrypt(data, self._associated(key_id, name)),
            subject=self._tag("subject", subject, key_id) if subject else b"",
        )
        if self.store.add(row, ends=ends):
            return data
        raced = self.value(name)  # another process was first
        return data if raced is None else raced

    def code(self, *parts: bytes, key_id: str = "") -> bytes:
        """Return 32 bytes that name `parts` in this session and tell nothing about them."""
        key = self.keys.derive("vault code", self.tenant, size_bytes=32, key_id=key_id)
        message = b"".join(
            len(part).to_bytes(8, "big") + part for part in (self.session.encode(), *parts)
        )
        return hmac.digest(key, message, "sha256")

    def delete(self) -> int:
        """Delete the session."""
        return self.store.delete(sessions=self._tags("session", self.session))

    def erase_subject(self, subject: str) -> int:
        """Delete what is about a person, in every session of the tenant."""
        return self.store.delete(subjects=self._tags("subject", subject))

    def _open(self, row: Row) -> bytes:
        try:
            cipher = self._cipher(row.key_id)
            return cipher.decrypt(row.sealed, self._associated(row.key_id, row.token))
        except (InvalidTag, UnknownKey):
            raise VaultRefused(
                f"a value of session {self.session!r} does not authenticate: its row was changed "
                "or moved, or its key was retired; nothing was revealed"
            ) from None

    def _associated(self, key_id: str, name: str) -> list[bytes]:
        parts = ("cg1|vault", self.tenant, self.session, key_id, name)
        return [part.encode() for part in parts]

    def _cipher(self, key_id: str) -> AESSIV:
        key = self.keys.derive("vault", self.tenant, size_bytes=64, key_id=key_id)
        return self._cipher_of(key)

    def _tags(self, kind: str, name: str) -> tuple[bytes, ...]:
        return tuple(self._tag(kind, name, key_id) for key_id in self.keys.key_ids)

    def _tag(self, kind: str, name: str, key_id: str) -> bytes:
        """Name a session or a person in the file without saying which."""
        key = self.keys.derive("vault index", self.tenant, size_bytes=32, key_id=key_id)
        return hmac.digest(key, f"{kind}|{name}".encode(), "sha256")[:_TAG_BYTES]
