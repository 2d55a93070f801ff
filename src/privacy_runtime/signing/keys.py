"""Ed25519 keys: files that only their owner may read, and the half that is handed out.

A key file holds a PKCS #8 key in PEM, mode 0600. Beside it, `KEY.pub` says which key it is and how
long it is valid: the part to hand out, and an entry for a file of trusted keys.

Source: RFC 8032 (Ed25519).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from privacy_core.errors import InvalidParameter
from privacy_runtime.files import WriteFailed, fsync_directory, reason_of, write_all, write_atomic
from privacy_runtime.signing.canonical import parse_json, readable_bytes
from privacy_runtime.signing.errors import KeyExpired, NotCanonical, SignatureInvalid
from privacy_runtime.signing.instants import instant_of, text_of
from privacy_runtime.world import Entropy

SEED_BYTES: Final = 32
KEY_VALID_DAYS: Final = 730

_HEX_KEY: Final = re.compile(r"[0-9a-f]{64}")
_HEX_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")
_KEY_FIELDS: Final = {"key_id", "public_key", "name", "not_before", "not_after"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """The half of a key that is handed out, with the time it is valid for.

    Args:
        public_key: 32 bytes, in lower-case hexadecimal.
        name: whose key the file of trusted keys says it is. Not proof of anything by itself.
        not_before, not_after: `2026-01-31T12:00:00Z`; inclusive.

    Raises:
        InvalidParameter: one of them has another form.
    """

    public_key: str
    name: str = ""
    not_before: str
    not_after: str

    def __post_init__(self) -> None:
        if not isinstance(self.public_key, str) or not _HEX_KEY.fullmatch(self.public_key):
            raise InvalidParameter(
                "public_key", found="another form", expected="64 lower-case hexadecimal digits"
            )
        if instant_of(self.not_before) > instant_of(self.not_after):
            raise InvalidParameter(
                "not_before", found=self.not_before, expected=f"at most {self.not_after}"
            )

    @property
    def key_id(self) -> str:
        """Short name of the key: the first 128 bits of SHA-256 over its 32 bytes."""
        return key_id_of(self.public_key)

    def require_valid_at(self, instant: datetime) -> None:
        """Check that the key may be used now.

        Raises:
            KeyExpired: not yet, or no longer.
        """
        if not instant_of(self.not_before) <= instant <= instant_of(self.not_after):
            raise KeyExpired(
                f"key {self.key_id} is valid from {self.not_before} to {self.not_after}, now it is "
                f"{text_of(instant)}; what it signed vouches for nothing now"
            )

    def to_json(self) -> dict[str, Any]:
        """Write the key as an entry of a file of trusted keys."""
        return {
            "key_id": self.key_id,
            "public_key": self.public_key,
            "name": self.name,
            "not_before": self.not_before,
            "not_after": self.not_after,
        }

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InvalidParameter: other fields, or a key id that is not this key's.
        """
        if not isinstance(document, Mapping) or set(document) != _KEY_FIELDS:
            raise InvalidParameter(
                "key", found="other fields", expected=f"the fields {sorted(_KEY_FIELDS)}"
            )
        key = cls(**{name: document[name] for name in _KEY_FIELDS - {"key_id"}})
        if document["key_id"] != key.key_id:
            raise InvalidParameter("key_id", found="another key's", expected=key.key_id)
        return key


