"""Passwords: what may be one, how it is kept, and how checking one tells nothing else.

Kept as argon2id (RFC 9106) with the least parameters that OWASP gives: 19 MiB, two passes, one
lane. A password is NFC-normalised, never cut, and at most 1,024 bytes of UTF-8 go in.

Source: OWASP Password Storage Cheat Sheet (argon2id); NIST SP 800-63B-4, section 3.1.1.2 (length,
no composition rules, blocklist, normalisation); OWASP ASVS 5.0, chapter 6.2.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity.errors import PasswordRefused, WeakSecret
from privacy_runtime.identity.guessing import is_common
from privacy_runtime.identity.leaked import LeakedPasswords
from privacy_runtime.world import Entropy

LEAST_CHARACTERS: Final = 12
MOST_BYTES: Final = 1024
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_ONE_TIME_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789-"  # 32 signs; no 0 1 i l o
_ONE_TIME_GROUPS: Final = 5
_ONE_TIME_GROUP: Final = 5
_LEAST_SECRET_BYTES: Final = 32
_LEAST_DIFFERENT: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Argon2Cost:
    """What one guess costs.

    Args:
        memory_kib: memory, in KiB.
        passes: passes over it.
        lanes: threads.
    """

    memory_kib: int = 19_456
    passes: int = 2
    lanes: int = 1

    def __post_init__(self) -> None:
        if self.passes < 1 or self.lanes < 1 or self.memory_kib < 8 * self.lanes:
            raise InvalidParameter(
                "memory_kib, passes, lanes",
                found=(self.memory_kib, self.passes, self.lanes),
                expected="at least 8 KiB a lane, one pass and one lane (RFC 9106, section 3.1)",
            )


OWASP: Final = Argon2Cost()


class Passwords:
    """Hashes and checks passwords.

    Guarantee: `verify` without a hash costs what it costs with one of the present parameters, so
    the time tells no stranger whether a user exists. (A hash with older parameters takes its own
    time until its owner logs in once more.)

    Args:
        entropy: salts come from here.
        cost: of one guess; below OWASP's least only for tests.
        leaked: passwords that nobody may choose besides.
    """

    def __init__(
        self, entropy: Entropy, cost: Argon2Cost = OWASP, *, leaked: LeakedPasswords | None = None
    ) -> None:
        self._entropy, self._leaked = entropy, leaked
        self._hasher = argon2.PasswordHasher(
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
        )
        self._dummy = self.hash("a password that nobody has")

    def require_usable(self, password: str, *, about: str = "") -> None:
        """Check a new password as the function of this name does, and against the leaked ones.

        Raises:
            PasswordRefused: with the reason; the password is not quoted.
            InvalidParameter: the list of leaked passwords is gone; nothing was accepted.
        """
        require_usable(password, about=about)
        if self._leaked is not None and self._leaked.has(password):
            raise PasswordRefused("is on the list of leaked passwords")

    def hash(self, password: str) -> str:
        """Hash a password that `require_usable` took; text in the PHC format, salt included.

        Raises:
            PasswordRefused: it is too long, or no text.
        """
        return self._hasher.hash(_bytes(password), salt=self._entropy.token_bytes(_SALT_BYTES))

    def verify(self, hash_text: str | None, password: str) -> bool:
        """Whether the password has this hash; without one, the same work and False.

        A password too long for any account is checked as another one that nobody has.
        """
        try:
            raw = _bytes(password)
        except PasswordRefused:
            raw, hash_text = b"", None
        try:
            fits = self._hasher.verify(hash_text or self._dummy, raw)
        except (VerificationError, InvalidHashError):
            return False
        return fits and hash_text is not None

    def is_outdated(self, hash_text: str) -> bool:
        """Whether the parameters have risen since: hash again while the password is at hand."""
        return self._hasher.check_needs_rehash(hash_text)


def require_usable(password: str, *, about: str = "") -> None:
    """Check a new password: length and commonness, and nothing else (no composition rules).

    Args:
        password: what was proposed.
        about: what a guesser knows of the owner: the user name.

    Raises:
        PasswordRefused: with the reason; the password is not quoted.
    """
    _bytes(password)
    characters = len(unicodedata.normalize("NFC", password))
    if characters < LEAST_CHARACTERS:
        raise PasswordRefused(f"has {characters} characters, at least {LEAST_CHARACTERS} are asked")
    if is_common(password, about=about):
        raise PasswordRefused("is made of common words, runs, digits around them, or the user name")


def one_time_password(entropy: Entropy) -> str:
    """Make a password of 125 bits, to be shown once and changed at the first login."""
    raw = entropy.token_bytes(_ONE_TIME_GROUPS * _ONE_TIME_GROUP)
    # 31 signs without the dash: bytes from 248 up are drawn again, so every sign is as likely.
    signs: list[str] = []
    while len(signs) < _ONE_TIME_GROUPS * _ONE_TIME_GROUP:
        for byte in raw:
            if byte < 248 and len(signs) < _ONE_TIME_GROUPS * _ONE_TIME_GROUP:
                signs.append(_ONE_TIME_ALPHABET[byte % 31])
        raw = entropy.token_bytes(8)
    groups = range(0, len(signs), _ONE_TIME_GROUP)
    return "-".join("".join(signs[start : start + _ONE_TIME_GROUP]) for start in groups)


def require_strong_secret(name: str, secret: str, *, development: bool = False) -> None:
    """Refuse a configured secret that is a default or can be guessed, outside development.

    Args:
        name: of the setting, for the message.
        secret: its value; not quoted.
        development: the one way to run with such a secret.

    Raises:
        WeakSecret: shorter than 32 bytes, made of common words, or of few different signs.
    """
    size_bytes = len(secret.encode("utf-8", "surrogatepass"))
    if development:
        return
    if size_bytes < _LEAST_SECRET_BYTES:
        found = f"{size_bytes} bytes"
    elif len(set(secret)) < _LEAST_DIFFERENT or is_common(secret):
        found = "few different signs, or common words such as a default has"
    else:
        return
    raise WeakSecret(
        f"{name} has {found}, expected {_LEAST_SECRET_BYTES} random bytes or more; "
        "nothing was started. Development mode alone accepts such a secret"
    )


def _bytes(password: str) -> bytes:
    try:
        raw = unicodedata.normalize("NFC", password).encode("utf-8")
    except UnicodeEncodeError:
        raise PasswordRefused("holds half a character") from None
    if len(raw) > MOST_BYTES:
        raise PasswordRefused(f"has {len(raw)} bytes, at most {MOST_BYTES} are taken")
    return raw
