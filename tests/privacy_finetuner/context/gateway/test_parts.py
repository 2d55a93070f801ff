"""The parts that decide, without a protocol around them: leaves, schemas, known values, states."""

from __future__ import annotations

import base64
import json
from typing import Any

import anyio
import pytest
from doubles import EMAIL, NAME, SSN, MemoryTokens, SmallDetector
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.known_values import CAPACITY, KnownValues
from privacy_finetuner.context.gateway.leaves import Bounds, Form, LeafRewriter
from privacy_finetuner.context.gateway.passage import Act, Item, Passage, Tally
from privacy_finetuner.context.gateway.policy import Limits, RedactionPolicy, ToolRule, Zone
from privacy_finetuner.context.gateway.protection import (
    SessionProtector,
    Spot,
    disjoint,
    label_of_key,
)
from privacy_finetuner.context.gateway.schemas import Place, relaxed, without_headers
from privacy_finetuner.context.gateway.states import AddressBook, StateSeal
from privacy_finetuner.context.gateway.trail import Direction, Record, Trail
from privacy_runtime.journal import Journal
from privacy_runtime.testing import ManualClock, MemoryHome, SeededEntropy

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def rewriter(change: Any = None, *, pass_binary: bool = False) -> LeafRewriter:
    return LeafRewriter(
        change or (lambda text, hints, form: text),
        bounds=Bounds(64, 10_000),
        pass_binary=pass_binary,
    )


def protector(**changes: Any) -> SessionProtector:
    return SessionProtector(SmallDetector(), MemoryTokens(), **changes)


def passage(grant: ToolRule | None = None, **changes: Any) -> Passage:
    return Passage(protector(**changes), RedactionPolicy(), Limits(), grant=grant)


# ------------------------------------------------------------------ leaves


@given(JSON)
@settings(max_examples=200)
def test_a_change_that_changes_nothing_leaves_everything_as_it_is(document: Any) -> None:
    assert rewriter().free(document) == document


@given(JSON)
@settings(max_examples=100)
def test_every_text_and_number_and_key_is_seen(document: Any) -> None:
    seen: list[str] = []

    def change(text: str, hints: Any, form: Form) -> str:
        seen.append(text)
        return text

    rewriter(change).free({"under": document})

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [*value, *(text for item in value.values() for text in texts(item))]
        if isinstance(value, list):
            return [text for item in value for text in texts(item)]
        return [value] if isinstance(value, str) else []

    for text in texts(document):
        hidden = text.lstrip()[:1] in ("{", "[", '"')
        assert text in seen or hidden


def test_the_name_beside_a_value_is_its_hint_also_inside_of_a_string() -> None:
    hints: list[Any] = []

    def change(text: str, beside: Any, form: Form) -> str:
        if text == "7":
            hints.append(beside)
        return text

    rewriter(change).free({"patient": {"ssn": 7}, "json": json.dumps({"a": {"ssn": 7}})})

    assert [beside[-1] for beside in hints] == ["ssn", "ssn"]


