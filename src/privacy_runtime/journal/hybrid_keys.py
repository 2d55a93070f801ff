"""Keys that sign heads twice, with Ed25519 and ML-DSA-65, and count only together.

An audit trail is believed for decades: longer than a signature on elliptic curves may hold against
a quantum computer. Nor would one rest on ML-DSA alone, which is young. Here a head stands only when
both signatures do; a line from which one was taken away is no signed head.

A key file holds two PKCS #8 keys in PEM, mode 0600; `FILE.pub` beside it is the half to hand out.

Source: RFC 8032 (Ed25519); FIPS 204 (ML-DSA), with the context string `CONTEXT`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy_core.errors import InvalidParameter
from privacy_runtime.files import write_atomic
from privacy_runtime.journal.anchor import HeadKey, SignedHead, signed_bytes
from privacy_runtime.journal.entries import Head
from privacy_runtime.journal.errors import AnchorRefused
from privacy_runtime.signing import readable_bytes, write_private
from privacy_runtime.signing.keys import SEED_BYTES, json_file, read_private
from privacy_runtime.world import Entropy

CONTEXT: Final = b"journal head"
_END: Final = b"-----END PRIVATE KEY-----\n"
_ED25519: Final = re.compile(r"[0-9a-f]{64}")
_ML_DSA: Final = re.compile(r"[0-9a-f]{3904}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{6618}")
_FIELDS: Final = {"key_id", "ed25519", "ml_dsa_65"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridPublic:
    """The half that checks. `ed25519` and `ml_dsa_65`: 32 and 1,952 bytes in hexadecimal.

    Raises:
        InvalidParameter: one of them has another form.
    """

    ed25519: str
    ml_dsa_65: str

    def __post_init__(self) -> None:
        for name, form in (("ed25519", _ED25519), ("ml_dsa_65", _ML_DSA)):
            if not form.fullmatch(str(getattr(self, name))):
                raise InvalidParameter(name, found="another form", expected=form.pattern)

    @property
    def key_id(self) -> str:
        """The first 128 bits of SHA-256 over both keys."""
        both = bytes.fromhex(self.ed25519 + self.ml_dsa_65)
        return hashlib.sha256(both).hexdigest()[:32]

    def require(self, signed: SignedHead) -> None:
        """Check both signatures of a head.

        Raises:
            AnchorRefused: one of them is missing, or is not this key's over this head.
            InvalidParameter: ML-DSA cannot be computed here.
        """
        signed.require_signature(self.ed25519)
        if not _SIGNATURE.fullmatch(signed.post_quantum):
            raise self._refused(signed, "it has no ML-DSA-65 signature")
        from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415

        try:
            key = mldsa.MLDSA65PublicKey.from_public_bytes(bytes.fromhex(self.ml_dsa_65))
            data = signed_bytes(signed.stream, signed.head)
            key.verify(bytes.fromhex(signed.post_quantum), data, CONTEXT)
        except (InvalidSignature, ValueError):
            raise self._refused(signed, "its ML-DSA-65 signature does not fit") from None
        except UnsupportedAlgorithm:
            raise _unsupported() from None

    def to_json(self) -> dict[str, str]:
        """As it is handed out."""
        return {"key_id": self.key_id, "ed25519": self.ed25519, "ml_dsa_65": self.ml_dsa_65}

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a file that `HybridKey.create` wrote.

        Raises:
            InvalidParameter: it is missing, or something else.
        """
        document = json_file(Path(path))
        if not isinstance(document, dict) or set(document) != _FIELDS:
            raise InvalidParameter(
                "path", found=f"{path}: other fields", expected=f"the fields {sorted(_FIELDS)}"
            )
        key = cls(ed25519=document["ed25519"], ml_dsa_65=document["ml_dsa_65"])
        if document["key_id"] != key.key_id:
            raise InvalidParameter("key_id", found="another key's", expected=key.key_id)
        return key

    def _refused(self, signed: SignedHead, reason: str) -> AnchorRefused:
        return AnchorRefused(
            f"the head at entry {signed.seq} of stream {signed.stream!r}: {reason} for key "
            f"{self.key_id}; it vouches for nothing"
        )


class HybridKey:
    """Signs heads with both algorithms. Make one with `create` or `load`.

    Guarantee: the private halves appear in no repr, log or error.
    """

    def __init__(self, key: Ed25519PrivateKey, post_quantum: Any) -> None:
        self._first, self._second = HeadKey(key), post_quantum
        self.public = HybridPublic(
            ed25519=self._first.public_key,
            ml_dsa_65=post_quantum.public_key().public_bytes_raw().hex(),
        )

    @classmethod
    def create(cls, path: Path | str, entropy: Entropy) -> Self:
        """Make both keys, their file (mode 0600) and `PATH.pub`.

        Raises:
            InvalidParameter: the file exists and was not touched, or ML-DSA is not to be had here.
            WriteFailed: the disk refused.
        """
        from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415

        path = Path(path)
        first = Ed25519PrivateKey.from_private_bytes(entropy.token_bytes(SEED_BYTES))
        try:
            second = mldsa.MLDSA65PrivateKey.from_seed_bytes(entropy.token_bytes(SEED_BYTES))
        except UnsupportedAlgorithm:
            raise _unsupported() from None
        write_private(path, _pem(first) + _pem(second))
        key = cls(first, second)
        write_atomic(public_file(path), readable_bytes(key.public.to_json()))
        return key

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read both keys.

        Raises:
            InvalidParameter: there is no such file, others may read it, or it holds other keys.
        """
        from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415

        path = Path(path)
        pem = read_private(path, "keys of Ed25519 and ML-DSA-65 in PEM")
        keys: list[Any]
        try:
            parts = [part + _END for part in pem.split(_END) if part.strip()]
            keys = [serialization.load_pem_private_key(one, None) for one in parts]
        except UnsupportedAlgorithm:
            raise _unsupported() from None
        except (ValueError, TypeError):
            keys = [None, None]  # told below
        first, second = keys if len(keys) == 2 else (None, None)
        if not isinstance(first, Ed25519PrivateKey) or not isinstance(
            second, mldsa.MLDSA65PrivateKey
        ):
            raise InvalidParameter(
                "path", found=str(path), expected="keys of Ed25519 and ML-DSA-65 in PEM"
            )
        return cls(first, second)

    def sign(self, stream: str, head: Head) -> SignedHead:
        """Sign where a stream ends, twice."""
        signed = self._first.sign(stream, head)
        second: bytes = self._second.sign(signed_bytes(stream, head), CONTEXT)
        return replace(signed, post_quantum=second.hex())

    def require(self, signed: SignedHead) -> None:
        """As `HybridPublic.require`."""
        self.public.require(signed)

    def __repr__(self) -> str:
        """Show the public half only."""
        return f"HybridKey(key_id={self.public.key_id})"


def public_file(path: Path) -> Path:
    """Where the public half of a key file lies."""
    return path.with_name(path.name + ".pub")


def _pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def _unsupported() -> InvalidParameter:
    return InvalidParameter(
        "ml_dsa_65",
        found="an OpenSSL without ML-DSA",
        expected="cryptography 48 or newer with its own OpenSSL; nothing was signed or believed",
    )
