"""What can go wrong with keys that wrap keys.

KeyringError
+-- KeyringRefused      a file, a variable or a token is not what it must be; nothing was changed
+-- KeyringUnavailable  the keeper of the keys cannot be reached; nothing was changed
+-- UnknownWrapping     no key here made this wrapping, or it was changed
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class KeyringError(PrivacyError):
    """Base of what a keeper of wrapping keys refuses. Never holds a key."""

    code: ClassVar[str] = "keyring_error"


class KeyringRefused(KeyringError):
    """A file, a variable or a token is not what it must be. Nothing was changed."""

    code: ClassVar[str] = "keyring_refused"

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}; nothing was changed"


class KeyringUnavailable(KeyringError):
    """The keeper of the keys cannot be reached. Nothing was changed.

    Attributes:
        retry_after_s: when it may be there again.
    """

    code: ClassVar[str] = "keyring_unavailable"

    def __init__(self, where: str, reason: str, retry_after_s: float | None = 5.0) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.where} cannot be reached: {self.reason}; nothing was changed"


class UnknownWrapping(KeyringError):
    """No key of this keyring made this wrapping, or it was changed. Nothing was opened."""

    code: ClassVar[str] = "unknown_wrapping"

    def __init__(self, where: str, key: str) -> None:
        super().__init__(where, key)
        self.where = where
        self.key = key

    def __str__(self) -> str:
        return (
            f"{self.where} cannot open what key {self.key!r} wrapped: "
            "it has no such key, or the wrapping was changed; nothing was opened"
        )
