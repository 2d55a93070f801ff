from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_runtime.signing import NotCanonical, canonical_bytes, parse_canonical

# RFC 8785, appendix B: IEEE 754 bit patterns and what ECMAScript writes.
NUMBERS = [
    ("0000000000000000", "0"), ("8000000000000000", "0"), ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"), ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"), ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"), ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"), ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"), ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"), ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"), ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"), ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"), ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"), ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]  # fmt: skip

DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(("pattern", "text"), NUMBERS)
def test_numbers_are_written_as_the_standard_shows(pattern: str, text: str) -> None:
    value = struct.unpack(">d", bytes.fromhex(pattern))[0]

    assert canonical_bytes(value) == text.encode()


def test_the_sample_of_the_standard() -> None:
    """RFC 8785, section 3.2.2 and 3.2.3."""
    data = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }

    assert canonical_bytes(data).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_utf_16() -> None:
    """RFC 8785, section 3.2.3: a pair of surrogates sorts before a character above them."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    document = json.loads(canonical_bytes(dict.fromkeys(keys, 0)))

    assert list(document) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@given(DATA)
def test_what_is_written_is_read_again_and_has_one_form(data: Any) -> None:
    content = canonical_bytes(data)
    read = parse_canonical(content)

    assert read == data
    assert canonical_bytes(read) == content


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":1,"a":2}', b'{"a":1,"a":1}', b"NaN", b"Infinity", b"-Infinity", b'{"b":1,"a":2}',
        b'{"a": 1}', b" 1", b"1\n", b"1.0", b"1E5", b"0.10", b"-0", b'"\\u0041"', b'"\\/"',
        b'"\xff"', b"", b"{", b'"\\ud800"', b"9007199254740993", b"01", b"[" * 100_000,
        b"1e400", b'\xef\xbb\xbf{"a":1}',
    ],
)  # fmt: skip
def test_any_other_form_is_refused(content: bytes) -> None:
    with pytest.raises(NotCanonical):
        parse_canonical(content)


@pytest.mark.parametrize("data", [math.nan, math.inf, 2**53, {1: 2}, {"a": b"x"}, "\ud800", {1, 2}])
def test_what_is_no_json_is_not_written(data: object) -> None:
    with pytest.raises(NotCanonical):
        canonical_bytes(data)


def test_an_error_does_not_quote_the_document() -> None:
    with pytest.raises(NotCanonical) as caught:
        parse_canonical(b'{"secret":"4711", ')

    assert "4711" not in str(caught.value)
