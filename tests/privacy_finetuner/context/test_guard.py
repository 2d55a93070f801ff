from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.entities import UnknownEntity
from privacy_core.redaction.findings import Finding
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.results import score_of
from privacy_finetuner.context.strategies import RedactionStrategy, strategies_of
from privacy_finetuner.errors import ConfigurationError, WrongKey
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.world import SystemEntropy

PAYMENT = "Process payment for John Doe, card 4111-1111-1111-1111"
SECRETS = ("John Doe", "4111-1111-1111-1111", "doe@example.org")
MIXED = "John Doe <doe@example.org> paid with 4111-1111-1111-1111."
SEAL = RedactionStrategy.SEMANTIC_ENCRYPTION

KEYED = [
    RedactionStrategy.ENTITY_HASHING,
    RedactionStrategy.SEMANTIC_ENCRYPTION,
    RedactionStrategy.SURROGATE,
    RedactionStrategy.FORMAT_PRESERVING,
]


def test_the_first_strategy_that_knows_a_type_writes_the_text(make_guard: Any) -> None:
    documented = make_guard(*[RedactionStrategy.PII_REMOVAL, *KEYED])

    result = documented.protect(PAYMENT, sensitivity_level="high")

    assert result.protected_text == "Process payment for [PERSON], card [PAYMENT_CARD]"


def test_the_strategies_behind_it_speak_in_the_map(make_guard: Any) -> None:
    guard = make_guard("pii_removal", "entity_hashing", "semantic_encryption")

    found = guard.protect(PAYMENT).redaction_map

    assert set(found.digests) == {"[PERSON]", "[PAYMENT_CARD]"}
    assert all("#" in digest for digest in found.digests.values())
    assert found.is_sealed
    assert found.originals(guard.encryption_key)[0] == ("John Doe", "[PERSON]")


def test_a_sealed_map_says_nothing_without_its_key(make_guard: Any) -> None:
    found = make_guard("pii_removal", SEAL).protect(PAYMENT).redaction_map

    with pytest.raises(ConfigurationError):
        found.originals()
    with pytest.raises(WrongKey):
        found.originals("00" * 32)


@pytest.mark.parametrize("strategy", RedactionStrategy)
def test_no_strategy_lets_a_value_through(make_guard: Any, strategy: RedactionStrategy) -> None:
    result = make_guard(strategy).protect(MIXED)

    shown = result.protected_text + repr(result) + str(result) + repr(result.redaction_map)
    shown += json.dumps(result.to_dict()) + repr(result.entities_found)
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize("strategy", RedactionStrategy)
def test_protection_is_idempotent(make_guard: Any, strategy: RedactionStrategy) -> None:
    if strategy in (RedactionStrategy.SURROGATE, RedactionStrategy.FORMAT_PRESERVING):
        pytest.skip("what looks like a value is one, for whoever reads it without the key")
    guard = make_guard(strategy)

    once = guard.protect(MIXED).protected_text

    assert guard.protect(once).protected_text == once


words = st.sampled_from(
    ["John Doe", "doe@example.org", "4111 1111 1111 1111", "\n", "\t", " ", "ñ", "\U0001f600",
     "\u200b", "\u202e", "[PERSON]", "[", "]", "é\u0301", "ordinary", "\ud800"]
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.lists(words, max_size=12).map("".join))
def test_what_is_sealed_comes_back_exactly(make_guard: Any, text: str) -> None:
    guard = make_guard(SEAL, reversible_redaction=True)
    protected = guard.protect(text).protected_text

    assert guard.reverse_protection(protected, guard.encryption_key) == text
    assert "doe@example.org" not in protected


def test_a_guard_that_must_lead_back_refuses_a_list_that_does_not() -> None:
    with pytest.raises(ConfigurationError, match="SEMANTIC_ENCRYPTION"):
        ContextGuard([RedactionStrategy.PII_REMOVAL], reversible_redaction=True)


def test_a_guard_that_must_lead_back_passes_over_what_does_not(make_guard: Any) -> None:
    guard = make_guard("pii_removal", "entity_hashing", SEAL, reversible_redaction=True)
    protected = guard.protect(PAYMENT).protected_text

    assert "[PERSON]" not in protected
    assert guard.reverse_protection(protected, guard.encryption_key) == PAYMENT


def test_a_key_that_was_made_is_handed_over_only_by_the_guard_that_made_it(
    make_guard: Any,
) -> None:
    made = make_guard(SEAL)
    given_keys = make_guard(SEAL, keys=RedactionKeys.generate(SystemEntropy()))

    assert len(bytes.fromhex(made.encryption_key)) == 32
    assert made.encryption_key not in repr(made)
    with pytest.raises(ConfigurationError):
        _ = given_keys.encryption_key


