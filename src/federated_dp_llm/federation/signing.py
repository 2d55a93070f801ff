"""Signed terms: what a node charges its records by comes from the router and from nobody else.

The bytes that are signed are the bytes that travel, so no two encoders have to agree. A key that
signs terms signs nothing else. Freshness, and that a request opens one session ever, is checked by
the node, which has the clock and the ledger.

Source: RFC 8032 (Ed25519), through `privacy_runtime.signing`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from federated_dp_llm.federation.messages import OpenSession, Terms
from privacy_runtime.signing import (
    SignatureInvalid,
    SigningKey,
    TrustedKeys,
    UnknownKey,
    require_signature,
)

TERMS_MAX: Final = 8192
"""The most bytes that terms may take: they hold no prompt."""
_DECODER: Final = msgspec.msgpack.Decoder(Terms, strict=True)


@dataclass(frozen=True, slots=True)
class SignedTerms:
    """Encoded terms with their signature, as `OpenSession` carries them."""

    terms: bytes
    signature: bytes
    key_id: str

    def session(self, prompt: str) -> OpenSession:
        """The message that opens the session."""
        return OpenSession(
            terms=self.terms, signature=self.signature, key_id=self.key_id, prompt=prompt
        )


def prompt_digest(prompt: str) -> str:
    """SHA-256 of a prompt's UTF-8, hexadecimal: what terms bind a session to.

    A lone surrogate, which has no UTF-8, is hashed as the three bytes that it would be; such a
    prompt cannot travel, and is refused where it is encoded.
    """
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


def sign_terms(terms: Terms, key: SigningKey) -> SignedTerms:
    """Encode and sign terms, in the router's name."""
    encoded = msgspec.msgpack.encode(terms)
    return SignedTerms(encoded, bytes.fromhex(key.sign(encoded)), key.public.key_id)


def verify_terms(ask: OpenSession, trusted: TrustedKeys, *, now: datetime) -> Terms:
    """The terms of a message, signed by a key that is trusted and valid now.

    The signature is checked before a byte of the terms is read.

    Raises:
        UnknownKey: no trusted key has this id.
        KeyExpired: the key is not valid now.
        SignatureInvalid: the terms were not signed by it, or are none.
    """
    key = next((known for known in trusted.keys if known.key_id == ask.key_id), None)
    if key is None:
        raise UnknownKey("the terms are signed by a key that is not trusted here")
    key.require_valid_at(now)
    if len(ask.terms) > TERMS_MAX:
        raise SignatureInvalid(f"{len(ask.terms)} bytes of terms, expected at most {TERMS_MAX}")
    require_signature(key.public_key, ask.signature.hex(), ask.terms)
    try:
        return _DECODER.decode(ask.terms)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise SignatureInvalid("what was signed are no terms of this protocol") from None


__all__ = ["SignedTerms", "prompt_digest", "sign_terms", "verify_terms"]