def test_keys_that_become_one_token_keep_both_values() -> None:
    found = rewriter(lambda text, hints, form: "K" if form is Form.KEY else text).free(
        {"a": 1, "b": 2}
    )

    assert sorted(found.values()) == [1, 2]


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": NaN}', "{not json", "[1, 2", '{"a": 1} trailing'],
)
def test_what_only_looks_like_a_document_is_a_text(text: str) -> None:
    seen: list[str] = []

    def change(found: str, hints: Any, form: Form) -> str:
        seen.append(found)
        return found

    assert rewriter(change).free(text) == text
    assert text in seen


def test_bytes_that_are_text_are_read_and_others_withheld_or_passed() -> None:
    text = {"uri": "x", "blob": base64.b64encode(EMAIL.encode()).decode()}
    latin = {"uri": "x", "blob": base64.b64encode(b"caf\xe9").decode(), "mimeType": "text/plain"}
    image = {"type": "image", "data": base64.b64encode(b"\x89PNG\x00\xff").decode()}
    liar = {"type": "image", "data": EMAIL}

    def hide(found: str, hints: Any, form: Form) -> str:
        return found.replace(EMAIL, "[E]").replace("café", "[C]")

    for passes in (False, True):
        walk = rewriter(hide, pass_binary=passes).protocol
        assert base64.b64decode(walk(text)["blob"]) == b"[E]"
        assert base64.b64decode(walk(latin)["blob"]) == b"[C]"
        assert base64.b64decode(walk(liar)["data"]) == b"[E]"
    assert rewriter(hide, pass_binary=True).protocol(image) == image
    assert "withheld" in rewriter(hide).protocol(image)["text"]


def test_words_of_the_protocol_stay_and_the_same_words_of_a_server_do_not() -> None:
    walk = rewriter(lambda text, hints, form: "X").protocol

    assert walk({"type": "text", "text": "a"}) == {"type": "text", "text": "X"}
    assert walk({"structuredContent": {"type": "a"}}) == {"structuredContent": {"X": "X"}}
    assert walk({"action": "accept", "content": {"role": "a"}})["content"] == {"X": "X"}


# ------------------------------------------------------------------ one message


def test_a_value_found_in_one_place_is_replaced_in_all() -> None:
    message = {
        "content": [{"type": "text", "text": "number 219099999 of the day"}],
        "structuredContent": {"ssn": 219099999},
    }

    found = passage().to_model(message)

    token = found["structuredContent"]["ssn"]
    assert found["content"][0]["text"] == f"number {token} of the day"


def test_redaction_of_what_is_redacted_changes_nothing() -> None:
    one = passage()
    message = {"content": [{"type": "text", "text": f"{NAME} {EMAIL}"}], "_meta": {"ssn": SSN}}

    once = one.to_model(message)

    assert one.to_model(once) == once


@pytest.mark.parametrize("zone", list(Zone))
def test_no_zone_gets_a_value_of_a_type_that_is_not_listed(zone: Zone) -> None:
    grant = ToolRule(pattern="*", zone=zone, reveal=frozenset())

    found = passage(grant).to_tool({"a": f"{EMAIL} {SSN}"})

    assert EMAIL not in found["a"]
    assert SSN not in found["a"]


def test_what_everybody_may_see_is_kept() -> None:
    found = passage(keep={"EMAIL"}).to_model({"data": f"{EMAIL} {SSN}"})

    assert EMAIL in found["data"]
    assert SSN not in found["data"]


def test_a_text_under_a_telling_name_counts_as_a_whole() -> None:
    found = passage().to_model({"data": {"password": "hunter2", "password_hint_shown": "a dog"}})

    assert "hunter2" not in json.dumps(found)
    assert found["data"]["password_hint_shown"] == "a dog"  # noqa: S105  a hint
    assert label_of_key(("API-Key",)) == "SECRET"
    assert label_of_key(("total_tokens",)) is None
    assert label_of_key(()) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=8))
def test_spots_never_overlap_and_cover_everything_that_was_found(pairs: Any) -> None:
    spots = [Spot(start, start + size, "L", "r") for start, size in pairs]

    kept = disjoint(spots, [(5, 7)])

    covered = [k for spot in kept for k in range(spot.start, spot.end)]
    assert len(covered) == len(set(covered))
    wanted = {k for spot in spots for k in range(spot.start, spot.end)} - {5, 6}
    assert set(covered) == wanted


# ------------------------------------------------------------------ known values


def test_a_known_value_is_found_between_word_borders_in_any_case_but_for_names() -> None:
    known = KnownValues()
    known.add("ab12-77", "ID_NUMBER")
    known.add("May Price", "PERSON")
    known.add("2024", "DATE")
    known.add("x", "SECRET")

    text = "AB12-77 xab12-77 ab12-778; May Price may price 2024 x"

    assert [text[a:b] for a, b, _ in known.find(text)] == ["AB12-77", "May Price"]


def test_known_values_are_bounded_and_shown_to_nobody() -> None:
    known = KnownValues()
    for number in range(CAPACITY + 50):
        known.add(f"value-{number:06d}", "ID_NUMBER")

    assert len(known) == CAPACITY
    assert known.find("value-000000") == []
    assert len(known.find(f"value-{CAPACITY:06d}, value-{CAPACITY + 49:06d}")) == 2
    assert "value" not in repr(known).replace("values", "")


@given(st.text(min_size=5, max_size=12), st.text(max_size=20), st.text(max_size=20))
def test_positions_of_known_values_are_positions_in_the_text(
    value: str, before: str, after: str
) -> None:
    known = KnownValues()
    known.add(value, "SECRET")
    text = f"{before} {value} {after}"

    for start, end, _ in known.find(text):
        assert text[start:end].lower() == value.strip().lower()


# ------------------------------------------------------------------ schemas

SCHEMA = {
    "type": "object",
    "properties": {
        "mail": {"type": "string", "format": "email", "maxLength": 30, "pattern": "@"},
        "ssn": {"type": "integer", "minimum": 1},
        "kind": {"enum": ["new", "old"]},
        "owner": {"const": EMAIL},
        "either": {"oneOf": [{"type": "number"}, {"type": "string", "pattern": "^a"}]},
        "nested": {"$ref": "#/$defs/row"},
    },
    "additionalProperties": False,
    "required": ["mail"],
    "$defs": {"row": {"type": "array", "items": {"type": "number"}, "uniqueItems": True}},
}


