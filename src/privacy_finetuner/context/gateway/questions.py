r"""Questions of a server in the middle of a request: sampling, elicitation, roots; both eras.

===================  ==========================================  ================================
server \ client       speaks 2026-07-28                           speaks 2025
===================  ==========================================  ================================
2026-07-28           its `input_required` answer is passed on,   each question is sent as a
                     the state sealed                            request; the answers go back
2025                 the server's request waits; the client      the request is passed on, and
                     gets `input_required` and comes back with   so is its answer
                     the answer
===================  ==========================================  ================================

A question goes to the model, so it is redacted; an answer goes to a server, so the rule of the tool
applies to it as it does to arguments.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeAlias

import anyio
from anyio.abc import TaskGroup
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    INVALID_REQUEST,
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageResult,
    CreateMessageResultWithTools,
    ElicitRequest,
    ElicitResult,
    ErrorData,
    InputRequest,
    InputRequiredResult,
    InputResponse,
    ListRootsRequest,
    ListRootsResult,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from privacy_finetuner.context.gateway.crossing import Crossing
from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.upstream import Callbacks

ROUNDS_MAX: Final = 10
SUSPENDED_S: Final = 600.0
SUSPENDED_MAX: Final = 32
_NAMES: Final = count()
Send: TypeAlias = Callable[[ClientSession, dict[str, Any] | None, str | None], Awaitable[Any]]
"""One request to a server, with the answers to its questions and its state, if there are any."""

_REQUEST: Final[TypeAdapter[InputRequest]] = TypeAdapter(InputRequest)
_RESPONSE: Final[TypeAdapter[InputResponse]] = TypeAdapter(InputResponse)


@dataclass(eq=False)
class Exchange:
    """One request under way to a server, and the questions that it raised.

    Args:
        crossing: of the request; of its latest repetition where the client came back.
        purpose: what a sealed state is good for: this method and name only.
    """

    crossing: Crossing
    purpose: str
    send: Send
    tasks: TaskGroup
    outcome: Any = None
    ended: bool = False
    _asked: dict[str, InputRequest] = field(default_factory=dict)
    _answered: dict[str, InputResponse] = field(default_factory=dict)
    _change: anyio.Event = field(default_factory=anyio.Event)
    _number: int = 0
    # Not its address in memory: that is given again, and an old state would lead elsewhere.
    _name: str = field(default_factory=lambda: str(next(_NAMES)))
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def client_is_modern(self) -> bool:
        """Whether the client gets questions inside of answers."""
        return self.crossing.context.protocol_version in MODERN_PROTOCOL_VERSIONS

    async def run(self, answers: dict[str, Any] | None, state: str | None) -> Any:
        """Send the request; return its result, or the questions that come before it.

        Raises:
            MessageRefused, MCPError: see `Crossing.ask`.
        """
        if self.client_is_modern and self._server_may_push():
            return await self._run_aside(answers, state)
        result = await self._once(answers, state)
        rounds = 0
        while isinstance(result, InputRequiredResult):
            if self.client_is_modern:
                return await self._passed_on(result)
            rounds += 1
            if rounds > ROUNDS_MAX:
                raise MessageRefused(Reason.MALFORMED)
            requests = (result.input_requests or {}).items()
            answers = {key: _dump(await self.put(question)) for key, question in requests}
            result = await self._once(answers or None, result.request_state)
        return result

    async def put(self, question: InputRequest) -> InputResponse:
        """Put a server's question to the client, and return the answer as the server may have it.

        Raises:
            MessageRefused, MCPError: question or answer may not pass, or the client declines.
        """
        wire = await self.crossing.to_model(_dump(question))
        shown = _REQUEST.validate_python(wire, by_name=False)
        answer = await (self._wait_for(shown) if self.client_is_modern else self._push(shown))
        return _RESPONSE.validate_python(
            await self.crossing.message_to_tool(_dump(answer)), by_name=False
        )

    async def resume(self, crossing: Crossing, answers: dict[str, Any] | None) -> Any:
        """Go on with a request that waited for the client, who came back with answers."""
        self.crossing = crossing
        for key, answer in (answers or {}).items():
            if key in self._asked:
                self._asked.pop(key)
                self._answered[key] = answer
        self._notify()
        return await self._next()

    async def _once(self, answers: dict[str, Any] | None, state: str | None) -> Any:
        link = self.crossing.link
        link.calls.append(self)
        try:
            return await self.crossing.ask(lambda session: self.send(session, answers, state))
        finally:
            link.calls.remove(self)

    def _server_may_push(self) -> bool:
        session = self.crossing.link.upstream.session
        capabilities = self.crossing.context.session.client_capabilities
        can_ask = capabilities is not None and any(
            (capabilities.sampling, capabilities.elicitation, capabilities.roots)
        )
        is_modern = session is not None and session.protocol_version in MODERN_PROTOCOL_VERSIONS
        return can_ask and not is_modern

    async def _passed_on(self, result: InputRequiredResult) -> InputRequiredResult:
        """A modern server's questions as a modern client may see them."""
        requests = {
            key: _REQUEST.validate_python(
                await self.crossing.to_model(_dump(question)), by_name=False
            )
            for key, question in (result.input_requests or {}).items()
        }
        shown = {f"q{number}": question for number, question in enumerate(requests.values())}
        state = {
            "state": result.request_state,
            "keys": dict(zip(shown, requests, strict=True)),
        }
        sealed = self.crossing.session.seal.seal(state, purpose=self.purpose)
        return InputRequiredResult(input_requests=shown or None, request_state=sealed)

    async def _push(self, question: InputRequest) -> InputResponse:
        """Send a question to a client of 2025 as a request of its own."""
        context = self.crossing.context
        try:
            answer: InputResponse = await context.session.send_request(
                question,
                _kind_of(question),
                metadata=ServerMessageMetadata(related_request_id=context.request_id),
            )
        except ValidationError:
            raise MessageRefused(Reason.MALFORMED) from None
        return answer

    async def _wait_for(self, question: InputRequest) -> InputResponse:
        """Let a client of 2026 find the question in the answer to its request."""
        key = f"w{self._number}"
        self._number += 1
        self._asked[key] = question
        self._notify()
        while key not in self._answered:
            await self._change.wait()
        return self._answered.pop(key)

    async def _run_aside(self, answers: dict[str, Any] | None, state: str | None) -> Any:
        async def run() -> None:
            try:
                with self._scope, anyio.fail_after(SUSPENDED_S):
                    self.outcome = await self._once(answers, state)
            except (MessageRefused, MCPError) as error:
                self.outcome = error
            except TimeoutError:
                self.outcome = MessageRefused(Reason.UPSTREAM_SLOW)
            finally:
                self.ended = True
                # A client that never comes back must not hold a place for ever.
                self.crossing.session.suspended.pop(self._name, None)
                self._notify()

        if len(self.crossing.session.suspended) >= SUSPENDED_MAX:
            raise MessageRefused(Reason.RATE_LIMITED)
        self.tasks.start_soon(run)
        return await self._next()

    async def _next(self) -> Any:
        """Wait for the result or a question, whichever comes first."""
        try:
            while not self.ended and not self._asked:
                await self._change.wait()
        except BaseException:
            # The client gave up on its request: so does the gateway.
            self._scope.cancel()
            raise
        session = self.crossing.session
        if self.ended:
            session.suspended.pop(self._name, None)
            if isinstance(self.outcome, Exception):
                raise self.outcome
            if isinstance(self.outcome, InputRequiredResult):
                return await self._passed_on(self.outcome)
            return self.outcome
        session.suspended[self._name] = self
        sealed = session.seal.seal({"suspended": self._name}, purpose=self.purpose)
        return InputRequiredResult(input_requests=dict(self._asked), request_state=sealed)

    def _notify(self) -> None:
        self._change.set()
        self._change = anyio.Event()


