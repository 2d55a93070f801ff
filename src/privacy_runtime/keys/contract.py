"""Keys that wrap keys: what every keeper of them can do.

A file is encrypted under a key of its own; that key is kept wrapped under one of these. To rotate
is to make a new wrapping key and to wrap the small keys anew: the files are not touched.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, Self

from privacy_runtime.keys.errors import KeyringRefused

ROTATE_AFTER: Final = timedelta(days=90)
SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class WrappingKey:
    """What may be known about a wrapping key.

    Attributes:
        id: names it in wrappings.
        created_at: `None` where the keeper does not say.
        is_current: whether new keys are wrapped under it.
    """

    id: str
    created_at: datetime | None
    is_current: bool

    def is_due(self, now: datetime) -> bool:
        """Whether it has wrapped for 90 days, and another one should."""
        return self.is_current and (
            self.created_at is not None and now - self.created_at >= ROTATE_AFTER
        )


@dataclass(frozen=True, slots=True)
class Wrapping:
    """A key under a wrapping key. Public: it opens nothing without its keeper.

    Attributes:
        keeper: `file`, `environment`, `vault` or `pkcs11`.
        key: id of the wrapping key.
        sealed: the wrapped key.
    """

    keeper: str
    key: str
    sealed: bytes

    def to_json(self) -> dict[str, str]:
        """As JSON."""
        sealed = base64.b64encode(self.sealed).decode()
        return {"keeper": self.keeper, "key": self.key, "sealed": sealed}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read one.

        Raises:
            KeyringRefused: it is none.
        """
        try:
            sealed = base64.b64decode(document["sealed"], validate=True)
            keeper, key = document["keeper"], document["key"]
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise KeyringRefused("a wrapped key", "its fields are missing or malformed") from error
        if not (isinstance(keeper, str) and isinstance(key, str)):
            raise KeyringRefused("a wrapped key", "its names are not text")
        return cls(keeper, key, sealed)


class Keyring(Protocol):
    """A keeper of wrapping keys. Safe to share between threads."""

    @property
    def keeper(self) -> str:
        """`file`, `environment`, `vault` or `pkcs11`."""
        ...

    def known(self) -> list[WrappingKey]:
        """All wrapping keys, oldest first; one of them is current.

        Raises:
            KeyringError: they cannot be had.
        """
        ...

    def wrap(self, secret: bytes) -> Wrapping:
        """Wrap a key of 32 bytes under the current wrapping key.

        Raises:
            KeyringError: it cannot be wrapped.
        """
        ...

    def unwrap(self, wrapping: Wrapping) -> bytes:
        """Open a wrapping that this keeper made.

        Raises:
            UnknownWrapping: it did not, or the wrapping was changed.
            KeyringError: it cannot be opened now.
        """
        ...

    def rotate(self) -> WrappingKey:
        """Make a new wrapping key, and return it; it is current from now on. Older ones still open.

        Raises:
            KeyringError: none could be made; the current one still is.
        """
        ...


def require_secret(secret: bytes) -> None:
    """Refuse to wrap anything but a key."""
    if len(secret) != SECRET_BYTES:
        raise KeyringRefused("a key to wrap", f"it has {len(secret)} bytes, {SECRET_BYTES} do")