def test_the_wrong_key_reveals_nothing_and_says_so(make_guard: Any) -> None:
    guard = make_guard(SEAL)
    protected = guard.protect(PAYMENT).protected_text

    with pytest.raises(WrongKey) as caught:
        guard.reverse_protection(protected, "11" * 32)

    assert "John" not in str(caught.value)


def test_a_tampered_token_stays_a_token_and_the_others_come_back(make_guard: Any) -> None:
    guard = make_guard(SEAL)
    protected = guard.protect(PAYMENT).protected_text
    at = protected.index(":", protected.index(":") + 1) + 3
    flipped = "0" if protected[at] != "0" else "1"
    tampered = protected[:at] + flipped + protected[at + 1 :]

    back = guard.reverse_protection(tampered, guard.encryption_key)

    assert "John Doe" not in back
    assert "4111-1111-1111-1111" in back


def test_two_tenants_have_nothing_in_common(make_guard: Any) -> None:
    keys = RedactionKeys.from_master(b"k" * 32)
    one, two = (make_guard("entity_hashing", keys=keys, tenant=tenant) for tenant in ("a", "b"))
    again = make_guard("entity_hashing", keys=keys, tenant="a")

    assert one.protect(PAYMENT).protected_text == again.protect(PAYMENT).protected_text
    assert one.protect(PAYMENT).protected_text != two.protect(PAYMENT).protected_text


def test_types_to_preserve_stay_and_still_count_in_the_score(guard: ContextGuard) -> None:
    result = guard.protect(MIXED, preserve_entities=["name", "e-mail"])

    assert result.protected_text == MIXED.replace(SECRETS[1], "[PAYMENT_CARD]")
    assert result.sensitivity_score == guard.protect(MIXED).sensitivity_score


def test_an_unknown_type_is_refused_with_the_nearest(guard: ContextGuard) -> None:
    with pytest.raises(UnknownEntity, match="PERSON"):
        guard.protect(MIXED, preserve_entities=["PERSN"])


def test_a_single_string_of_types_is_refused(guard: ContextGuard) -> None:
    with pytest.raises(ConfigurationError, match="list"):
        guard.protect(MIXED, preserve_entities="EMAIL")


@pytest.mark.parametrize("level", ["", "HIGH!", "medium "])
def test_an_unknown_level_is_refused(guard: ContextGuard, level: str) -> None:
    with pytest.raises(InvalidParameter):
        guard.protect("x", sensitivity_level=level)


def test_an_unknown_strategy_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="masking"):
        strategies_of(["maskin"])


@pytest.mark.parametrize(
    ("scores", "expected"), [([], 0.0), ([0.5], 0.5), ([0.5, 0.5], 0.75), ([1.0, 0.1], 1.0)]
)
def test_the_score_is_the_chance_that_one_finding_is_real(
    scores: list[float], expected: float
) -> None:
    findings = [Finding(0, 1, "EMAIL", score, "r") for score in scores]

    assert score_of(findings) == pytest.approx(expected, abs=1e-12)


def test_line_breaks_inside_a_value_stay(make_guard: Any) -> None:
    text = "Mail to John Doe\nand on"
    wide = [Finding(8, 20, "ADDRESS", 1.0, "r")]  # "John Doe\nand"

    class Fixed:
        def detect(self, _text: str, *, level: str, hints: Any) -> Any:
            return wide

    kept = ContextGuard(["pii_removal"], detector=Fixed()).protect(text)
    flat = ContextGuard(["pii_removal"], detector=Fixed(), preserve_structure=False).protect(text)
    sealed = make_guard(SEAL, detector=Fixed())
    protected = sealed.protect(text).protected_text

    assert kept.protected_text == "Mail to [ADDRESS]\n on"
    assert flat.protected_text == "Mail to [ADDRESS] on"
    assert protected.count("\n") == 1
    assert sealed.reverse_protection(protected, sealed.encryption_key) == text


def test_positions_are_code_points_of_both_texts(guard: ContextGuard) -> None:
    text = "\U0001f600é\U0001f1eb\U0001f1f7 John Doe \U0001f469\u200d\U0001f4bb doe@example.org"
    result = guard.protect(text)

    for entity in result.entities_found:
        assert text[entity.start : entity.end] in SECRETS
        assert result.protected_text[entity.new_start : entity.new_end] == entity.replacement


