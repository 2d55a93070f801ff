"""Numbers that stay numbers: FF1 over the digits of a value, its layout kept.

====================  =============================================================================
type                  what is encrypted
====================  =============================================================================
PAYMENT_CARD          all digits but the last; the check digit is computed again, so that a valid
                      number becomes a valid one and an invalid one an invalid one
US_SSN                nine digits; a possible number becomes a possible one, by cycle walking
PHONE                 the digits behind the country code, where `+` says it; otherwise all
others                all digits
====================  =============================================================================

Blanks, hyphens, letters and `+` stay where they are. In a text, a value of more than two letters
gets the operator `otherwise`: those of a codice fiscale or a British licence spell a name.

====================  =============================================================================
leaks                 how much
====================  =============================================================================
type, length, layout  in clear, and the country of a telephone number
equality              equal numbers of one type give one number, for one tenant and key
====================  =============================================================================

In a text, what has fewer than six digits to encrypt gets the operator `otherwise`.

No authentication, and no sign that a number is not the real one: a second pass encrypts it again.
Use it for columns that are known, not for text that is protected more than once. The way back is
`decrypt` on the same field. After a rotation give the old key's id to `decrypt`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Operator, Placeholder, Scope
from privacy_runtime.pseudonyms.errors import DomainTooSmall
from privacy_runtime.pseudonyms.ff1 import FF1
from privacy_runtime.pseudonyms.keys import DEFAULT_TENANT, RedactionKeys

_KEY_BYTES: Final = 32
_SSN_DIGITS: Final = 9
_FEWEST_DIGITS: Final = 6
_MOST_LETTERS: Final = 2

_NUMBERS: Final = frozenset(
    {
        *("PAYMENT_CARD", "US_SSN", "PHONE", "BANK_ACCOUNT", "NATIONAL_ID", "TAX_ID", "PASSPORT"),
        *("DRIVER_LICENSE", "MEDICAL_RECORD", "HEALTH_PLAN", "DEVICE_ID", "ID_NUMBER"),
    }
)

_FRACTION: Final = re.compile(r"([0-9]+)(\.0*)")
_SCIENTIFIC: Final = re.compile(r"-?[0-9.]+[eE]\+?[0-9]+")

Digits = list[int]


class FormatPreserving:
    """Encrypts the digits of a value under the tenant's key; an operator.

    Args:
        keys: where keys come from.
        tenant: whose values these are.
        otherwise: what `replace` does with other values.
    """

    name: Final = "format_preserving"
    reversible: Final = True

    def __init__(
        self,
        keys: RedactionKeys,
        tenant: str = DEFAULT_TENANT,
        *,
        otherwise: Operator | None = None,
    ) -> None:
        self._keys, self.tenant = keys, tenant
        self._otherwise = Placeholder() if otherwise is None else otherwise

    def knows(self, finding: Finding) -> bool:
        """Whether values of this type are numbers, and this one can be long enough."""
        return finding.label in _NUMBERS and finding.end - finding.start >= _FEWEST_DIGITS

    def supports(self, value: str, label: str) -> bool:
        """Whether the value has digits enough: at least six that are encrypted."""
        digits = [int(letter) for letter in value if _is_digit(letter)]
        return len(digits) - _kept_in_front(value, label) - (label == "PAYMENT_CARD") >= (
            _FEWEST_DIGITS
        )

    def encrypt(self, value: str, label: str) -> str:
        """Return a value of the same form.

        Raises:
            DomainTooSmall: fewer than six digits would be encrypted. Nothing was encrypted.
            TenantUnknown: the tenant has no key.
            TenantDestroyed: it had one.
        """
        cipher = self._cipher("")
        return self._turn(value, label, cipher.encrypt)

    def decrypt(self, value: str, label: str, *, key_id: str = "") -> str:
        """Return the value that `value` stands for, if it came from `encrypt`; else another one.

        Raises:
            DomainTooSmall: it cannot have come from `encrypt`.
            UnknownKey: no key has this id.
        """
        return self._turn(value, label, self._cipher(key_id).decrypt)

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return a value of the same form, as an operator."""
        fraction = _FRACTION.fullmatch(value)  # `536221234.0`: the number of a column of fractions
        value, rest = fraction.groups() if fraction else (value, "")
        is_scientific = _SCIENTIFIC.fullmatch(value) is not None
        if (
            is_scientific
            or not self.supports(value, finding.label)
            or _tells_more(value, finding.label)
        ):
            return self._otherwise.replace(value, finding, scope)
        return self.encrypt(value, finding.label) + rest

    def __repr__(self) -> str:
        return f"FormatPreserving(key_id={self._keys.key_id!r}, tenant={self.tenant!r})"

    def _cipher(self, key_id: str) -> FF1:
        return FF1(
            self._keys.derive("ff1", self.tenant, size_bytes=_KEY_BYTES, key_id=key_id), radix=10
        )

    def _turn(self, value: str, label: str, turn: Callable[[Digits, bytes], Digits]) -> str:
        if not self.supports(value, label):
            raise DomainTooSmall(
                f"a value of type {label} has fewer than {_FEWEST_DIGITS} digits to encrypt, "
                "which can be tried one by one; nothing was encrypted"
            )
        digits = [int(letter) for letter in value if _is_digit(letter)]
        kept = _kept_in_front(value, label)
        tweak = f"{label}|{self.tenant}".encode()
        turned = digits[:kept] + _turned(digits[kept:], label, lambda d: turn(d, tweak))
        rest = iter(turned)
        return "".join(str(next(rest)) if _is_digit(letter) else letter for letter in value)


def _turned(digits: Digits, label: str, turn: Callable[[Digits], Digits]) -> Digits:
    if label == "PAYMENT_CARD":
        *body, check = digits
        turned = turn(body)
        return [*turned, (check + luhn_digit(turned) - luhn_digit(body)) % 10]
    if label == "US_SSN" and len(digits) == _SSN_DIGITS:
        possible, turned = _is_possible_ssn(digits), turn(digits)
        while _is_possible_ssn(turned) != possible:
            turned = turn(turned)
        return turned
    return turn(digits)


def luhn_digit(body: Digits) -> int:
    """The digit that makes a number pass Luhn's check (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = digit * 2 if place % 2 == 0 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return -total % 10


def _is_possible_ssn(digits: Digits) -> bool:
    """Whether the administration can have given the number out (20 CFR 422.103; area rules)."""
    area = digits[0] * 100 + digits[1] * 10 + digits[2]
    return (
        area not in {0, 666} and area < 900 and digits[3:5] != [0, 0] and digits[5:] != [0, 0, 0, 0]
    )


def _kept_in_front(value: str, label: str) -> int:
    """How many digits are a country code."""
    if label != "PHONE" or not value.lstrip().startswith("+"):
        return 0
    import phonenumbers  # noqa: PLC0415  its tables cost 30 ms

    digits = "".join(letter for letter in value if _is_digit(letter))
    known = phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    return next((n for n in (1, 2, 3) if digits[:n] and int(digits[:n]) in known), 0)


def _tells_more(value: str, label: str) -> bool:
    """Whether what stays tells more than the layout: letters, or digits of another script."""
    stays = [letter for letter in value if letter.isalnum() and not _is_digit(letter)]
    is_extension = label == "PHONE" and all(letter.isascii() for letter in stays)
    return any(letter.isnumeric() for letter in stays) or (
        len(stays) > _MOST_LETTERS and not is_extension
    )


def _is_digit(letter: str) -> bool:
    """ASCII digits only: others would not come back as they were."""
    return letter.isascii() and letter.isdigit()