def answers_for(
    calls: list[Exchange], can: ClientCapabilities, *, logging: Any, message: Any
) -> Callbacks:
    """What a connection's client answers: what the model's client can, and nothing else."""

    async def sampling(_: Any, params: Any) -> Any:
        return await put_to_client(calls, CreateMessageRequest(params=params))

    async def elicitation(_: Any, params: Any) -> Any:
        return await put_to_client(calls, ElicitRequest(params=params))

    async def roots(_: Any) -> Any:
        return await put_to_client(calls, ListRootsRequest())

    return Callbacks(
        sampling=sampling if can.sampling else None,
        sampling_capability=can.sampling,
        elicitation=elicitation if can.elicitation else None,
        roots=roots if can.roots else None,
        logging=logging,
        message=message,
    )


async def put_to_client(calls: list[Exchange], question: InputRequest) -> Any:
    """Answer a server's request of its own accord: by the client of its newest request.

    A server that asks while none of its requests is under way is told that nobody is there.
    """
    if not calls:
        return ErrorData(code=INVALID_REQUEST, message="no request is under way")
    try:
        return await calls[-1].put(question)
    except MessageRefused as refusal:
        return ErrorData(code=INVALID_REQUEST, message=str(refusal))
    except MCPError:
        # What the client says about its refusal is its own affair.
        return ErrorData(code=INVALID_REQUEST, message="the client declined")


def _kind_of(question: InputRequest) -> Any:
    match question:
        case CreateMessageRequest(params=params):
            has_tools = params.tools is not None or params.tool_choice is not None
            return CreateMessageResultWithTools if has_tools else CreateMessageResult
        case ElicitRequest():
            return ElicitResult
        case ListRootsRequest():
            return ListRootsResult


def _dump(message: Any) -> Any:
    if isinstance(message, dict):
        return message
    return message.model_dump(by_alias=True, mode="json", exclude_none=True)
