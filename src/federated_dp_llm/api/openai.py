"""OpenAI's chat completions, completions and models, with private answers behind them.

The model's name decides: those of `privacy.private_models` read records, the others do not. What
OpenAI has no field for comes in `extra_body` (`privacy_budget`, `require_consensus`, `labels`,
`department`, `cohort`, `public_tail`) and goes out under `privacy` and in `usage`. A parameter that
would change the answer and is not kept here is refused by name, never ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Protocol

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from federated_dp_llm.api.asking import Asking
from federated_dp_llm.api.door import Door
from federated_dp_llm.api.errors import openai_answer, openai_route
from federated_dp_llm.api.openai_shapes import ChatCompletion, ModelList, TextCompletion
from federated_dp_llm.api.routes import By, Routes
from federated_dp_llm.api.service import Service
from federated_dp_llm.api.shapes import Epsilon, InferenceAnswer, InferenceRequest, Name, UserId
from federated_dp_llm.api.streaming import DONE, event, streamed
from privacy_runtime.http import Access, ErrorTable, Fault, InvalidRequest, Json, NotFound, Problem
from privacy_runtime.identity import Scope

_FINISH: Final = {"stop": "stop", "public_tail": "stop"}
"""OpenAI's closed set; the reason itself stands under `privacy`."""


class _Asked(BaseModel):
    """What both kinds of completions have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(min_length=1, max_length=128)]
    max_tokens: Annotated[int | None, Field(ge=1, le=16_384)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=16_384)] = None
    temperature: Annotated[float | None, Field(ge=0, le=10, allow_inf_nan=False)] = None
    stream: bool | None = False
    stream_options: dict[str, bool] | None = None
    user: Annotated[str | None, Field(max_length=512)] = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None
    n: Literal[1] | None = None
    top_p: Literal[1] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logprobs: Literal[False] | None = None
    stop: None = None
    seed: None = None
    privacy_budget: Epsilon | None = None
    require_consensus: bool = False
    labels: Annotated[list[str], Field(max_length=64)] = []
    department: Name | None = None
    user_id: UserId | None = None
    cohort: Name = "all"
    public_tail: bool = False
    priority: Annotated[int, Field(ge=1, le=5)] = 3

    def inference(self, prompt: str, *, private: bool) -> InferenceRequest:
        """The same question in the router's own form."""
        asked: dict[str, Any] = {
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": self.temperature,
        }
        return InferenceRequest(
            prompt=prompt,
            privacy_budget=self.privacy_budget,
            require_consensus=self.require_consensus,
            labels=self.labels,
            department=self.department,
            user_id=self.user_id,
            cohort=self.cohort,
            public_tail=self.public_tail,
            priority=self.priority,
            context="records" if private else "none",
            **{name: value for name, value in asked.items() if value is not None},
        )


class _TextPart(BaseModel):
    """A part of a message: text, the only kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_TextPart]
    name: Annotated[str | None, Field(max_length=64)] = None

    @property
    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(_Asked):
    """A conversation to answer."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]

    @property
    def prompt(self) -> str:
        """The conversation as one prompt; a single message of a user is itself."""
        if len(self.messages) == 1 and self.messages[0].role == "user":
            return self.messages[0].text
        return "\n".join(f"{one.role}: {one.text}" for one in self.messages)


class CompletionRequest(_Asked):
    """A text to go on from."""

    prompt: str


class OpenAI:
    """The three routes.

    Args:
        service: names the models.
        asking: takes the questions.
        access: its seats are those of streams.
        errors: the table; answers are in OpenAI's form.
        forwarded: models of the gateway, which answers them itself.
    """

    def __init__(
        self,
        service: Service,
        asking: Asking,
        access: Access,
        errors: ErrorTable,
        forwarded: tuple[str, ...] = (),
    ) -> None:
        self._service, self._asking, self._forwarded = service, asking, forwarded
        self._access, self._errors = access, errors

    async def create_chat_completion(self, body: ChatRequest, request: Request, by: By) -> Any:
        """Answer a conversation; see `/v1/inference` for what a budget buys."""
        return await self._complete(body, body.prompt, request, by, _Chat())

    async def create_completion(self, body: CompletionRequest, request: Request, by: By) -> Any:
        """Go on from a text; see `/v1/inference` for what a budget buys."""
        return await self._complete(body, body.prompt, request, by, _Plain())

    async def list_models(self, by: By) -> Any:
        """List the models; `reads_records` says which ones cost privacy."""
        del by
        privacy = self._service.config.privacy
        names = [*((one, True) for one in privacy.private_models)]
        names += [(one, False) for one in (*privacy.public_models, *self._forwarded)]
        data = [
            {
                "id": name,
                "object": "model",
                "created": 0,
                "owned_by": "federated-dp-llm",
                "reads_records": private,
            }
            for name, private in names
        ]
        return Json({"object": "list", "data": data})

    async def _complete(
        self, body: _Asked, prompt: str, request: Request, by: By, form: _Form
    ) -> Any:
        privacy = self._service.config.privacy
        private = body.model in privacy.private_models
        if not private and body.model not in privacy.public_models:
            raise NotFound("there is no such model; GET /v1/models lists them")
        if not prompt.strip():
            raise InvalidRequest([Fault("body.prompt", "should have words")])
        asked = body.inference(prompt, private=private)
        question = await self._asking.question(asked, by, request)
        created = int(self._service.clock.now().timestamp())
        head: dict[str, Any] = {"id": form.prefix + question.query.request_id, "created": created}
        head["model"] = body.model
        if not body.stream:
            shown, _ = await self._asking.answered(question)
            choice = {"index": 0, "finish_reason": _finish(shown), "logprobs": None}
            choice |= form.whole(shown.response)
            return Json(
                {**head, "object": form.kind, "choices": [choice], "usage": _usage(shown),
                 "privacy": _privacy(shown)}
            )  # fmt: skip
        options = body.stream_options or {}
        pieces = _Pieces(head, form, with_usage=options.get("include_usage", False))

        def fail(problem: Problem) -> Iterator[bytes]:
            yield b"data: " + bytes(openai_answer(problem, head["id"]).body) + b"\n\n"

        return await streamed(
            self._asking.pieces(question),
            write=pieces.write,
            fail=fail,
            errors=self._errors,
            seats=self._access.seats,
            subject=by.subject,
        )


