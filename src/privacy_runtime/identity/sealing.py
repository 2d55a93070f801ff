"""Secrets that must be read again (TOTP seeds): AES-256-GCM under a derived key.

There is no key file of this room's own: it takes any keys that derive by purpose, which the
redaction keys do (`privacy_runtime.pseudonyms.RedactionKeys`, a file of mode 0600 with rotation).
The row's owner is authenticated with the text, so a seed copied to another account does not open.

    sealed = version (1) | length of key id (1) | key id | nonce (12) | ciphertext and tag

Source: NIST SP 800-38D (GCM; random 96-bit nonces, far below 2^32 seals a key).
"""

from __future__ import annotations

import hmac
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy_core.errors import PrivacyError
from privacy_runtime.identity.errors import SealBroken
from privacy_runtime.world import Entropy

_VERSION: Final = 1
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_LOOKUP_BYTES: Final = 16


class DerivedKeys(Protocol):
    """Working keys by purpose, under a master that may be rotated."""

    @property
    def key_id(self) -> str:
        """Id of the master that seals now."""
        ...

    def derive(
        self, purpose: str, tenant: str = ..., *, size_bytes: int, key_id: str = ""
    ) -> bytes:
        """Return the key of a purpose; of an older master where `key_id` names one."""
        ...


class Seal:
    """Seals and opens; and names things without saying them.

    Args:
        keys: where keys are derived from. A retired master opens nothing any more.
        entropy: nonces come from here.
    """

    def __init__(self, keys: DerivedKeys, entropy: Entropy) -> None:
        self._keys = keys
        self._entropy = entropy

    def seal(self, data: bytes, *, purpose: str, owner: str) -> bytes:
        """Encrypt for one purpose and one owner."""
        kid = self._keys.key_id
        nonce = self._entropy.token_bytes(_NONCE_BYTES)
        head = bytes([_VERSION, len(kid)]) + kid.encode()
        cipher = AESGCM(self._keys.derive(f"identity {purpose}", size_bytes=32, key_id=kid))
        return head + nonce + cipher.encrypt(nonce, data, head + _owner(purpose, owner))

    def open(self, sealed: bytes, *, purpose: str, owner: str) -> bytes:
        """Decrypt.

        Raises:
            SealBroken: changed, for another purpose or owner, or its key is gone.
        """
        end = 2 + sealed[1] if len(sealed) > 2 else 0
        if not end or sealed[0] != _VERSION or len(sealed) < end + _NONCE_BYTES + _TAG_BYTES:
            raise SealBroken(f"{len(sealed)} bytes are no sealed secret; nothing was opened")
        head, nonce = sealed[:end], sealed[end : end + _NONCE_BYTES]
        try:
            kid = head[2:].decode("ascii")
            key = self._keys.derive(f"identity {purpose}", size_bytes=32, key_id=kid)
            return AESGCM(key).decrypt(
                nonce, sealed[end + _NONCE_BYTES :], head + _owner(purpose, owner)
            )
        except (InvalidTag, PrivacyError, UnicodeDecodeError):
            raise SealBroken(
                "a sealed secret was changed, moved, or its key was retired; nothing was opened"
            ) from None

    def pseudonym(self, text: str, *, purpose: str) -> str:
        """Name a text by 128 bits that only the holder of the keys can compute.

        It changes when the master is rotated: lockouts in force then begin afresh.
        """
        key = self._keys.derive(f"identity {purpose}", size_bytes=32)
        digest = hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha256")
        return digest[:_LOOKUP_BYTES].hex()


def _owner(purpose: str, owner: str) -> bytes:
    return f"|{purpose}|{owner}".encode()
