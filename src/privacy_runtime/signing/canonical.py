"""JSON with one form: RFC 8785, the JSON Canonicalization Scheme.

UTF-8, keys sorted by UTF-16 code units, no blanks, numbers as ECMAScript writes a double (`1e-7`,
`0.00001`, `8`): a verifier in any language finds a library for it. Duplicate keys, NaN, infinities
and whole numbers beyond 2^53 are refused: two readers could understand them differently.

The journal has a form of its own (`journal.entries`), older than this one and fixed by its hashes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn

from privacy_runtime.signing.errors import NotCanonical

DOCUMENT_MAX: Final = 2**24
"""Longest signed document, in bytes."""

_WHOLE_MAX: Final = 2**53 - 1


def canonical_bytes(data: object) -> bytes:
    """The one form of JSON data: RFC 8785.

    Raises:
        NotCanonical: the data is not JSON, or holds NaN, an infinity, a whole number beyond 2^53 or
            a lone surrogate. It is not quoted.
    """
    try:
        return _canonical(data).encode("utf-8")
    except (UnicodeEncodeError, RecursionError):
        raise NotCanonical("the text holds half a character, or is nested too deep") from None


def parse_canonical(content: bytes) -> Any:
    """Read bytes that `canonical_bytes` wrote, and nothing else.

    Raises:
        NotCanonical: anything else: not UTF-8, not JSON, a key twice, NaN, blanks, another order,
            another spelling of a number or a character.
    """
    if len(content) > DOCUMENT_MAX:
        raise NotCanonical(f"{len(content)} bytes, at most {DOCUMENT_MAX} are read")
    data = parse_json(content)
    if canonical_bytes(data) != content:
        raise NotCanonical("it is not in canonical form (RFC 8785): it was written by another hand")
    return data


def parse_json(content: bytes) -> Any:
    """Read JSON in which no two readers can see different things.

    Raises:
        NotCanonical: not UTF-8, not JSON, a key twice, NaN or an infinity.
    """
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_constant=_refuse_constant,
        )
    except NotCanonical:
        raise
    except (ValueError, RecursionError) as error:
        place = f", character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise NotCanonical(f"{len(content)} bytes that are not JSON{place}") from None


def readable_bytes(document: Mapping[str, Any]) -> bytes:
    """JSON for files that people edit."""
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _canonical(data: object) -> str:
    match data:
        case None:
            return "null"
        case bool():
            return "true" if data else "false"
        case str():
            return json.dumps(data, ensure_ascii=False)
        case int():
            if abs(data) > _WHOLE_MAX:
                raise NotCanonical("a whole number is beyond 2^53")
            return str(data)
        case float():
            return _number(data)
        case Mapping():
            return _canonical_object(data)
        case list() | tuple():
            return f"[{','.join(_canonical(item) for item in data)}]"
        case _:
            raise NotCanonical(f"a {type(data).__name__} is no JSON data")


def _canonical_object(data: Mapping[Any, object]) -> str:
    if not all(isinstance(key, str) for key in data):
        raise NotCanonical("a key is not text")
    keys = sorted(data, key=lambda key: key.encode("utf-16-be"))
    return f"{{{','.join(f'{_canonical(key)}:{_canonical(data[key])}' for key in keys)}}}"


def _number(value: float) -> str:
    """Number::toString of ECMAScript, which RFC 8785 section 3.2.2.3 prescribes.

    Python finds the same shortest digits and writes them in another way.
    """
    if value - value != 0:
        raise NotCanonical("NaN and infinities are no JSON")
    if value == 0:
        return "0"
    sign, digit_tuple, exponent = Decimal(repr(value)).as_tuple()
    digits = "".join(map(str, digit_tuple)).rstrip("0")
    point = len(digit_tuple) + int(exponent)  # the value is 0.DIGITS times ten to this
    minus = "-" if sign else ""
    if len(digits) <= point <= 21:
        return minus + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{minus}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{minus}{digits[0]}{fraction}e{point - 1:+d}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise NotCanonical("an object has a key twice")
    return found


def _whole(text: str) -> int | float:
    """A whole number; one that only a double can hold stays one."""
    is_small = len(text) <= 17 and abs(int(text)) <= _WHOLE_MAX
    return int(text) if is_small else float(text)


def _refuse_constant(_name: str) -> NoReturn:
    raise NotCanonical("NaN and infinities are no JSON")
