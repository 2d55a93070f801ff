"""The Ed25519 keys that sign access tokens: a folder, the newest signs, all in it verify.

`token-key-000001.pem` (mode 0600) with its `.pub`, made and read by `privacy_runtime.signing`.
**Rotate** makes the next number; tokens of the older keys verify until their key is **retired**,
which removes its files. Any number of processes may share the folder: a change of it is seen at the
next use. Several machines share a copy: hand out the new files before the first token is signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from privacy_core.errors import InvalidParameter
from privacy_runtime.files import WriteFailed, fsync_directory, reason_of
from privacy_runtime.identity.errors import UnknownTokenKey
from privacy_runtime.signing import PublicKey, SigningKey, load_key_file
from privacy_runtime.signing.keys import json_file
from privacy_runtime.world import Entropy

VALID_DAYS: Final = 180
_NAME: Final = re.compile(r"token-key-(\d{6})\.pem")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key: its two halves and how long it may sign."""

    public: PublicKey
    verifying: Ed25519PublicKey = field(repr=False)
    signing: Ed25519PrivateKey = field(repr=False)


class TokenKeys:
    """The keys of a folder. Make one with `open`.

    Guarantee: private halves appear in no `repr`, log or error.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark: tuple[int, int] | None = None
        self._keys: Mapping[str, TokenKey] = {}
        self._newest = ""

    @classmethod
    def open(cls, folder: Path | str, entropy: Entropy, *, now: datetime) -> Self:
        """Open a folder of keys; the folder and a first key are made where there is none.

        Raises:
            InvalidParameter: a file in it is no key, or others may read it.
            WriteFailed: the disk refused.
        """
        keys = cls(Path(folder).absolute())
        if not keys._numbers():
            keys.rotate(entropy, now=now)
        keys._read_if_changed()
        return keys

    @property
    def newest(self) -> TokenKey:
        """The key that signs."""
        self._read_if_changed()
        return self._keys[self._newest]

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of all keys that verify, the signing one last."""
        self._read_if_changed()
        return tuple(self._keys)

    def find(self, key_id: str) -> TokenKey:
        """The key with an id.

        Raises:
            UnknownTokenKey: there is none: never here, or retired.
        """
        self._read_if_changed()
        if key_id not in self._keys:
            raise UnknownTokenKey("no key has the id that the token names")
        return self._keys[key_id]

    def rotate(self, entropy: Entropy, *, now: datetime, valid_days: int = VALID_DAYS) -> str:
        """Make a key that signs from now on; the others go on verifying. Returns its id.

        Raises:
            InvalidParameter: another process rotated at this moment; nothing was made here.
            WriteFailed: the disk refused; the old key still signs.
        """
        number = max(self._numbers(), default=0) + 1
        key = SigningKey.create(self._file(number), entropy, now=now, valid_days=valid_days)
        self._mark = None
        return key.public.key_id

    def retire(self, key_id: str) -> None:
        """Remove a key: its tokens are refused from now on.

        Raises:
            UnknownTokenKey: no key has this id.
            InvalidParameter: it is the one that signs; rotate first.
            WriteFailed: the disk refused.
        """
        if self.find(key_id) is self._keys[self._newest]:
            raise InvalidParameter("key_id", found=key_id, expected="not the signing key's id")
        number = next(n for n in self._numbers() if self._public(n).key_id == key_id)
        path = self._file(number)
        try:
            path.unlink()
            path.with_name(f"{path.name}.pub").unlink()
            fsync_directory(self.folder)
        except OSError as error:
            raise WriteFailed(path, reason=reason_of(error), state="the key may verify") from error
        self._mark = None

    def __repr__(self) -> str:
        return f"TokenKeys(key_ids={list(self._keys)})"

    def _read_if_changed(self) -> None:
        try:
            status = self.folder.stat()
        except OSError as error:
            raise InvalidParameter(
                "folder", found=f"{self.folder}: {reason_of(error)}", expected="token keys"
            ) from None
        mark = (status.st_ino, status.st_mtime_ns)
        if mark == self._mark:
            return
        found: dict[str, TokenKey] = {}
        for number in sorted(self._numbers()):
            signing = load_key_file(self._file(number))
            public = self._public(number)
            if signing.public_key().public_bytes_raw().hex() != public.public_key:
                raise InvalidParameter(
                    "path", found=f"{self._file(number)}.pub: another key", expected="its half"
                )
            found[public.key_id] = TokenKey(public, signing.public_key(), signing)
        if not found:
            raise InvalidParameter("folder", found=f"{self.folder}: no key", expected="token keys")
        self._keys, self._newest, self._mark = found, list(found)[-1], mark

    def _numbers(self) -> list[int]:
        """Numbers of the keys that are whole: the second file is made last and removed last."""
        if not self.folder.is_dir():
            return []
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        numbers = [int(name[1]) for name in names if name]
        return [n for n in numbers if self._file(n).with_name(f"{self._file(n).name}.pub").exists()]

    def _public(self, number: int) -> PublicKey:
        path = self._file(number)
        return PublicKey.from_json(json_file(path.with_name(f"{path.name}.pub")))

    def _file(self, number: int) -> Path:
        return self.folder / f"token-key-{number:06d}.pem"
