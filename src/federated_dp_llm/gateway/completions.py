"""What the gateway reads of a request for a completion, and what it leaves as it is.

The fields that decide about cost and route are read and checked; every other one goes on as it
came, byte for byte. The body is written anew from its top-level fields, so that a field that
stands there twice means one thing, to us and to the backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import msgspec

from federated_dp_llm.errors import FederatedError

USAGE_MOST: Final = 1 << 40
_MODEL_MOST: Final = 256


class InvalidRequest(FederatedError):
    """The request cannot be read, or asks for more than is allowed. Nothing was spent.

    Attributes:
        field: which field; empty: the whole body.
        expected: what should have been there.
        reason: a stable word.
    """

    code: ClassVar[str] = "invalid_request"

    def __init__(self, field: str, expected: str, *, reason: str = "invalid_value") -> None:
        super().__init__(field, expected, reason)
        self.field, self.expected, self.reason = field, expected, reason

    def __str__(self) -> str:
        return f"{self.field or 'the body'} must be {self.expected}; nothing was spent"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionTerms:
    """What a request may ask for.

    Attributes:
        tokens: granted to a request that names no number.
        tokens_most: that one choice may ask for.
        choices_most: that one request may ask for, prompts x `n`.
        template_tokens: that a backend may add to a prompt (roles, its own system prompt).
        field: in which the number of tokens is written for backends that were told none.
    """

    tokens: int = 1024
    tokens_most: int = 32_768
    choices_most: int = 16
    template_tokens: int = 256
    field: str = "max_tokens"


class Asked(msgspec.Struct, frozen=True):
    """A request for a completion, checked.

    Attributes:
        model: that is asked.
        is_stream: whether the answer comes in pieces.
        wants_usage: whether the client asked to be told its usage at the end of a stream.
        body: to forward.
        tokens_most: what it can cost at most: prompt and completions, in tokens.
    """

    model: str
    is_stream: bool
    wants_usage: bool
    body: bytes
    tokens_most: int


class Usage(msgspec.Struct):
    """Tokens, as a backend counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    @property
    def spent(self) -> int | None:
        """Tokens in all; None where the figures cannot be."""
        parts = (self.prompt_tokens, self.completion_tokens)
        whole = max(sum(parts), self.total_tokens)
        return whole if min(*parts, self.total_tokens) >= 0 and whole <= USAGE_MOST else None


class Told(msgspec.Struct):
    """What is read of an answer or an event: its usage, and whether it has choices and an error."""

    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None
    error: Any = None


class _Model(msgspec.Struct):
    model: str = ""


class _Message(msgspec.Struct):
    role: str


class _Chat(msgspec.Struct):
    """A chat completion in which every field that is read here is as it should be."""

    model: str
    messages: list[_Message]
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    stream: bool | None = None


_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_chat: Final = msgspec.json.Decoder(_Chat)
_model: Final = msgspec.json.Decoder(_Model)
_text: Final = msgspec.json.Decoder(str)
_number: Final = msgspec.json.Decoder(int | None)
_flag: Final = msgspec.json.Decoder(bool | None)
_messages: Final = msgspec.json.Decoder(list[_Message])
_prompt: Final = msgspec.json.Decoder(str | list[Any])
_options: Final = msgspec.json.Decoder(dict[str, Any] | None)
_told: Final = msgspec.json.Decoder(Told)
_encode: Final = msgspec.json.Encoder().encode


def told(body: bytes) -> Told:
    """Read an answer.

    Raises:
        msgspec.MsgspecError: it is no JSON object, or its usage has another form.
    """
    return _told.decode(body)


def model_of(body: bytes) -> str:
    """The model that a request asks; empty if that cannot be read."""
    try:
        return _model.decode(body).model
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def read(body: bytes, terms: CompletionTerms, *, is_chat: bool) -> Asked:
    """Read and check a request.

    Guarantee: a backend that counts no more than one token a byte of the request, adds at most
    `template_tokens` a prompt, and heeds the number of tokens that it is told, cannot use more
    than `tokens_most`. (What is counted above it is charged all the same, when it is known.)

    Args:
        body: JSON.
        terms: what may be asked for.
        is_chat: whether it has messages, not a prompt.

    Raises:
        InvalidRequest: which field, and what is expected there.
    """
    asked = _plain(body, terms) if is_chat else None
    return asked or by_fields(body, terms, is_chat=is_chat)


