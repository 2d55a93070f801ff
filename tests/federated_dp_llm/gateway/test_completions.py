"""What is read of a request, and of the events of a stream."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federated_dp_llm.gateway.parts import DONE, chat, event, usage_event

from federated_dp_llm.gateway.completions import (
    CompletionTerms,
    InvalidRequest,
    by_fields,
    model_of,
    read,
)
from federated_dp_llm.gateway.events import EVENT_MOST, Events, EventTooLarge

TERMS = CompletionTerms()


def prompt(**more: Any) -> bytes:
    """A request for a completion."""
    return json.dumps({"model": "m", "prompt": "hello", "max_tokens": 10, **more}).encode()


def forwarded(body: bytes, *, is_chat: bool = True) -> dict[str, Any]:
    return json.loads(read(body, TERMS, is_chat=is_chat).body)


@pytest.mark.parametrize(
    ("body", "is_chat", "field"),
    [
        (b'{"model": "m"}', True, "messages"),
        (chat(model=""), True, "model"),
        (chat(model=7), True, "model"),
        (chat(model="m" * 257), True, "model"),
        (chat(messages=[]), True, "messages"),
        (chat(messages="hi"), True, "messages"),
        (chat(messages=[{"content": "hi"}]), True, "messages"),
        (chat(n=0), True, "n"),
        (chat(n=17), True, "n"),
        (chat(n="two"), True, "n"),
        (chat(max_tokens=0), True, "max_tokens"),
        (chat(max_tokens=1.5), True, "max_tokens"),
        (chat(max_tokens=10**30), True, "max_tokens"),
        (chat(max_completion_tokens=-1), True, "max_completion_tokens"),
        (chat(stream="yes"), True, "stream"),
        (chat(stream=True, stream_options=[]), True, "stream_options"),
        (prompt(prompt=[]), False, "prompt"),
        (prompt(prompt={}), False, "prompt"),
        (prompt(prompt=["a"] * 5, n=4), False, "n"),
        (prompt(best_of=17), False, "n"),
        (b"", True, ""),
        (b"null", True, ""),
        (b'{"model": "m", "messages": [{"role": "user"}]', True, ""),
        (b"[" * 100_000, True, ""),
        (b'{"model": "\xff", "messages": []}', True, "model"),
    ],
)
def test_a_request_that_cannot_be_priced_is_refused_by_field(
    body: bytes, is_chat: bool, field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(body, TERMS, is_chat=is_chat)

    assert refused.value.field == field


def test_a_field_that_stands_twice_means_one_thing_to_us_and_to_the_backend() -> None:
    body = b'{"model":"m","messages":[{"role":"user"}],"max_tokens":1,"max_tokens":9}'

    asked = read(body, TERMS, is_chat=True)

    assert asked.body.count(b"max_tokens") == 1
    assert json.loads(asked.body)["max_tokens"] == 9


@pytest.mark.parametrize("absent", [{}, {"max_tokens": None}, {"max_completion_tokens": None}])
def test_a_request_without_a_number_of_tokens_is_given_one(absent: dict[str, None]) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user"}], **absent}).encode()

    assert forwarded(body)["max_tokens"] == TERMS.tokens


def test_a_stream_is_always_asked_for_its_usage() -> None:
    assert forwarded(chat(stream=True))["stream_options"] == {"include_usage": True}
    kept = forwarded(chat(stream=True, stream_options={"include_usage": False, "x": 1}))
    assert kept["stream_options"] == {"include_usage": True, "x": 1}
    assert "stream_options" not in forwarded(chat())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None)
@given(
    more=st.dictionaries(st.text(min_size=1, max_size=8).map("x_".__add__), JSON, max_size=4),
    choices=st.integers(1, 16),
    tokens=st.integers(1, 32_768),
    text=st.text(max_size=60),
)
def test_what_is_not_read_goes_on_unchanged_and_the_hold_covers_what_can_be_used(
    more: dict[str, Any], choices: int, tokens: int, text: str
) -> None:
    messages = [{"role": "user", "content": text}]
    body = chat(messages=messages, n=choices, max_tokens=tokens, **more)

    asked = read(body, TERMS, is_chat=True)

    assert json.loads(asked.body) == json.loads(body)
    assert asked.tokens_most >= len(text.encode()) + choices * tokens


@pytest.mark.parametrize(
    ("given_prompt", "prompts"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2], [3]], 3)]
)
def test_every_prompt_of_a_list_is_held_for(given_prompt: Any, prompts: int) -> None:
    body = prompt(prompt=given_prompt)

    asked = read(body, TERMS, is_chat=False)

    assert asked.tokens_most == len(body) + prompts * (TERMS.template_tokens + 10)


@pytest.mark.parametrize(
    ("body", "model"), [(chat(), "small-8b"), (b"{", ""), (b"[]", ""), (b'{"model": 1}', "")]
)
def test_whose_model_is_asked_can_be_read_of_anything(body: bytes, model: str) -> None:
    assert model_of(body) == model


# events


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    """A stream in pieces."""
    ends = sorted({place % (len(whole) + 1) for place in places} | {len(whole)})
    return [whole[a:b] for a, b in zip([0, *ends], ends, strict=False)]


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.integers(0, 10_000), max_size=12), mark=st.sampled_from(["\n", "\r\n"]))
def test_wherever_a_stream_is_cut_the_same_events_come_out(places: list[int], mark: str) -> None:
    seen = event() + b": a comment\n\n" + event(usage=None) + DONE
    sent = event() + b": a comment\n\n" + event(usage=None) + usage_event(9) + DONE
    seen, sent = (text.replace(b"\n", mark.encode()) for text in (seen, sent))
    events = Events(wants_usage=False)

    passed = b"".join(events.feed(piece) for piece in cut(sent, places))

    assert passed == seen
    assert (events.spent, events.is_done) == (9, True)


def test_the_word_done_in_a_text_does_not_end_a_stream() -> None:
    events = Events(wants_usage=False)
    text = event(choices=[{"delta": {"content": "data: [DONE]"}}])

    assert events.feed(text) == text
    assert not events.is_done


def test_nothing_is_passed_on_after_the_end() -> None:
    assert Events(wants_usage=False).feed(DONE + event()) == DONE


def test_usage_in_a_text_is_not_believed() -> None:
    events = Events(wants_usage=False)

    events.feed(event(choices=[{"delta": {"content": '"usage": {"total_tokens": 0}'}}]))

    assert events.spent is None


@pytest.mark.parametrize("number", [-1, 1 << 50])
def test_usage_that_cannot_be_counts_as_not_known(number: int) -> None:
    events = Events(wants_usage=False)

    events.feed(event(usage={"prompt_tokens": number, "completion_tokens": 1}))

    assert events.spent is None


def test_an_error_in_a_stream_is_heard_and_passed_on() -> None:
    events = Events(wants_usage=False)
    told = b"data: " + msgspec.json.encode({"error": {"message": "out of memory"}}) + b"\n\n"

    assert events.feed(told) == told
    assert events.has_failed


def test_an_event_that_does_not_end_is_not_kept_for_ever() -> None:
    events = Events(wants_usage=False)

    events.feed(b"x" * EVENT_MOST)

    with pytest.raises(EventTooLarge):
        events.feed(b"x")


_ODD = st.sampled_from([None, 0, 1, 2, -1, 1.5, 10**30, True, "1", [], {}])
_FIELDS = st.sampled_from(
    ["model", "messages", "max_tokens", "max_completion_tokens", "n", "best_of", "stream", "user"]
)


@given(st.lists(st.tuples(_FIELDS, _ODD), max_size=3), st.booleans())
@settings(max_examples=300, deadline=None)
def test_the_short_reading_says_what_the_long_one_says(
    fields: list[tuple[str, object]], are_first: bool
) -> None:
    """Also of fields that stand there twice, before or behind those that are right."""
    odd = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields]
    right = [chat().decode()[1:-1]]
    body = ("{" + ", ".join(odd + right if are_first else right + odd) + "}").encode()

    def told(reader: Any) -> object:
        try:
            return reader(body, TERMS, is_chat=True)
        except InvalidRequest as error:
            return (error.field, error.expected, error.reason)

    assert told(read) == told(by_fields)
