"""Checks on candidates: digits, country tables, calendars. None of them raises, whatever it reads.

Checksums of national schemes come from python-stdnum; a module is loaded when its shape first
occurs. A library that raises on a strange number would turn one odd string into a crash of the
whole detector (`stdnum.cn.ric` 2.2 raises `KeyError` on 0.1 % of strings of 18 digits), so every
call is wrapped: what a validator cannot read is not valid.
"""

from __future__ import annotations

import importlib
import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

_NOT_DIGITS: Final = bytes(byte for byte in range(256) if byte not in b"0123456789")
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_BASE_36: Final = str.maketrans({chr(55 + k): str(k) for k in range(10, 36)})


def digits_of(text: str) -> str:
    """The ASCII digits of a text."""
    return text.encode("ascii", "ignore").translate(None, _NOT_DIGITS).decode("ascii")


def compact(text: str) -> str:
    """Letters and digits, in upper case."""
    return "".join([char for char in text if char.isalnum()]).upper()


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the others (ISO/IEC 7812-1)."""
    plain = digits.encode("ascii")
    single = plain[-1::-2]
    total = sum(single) - 48 * len(single) + sum(plain[-2::-2].translate(_DOUBLED))
    return total % 10 == 0


# prefixes of ISO/IEC 7812 issuers: lowest, highest (compared as text of that length), lengths
_ISSUERS: Final = (
    ("4", "4", "visa", (13, 16, 19)),
    ("51", "55", "mastercard", (16,)),
    ("2221", "2720", "mastercard", (16,)),
    ("34", "34", "american express", (15,)),
    ("37", "37", "american express", (15,)),
    ("300", "305", "diners", (14, 16)),
    ("3095", "3095", "diners", (14, 16)),
    ("36", "36", "diners", (14, 16, 19)),
    ("38", "39", "diners", (14, 16)),
    ("6011", "6011", "discover", (16, 19)),
    ("644", "649", "discover", (16, 19)),
    ("65", "65", "discover", (16, 19)),
    ("3528", "3589", "jcb", (16, 19)),
    ("2131", "2131", "jcb", (15,)),
    ("1800", "1800", "jcb", (15,)),
    ("62", "62", "unionpay", (16, 17, 18, 19)),
    ("81", "81", "unionpay", (16, 19)),
    ("50", "50", "maestro", (12, 13, 14, 15, 16, 19)),
    ("56", "58", "maestro", (12, 13, 14, 15, 16, 18, 19)),
    ("6304", "6304", "maestro", (16, 18, 19)),
    ("6759", "6763", "maestro", (16, 18, 19)),
    ("2200", "2204", "mir", (16,)),
    ("60", "60", "rupay", (16,)),
    ("508", "508", "rupay", (16,)),
    ("9792", "9792", "troy", (16,)),
)


_BY_DIGIT: Final = {
    digit: tuple(row for row in _ISSUERS if row[0][0] <= digit <= row[1][0])
    for digit in "0123456789"
}


def card_issuer(digits: str) -> str | None:
    """The scheme that issues numbers with this prefix and length; None for none we know."""
    for low, high, name, lengths in _BY_DIGIT[digits[0]]:
        if low <= digits[: len(low)] <= high and len(digits) in lengths:
            return name
    return None


# ISO 13616 registry, release 99: length of the IBAN of each country
_IBAN_LENGTHS: Final[Mapping[str, int]] = {
    pair[:2]: int(pair[2:])
    for pair in """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18
    DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23
    IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27
    MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19
    SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
    """.split()  # noqa: SIM905 -- ISO codes are read as a block
}


def iban_length(country: str) -> int | None:
    """How many characters an IBAN of the country has (ISO 13616); None: it issues none."""
    return _IBAN_LENGTHS.get(country)


def iban(text: str) -> bool:
    """Whether compact upper-case text is an IBAN: country, length, modulus 97 (ISO 7064)."""
    if len(text) != _IBAN_LENGTHS.get(text[:2]) or not text[2:4].isdigit() or not text.isascii():
        return False
    try:
        return int((text[4:] + text[:4]).translate(_BASE_36)) % 97 == 1
    except ValueError:
        return False


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address a text spells, or None."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def is_ipv4(text: str) -> bool:
    """Whether text is four decimal octets without leading zeros."""
    return _IPV4.fullmatch(text) is not None


def routing_number(digits: str) -> bool:
    """Whether nine digits are an ABA routing number (weights 3, 7, 1; federal prefixes)."""
    if len(digits) != 9 or not digits.isdigit():
        return False
    prefix = int(digits[:2])
    known = prefix <= 12 or 21 <= prefix <= 32 or 61 <= prefix <= 72 or prefix == 80
    return known and sum(int(d) * w for d, w in zip(digits, (3, 7, 1) * 3, strict=True)) % 10 == 0


def us_ssn(text: str) -> bool:
    """Whether digits can be a US social security number (20 CFR 422.103: unassigned parts)."""
    digits = digits_of(text)
    return (
        len(digits) == 9
        and digits[:3] not in ("000", "666")
        and digits[0] != "9"
        and digits[3:5] != "00"
        and digits[5:] != "0000"
        and len(set(digits)) > 1
    )


def gb_nino(text: str) -> bool:
    """Whether text is a UK national insurance number: prefix and suffix letters (HMRC NIM39110)."""
    number = compact(text)
    return (
        len(number) == 9
        and number[0] not in "DFIQUV"
        and number[1] not in "DFIOQUV"
        and number[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")
        and number[2:8].isdigit()
        and number[8] in "ABCD"
    )


def ru_snils(text: str) -> bool:
    """Whether text is a Russian insurance number: weights 9 to 1, modulus 101."""
    digits = digits_of(text)
    if len(digits) != 11:
        return False
    total = sum(int(d) * (9 - k) for k, d in enumerate(digits[:9])) % 101
    return total % 100 == int(digits[9:])


def sg_nric(text: str) -> bool:
    """Whether text is a Singaporean identity number: weights 2 7 6 5 4 3 2, letter by series."""
    number = compact(text)
    if len(number) != 9 or number[0] not in "STFGM" or not number[1:8].isdigit():
        return False
    total = sum(int(d) * w for d, w in zip(number[1:8], (2, 7, 6, 5, 4, 3, 2), strict=True))
    total += {"T": 4, "G": 4, "M": 3}.get(number[0], 0)
    if number[0] == "M":
        return number[8] == "KLJNPQRTUWX"[10 - total % 11]
    letters = "JZIHGFEDCBA" if number[0] in "ST" else "XWUTRQPNMLK"
    return number[8] == letters[total % 11]


def tw_id(text: str) -> bool:
    """Whether text is a Taiwanese identity number: letter as two digits, weights 1 9 8 ... 1 1."""
    number = compact(text)
    if len(number) != 10 or number[1] not in "1289" or not number[1:].isdigit():
        return False
    first = "ABCDEFGHJKLMNPQRSTUVXYWZIO".find(number[0]) + 10
    weights = (8, 7, 6, 5, 4, 3, 2, 1, 1)
    total = first // 10 + first % 10 * 9
    return (total + sum(int(d) * w for d, w in zip(number[1:], weights, strict=True))) % 10 == 0


def us_npi(text: str) -> bool:
    """Whether ten digits are a US provider identifier: Luhn after the prefix 80840."""
    digits = digits_of(text)
    return len(digits) == 10 and digits[0] in "12" and luhn("80840" + digits)


def us_dea(text: str) -> bool:
    """Whether text is a US DEA registration: (d1+d3+d5) + 2(d2+d4+d6) ends in d7."""
    number = compact(text)
    if len(number) != 9 or not number[2:].isdigit() or not number[0].isalpha():
        return False
    d = [int(c) for c in number[2:]]
    return (d[0] + d[2] + d[4] + 2 * (d[1] + d[3] + d[5])) % 10 == d[6]


def us_mbi(text: str) -> bool:
    """Whether text is a Medicare beneficiary identifier (CMS: position classes, no S L O I B Z)."""
    number = compact(text)
    if len(number) != 11 or number[0] == "0" or set(number) & set("SLOIBZ"):
        return False
    kinds = "9AX9AX9AA99"
    return all(
        kind == "X" or (c.isdigit() if kind == "9" else c.isalpha())
        for c, kind in zip(number, kinds, strict=True)
    )


_OWN: Final[Mapping[str, Callable[[str], bool]]] = {
    "gb_nino": gb_nino,
    "ru_snils": ru_snils,
    "sg_nric": sg_nric,
    "tw_id": tw_id,
    "us_dea": us_dea,
    "us_mbi": us_mbi,
    "us_npi": us_npi,
    "us_ssn": us_ssn,
}


@lru_cache(maxsize=512)
def _checker(scheme: str) -> Callable[[str], bool]:
    """The validity check of a scheme, loaded when it is first needed."""
    own = _OWN.get(scheme)
    if own is not None:
        return own
    module = importlib.import_module(f"stdnum.{scheme}")
    check: Callable[[str], bool] = module.is_valid
    return check


def passes_checksum(scheme: str, text: str) -> bool:
    """Whether a number is valid in a scheme of `recognizers.national_ids`, whatever the text.

    Raises:
        ImportError: the scheme's check is not installed. A number that nobody can check must not
            pass for none.
    """
    check = _checker(scheme)
    try:
        return bool(check(text)) and len(set(digits_of(text))) > 1
    except Exception:  # noqa: BLE001 -- a library that fails on odd input must not stop detection
        return False
