"""Where a person's signing key and trusted keys lie when no other place is named.

`$XDG_CONFIG_HOME/privacy-finetuner`, or `~/.config/privacy-finetuner`:

====================  ===================================================================
`signing-key.pem`     the private key, mode 0600; made on first use, and said so
`signing-key.pem.pub` its public half, with the time it is valid for: to hand out
`trusted-keys.json`   whose signatures count here; the account's own keys are put in
====================  ===================================================================

A key that has run out, or that was made while the clock was ahead, makes way for a new one and
stays beside it under its key id.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from privacy_runtime.files import WriteFailed, fsync_directory, reason_of
from privacy_runtime.signing.errors import KeyExpired
from privacy_runtime.signing.keys import PublicKey, SigningKey
from privacy_runtime.signing.trust import TrustedKeys
from privacy_runtime.world import Entropy

OWN: Final = "this account's own key"
_FOLDER: Final = "privacy-finetuner"


@dataclass(frozen=True, slots=True)
class KeyHome:
    """A folder with a signing key and the keys that are trusted."""

    folder: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """The place of this account."""
        base = environment.get("XDG_CONFIG_HOME", "")
        root = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
        return cls(root / _FOLDER)

    @property
    def key_file(self) -> Path:
        """The private key of this account."""
        return self.folder / "signing-key.pem"

    @property
    def trusted_file(self) -> Path:
        """The keys that this account trusts."""
        return self.folder / "trusted-keys.json"

    def trusted(self) -> TrustedKeys:
        """The keys that this account trusts: none where there is no file.

        Raises:
            InvalidParameter: the file is not one of trusted keys.
        """
        return TrustedKeys.read(self.trusted_file) if self.trusted_file.exists() else TrustedKeys()

    def own_key(self, entropy: Entropy, *, now: datetime) -> tuple[SigningKey, bool]:
        """The account's key, one that may sign now; and whether it was made.

        Several processes may ask at once: they get the same key.

        Raises:
            InvalidParameter: the file is no key, or others may read it.
            WriteFailed: the disk refused.
        """
        with self._locked():
            key, is_new = opened_key(self.key_file, entropy, now=now)
            try:
                key.public.require_valid_at(now)
            except KeyExpired:
                self._lay_aside(key.public)
                key, is_new = SigningKey.create(self.key_file, entropy, now=now), True
        return key, is_new

    def trust(self, key: PublicKey) -> None:
        """Put one of the account's own keys among those it trusts.

        Raises:
            InvalidParameter: the file is not one of trusted keys; it was not touched.
            WriteFailed: the disk refused.
        """
        own = PublicKey(
            public_key=key.public_key,
            name=OWN,
            not_before=key.not_before,
            not_after=key.not_after,
        )
        with self._locked():
            known = self.trusted()
            if all(each.public_key != key.public_key for each in known.keys):
                known.with_key(own).write(self.trusted_file)

    def _lay_aside(self, key: PublicKey) -> None:
        """Both halves keep their ends: whoever holds the folder can say whose key it was."""
        kept = self.key_file.with_stem(f"{self.key_file.stem}-{key.key_id}")
        try:
            for end in (".pub", ""):  # the private half last: it is what says that there is a key
                os.replace(f"{self.key_file}{end}", f"{kept}{end}")
            fsync_directory(self.folder)
        except OSError as error:
            raise WriteFailed(kept, reason=reason_of(error), state="no key was made") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time; the folder, made where it is missing, is the lock."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise WriteFailed(
                self.folder, reason=reason_of(error), state="nothing was written"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def opened_key(path: Path, entropy: Entropy, *, now: datetime) -> tuple[SigningKey, bool]:
    """The key in a file, made where there is none; and whether it was made.

    Raises:
        InvalidParameter: the file is no key, or others may read it.
        WriteFailed: the disk refused.
    """
    if path.exists():
        return SigningKey.load(path), False
    return SigningKey.create(path, entropy, now=now), True
