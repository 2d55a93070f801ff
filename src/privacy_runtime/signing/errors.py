"""What can go wrong with a signature, as a tree.

SigningError
+-- NotCanonical         the bytes are not in the one form that is signed and read
+-- SignatureInvalid     nobody who holds the key signed these bytes
+-- KeyExpired           the key is used before or after the time that it is valid for
+-- UnknownKey           the key is not one that the reader trusts
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class SigningError(PrivacyError):
    """A signature, or what it is under, is not what it should be. It vouches for nothing."""

    code: ClassVar[str] = "signing_error"


class NotCanonical(SigningError):
    """The bytes are not JSON in the one form that is signed. They are not quoted."""

    code: ClassVar[str] = "not_canonical"


class SignatureInvalid(SigningError):
    """The holder of the key did not sign these bytes."""

    code: ClassVar[str] = "signature_invalid"


class KeyExpired(SigningError):
    """The key was used outside the time that it is valid for."""

    code: ClassVar[str] = "key_expired"


class UnknownKey(SigningError):
    """The signature is sound, by a key that the reader does not trust: it proves no origin."""

    code: ClassVar[str] = "unknown_key"
