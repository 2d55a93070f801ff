# ruff: noqa: RUF001 -- look-alikes are what is tested
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.redaction.detection import PatternDetector
from privacy_core.redaction.normalization import fold


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_is_read_as_it_is_unless_it_holds_an_escape(text: str) -> None:
    folded = fold(text)
    if not any(sign in text for sign in ("&", "%", "\\u")):
        assert folded.plain == text.encode()
        assert folded.starts is None


@given(st.text())
def test_every_byte_leads_back_to_characters_of_the_text(text: str) -> None:
    folded = fold(text)
    last = 0
    for k in range(len(folded.plain)):
        start, end = folded.span(k, k + 1)
        assert last <= start < end <= len(text)
        last = end


@given(st.text(alphabet="aZ9 ñÉß€’–ж日Å\u0301\u200b\u00ad😀&#64;%40\\u0041", max_size=40))
def test_a_span_of_the_whole_begins_and_ends_where_something_is_seen(text: str) -> None:
    folded = fold(text)
    if folded.plain:
        start, end = folded.span(0, len(folded.plain))
        assert 0 <= start < end <= len(text)


CARD = "4111111111111111"
HIDDEN = {
    "soft hyphen": "4111\u00ad1111\u00ad1111\u00ad1111",
    "zero width space": "\u200b".join(CARD),
    "zero width joiner": "\u200d".join(CARD),
    "word joiner": "4111\u20601111\u20601111\u20601111",
    "full width": "".join(chr(ord(c) + 0xFEE0) for c in CARD),
    "arabic-indic": "".join(chr(0x660 + int(c)) for c in CARD),
    "devanagari": "".join(chr(0x966 + int(c)) for c in CARD),
    "mathematical bold": "".join(chr(0x1D7CE + int(c)) for c in CARD),
    "no-break space": "4111\u00a01111\u00a01111\u00a01111",
    "narrow no-break space": "4111\u202f1111\u202f1111\u202f1111",
    "non-breaking hyphen": "4111\u20111111\u20111111\u20111111",
    "en dash": "4111\u20131111\u20131111\u20131111",
    "right-to-left override": "\u202e4111111111111111\u202c",
    "left-to-right marks": "4111\u200e1111\u200e1111\u200e1111",
    "html entity": "4111&nbsp;1111&nbsp;1111&#160;1111",
    "html digits": "&#52;111111111111111",
    "percent encoding": "4111%201111%201111%201111",
    "variation selector": "4\ufe0f111111111111111",
    "uneven zero width": "4111\u00ad1111\u200b1111 1111",
}


@pytest.mark.parametrize("how", HIDDEN)
def test_nothing_slips_through_behind_a_disguise(how: str) -> None:
    text = f"ñ😀 card {HIDDEN[how]} please"
    found = PatternDetector().detect(text, level="low")
    assert [f.label for f in found] == ["PAYMENT_CARD"]
    value = text[found[0].start : found[0].end]
    assert value.strip("\u202e\u202c") == HIDDEN[how].strip("\u202e\u202c")


@pytest.mark.parametrize(
    "address",
    [
        "ñandú@correo.es",
        "j\u043ehn@example.org",  # Cyrillic o
        "john@ex\u0430mple.org",  # Cyrillic a
        "john\uff20example.org",
        "john&#64;example.org",
        "john%40example.org",
        "用户@例子.com",
        "jo\u00adhn@example.org",
        "jose\u0301@example.org",
    ],
)
def test_an_address_is_found_whole_in_code_points(address: str) -> None:
    text = f"😀 écrire à {address}, merci"
    found = PatternDetector().detect(text, level="low")
    assert [text[f.start : f.end] for f in found] == [address]


def test_a_repr_holds_no_text() -> None:
    assert "secret" not in repr(fold("secret\u200b"))
