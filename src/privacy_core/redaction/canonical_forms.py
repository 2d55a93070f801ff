"""One spelling for the values that are the same: what equality means for each entity type.

=================================================  =============================================
type                                               canonical form
=================================================  =============================================
EMAIL, USERNAME                                    NFKC, lower case, no blanks
PHONE                                              E.164 where the number says its country, or
                                                   the region is given; else its digits
numbers (cards, accounts, ids, plates, VINs ...)   NFKC, letters and digits only, upper case
IP_ADDRESS                                         RFC 5952
SECRET, URL, CRYPTO_ADDRESS                        as it is: every letter counts
everything else (names, places, dates)             NFKC, casefold, single blanks
=================================================  =============================================

Two people with one name have one canonical form; nothing here resolves identities.

Sources: Unicode UAX #15 (NFKC); ITU-T E.164; RFC 5952, section 4.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from functools import lru_cache
from typing import Final

_COMPACT: Final = frozenset(
    {
        *("PAYMENT_CARD", "BANK_ACCOUNT", "IBAN", "SWIFT_BIC", "US_SSN", "NATIONAL_ID", "TAX_ID"),
        *("PASSPORT", "DRIVER_LICENSE", "MEDICAL_RECORD", "HEALTH_PLAN", "LICENSE_PLATE"),
        *("VEHICLE_ID", "DEVICE_ID", "MAC_ADDRESS", "ID_NUMBER", "POSTAL_CODE"),
    }
)
_EXACT: Final = frozenset({"SECRET", "URL", "CRYPTO_ADDRESS"})


def canonical(label: str, value: str, *, region: str | None = None) -> str:
    """Return the canonical form of a value.

    Args:
        label: name of its entity type.
        value: as it stands in a text.
        region: two-letter country of telephone numbers that name none.
    """
    if label in _EXACT:
        return value
    plain = unicodedata.normalize("NFKC", value)
    if label == "PHONE":
        return _phone(plain, region)
    if label in _COMPACT:
        return "".join(c for c in plain if c.isalnum()).upper()
    if label in {"EMAIL", "USERNAME"}:
        return "".join(plain.split()).lower()
    if label == "IP_ADDRESS":
        return _address(plain.strip())
    return " ".join(plain.casefold().split())


@lru_cache(maxsize=4096)
def _phone(value: str, region: str | None) -> str:
    import phonenumbers  # noqa: PLC0415  its tables cost 30 ms, and most texts hold no number

    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return "".join(c for c in value if c.isdigit())
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return value.lower()