class SigningKey:
    """An Ed25519 key, from a file that only its owner may read.

    Guarantee: the private half appears in no repr, log or error.
    """

    def __init__(self, key: Ed25519PrivateKey, public: PublicKey) -> None:
        self._key = key
        self.public = public

    @classmethod
    def create(
        cls, path: Path | str, entropy: Entropy, *, now: datetime, valid_days: int = KEY_VALID_DAYS
    ) -> Self:
        """Make a key, its file (mode 0600) and `PATH.pub`; the folder is made where it is missing.

        Raises:
            InvalidParameter: the file exists; it was not touched.
            WriteFailed: the disk refused.
        """
        path = Path(path)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise WriteFailed(path, reason=reason_of(error), state="nothing was written") from error
        key = create_key_file(path, entropy)
        public = PublicKey(
            public_key=key.public_key().public_bytes_raw().hex(),
            not_before=text_of(now),
            not_after=text_of(now + timedelta(days=valid_days)),
        )
        write_atomic(_public_file(path), readable_bytes(public.to_json()))
        return cls(key, public)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a key and its validity.

        Raises:
            InvalidParameter: a file is missing, others may read it, or it holds something else.
        """
        path = Path(path)
        key = load_key_file(path)
        public = PublicKey.from_json(json_file(_public_file(path)))
        if public.public_key != key.public_key().public_bytes_raw().hex():
            raise InvalidParameter(
                "path", found=f"{_public_file(path)}: another key", expected="the half of this key"
            )
        return cls(key, public)

    def sign(self, data: bytes) -> str:
        """Sign bytes; the signature is 128 hexadecimal digits."""
        return self._key.sign(data).hex()

    def __repr__(self) -> str:
        """Show the public half only."""
        return f"SigningKey(key_id={self.public.key_id})"


def key_id_of(public_key: str) -> str:
    """The key id of 32 bytes in hexadecimal."""
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()[:32]


def create_key_file(path: Path, entropy: Entropy) -> Ed25519PrivateKey:
    """Make a key and its file, mode 0600.

    Raises:
        InvalidParameter: the file exists; it was not touched.
        WriteFailed: the disk refused.
    """
    key = Ed25519PrivateKey.from_private_bytes(entropy.token_bytes(SEED_BYTES))
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_private(path, pem)
    return key


def write_private(path: Path, data: bytes) -> None:
    """Make a file that only its owner may read, and wait for the disk.

    Raises:
        InvalidParameter: the file exists; it was not touched.
        WriteFailed: the disk refused.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fsync_directory(path.parent)
    except FileExistsError:
        raise InvalidParameter("path", found=str(path), expected="no file yet") from None
    except OSError as error:
        raise WriteFailed(path, reason=reason_of(error), state="nothing was written") from error


def load_key_file(path: Path) -> Ed25519PrivateKey:
    """Read a private key.

    Raises:
        InvalidParameter: there is none, others may read the file, or it holds something else.
    """
    pem = read_private(path, "an Ed25519 key file")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidParameter("path", found=str(path), expected="an Ed25519 key in PEM")
    return key


def read_private(path: Path, expected: str) -> bytes:
    """Read a file that only its owner may read.

    Raises:
        InvalidParameter: there is none, or others may read it.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        pem = path.read_bytes()
    except OSError as error:
        raise InvalidParameter(
            "path", found=f"{path}: {reason_of(error)}", expected=expected
        ) from None
    if mode & 0o077:
        raise InvalidParameter("mode", found=f"{mode:04o}", expected="0600: the owner alone")
    return pem


def require_signature(public_key: str, signature: str, data: bytes) -> None:
    """Check a signature. Only the one spelling of it counts: lower-case hexadecimal.

    Raises:
        SignatureInvalid: the holder of the key did not sign these bytes.
    """
    changed = "the signature does not fit: something was changed"
    if not _HEX_KEY.fullmatch(public_key) or not _HEX_SIGNATURE.fullmatch(signature):
        raise SignatureInvalid(changed)
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):
        raise SignatureInvalid(changed) from None


def _public_file(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def json_file(path: Path) -> Any:
    """Read a JSON file that people edit. Raises `InvalidParameter`, with the path."""
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise InvalidParameter(
            "path", found=f"{path}: {reason_of(error)}", expected="a file of keys"
        ) from None
    except NotCanonical as error:
        raise InvalidParameter("path", found=f"{path}: {error}", expected="JSON") from None