def is_plain(constant: Any) -> bool:
    return EMAIL not in json.dumps(constant)


def test_a_redacted_result_fits_the_relaxed_schema_and_not_the_raw_one() -> None:
    redacted = {
        "mail": "[EMAIL_1]",
        "ssn": "[US_SSN_2]",
        "kind": "new",
        "owner": "[EMAIL_1]",
        "either": "[PHONE_3]",
        "nested": ["[ID_4]", "[ID_4]"],
        "[EMAIL_9]": 1,
    }

    shown = relaxed(SCHEMA, is_plain)

    assert Draft202012Validator(shown).is_valid(redacted)
    assert not Draft202012Validator(SCHEMA).is_valid(redacted)
    assert shown["properties"]["kind"] == {"enum": ["new", "old"]}
    assert not Draft202012Validator(shown).is_valid({**redacted, "kind": "other"})
    assert not Draft202012Validator(shown).is_valid([])


def test_arguments_are_not_copied_into_headers() -> None:
    schema = {"properties": {"a": {"type": "string", "x-mcp-header": "A"}}}

    assert without_headers(schema) == {"properties": {"a": {"type": "string"}}}


def test_a_place_knows_whether_it_wants_a_number() -> None:
    root = Place(SCHEMA, SCHEMA)

    assert root.under("ssn").wants_number
    assert root.under("nested").item(0).wants_number
    assert not root.under("either").wants_number
    assert not root.under("unknown").wants_number
    assert root.under("ssn").number("12") == 12
    assert root.under("nested").item(0).number("1.5") == 1.5
    assert root.under("ssn").number("[US_SSN_1]") is None


def test_a_reference_that_goes_in_circles_ends() -> None:
    loop = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}

    assert not Place(loop, {"$ref": "#/$defs/a"}).wants_number
    assert relaxed(loop, is_plain) == loop


# ------------------------------------------------------------------ states and addresses


def test_a_sealed_state_opens_for_its_purpose_only_and_not_after_one_flipped_bit() -> None:
    seal = StateSeal(SeededEntropy(1))
    text = seal.seal({"state": f"raw {EMAIL}"}, purpose="tools/call a")

    assert EMAIL not in text
    assert seal.open(text, purpose="tools/call a") == {"state": f"raw {EMAIL}"}
    flipped = text[:-3] + ("A" if text[-3] != "A" else "B") + text[-2:]
    for wrong, purpose in ((text, "tools/call b"), (flipped, "tools/call a"), ("x", "a")):
        with pytest.raises(MessageRefused) as caught:
            seal.open(wrong, purpose=purpose)
        assert caught.value.reason is Reason.UNKNOWN_STATE
    with pytest.raises(MessageRefused):
        StateSeal(SeededEntropy(2)).open(text, purpose="tools/call a")


def test_an_address_is_known_by_what_was_shown_however_it_is_encoded() -> None:
    book = AddressBook()
    book.note("a", shown="file:///[E_1]/x", meant="file:///jane/x")
    book.note("a", shown="file:///b%2Fc", meant="one")
    book.note("a", shown="file:///b/c", meant="other")

    assert book.meant("a", "file:///%5BE_1%5D/x") == "file:///jane/x"
    assert book.meant("b", "file:///[E_1]/x") is None
    assert book.meant("a", "file:///b%2Fc") == "one"
    assert book.meant("a", "file:///b/c") == "other"
    assert book.owner("file:///b/c") == "a"


# ------------------------------------------------------------------ the trail


def test_a_record_holds_no_value_and_names_the_rule() -> None:
    tally = Tally()
    tally.items[Item(Act.TOKENISED, "EMAIL", "abcd", "email.pattern")] += 2
    record = Record(session="s", server="a", tool="t", direction=Direction.TO_MODEL, tally=tally)

    body = record.body("digest")

    assert body["items"] == [
        {"act": "tokenised", "type": "EMAIL", "hash": "abcd", "rule": "email.pattern", "count": 2}
    ]
    assert not tally.reveals


def test_a_record_that_reveals_is_on_the_disk_when_it_is_kept() -> None:
    journal = Journal(MemoryHome(), clock=ManualClock())
    tally = Tally()
    tally.items[Item(Act.REVEALED, "EMAIL", "abcd", "policy")] += 1

    async def main() -> int:
        trail = Trail(journal, policy_digest="d", entropy=SeededEntropy(3))
        quiet = Record(
            session="s", server="a", tool="t", direction=Direction.TO_MODEL, tally=Tally()
        )
        await trail.record(quiet)
        before = journal.status("audit").head.seq
        await trail.record(
            Record(session="s", server="a", tool="t", direction=Direction.TO_TOOL, tally=tally)
        )
        return before

    assert anyio.run(main) == 0
    assert journal.status("audit").head.seq == 2
