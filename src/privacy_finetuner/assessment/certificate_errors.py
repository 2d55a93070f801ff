"""Why a certificate is refused, as a tree.

PrivacyError (privacy_core)
+-- CertificateError             base: the certificate vouches for nothing
|   +-- NotACertificate          other JSON, a run's unsigned statement, or a version unknown here
|   +-- MalformedCertificate     a field is missing, surplus, or of another form
|   +-- CertificateExpired       it is not valid yet, or no longer
|   +-- CertificateContradicts   signed, but its parts cannot all be true
|   +-- RunDiffers               it is about another run, or the run's files were changed
+-- NothingToCertify             the run cannot be certified; no certificate was written
+-- SigningError (privacy_runtime.signing): NotCanonical, SignatureInvalid, KeyExpired, UnknownKey
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from privacy_core.errors import PrivacyError


class CertificateError(PrivacyError):
    """A certificate is not what it should be. Do not rely on it."""

    code: ClassVar[str] = "certificate_error"


class NotACertificate(CertificateError):
    """The file is something else, or of a version that this program does not know."""

    code: ClassVar[str] = "not_a_certificate"


class MalformedCertificate(CertificateError):
    """A field is missing, surplus, or of another form. `place` is a path into the document."""

    code: ClassVar[str] = "malformed_certificate"

    def __init__(self, place: str, *, found: str, expected: str) -> None:
        super().__init__(place, found, expected)
        self.place = place
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.place}: found {self.found}, expected {self.expected}"


class CertificateExpired(CertificateError):
    """The certificate is not valid at this time."""

    code: ClassVar[str] = "certificate_expired"


class _Contradiction(CertificateError):
    """Several things cannot all be true; `faults` are sentences."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(tuple(faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "; ".join(self.faults)


class CertificateContradicts(_Contradiction):
    """The signature is sound, and what was signed cannot be true as a whole."""

    code: ClassVar[str] = "certificate_contradicts"


class RunDiffers(_Contradiction):
    """The certificate is not about what lies in the run's folder now."""

    code: ClassVar[str] = "run_differs"


class NothingToCertify(PrivacyError):
    """The run cannot be certified as it is. No certificate was written."""

    code: ClassVar[str] = "nothing_to_certify"