class _Form(Protocol):
    """What differs between the two kinds."""

    prefix: str
    kind: str
    chunk: str

    def whole(self, text: str) -> dict[str, Any]:
        """The text of a choice."""
        ...

    def piece(self, text: str | None, *, first: bool) -> dict[str, Any]:
        """A piece of it; None: it has ended."""
        ...


class _Chat:
    prefix, kind, chunk = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def whole(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def piece(self, text: str | None, *, first: bool) -> dict[str, Any]:
        role = {"role": "assistant"} if first else {}
        return {"delta": {**role, **({} if text is None else {"content": text})}}


class _Plain:
    prefix, kind, chunk = "cmpl-", "text_completion", "text_completion"

    def whole(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def piece(self, text: str | None, *, first: bool) -> dict[str, Any]:
        del first
        return {"text": text or ""}


class _Pieces:
    """Writes a stream in OpenAI's form."""

    def __init__(self, head: dict[str, Any], form: _Form, *, with_usage: bool) -> None:
        self._head, self._form, self._with_usage = head, form, with_usage
        self._is_first = True

    def write(self, item: str | tuple[InferenceAnswer, Any]) -> Iterator[bytes]:
        """The chunks of one item."""
        if isinstance(item, str):
            yield self._chunk([self._choice(item, None)])
            return
        shown = item[0]
        yield self._chunk([self._choice(None, _finish(shown))], privacy=_privacy(shown))
        if self._with_usage:
            yield self._chunk([], usage=_usage(shown))
        yield DONE

    def _choice(self, text: str | None, finish: str | None) -> dict[str, Any]:
        piece = self._form.piece(text, first=self._is_first)
        self._is_first = False
        return {"index": 0, "finish_reason": finish, "logprobs": None, **piece}

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return event({**self._head, "object": self._form.chunk, "choices": choices, **more})


def _finish(shown: InferenceAnswer) -> str:
    return _FINISH.get(shown.finish_reason, "length")


def _usage(shown: InferenceAnswer) -> dict[str, Any]:
    return {
        "prompt_tokens": shown.prompt_tokens,
        "completion_tokens": shown.completion_tokens,
        "total_tokens": shown.prompt_tokens + shown.completion_tokens,
        "privacy_cost": shown.privacy_cost,
        "remaining_budget": shown.remaining_budget,
    }


def _privacy(shown: InferenceAnswer) -> dict[str, Any]:
    return shown.model_dump(exclude={"success", "response"})


def router(
    service: Service,
    asking: Asking,
    access: Access,
    door: Door,
    errors: ErrorTable,
    forwarded: tuple[str, ...] = (),
) -> APIRouter:
    """The routes; their errors are in OpenAI's form."""
    handlers = OpenAI(service, asking, access, errors, forwarded)
    routes = Routes(door, tag="openai", errors=(400, 409, 429, 502, 503))
    routes.router.route_class = openai_route(errors)
    query = Scope.MODELS_QUERY
    for path, handler, shape in (
        ("/chat/completions", handlers.create_chat_completion, ChatCompletion),
        ("/completions", handlers.create_completion, TextCompletion),
    ):
        answers: dict[int | str, Any] = {
            200: {"model": shape, "content": {"text/event-stream": {}}}
        }
        more: dict[str, Any] = {"response_model": None, "responses": answers}
        routes.add("POST", path, query, handler, refuses=(404,), **more)
    listed = {200: {"model": ModelList}}
    routes.add("GET", "/models", query, handlers.list_models, response_model=None, responses=listed)
    return routes.router