def test_one_person_has_one_number_in_a_conversation(guard: ContextGuard) -> None:
    messages = [
        {"role": "user", "content": "I am John Doe, my friend is Ada Byron"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello Ada Byron"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "call_1", "type": "function",
             "function": {"name": "mail",
                          "arguments": '{"to": "doe@example.org", "cc": "John Doe"}'}}
        ]},
    ]  # fmt: skip

    made = guard.protect_messages(messages).value

    assert made[0]["content"] == "I am [PERSON], my friend is [PERSON_2]"
    assert made[1]["content"][0]["text"] == "Hello [PERSON_2]"
    arguments = json.loads(made[2]["tool_calls"][0]["function"]["arguments"])
    assert arguments == {"to": "[EMAIL]", "cc": "[PERSON]"}
    assert made[2]["tool_calls"][0]["id"] == "call_1"


def test_json_keeps_its_shape(guard: ContextGuard) -> None:
    value = {"a": [1, 2.5, None, True, "John Doe"], "b": {"doe@example.org": "x"}, "c": "[1, 2]"}

    made = guard.protect_json(value)

    assert made.value == {
        "a": [1, 2.5, None, True, "[PERSON]"], "b": {"[EMAIL]": "x"}, "c": "[1, 2]",
    }  # fmt: skip
    assert "doe@" not in repr(made) + repr(made.entities_found)


def test_a_column_says_what_all_of_it_is(guard: ContextGuard) -> None:
    made = guard.protect_json(
        {"who": "Nguyen", "note": "John Doe"}, columns={"who": "PERSON", "note": "keep"}
    )

    assert made.value == {"who": "[PERSON]", "note": "John Doe"}


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan") and b"x"])
def test_what_is_not_json_is_refused(guard: ContextGuard, value: object) -> None:
    with pytest.raises(ConfigurationError, match="not JSON"):
        guard.protect_json(value)


def test_a_stream_gives_what_the_whole_gives(guard: ContextGuard) -> None:
    text = (MIXED + " And so on, for a while.\n") * 20
    expected = guard.protect(text).protected_text
    for size, bulk in ((1, False), (7, True), (64, False), (1000, True)):
        stream = guard.stream(bulk=bulk)
        pieces = [stream.feed(text[k : k + size]) for k in range(0, len(text), size)]

        assert "".join([*pieces, stream.close()]) == expected


def test_a_stream_says_of_marks_what_the_whole_says(make_guard: Any) -> None:
    guard = make_guard("pii_removal")
    text = "[DATE_OF_BIRTH] 3 4 1988 [PHONE_2]: 5551234, [EMAIL] x [MEDICAL_RECORD] 4711 \ud800"
    stream = guard.stream("high")

    assert stream.feed(text) + stream.close() == guard.protect(text, "high").protected_text


def test_tokens_in_a_stream_lead_back(make_guard: Any) -> None:
    guard = make_guard("semantic_encryption", reversible_redaction=True)
    protected = guard.protect(MIXED).protected_text
    revealer = guard.reveal_stream()

    shown = [revealer.feed(protected[k : k + 5]) for k in range(0, len(protected), 5)]

    assert "".join([*shown, revealer.close()]) == MIXED
    assert revealer.restored.total() > 0
    only = guard.reveal_stream(labels=["MAIL"])
    assert "[PAYMENT_CARD:" in only.feed(protected) + only.close()


def test_a_stream_without_a_key_reveals_nothing(make_guard: Any) -> None:
    with pytest.raises(ConfigurationError, match="encryption key"):
        make_guard("pii_removal").reveal_stream()


def test_ten_thousand_entities_in_one_text(guard: ContextGuard) -> None:
    text = " ".join(f"user{n}@example.org" for n in range(10_000))

    result = guard.protect(text)

    assert len(result.entities_found) == 10_000
    assert result.protected_text.endswith("[EMAIL_10000]")
    assert result.sensitivity_score == 1.0


def test_explanations_hold_reasons_and_no_text(guard: ContextGuard) -> None:
    report = guard.explain_redactions(MIXED + " in Paris, 12.03.2020", preserve_entities=["EMAIL"])
    reasons = {each.finding.label: each.reason for each in report.decisions}

    assert "preserve" in reasons["EMAIL"]
    assert "name.listed is right 90 % of the time" in reasons["PERSON"]
    assert "level high" in reasons["DATE"]
    assert report.left
    assert all(each.leaks for each in report.decisions)
    assert not [s for s in SECRETS if s in json.dumps(report.to_dict()) + repr(report)]


def test_a_map_is_not_pickled(guard: ContextGuard) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(guard.protect(MIXED).redaction_map)


def test_a_guard_with_a_key_of_its_own_does_not_travel(make_guard: Any) -> None:
    with pytest.raises(ConfigurationError, match="key"):
        pickle.dumps(make_guard(SEAL))


def test_the_settings_name_no_value(make_guard: Any) -> None:
    guard = make_guard(deny=["Project Zeus"], allow=["John Doe"])

    assert "Zeus" not in json.dumps(guard.settings())
    assert guard.settings() != make_guard().settings()
