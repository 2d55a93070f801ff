"""What keys and stand-ins refuse, as a tree.

PseudonymError
+-- KeyFileRefused       a key file is missing, too widely readable, or holds something else
+-- KeyFormatRefused     a key or passphrase in the environment or an argument is not one
+-- UnknownKey           no key has this id
+-- TenantUnknown        no key was made for the tenant; keys of a file are made on purpose
+-- TenantDestroyed      the tenant's key was destroyed; nothing leads back
+-- ErasureImpossible    keys computed from one secret: one tenant's cannot be destroyed
+-- DomainTooSmall       so few values are possible that format-preserving encryption hides none
+-- NoSurrogate          every candidate stands in the text or for another value already
+-- VaultRefused         the vault's file cannot be opened with this key, or not at all

No message, `repr` or attribute holds a key or a value.
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class PseudonymError(PrivacyError):
    """Keys or stand-ins refused. Nothing was replaced or revealed."""

    code: ClassVar[str] = "pseudonym_error"


class KeyFileRefused(PseudonymError):
    """A key file is missing, readable by others, or not a key file. No key was loaded."""

    code: ClassVar[str] = "key_file_refused"


class KeyFormatRefused(PseudonymError, ValueError):
    """What was given as a key is none. It is not repeated here."""

    code: ClassVar[str] = "key_format_refused"


class UnknownKey(PseudonymError, KeyError):
    """No key has this id: it was retired, or belongs to somebody else."""

    code: ClassVar[str] = "unknown_key"

    def __str__(self) -> str:
        return str(self.args[0])


class TenantUnknown(PseudonymError, KeyError):
    """No key was made for the tenant."""

    code: ClassVar[str] = "tenant_unknown"

    def __str__(self) -> str:
        return str(self.args[0])


class TenantDestroyed(PseudonymError):
    """The tenant's key was destroyed. What it sealed cannot be read by anybody."""

    code: ClassVar[str] = "tenant_destroyed"


class ErasureImpossible(PseudonymError):
    """One tenant's key cannot be destroyed here. Nothing was destroyed."""

    code: ClassVar[str] = "erasure_impossible"


class DomainTooSmall(PseudonymError, ValueError):
    """The value has too few possible values for format-preserving encryption."""

    code: ClassVar[str] = "domain_too_small"


class NoSurrogate(PseudonymError):
    """No surrogate was found that stands neither in the text nor for another value."""

    code: ClassVar[str] = "no_surrogate"


class VaultRefused(PseudonymError):
    """The vault cannot be used. Nothing was read or written."""

    code: ClassVar[str] = "vault_refused"
