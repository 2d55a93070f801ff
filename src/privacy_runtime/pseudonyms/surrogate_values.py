"""What a surrogate looks like, type by type: drawn from fixed bytes, in the layout of the original.

====================================  =============================================================
type                                  surrogate
====================================  =============================================================
PERSON                                each word for itself, by Faker's lists: a first name becomes
                                      one of the same gender where the lists know it, so that
                                      `John Smith` and `Smith` stay the same man. Titles stay
EMAIL, URL                            at `example.com` (RFC 2606)
PHONE                                 555-0100 to 555-0199; +44: 020 7946 0000 to 0999 (Ofcom)
PAYMENT_CARD                          valid by Luhn, in the test range 4000 00
US_SSN                                areas 900 to 999, groups 01 to 49: neither SSN nor ITIN
IP_ADDRESS, MAC_ADDRESS               documentation ranges (RFC 5737, 3849, 7042)
IBAN                                  country kept, check digits 00, which no IBAN has
other numbers and identifiers         digits for digits, letters for letters; it may be somebody's
ADDRESS, LOCATION, ORGANIZATION,      Faker
USERNAME, PROFESSION
DATE, DATE_OF_BIRTH                   see `date_shifts`
everything else                       none: the operator `otherwise` of the maker
====================================  =============================================================

Faker's lists change with its version, and surrogates with them; the vault's way back does not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from privacy_runtime.pseudonyms.format_preserving import luhn_digit

TITLES: Final = frozenset(
    {"mr", "mrs", "ms", "miss", "dr", "prof", "sir", "madam", "herr", "frau", "sr", "sra"}
)
_CARD_PREFIX: Final = (4, 0, 0, 0, 0, 0)


class Chance:
    """Draws from bytes that are fixed: the same bytes, the same draws."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")

    def below(self, bound: int) -> int:
        """Return a number from 0 to bound - 1; its bias is below bound / 2^128."""
        self._number, drawn = divmod(self._number, bound)
        return drawn

    def choice(self, options: tuple[str, ...]) -> str:
        """Return one of the options."""
        return options[self.below(len(options))]

    def digits(self, count: int) -> str:
        """Return so many decimal digits."""
        return str(self.below(10**count)).rjust(count, "0")

    @property
    def seed(self) -> int:
        """Return what is left, for another generator."""
        return self._number


class Faces:
    """Faker's lists of one locale."""

    def __init__(self, locale: str) -> None:
        from faker import Faker  # noqa: PLC0415  50 ms that only surrogates need

        self.faker: Any = Faker(locale)
        people = next(p for p in self.faker.get_providers() if ".person" in type(p).__module__)
        self.male = _names(people, "first_names_male", "first_names")
        self.female = _names(people, "first_names_female", "first_names")
        self.first = tuple(dict.fromkeys((*self.male, *self.female)))
        self.last = _names(people, "last_names")
        self._male = {name.casefold() for name in self.male}
        self._female = {name.casefold() for name in self.female}

    def pool(self, word: str) -> tuple[str, ...]:
        """Return the list that a word of a name is replaced from."""
        word = word.casefold()
        male, female = word in self._male, word in self._female
        if male and not female:
            return self.male
        if female and not male:
            return self.female
        return self.first if male else self.last

    def fake(self, provider: str, seed: int) -> str:
        """Return what one of Faker's providers says to a seed, in one line."""
        self.faker.seed_instance(seed)
        return " ".join(str(getattr(self.faker, provider)()).split())


@lru_cache(maxsize=8)
def faces(locale: str) -> Faces:
    """Return the lists of a locale.

    Raises:
        AttributeError: Faker has no such locale.
    """
    return Faces(locale)


def _names(people: Any, *attributes: str) -> tuple[str, ...]:
    for attribute in attributes:
        listed = getattr(people, attribute, None)
        if listed:
            names = (str(name) for name in listed)
            return tuple(name for name in names if name.isalpha())
    return ()


def person(value: str, draw: Callable[[str], Chance], lists: Faces) -> str:
    """Replace a name word by word; `draw` gives chance for a word."""
    return " ".join(_name_word(word, draw, lists) for word in value.split())


def _name_word(word: str, draw: Callable[[str], Chance], lists: Faces) -> str:
    core = word.strip(".,;:'\"()")
    if not core or core.casefold() in TITLES:
        return word
    chance = draw(core.casefold())
    if len(core) == 1:
        return word.replace(core, chance.choice(tuple("ABCDEFGHJKLMNOPRSTW")))
    return word.replace(core, in_case_of(core, chance.choice(lists.pool(core))))


def in_case_of(value: str, candidate: str) -> str:
    """Return a candidate in capitals or lower case where the value is."""
    if value.isupper() and len(value) > 1:
        return candidate.upper()
    return candidate.lower() if value.islower() else candidate


def in_layout_of(value: str, digits: str) -> str:
    """Put digits where the value's are."""
    rest = iter(digits)
    return "".join(next(rest) if _is_digit(letter) else letter for letter in value)