def by_fields(body: bytes, terms: CompletionTerms, *, is_chat: bool) -> Asked:
    """`read`, field by field: it says which one is wrong, and corrects what may be corrected."""
    try:
        fields = _fields.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("", "a JSON object", reason="invalid_json") from None
    model = _one(fields, "model", _text, "a text of 1 to 256 characters")
    if not model or len(model) > _MODEL_MOST:
        raise InvalidRequest("model", "a text of 1 to 256 characters")
    prompts = 1
    if is_chat:
        if not _one(fields, "messages", _messages, "a list of messages, each with a role"):
            raise InvalidRequest("messages", "a list of one message or more")
    else:
        prompts = _prompts(_one(fields, "prompt", _prompt, "a text or a list"))
    choices = prompts * max(_count(fields, "n"), _count(fields, "best_of"))
    if choices > terms.choices_most:
        raise InvalidRequest("n", f"so that there are at most {terms.choices_most} completions")
    tokens = _tokens(fields, terms)
    is_stream = bool("stream" in fields and _one(fields, "stream", _flag, "true or false"))
    wants_usage = is_stream and _ask_for_usage(fields)
    most = len(body) + prompts * terms.template_tokens + choices * tokens
    return Asked(model, is_stream, wants_usage, _encode(fields), most)


def _plain(body: bytes, terms: CompletionTerms) -> Asked | None:
    """What most requests are, in one reading: no stream, a number of tokens, nothing to correct.

    None: field by field, which says the same of such a request and what is wrong with others.
    """
    try:
        chat, fields = _chat.decode(body), _fields.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    tokens = chat.max_tokens
    if (
        tokens is None
        or not 1 <= tokens <= terms.tokens_most
        or chat.stream
        or not chat.messages
        or not 0 < len(chat.model) <= _MODEL_MOST
        or chat.n is not None
        or chat.best_of is not None
        or "max_completion_tokens" in fields
    ):
        return None
    most = len(body) + terms.template_tokens + tokens
    return Asked(chat.model, False, False, _encode(fields), most)


def _one(
    fields: Mapping[str, msgspec.Raw], name: str, decoder: msgspec.json.Decoder[Any], expected: str
) -> Any:
    raw = fields.get(name)
    if raw is None:
        raise InvalidRequest(name, expected, reason="missing_field")
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest(name, expected) from None


def _count(fields: Mapping[str, msgspec.Raw], name: str) -> int:
    """A number of completions; 1 where none is given."""
    if name not in fields:
        return 1
    number = _one(fields, name, _number, "a whole number from 1 on")
    if number is None:
        return 1
    if number < 1:
        raise InvalidRequest(name, "a whole number from 1 on")
    return int(number)


def _prompts(prompt: str | list[Any]) -> int:
    """How many prompts a `prompt` is: a text or the token ids of one are one."""
    if isinstance(prompt, str):
        return 1
    if not prompt:
        raise InvalidRequest("prompt", "a text, or a list that is not empty")
    return 1 if all(isinstance(one, int) for one in prompt) else len(prompt)


def _tokens(fields: dict[str, msgspec.Raw], terms: CompletionTerms) -> int:
    """The tokens of one completion; written into the request where it names none."""
    found = 0
    for name in ("max_tokens", "max_completion_tokens"):
        if name not in fields:
            continue
        number = _one(fields, name, _number, "a whole number from 1 on")
        if number is None:
            del fields[name]
        elif not 1 <= number <= terms.tokens_most:
            raise InvalidRequest(name, f"a whole number from 1 to {terms.tokens_most}")
        else:
            found = max(found, number)
    if not found:
        found = terms.tokens
        fields[terms.field] = msgspec.Raw(str(found).encode())
    return found


def _ask_for_usage(fields: dict[str, msgspec.Raw]) -> bool:
    """Have the backend tell the usage of a stream; return whether the client wanted it, too."""
    options = None
    if "stream_options" in fields:
        options = _one(fields, "stream_options", _options, "an object")
    wanted = bool(options and options.get("include_usage"))
    if not wanted:
        fields["stream_options"] = msgspec.Raw(_encode({**(options or {}), "include_usage": True}))
    return wanted
