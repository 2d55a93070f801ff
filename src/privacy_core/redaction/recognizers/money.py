"""Payment cards, IBAN, BIC, routing numbers, wallets, sums of money."""

# ruff: noqa: E501 -- one alternative of a pattern a line

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from privacy_core.redaction.scanning import Mark, Page, Recognizer
from privacy_core.redaction.validators import (
    card_issuer,
    compact,
    digits_of,
    iban,
    iban_length,
    luhn,
    routing_number,
)

# ---- payment cards: digits in one run or in the groups that are printed on them

_CARD: Final = r"\b[0-9](?:[ .-]?[0-9]){11,18}\b"  # cut down to the printed grouping by _GROUPS
_GROUPS: Final = re.compile(
    r"\d{4}([ .-])\d{4}\1\d{4}\1\d{4}(?:\1\d{1,3})?|\d{4}([ .-])\d{6}\2\d{4,5}|\d{12,19}"
    r"|\d{4}([ .-])\d{4}\3\d{5}|\d{4}([ .-])\d{4}\4\d{4}\4\d{1,3}|\d{3,12}(?:[ .-]\d{3,12}){1,4}"
)
_COMMON: Final = (14, 15, 16)  # lengths that need no word beside them


def _decide_card(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    match = _GROUPS.fullmatch(text, start, end) or _GROUPS.match(text, start, end)
    if match is None:
        return
    end = match.end()
    digits = digits_of(match.group())
    right = luhn(digits)
    if not (right or page.mentions("card")) or len(set(digits)) == 1:
        return
    if _part_of_more(text, start, end):
        return
    around = page.around(start, end)
    said = around.speaks_for("card", ("reference",))
    if said and right:
        issuer = card_issuer(digits) or "unknown"
        evidence = ("checksum: Luhn", f"issuer: {issuer}", *around.evidence("card"))
        yield Mark(start, end, "PAYMENT_CARD", "card.luhn_context", evidence)
    elif said and around.distance("card") <= 3 and len(digits) in _COMMON:
        yield Mark(start, end, "PAYMENT_CARD", "card.context", around.evidence("card"))
    elif right and len(digits) in _COMMON and around.distance("reference") > 1:
        issued = card_issuer(digits)
        if issued is not None:
            evidence = ("checksum: Luhn", f"issuer: {issued}")
            yield Mark(start, end, "PAYMENT_CARD", "card.luhn", evidence)


def _part_of_more(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 2]
    if before and (before.isalnum() or before == "_"):
        return True
    if before and before in "-.+/" and text[start - 2 : start - 1].isalnum():
        return True
    return bool(after) and (
        after[0].isalnum() or after[0] == "_" or (after[0] in "-.:/" and after[1:2].isdigit())
    )


_MASKED: Final = (
    r"\b(?:[0-9]{1,6}[ -]?){1,3}(?:[*xX#\xa4]{2,6}[ -]?){1,6}(?:[0-9]{2,4}\b)?"
    r"|(?:[*xX#]{2,6}[ -]?){1,6}[0-9]{2,4}\b"
)


def _decide_masked(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    while text[start] in " -":
        start += 1
    while text[end - 1] in " -":
        end -= 1
    body = compact(text[start:end].replace("*", "X").replace("#", "X"))
    before = text[start - 1 : start]
    if not 6 <= len(body) <= 19 or body.count("X") < 3 or (before and before.isalnum()):
        return
    shape = text[start:end].replace("*", "X").replace("#", "X").upper()
    around = page.around(start, end)
    hidden = ("already masked",)
    if re.fullmatch(r"X{3}-?X{2}-?\d{4}", shape):
        yield Mark(start, end, "US_SSN", "masked.ssn", hidden)
    elif around.speaks_for("phone", ("card", "bank")):
        yield Mark(start, end, "PHONE", "masked.phone", hidden)
    elif around.speaks_for("card") or (len(body) >= 12 and body[-4:].isdigit()):
        yield Mark(start, end, "PAYMENT_CARD", "masked.card", hidden)
    elif around.speaks_for("bank"):
        yield Mark(start, end, "BANK_ACCOUNT", "masked.account", hidden)


_ENDING: Final = r"(?i)\b(?:card|account|acct) (?:number )?(?:ending|ends)(?: in| with)? [0-9]{4}\b"


def _decide_ending(page: Page, start: int, end: int) -> Iterator[Mark]:
    card = page.lower.startswith("card", start)
    label, rule = ("PAYMENT_CARD", "masked.card") if card else ("BANK_ACCOUNT", "masked.account")
    yield Mark(end - 4, end, label, rule, ("already masked",))


# ---- bank accounts

_IBAN: Final = (
    r"\b[A-Za-z]{2}[ ]?[0-9]{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?"
    r"|\b[A-Za-z]{2}[0-9]{2}[A-Za-z0-9]{11,30}"
)


def _decide_iban(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    length = iban_length(text[start : start + 2].upper())
    if length is None or (start and (text[start - 1].isalnum() or text[start - 1] == "_")):
        return
    stop, seen = start, 0
    while stop < end and seen < length:
        seen += text[stop].isalnum()
        stop += 1
    if seen < length or text[stop : stop + 1].isalnum():
        return
    number = compact(text[start:stop])
    if iban(number):
        country = f"country: {number[:2]}"
        yield Mark(start, stop, "IBAN", "iban.checksum", ("checksum: ISO 7064 97-10", country))
    elif number[4:].strip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
        around = page.around(start, stop)
        if around.distance("iban") <= 3:
            yield Mark(start, stop, "IBAN", "iban.context", around.evidence("iban"))


_BIC: Final = r"\b[A-Z]{4}[ ]?[A-Z]{2}[ ]?[A-Z0-9]{2}(?:[ ]?[A-Z0-9]{3})?\b"
_COUNTRIES: Final = frozenset(
    """
    AD AE AF AG AI AL AM AO AR AT AU AW AZ BA BB BD BE BF BG BH BI BJ BM BN BO BR BS BT BW BY
    BZ CA CD CF CG CH CI CL CM CN CO CR CU CV CY CZ DE DJ DK DM DO DZ EC EE EG ES ET FI FJ FR
    GA GB GE GH GI GL GM GN GR GT GW GY HK HN HR HT HU ID IE IL IN IQ IR IS IT JE JM JO JP KE
    KG KH KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MG MK ML MM MN MO MR MT MU
    MV MW MX MY MZ NA NE NG NI NL NO NP NZ OM PA PE PG PH PK PL PT PY QA RO RS RU RW SA SC SD
    SE SG SI SK SL SM SN SO SR SV SY SZ TD TG TH TJ TM TN TR TT TW TZ UA UG US UY UZ VE VG VN
    XK YE ZA ZM ZW
    """.split()  # noqa: SIM905 -- ISO codes are read as a block
)


def _decide_bic(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text[start:end]
    if " " in text or text[4:6] not in _COUNTRIES:
        return
    around = page.around(start, end)
    if around.speaks_for("bic"):
        evidence = (f"country: {text[4:6]}", *around.evidence("bic"))
        yield Mark(start, end, "SWIFT_BIC", "bic.context", evidence)


_ROUTING: Final = r"\b[0-9]{9}\b"


def _decide_routing(page: Page, start: int, end: int) -> Iterator[Mark]:
    if not routing_number(page.text[start:end]):
        return
    around = page.around(start, end)
    if around.evidence("bank") and around.speaks_for("bank", ("reference", "identity", "phone")):
        evidence = ("checksum: ABA", *around.evidence("bank"))
        yield Mark(start, end, "BANK_ACCOUNT", "routing.checksum_context", evidence)


# ---- wallets

_WALLET: Final = (
    r"\b(?:bc1|tb1|BC1|ltc1|addr1)[02-9a-zA-Z]{20,100}|\b0x[0-9a-fA-F]{40}\b"
    r"|\b[13LMX][1-9A-HJ-NP-Za-km-z]{25,34}\b|\bD[1-9A-HJ-NP-Za-km-z]{33}\b"
    r"|\b[48][0-9AB][1-9A-HJ-NP-Za-km-z]{93}\b|\bT[1-9A-HJ-NP-Za-km-z]{33}\b"
    r"|\br[1-9A-HJ-NP-Za-km-z]{24,34}\b"
)
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_RIPPLE: Final = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"


def _decide_wallet(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text[start:end]
    if text[0] == "0":
        yield Mark(start, end, "CRYPTO_ADDRESS", "wallet.ethereum")
    elif text[:3].lower() in ("bc1", "tb1", "ltc") or text[:5] == "addr1":
        if _bech32(text):
            yield Mark(start, end, "CRYPTO_ADDRESS", "wallet.checksum", ("checksum: bech32",))
    elif text[0] in "48":
        if page.around(start, end).speaks_for("crypto"):
            yield Mark(start, end, "CRYPTO_ADDRESS", "wallet.context")
    elif _base58check(text, _RIPPLE if text[0] == "r" else _BASE58):
        yield Mark(start, end, "CRYPTO_ADDRESS", "wallet.checksum", ("checksum: base58check",))


def _base58check(text: str, alphabet: str) -> bool:
    """Whether text is a 25-byte payload with its double SHA-256 checksum."""
    value = 0
    for char in text:
        digit = alphabet.find(char)
        if digit < 0:
            return False
        value = value * 58 + digit
    if value >> 200:
        return False
    raw = value.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def _bech32(text: str) -> bool:
    """Whether text has a right bech32 or bech32m checksum (BIP 173, BIP 350)."""
    text = text.lower()
    prefix, _, data = text.rpartition("1")
    values = [_BECH32.find(char) for char in data]
    if not prefix or min(values, default=-1) < 0:
        return False
    total = 1
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    for value in expanded + values:
        top = total >> 25
        total = (total & 0x1FFFFFF) << 5 ^ value
        for k, generator in enumerate(_GENERATORS):
            total ^= generator if top >> k & 1 else 0
    return total in (1, 0x2BC830A3)


# ---- sums

_CURRENCY: Final = (
    r"(?:EUR|USD|GBP|CHF|PLN|TRY|TRL|SEK|NOK|DKK|JPY|CNY|RMB|INR|CAD|AUD|NZD|HUF|CZK|RON|BGN|UAH"
    r"|RUB|BRL|MXN|ARS|SKK|DEM|FRF|ITL|ESP|ATS|FIM|HRK|ISK|LTL|LVL|EEK|MDL|GEL|ROL|SIT|CYP|MTL)"
)
_ADJECTIVE: Final = "(?:[A-Z][a-z]{2,12}|US|GDR|[Nn]ew [A-Z][a-z]{2,12}|pounds sterling|Deutsche?)"
_UNIT_WORD: Final = (
    "(?:euros?|Euros?|dollars?|pounds?|yuan|yen|rupees|francs?|francos|pesos|zlotys?|d\xf3lares|liras?|Liras?"
    "|schillings?|marks?|Mark|kronor|kroner|kron[au]|roubles?|rubles?|forints?|hryvnias?|lei|leva|rials?"
    "|dinars?|dirhams?|rand|reais|shekels?)"
)
_AMOUNT_NUMBER: Final = r"[0-9]{1,3}(?:[ ,.'][0-9]{3}){0,4}(?:[.,][0-9]{1,2})?"
_AMOUNT: Final = (
    rf"(?:[$\xa3\xa4\xa5]|\b{_CURRENCY}|\bUS\$) ?(?:{_AMOUNT_NUMBER}|[0-9]{{1,12}}(?:\.[0-9]{{1,2}})?)"
    r"(?: ?(?:million|billion|thousand|bn|k|m|M|K)\b)?"
    rf"|\b(?:{_AMOUNT_NUMBER}|[0-9]{{1,12}}(?:[.,][0-9]{{1,2}})?)"
    rf"(?: (?:million|billion|thousand))? ?(?:[\xa3\xa4\xa5]|{_CURRENCY}\b"
    rf"|(?:{_ADJECTIVE} )?{_UNIT_WORD}\b)(?: \({_CURRENCY}\))?"
)


def _decide_amount(page: Page, start: int, end: int) -> Iterator[Mark]:
    yield Mark(start, end, "AMOUNT", "amount.currency")


RECOGNIZERS: Final = (
    Recognizer(
        "card",
        (),
        _CARD,
        _decide_card,
        again=True,
        digits=True,
        near=r"[0-9](?:[ .-]?[0-9]){11}",
        close=True,
    ),
    Recognizer(
        "masked",
        (),
        _MASKED,
        _decide_masked,
        digits=True,
        near=r"[0-9][ -]?[*xX#\xa4]{2}|[*xX#]{2}[ -]?[0-9]{2}",
        close=True,
    ),
    Recognizer(
        "iban",
        (),
        _IBAN,
        _decide_iban,
        again=True,
        digits=True,
        near=r"\b[A-Za-z]{2} ?[0-9]{2}(?:[ -]?[A-Za-z0-9]{4}){2}",
        close=True,
    ),
    Recognizer("bic", (b"BIC", b"bic", b"SWIFT", b"Swift", b"swift"), _BIC, _decide_bic),
    Recognizer("routing", (), _ROUTING, _decide_routing, digits=True, near="[0-9]{9}", close=True),
    Recognizer(
        "wallet", (), _WALLET, _decide_wallet, digits=True, near=r"[0-9][A-Za-z][0-9A-Za-z]{2}"
    ),
    Recognizer(
        "amount",
        r"[$\xa3\xa4\xa5] ?[0-9]|[A-Z]{3} ?[0-9]|[0-9] ?(?:[\xa3\xa4\xa5]|[A-Z]{3}|mill|bill|thou)"
        rf"|{_UNIT_WORD}\b",
        _AMOUNT,
        _decide_amount,
        digits=True,
        finds=("AMOUNT",),
    ),
)
