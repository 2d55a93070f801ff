"""Values written with entities, escapes or in base64 are found, and nothing else changes."""

from __future__ import annotations

import base64
import html
import json
from typing import Any

import pytest
from doubles import EMAIL, NAME, SSN, SmallDetector, protector_of

from privacy_finetuner.context.gateway.disguises import unescaped
from privacy_finetuner.context.gateway.passage import Passage
from privacy_finetuner.context.gateway.policy import Limits, RedactionPolicy, ToolRule, Zone


def passage(grant: ToolRule | None = None) -> Passage:
    return Passage(protector_of(SmallDetector())(""), RedactionPolicy(), Limits(), grant=grant)


def in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


DISGUISES = {
    "decimal entities": "".join(f"&#{ord(letter)};" for letter in EMAIL),
    "one entity": EMAIL.replace("@", "&commat;"),
    "hexadecimal entity": EMAIL.replace("@", "&#x40;"),
    "a space as an entity": NAME.replace(" ", "&#32;"),
    "escape": EMAIL.replace("@", "\\u0040"),
    "short escape": SSN.replace("-", "\\x2d"),
    "braces": EMAIL.replace("@", "\\u{40}"),
    "base64": in_base64(f"write to {EMAIL} soon"),
    "base64 of URLs": base64.urlsafe_b64encode(f"??? {EMAIL} ~~~".encode()).decode(),
    "base64 without its end": in_base64(f"mail {EMAIL}").rstrip("="),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("place", ["text", "structuredContent"])
def test_a_disguised_value_reaches_neither_side(disguise: str, place: str) -> None:
    text = f"see {DISGUISES[disguise]} there"
    message: Any = {"content": [{"type": "text", "text": text}]}
    if place == "structuredContent":
        message = {"structuredContent": {"note": text}}

    shown = json.dumps(passage().to_model(message))
    heard = json.dumps(passage(ToolRule(pattern="*", zone=Zone.EGRESS)).to_tool({"q": text}))

    assert json.dumps(DISGUISES[disguise])[1:-1] not in shown
    assert json.dumps(DISGUISES[disguise])[1:-1] not in heard
    for value in (EMAIL, SSN, NAME):
        assert value not in html.unescape(unescaped(shown))


@pytest.mark.parametrize(
    "text",
    [
        "Tom &amp; Co &lt;b&gt; &copy; &#8364; &notanentity;",
        r"C:\users\x41 \u0041 \n \U00110000 \ud83d\ude00",
        "id 5f2b6c1e9a0d4b7c8e3f commit 9fceb02d0ae598e95dc970b74767f19372d61af8 "
        + in_base64("hello you"),
    ],
)
def test_a_text_that_hides_nothing_stays_letter_by_letter(text: str) -> None:
    assert passage().text_to_model(text) == text


def test_base64_stays_base64() -> None:
    shown = passage().text_to_model(in_base64(f"write to {EMAIL} soon"))

    assert base64.b64decode(shown).decode() == "write to [EMAIL_1] soon"


def test_escaped_pairs_are_one_character() -> None:
    assert unescaped(r"\ud83d\ude00 \x41\u{1F600}") == "\N{GRINNING FACE} A\N{GRINNING FACE}"