def like(value: str, chance: Chance) -> str:
    """Return digits for digits and letters for letters."""
    return "".join(_like(letter, chance) for letter in value)


def _like(letter: str, chance: Chance) -> str:
    if _is_digit(letter):
        return chance.digits(1)
    if not letter.isalpha():
        return letter
    drawn = chr(ord("A") + chance.below(26))
    return drawn.lower() if letter.islower() else drawn


def email(value: str, chance: Chance, lists: Faces) -> str:
    """Return an address nobody can have."""
    del value
    names = chance.choice(lists.first), chance.choice(lists.last)
    return f"{'.'.join(names).lower()}{chance.digits(3)}@example.com"


def url(value: str, chance: Chance, lists: Faces) -> str:
    """Return an address nobody can have."""
    del lists
    scheme = value.partition("://")[0] + "://" if "://" in value else ""
    return f"{scheme}{like('abcdef', chance)}.example.com"


def phone(value: str, chance: Chance, lists: Faces) -> str:
    """Return a number that is kept for fiction."""
    del lists
    digits = "".join(letter for letter in value if _is_digit(letter))
    if value.lstrip().startswith("+44"):
        return f"+44 20 7946 0{chance.digits(3)}"
    area = f"{2 + chance.below(8)}{chance.digits(2)}"
    line = f"55501{chance.digits(2)}"
    if len(digits) == 7:
        return in_layout_of(value, line)
    if len(digits) == 10 and "+" not in value:
        return in_layout_of(value, area + line)
    if len(digits) == 11 and digits[0] == "1":
        return in_layout_of(value, "1" + area + line)
    return f"+1 {area}-555-01{line[-2:]}"


def card(value: str, chance: Chance, lists: Faces) -> str:
    """Return a valid number of a range for tests, as long as the value."""
    del lists
    length = sum(map(_is_digit, value))
    if length < 12:
        return in_layout_of(value, chance.digits(length))
    body = [*_CARD_PREFIX, *map(int, chance.digits(length - 1 - len(_CARD_PREFIX)))]
    return in_layout_of(value, "".join(map(str, [*body, luhn_digit(body)])))


def social_security(value: str, chance: Chance, lists: Faces) -> str:
    """Return a number that the administration does not give out."""
    del lists
    if sum(map(_is_digit, value)) != 9:
        return like(value, chance)
    digits = f"9{chance.digits(2)}{1 + chance.below(49):02}{1 + chance.below(9999):04}"
    return in_layout_of(value, digits)


def iban(value: str, chance: Chance, lists: Faces) -> str:
    """Return a number whose check digits no account has."""
    del lists
    return value[:2] + "00" + like(value[4:], chance)


def ip_address(value: str, chance: Chance, lists: Faces) -> str:
    """Return an address of a documentation range."""
    del lists
    try:
        is_six = ipaddress.ip_address(value.strip()).version == 6
    except ValueError:
        is_six = ":" in value
    if is_six:
        return f"2001:db8:{chance.below(2**16):x}::{chance.below(2**16):x}"
    network = chance.choice(("192.0.2", "198.51.100", "203.0.113"))
    return f"{network}.{1 + chance.below(254)}"


def mac_address(value: str, chance: Chance, lists: Faces) -> str:
    """Return an address of the documentation range 00-00-5E-00-53."""
    del lists
    sign = next((letter for letter in value if letter in ":-."), ":")
    return sign.join(["00", "00", "5E", "00", "53", f"{chance.below(256):02X}"])


def _by_faker(provider: str) -> Callable[[str, Chance, Faces], str]:
    def make(value: str, chance: Chance, lists: Faces) -> str:
        return in_case_of(value, lists.fake(provider, chance.seed))

    return make


def _like_it(value: str, chance: Chance, lists: Faces) -> str:
    del lists
    return like(value, chance)


Make = Callable[[str, Chance, Faces], str]

MAKERS: Final[Mapping[str, Make]] = {
    "EMAIL": email,
    "URL": url,
    "PHONE": phone,
    "PAYMENT_CARD": card,
    "US_SSN": social_security,
    "IBAN": iban,
    "IP_ADDRESS": ip_address,
    "MAC_ADDRESS": mac_address,
    "ADDRESS": _by_faker("street_address"),
    "LOCATION": _by_faker("city"),
    "ORGANIZATION": _by_faker("company"),
    "USERNAME": _by_faker("user_name"),
    "PROFESSION": _by_faker("job"),
    **dict.fromkeys(
        (
            *("BANK_ACCOUNT", "NATIONAL_ID", "TAX_ID", "PASSPORT", "DRIVER_LICENSE"),
            *("MEDICAL_RECORD", "HEALTH_PLAN", "LICENSE_PLATE", "VEHICLE_ID", "DEVICE_ID"),
            *("ID_NUMBER", "POSTAL_CODE"),
        ),
        _like_it,
    ),
}


def _is_digit(letter: str) -> bool:
    return letter.isascii() and letter.isdigit()
