"""Wrapping keys that this process holds: in a file of their own, or in the environment.

A secret is sealed by AES-256-GCM under a random nonce of 96 bits, bound to the id of its wrapping
key. NIST SP 800-38D allows 2^32 wrappings of one key; rotation comes long before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy_runtime.files import reason_of, write_atomic
from privacy_runtime.keys.contract import SECRET_BYTES, Wrapping, WrappingKey, require_secret
from privacy_runtime.keys.errors import KeyringRefused, UnknownWrapping
from privacy_runtime.signing import instant_of, text_of, write_private
from privacy_runtime.world import Clock, Entropy

VARIABLE: Final = "PRIVACY_FINETUNER_WRAPPING_KEYS"

_NONCE_BYTES: Final = 12
_FILE_VERSION: Final = 1


@dataclass(frozen=True, slots=True, repr=False)
class _HeldKey:
    id: str
    created_at: datetime | None
    secret: bytes

    def __repr__(self) -> str:
        return f"_HeldKey({self.id!r})"


def _id_of(secret: bytes) -> str:
    return hashlib.sha256(b"privacy-finetuner wrapping key\0" + secret).hexdigest()[:16]


def _wrapped(keeper: str, key: _HeldKey, secret: bytes, entropy: Entropy) -> Wrapping:
    require_secret(secret)
    nonce = entropy.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(key.secret).encrypt(nonce, secret, key.id.encode())
    return Wrapping(keeper, key.id, nonce + sealed)


def _unwrapped(keeper: str, held: Mapping[str, _HeldKey], wrapping: Wrapping) -> bytes:
    key = held.get(wrapping.key)
    if wrapping.keeper != keeper or key is None:
        raise UnknownWrapping(f"the {keeper} keyring", wrapping.key)
    nonce, sealed = wrapping.sealed[:_NONCE_BYTES], wrapping.sealed[_NONCE_BYTES:]
    try:
        return AESGCM(key.secret).decrypt(nonce, sealed, key.id.encode())
    except (InvalidTag, ValueError) as error:
        raise UnknownWrapping(f"the {keeper} keyring", wrapping.key) from error


def _secret_of(text: str, where: str) -> bytes:
    try:
        secret = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise KeyringRefused(where, "a key is not base64") from error
    if len(secret) != SECRET_BYTES:
        raise KeyringRefused(where, f"a key has {len(secret)} bytes, expected {SECRET_BYTES}")
    return secret


class FileKeyring:
    """Wrapping keys in a JSON file that only its owner may read.

    Guarantee: rotation replaces the file entirely or not at all, and never drops a key.

    Args:
        path: the file; `create` makes it.
        clock, entropy: the outside world.

    Raises:
        KeyringRefused: there is no such file, others may read it, or it is damaged.
    """

    keeper: Final = "file"

    def __init__(self, path: Path | str, *, clock: Clock, entropy: Entropy) -> None:
        self._path = Path(path)
        self._clock = clock
        self._entropy = entropy
        self._lock = threading.Lock()
        self._held = self._read()

    @classmethod
    def create(cls, path: Path | str, *, clock: Clock, entropy: Entropy) -> FileKeyring:
        """Make the file, with one key.

        Raises:
            InvalidParameter: it exists; it was not touched.
            WriteFailed: the disk refused.
        """
        key = _new(clock, entropy)
        write_private(Path(path), _document([key]))
        return cls(path, clock=clock, entropy=entropy)

    @classmethod
    def opened(cls, path: Path | str, *, clock: Clock, entropy: Entropy) -> FileKeyring:
        """Open the file, made where there is none."""
        make = cls if Path(path).exists() else cls.create
        return make(path, clock=clock, entropy=entropy)

    def __repr__(self) -> str:
        return f"FileKeyring({str(self._path)!r}, {len(self._held)} keys)"

    def known(self) -> list[WrappingKey]:
        """All of them, oldest first; the newest is current."""
        return [_shown(key, key is self._held[-1]) for key in self._held]

    def wrap(self, secret: bytes) -> Wrapping:
        """See `Keyring`."""
        return _wrapped(self.keeper, self._held[-1], secret, self._entropy)

    def unwrap(self, wrapping: Wrapping) -> bytes:
        """See `Keyring`."""
        held = {key.id: key for key in self._held}
        if wrapping.key not in held:  # another process may have rotated
            self._held = self._read()
            held = {key.id: key for key in self._held}
        return _unwrapped(self.keeper, held, wrapping)

    def rotate(self) -> WrappingKey:
        """See `Keyring`.

        Raises:
            WriteFailed: the disk refused; the file is as it was.
        """
        with self._lock:
            held = [*self._read(), _new(self._clock, self._entropy)]
            write_atomic(self._path, _document(held))
            self._held = held
        return _shown(held[-1], is_current=True)

    def _read(self) -> list[_HeldKey]:
        where = str(self._path)
        try:
            mode = stat.S_IMODE(self._path.stat().st_mode)
            if mode & 0o077:
                raise KeyringRefused(where, f"others may read it (mode {mode:04o}); chmod 600 it")
            document = json.loads(self._path.read_bytes())
        except FileNotFoundError as error:
            raise KeyringRefused(where, "there is no such file") from error
        except OSError as error:
            raise KeyringRefused(where, reason_of(error)) from error
        except ValueError as error:
            raise KeyringRefused(where, "it is not JSON") from error
        return _keys_of(document, where)


def _keys_of(document: Any, where: str) -> list[_HeldKey]:
    try:
        if document["version"] != _FILE_VERSION or not document["keys"]:
            raise KeyringRefused(where, f"it is no keyring of version {_FILE_VERSION}")
        keys = [
            _HeldKey(row["id"], instant_of(row["created_at"]), _secret_of(row["key"], where))
            for row in document["keys"]
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise KeyringRefused(where, "its fields are missing or malformed") from error
    if any(key.id != _id_of(key.secret) for key in keys):
        raise KeyringRefused(where, "a key is not the one that its id names")
    return keys


def _document(keys: list[_HeldKey]) -> bytes:
    rows = [
        {
            "id": key.id,
            "created_at": "" if key.created_at is None else text_of(key.created_at),
            "key": base64.b64encode(key.secret).decode(),
        }
        for key in keys
    ]
    return json.dumps({"version": _FILE_VERSION, "keys": rows}, indent=1).encode()


def _new(clock: Clock, entropy: Entropy) -> _HeldKey:
    secret = entropy.token_bytes(SECRET_BYTES)
    return _HeldKey(_id_of(secret), clock.now(), secret)


def _shown(key: _HeldKey, is_current: bool) -> WrappingKey:
    return WrappingKey(key.id, key.created_at, is_current)


class EnvironmentKeyring:
    """Wrapping keys in a variable: 32 bytes in base64 each, the newest first, with commas between.

    To rotate, put a new one in front and start again: a process cannot change its deployment.

    Args:
        environment: the variables; `PRIVACY_FINETUNER_WRAPPING_KEYS` is read.
        entropy: chance.

    Raises:
        KeyringRefused: the variable is missing or malformed.
    """

    keeper: Final = "environment"

    def __init__(self, environment: Mapping[str, str], *, entropy: Entropy) -> None:
        text = environment.get(VARIABLE, "")
        if not text.strip():
            raise KeyringRefused(VARIABLE, "it is not set; it takes keys of 32 bytes in base64")
        secrets = [_secret_of(part.strip(), VARIABLE) for part in text.split(",")]
        self._held = [_HeldKey(_id_of(secret), None, secret) for secret in reversed(secrets)]
        self._entropy = entropy

    def __repr__(self) -> str:
        return f"EnvironmentKeyring({len(self._held)} keys)"

    def known(self) -> list[WrappingKey]:
        """All of them, oldest first; when they were made is not known."""
        return [_shown(key, key is self._held[-1]) for key in self._held]

    def wrap(self, secret: bytes) -> Wrapping:
        """See `Keyring`."""
        return _wrapped(self.keeper, self._held[-1], secret, self._entropy)

    def unwrap(self, wrapping: Wrapping) -> bytes:
        """See `Keyring`."""
        return _unwrapped(self.keeper, {key.id: key for key in self._held}, wrapping)

    def rotate(self) -> WrappingKey:
        """Refuse, and say how it is done.

        Raises:
            KeyringRefused: always.
        """
        raise KeyringRefused(
            VARIABLE, "put a new key in front of the others, with a comma, and start again"
        )
