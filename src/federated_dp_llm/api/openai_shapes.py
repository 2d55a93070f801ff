"""Answers in OpenAI's form, as they are documented; what its fields do not hold stands beside them.

`privacy` is the router's own answer without its text: price, mechanism, slots, agreement.
"""

from __future__ import annotations

from typing import Any, Literal

from federated_dp_llm.api.shapes import Shown


class Usage(Shown):
    """Tokens, and what they cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    privacy_cost: float
    remaining_budget: float


class AssistantMessage(Shown):
    """What was answered."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Shown):
    """The one choice of a conversation. `finish_reason` `length`: also where the budget ended."""

    index: Literal[0]
    message: AssistantMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None


class TextChoice(Shown):
    """The one choice of a text."""

    index: Literal[0]
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: None


class ChatCompletion(Shown):
    """A conversation, answered."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    privacy: dict[str, Any]


class TextCompletion(Shown):
    """A text, gone on from."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    privacy: dict[str, Any]


class Model(Shown):
    """A name that may be asked for. `reads_records`: answers cost privacy."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    reads_records: bool


class ModelList(Shown):
    """Every name that may be asked for."""

    object: Literal["list"]
    data: list[Model]
