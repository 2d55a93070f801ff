"""E-mail addresses, telephone numbers, user names.

A telephone number is one of three things. International: `+` or `00` and a country code, checked
against the numbering plan of that country (phonenumbers). In context: a plausible group of digits
beside a word that says phone; fictional numbers (555), which no plan contains, are found this way.
In national grouping: no word near, but the grouping of one of the plans below and a valid number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from privacy_core.redaction.numbering_plans import calling_codes, is_assigned
from privacy_core.redaction.scanning import Mark, Page, Recognizer
from privacy_core.redaction.surroundings import Surroundings
from privacy_core.redaction.validators import digits_of, is_ipv4

_HOST: Final = r"[A-Za-z0-9\xc0-\xff][A-Za-z0-9_\xc0-\xff-]*"
_EMAIL: Final = (
    r"[A-Za-z0-9_\xc0-\xff+-][A-Za-z0-9_.+%'~\xaa\xb5\xba\xc0-\xff-]*"
    rf"@(?:(?:{_HOST}\.)+[A-Za-z\xc0-\xff][A-Za-z0-9\xc0-\xff-]{{1,23}}"
    r"|\[?[0-9]{1,3}(?:\.[0-9]{1,3}){3}\]?|\[IPv6:[0-9A-Fa-f:.]{2,45}\]|localhost\b)"
)
_SPELT: Final = (
    r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63} ?[\[({] ?(?:at|AT|arroba) ?[\])}] ?[A-Za-z0-9-]{1,63}"
    r"(?: ?(?:\.|[\[({] ?(?:dot|DOT|punto|point) ?[\])}]) ?[A-Za-z0-9-]{2,24}){1,4}"
)


def _decide_email(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    start = max(start, text.rindex("@", start, end) - 64)  # RFC 5321: as long as a name may be
    while text[start] in "'-.%" and text[start + 1] != "@":
        start += 1
    while text[end - 1] == "-":
        end -= 1
    if ".." in text[start:end]:
        return
    if text[start - 1 : start] == ":":
        before = text[max(0, start - 80) : start]
        if before.rfind("://") > before.rfind(" "):
            return  # the credentials of a URL
    yield Mark(start, end, "EMAIL", "email.address")


def _decide_spelt(page: Page, start: int, end: int) -> Iterator[Mark]:
    yield Mark(start, end, "EMAIL", "email.spelt")


# ---- telephone numbers

_PHONE: Final = (
    r"(?:\+|\(\+?|\b)[0-9](?:[ .()/-]{0,3}[0-9]){5,21}"
    r"(?:,? ?(?:x|ext\.?|extension|extn\.?|Ext\.?|poste|anexo|Durchwahl|#) ?[0-9]{1,6})?"
)
_EXTENSION: Final = re.compile(
    r",? ?(?:x|ext\.?|extension|extn\.?|Ext\.?|poste|anexo|Durchwahl|#) ?[0-9]{1,6}$"
)
_STRONG_BREAK: Final = re.compile(r" [/-] | / ?|/ |  +|(?<=\d)\. |(?<=\d{5}) (?=\d{7})")
_DIGITS: Final = (6, 22)  # of a candidate, at least and at most
# nothing that is written as a date, an address of the network, a version or a range of years
_NOT_A_PHONE: Final = re.compile(
    r"\d{1,2}[/.-]\d{1,2}[/.-](?:\d{2}|\d{4})|\d{4}[/.-]\d{1,2}[/.-]\d{1,2}(?: \d{1,2})?"
    r"|(?:19|20)\d\d ?- ?(?:19|20)?\d\d|\d{1,3}(?:[ .]000)+|\d+\.\d{1,2}"
    r"|\d{4}-\d\d-\d\d \d\d?"
)
_NANP: Final = re.compile(r"(?:1[ .-]?)?(?:\([2-9]\d\d\)[ .-]?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]\d{4}")
# national grouping -> regions whose plan is asked, in this order
_GROUPINGS: Final = (
    (r"0\d(?:[ .-]\d\d){4}", ("FR",)),
    (r"0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,4}", ("GB", "DE", "AT", "CH", "IT", "NL")),
    (r"0\d{2}[ ]\d{4}[ ]\d{4}", ("GB",)),
    (r"\(0\d{1,4}\)[ ]?\d{3,4}[ -]?\d{3,4}", ("GB", "DE", "AU", "IT", "NZ", "ZA")),
    (r"0\d{1,4}-\d{1,4}-\d{4}", ("JP", "KR")),
    (r"0\d{2}[ .]\d{3}[ .]\d{2}[ .]\d{2}", ("CH", "TR", "BE")),
    (r"[6789]\d{2}[ .-]\d{3}[ .-]\d{3}", ("ES",)),
    (r"[6789]\d{2}(?:[ .-]\d{2}){3}", ("ES",)),
    (r"9\d[ ]\d{3}[ ]\d{2}[ ]\d{2}", ("ES",)),
    (r"\(\d{2}\)[ ]?9?\d{4}-\d{4}", ("BR",)),
    (r"04\d{2}[ ]\d{3}[ ]\d{3}", ("AU",)),
    (r"[6-9]\d{4}[ -]\d{5}", ("IN",)),
)
_GROUPED: Final = re.compile("|".join([_NANP.pattern, *(shape for shape, _ in _GROUPINGS)]))
_NATIONAL: Final = tuple((re.compile(shape), regions) for shape, regions in _GROUPINGS)


def _decide_phone(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    while end > start and text[end - 1] == "(":
        end -= 1
    for first, last, digits in _parts(text, start, end):
        if not _glued(text, first, last):
            mark = _judge_phone(text[first:last], digits, first, last, page)
            if mark is not None:
                yield mark


def _parts(text: str, start: int, end: int) -> list[tuple[int, int, str]]:
    """The candidate cut at ` / `, ` - ` and double blanks, without loose brackets; its digits."""
    part = text[start:end]
    if part[-1].isdigit() and "(" not in part and ")" not in part and not _may_break(part):
        digits = digits_of(part)
        return [(start, end, digits)] if len(digits) <= _DIGITS[1] else []
    parts = []
    cuts = [m.span() for m in _STRONG_BREAK.finditer(text, start, end)]
    at = start
    for left, right in [*cuts, (end, end)]:
        first, last = at, left
        at = right
        part = text[first:last]
        if ")" in part and part.count("(") < part.count(")"):
            last = first + part.rindex(")")
        if text[first : first + 1] == "(" and ")" not in text[first:last]:
            first += 1
        while last > first and not text[last - 1].isdigit():
            last -= 1
        digits = digits_of(text[first:last])
        if _DIGITS[0] <= len(digits) <= _DIGITS[1]:
            parts.append((first, last, digits))
    return parts


def _may_break(part: str) -> bool:
    """Whether `_STRONG_BREAK` may occur; costs a fifth of looking for it."""
    if " " not in part:
        return False
    if "  " in part or "/" in part or "- " in part or ". " in part:
        return True
    return len(part) >= 13 and max(map(len, part.split(" "))) >= 7


def _judge_phone(text: str, digits: str, start: int, end: int, page: Page) -> Mark | None:
    body = text
    extension = _EXTENSION.search(text) if text.strip("0123456789 .()/+-") else None
    if extension is not None:
        body = text[: extension.start()]
        digits = digits_of(body)
    if not 6 <= len(digits) <= 16 or len(set(digits)) == 1:
        return None
    plus = body[0] == "+" or body[:2] == "(+"
    zeros = body.startswith("00") and len(digits) >= 10
    grouped = not plus and _GROUPED.fullmatch(body) is not None
    bare = not plus and not zeros
    if bare and (not (grouped or page.mentions("phone")) or _is_no_phone(body)):
        return None
    around = page.around(start, end)
    said = around.speaks_for(
        "phone", ("reference", "card", "us_ssn", "iban", "version", "date", "zip")
    )
    if plus:
        return _international(digits, start, end, around, said)
    if zeros and (said or around.distance("reference") > 2):
        mark = _international(digits[2:], start, end, around, said)
        if mark is not None and (said or mark.rule == "phone.international"):
            return mark
    if not (said or grouped) or (zeros and _is_no_phone(body)):
        return None
    if said and (len(digits) >= 7 or around.distance("phone") == 0):
        return Mark(start, end, "PHONE", "phone.context", around.evidence("phone"))
    if around.distance("reference") <= 1 or around.distance("identity") <= 1:
        return None
    return _national(body, digits, start, end, extended=extension is not None)


def _is_no_phone(body: str) -> bool:
    """Whether digits are written as a date, a range, an amount or an address of the network."""
    return _NOT_A_PHONE.fullmatch(body) is not None or (body.count(".") == 3 and is_ipv4(body))


def _international(
    digits: str, start: int, end: int, around: Surroundings, said: bool
) -> Mark | None:
    country, national = _country(digits)
    if country is None:
        return None
    if national[:1] == "0" and country != 39:
        national = national[1:]  # +44 (0)20 ...
    if is_assigned(country, national):
        return Mark(start, end, "PHONE", "phone.international", (f"numbering plan: +{country}",))
    if said or 8 <= len(digits) <= 15:
        rule = "phone.international_context" if said else "phone.international_possible"
        return Mark(start, end, "PHONE", rule, around.evidence("phone"))
    return None


def _national(body: str, digits: str, start: int, end: int, *, extended: bool) -> Mark | None:
    if _NANP.fullmatch(body):
        tens = digits[-10:]
        rule = (
            "phone.nanp"
            if extended or is_assigned(1, tens) or tens[3:6] == "555"
            else "phone.nanp_form"
        )
        return Mark(start, end, "PHONE", rule, ("grouping: North America",))
    for shape, regions in _NATIONAL:
        if shape.fullmatch(body):
            for region in regions:
                if _valid_in(region, digits):
                    return Mark(start, end, "PHONE", "phone.grouping", (f"grouping: {region}",))
    return None


def _glued(text: str, start: int, end: int) -> bool:
    """Whether the candidate is a part of a longer number, word, path or decimal."""
    before, after = text[start - 1 : start], text[end : end + 2]
    if before and (before.isalnum() or before in "_\\=&$#%"):
        return before not in "=&"
    if before and before in "-./:," and text[start - 2 : start - 1].isalnum() and start >= 2:
        return before != ":" and (before != "." or text[start - 2].isdigit())
    return bool(after) and (
        after[0].isalnum()
        or after[0] in "_%"
        or (
            after[0] in "-/.,:@"
            and after[1:2].isalnum()
            and after[1:2].isascii()
            and (after[0] != "." or after[1:2].isdigit())
        )
    )


def _country(digits: str) -> tuple[int | None, str]:
    """The country calling code at the front, and the rest."""
    codes = calling_codes()
    for length in (1, 2, 3):
        if int(digits[:length]) in codes:
            return int(digits[:length]), digits[length:]
    return None, digits


_REGION_CODES: Final = {
    "FR": 33, "GB": 44, "DE": 49, "AT": 43, "CH": 41, "IT": 39, "NL": 31, "AU": 61, "NZ": 64,
    "ZA": 27, "JP": 81, "KR": 82, "TR": 90, "BE": 32, "ES": 34, "BR": 55, "IN": 91,
}  # fmt: skip


def _valid_in(region: str, digits: str) -> bool:
    """Whether digits are a valid number of a region, with or without its trunk prefix."""
    if digits[0] == "0" and region != "IT":
        return is_assigned(_REGION_CODES[region], digits[1:])
    return is_assigned(_REGION_CODES[region], digits)


# ---- user names

_HANDLE: Final = r"(?:^|[\s(\[,;:])@[A-Za-z_][A-Za-z0-9_.]{2,29}"


def _decide_handle(page: Page, start: int, end: int) -> Iterator[Mark]:
    at = page.text.index("@", start)
    text = page.text[at:end].rstrip(".")
    if page.text[at + len(text) : at + len(text) + 1] not in ("@", "(", "/"):
        yield Mark(at, at + len(text), "USERNAME", "username.handle")


RECOGNIZERS: Final = (
    Recognizer("email", (b"@",), _EMAIL, _decide_email),
    Recognizer(
        "email_spelt",
        (b"at]", b"at)", b"at ]", b"at )", b"at}", b"AT]", b"AT)", b"arroba"),
        _SPELT,
        _decide_spelt,
    ),
    Recognizer("handle", r"(?:^|[\s(\[,;:])@[A-Za-z_]", _HANDLE, _decide_handle),
    Recognizer(
        "phone",
        (),
        _PHONE,
        _decide_phone,
        digits=True,
        near=r"[0-9](?:[ .()/-]{0,3}[0-9]){5}",
        close=True,
    ),
)
