"""Wrapping keys in a hardware security module, over PKCS#11: they never leave it.

Wrapping is AES key wrap with padding (RFC 5649, CKM_AES_KEY_WRAP_PAD). Keys are AES-256, sensitive
and not extractable; their labels are `PREFIX-000001`, `PREFIX-000002`, ...; the highest is current.
Needs `python-pkcs11` and the module's library; run against SoftHSM 2.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import pkcs11

from privacy_runtime.keys.contract import Wrapping, WrappingKey, require_secret
from privacy_runtime.keys.errors import KeyringRefused, KeyringUnavailable, UnknownWrapping
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock

_DIGITS: Final = 6
_LOST: Final = (
    pkcs11.SessionHandleInvalid, pkcs11.SessionClosed, pkcs11.DeviceError, pkcs11.DeviceRemoved,
    pkcs11.TokenNotPresent, pkcs11.UserNotLoggedIn, pkcs11.KeyHandleInvalid,
)  # fmt: skip
_WRAP: Final = pkcs11.Mechanism.AES_KEY_WRAP_PAD
_SESSION_KEY: Final = {pkcs11.Attribute.SENSITIVE: False, pkcs11.Attribute.EXTRACTABLE: True}


class Pkcs11Keyring:
    """Wrapping keys of one token.

    One session is shared, one call at a time; a session that the token ended is opened anew.

    Args:
        library: path of the module's library.
        token: label of the token.
        pin: of its user.
        prefix: of the labels of our keys; the first key is made where there is none.
        clock: when a key is made.

    Raises:
        KeyringRefused: there is no such token, or the PIN is wrong.
        KeyringUnavailable: the token does not answer.
    """

    keeper: Final = "pkcs11"

    def __init__(
        self,
        library: str,
        token: str,
        pin: Secret,
        *,
        clock: Clock,
        prefix: str = "privacy-finetuner",
    ) -> None:
        self._where = f"token {token!r}"
        self._library = library
        self._token = token
        self._pin = pin
        self._prefix = prefix
        self._clock = clock
        self._kept: list[tuple[str, datetime | None, Any]] = []
        self._lock = threading.Lock()
        self._session: Any = None
        with self._asking() as session:
            if not self._rows(session):
                self._make(session, 1)

    def known(self) -> list[WrappingKey]:
        """All of them, oldest first; the one with the highest number is current."""
        with self._asking() as session:
            rows = self._rows(session)
        last = rows[-1][0] if rows else ""
        return [WrappingKey(label, made, label == last) for label, made, _ in rows]

    def wrap(self, secret: bytes) -> Wrapping:
        """See `Keyring`."""
        require_secret(secret)
        with self._asking() as session:
            label, _, key = self._held_rows(session)[-1]
            sealed: bytes = key.wrap_key(self._held(session, secret), mechanism=_WRAP)
        return Wrapping(self.keeper, label, sealed)

    def unwrap(self, wrapping: Wrapping) -> bytes:
        """See `Keyring`."""
        if wrapping.keeper != self.keeper:
            raise UnknownWrapping(self._where, wrapping.key)
        with self._asking() as session:
            rows = self._held_rows(session)
            if all(label != wrapping.key for label, _, _ in rows):
                rows = self._kept = self._rows(session)  # another process may have rotated
            found = [key for label, _, key in rows if label == wrapping.key]
            if not found:
                raise UnknownWrapping(self._where, wrapping.key)
            try:
                held = found[0].unwrap_key(
                    pkcs11.ObjectClass.SECRET_KEY,
                    pkcs11.KeyType.AES,
                    wrapping.sealed,
                    mechanism=_WRAP,
                    store=False,
                    template=_SESSION_KEY,
                )
                secret: bytes = held[pkcs11.Attribute.VALUE]
            except _LOST:
                raise
            except pkcs11.PKCS11Error as error:
                raise UnknownWrapping(self._where, wrapping.key) from error
        return secret

    def rotate(self) -> WrappingKey:
        """See `Keyring`."""
        with self._asking() as session:
            rows = self._rows(session)
            number = int(rows[-1][0][-_DIGITS:]) + 1 if rows else 1
            label = self._make(session, number)
            self._kept = self._rows(session)
        return WrappingKey(label, self._clock.now(), is_current=True)

    def close(self) -> None:
        """End the session."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        with self._lock:
            try:
                if self._session is None:
                    self._session, self._kept = self._opened(), []
                yield self._session
            except (pkcs11.NoSuchToken, pkcs11.PinIncorrect, pkcs11.PinInvalid) as error:
                self._session = None
                raise KeyringRefused(self._where, type(error).__name__) from error
            except pkcs11.PKCS11Error as error:
                self._session = None  # the next call opens another
                raise KeyringUnavailable(self._where, type(error).__name__) from error

    def _opened(self) -> Any:
        try:
            library = pkcs11.lib(self._library)
        except RuntimeError as error:
            raise KeyringRefused(self._where, f"{self._library} is no such library") from error
        library.reinitialize()  # it lists tokens as they were when it was loaded
        token = library.get_token(token_label=self._token)
        return token.open(rw=True, user_pin=self._pin.reveal())

    def _held_rows(self, session: Any) -> list[tuple[str, datetime | None, Any]]:
        """The keys as they were when this session, or a rotation, last looked."""
        if not self._kept:
            self._kept = self._rows(session)
        return self._kept

    def _rows(self, session: Any) -> list[tuple[str, datetime | None, Any]]:
        rows = []
        for key in session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}):
            label = str(key.label)
            tail = label.removeprefix(f"{self._prefix}-")
            if len(tail) == _DIGITS and tail.isdecimal() and tail != label:
                rows.append((label, _made_at(key), key))
        return sorted(rows, key=lambda row: row[0])

    def _make(self, session: Any, number: int) -> str:
        label = f"{self._prefix}-{number:0{_DIGITS}}"
        session.generate_key(
            pkcs11.KeyType.AES,
            256,
            label=label,
            store=True,
            template={
                pkcs11.Attribute.SENSITIVE: True,
                pkcs11.Attribute.EXTRACTABLE: False,
                pkcs11.Attribute.WRAP: True,
                pkcs11.Attribute.UNWRAP: True,
                pkcs11.Attribute.ENCRYPT: False,
                pkcs11.Attribute.DECRYPT: False,
                pkcs11.Attribute.START_DATE: self._clock.now().date(),
            },
        )
        return label

    def _held(self, session: Any, secret: bytes) -> Any:
        """A secret as an object of this session, which ends with it."""
        return session.create_object(
            {
                pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
                pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.AES,
                pkcs11.Attribute.VALUE: secret,
                pkcs11.Attribute.TOKEN: False,
                **_SESSION_KEY,
            }
        )


def _made_at(key: Any) -> datetime | None:
    """The day on which a key was made, at its begin."""
    try:
        day = key[pkcs11.Attribute.START_DATE]
    except pkcs11.PKCS11Error:
        return None
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else None
