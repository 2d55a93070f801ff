"""A node behind a socket: MessagePack over HTTP, TLS 1.3, and nobody but the router's certificate.

Answers say no more than the messages do. A session takes longer to open and to settle the more
patients match; these answers leave on a grid of time, so that a caller learns which cell it was and
nothing finer. Scoring takes the same time whatever the records are.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from federated_dp_llm.errors import NodeRefused, NodeUnavailable
from federated_dp_llm.federation.certificates import TlsFiles
from federated_dp_llm.federation.channel import Channel
from federated_dp_llm.federation.client import MEDIA_TYPE
from federated_dp_llm.federation.messages import (
    Commit,
    Message,
    OpenSession,
    PublicAsk,
    Refusal,
    Step,
    VoteAsk,
)
from federated_dp_llm.node.agent import NodeAgent
from federated_dp_llm.node.audit import spoken_group
from federated_dp_llm.node.refusals import STATUS, Refused
from privacy_core.errors import InvalidParameter
from privacy_runtime import logs, tracing
from privacy_runtime.http.server import TLS, PatientConfig, ServerOptions
from privacy_runtime.journal import JournalError
from privacy_runtime.world import Clock, SystemClock

BODY_MAX: Final = 1 << 20
GRID_S: Final = 0.05
"""Answers that took a wait for the patients' ledger leave at whole multiples of it."""
EXPIRY_S: Final = 5.0
RETRY_S: Final = 1
T = TypeVar("T", bound=Message)
_log = logs.logger(__name__)
_LATER: Final = MappingProxyType({"retry-after": str(RETRY_S)})


def make_app(
    agent: NodeAgent,
    *,
    clock: Clock | None = None,
    grid_s: float = GRID_S,
    channel: Channel | None = None,
) -> Starlette:
    """The application of a node. It ends sessions when their time is over, and all when it stops.

    Args:
        agent: the node; the application closes it.
        clock: measures the grid; None: the machine's.
        grid_s: see the module; 0: at once.
        channel: what it is served through; renewed files are looked for every few seconds, and
            what is wrong with them goes to the node's audit.
    """
    doors = _Doors(agent, clock or SystemClock(), grid_s)
    if channel is not None:
        channel.tell(partial(_certificate_trouble, agent))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        keeping = asyncio.create_task(_expire(agent, channel))
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            await agent.aclose()

    base = "/fed/v1"
    return Starlette(
        lifespan=lifespan,
        routes=[
            Route(f"{base}/card", doors.card, methods=["GET"]),
            Route(f"{base}/public", doors.of(PublicAsk, agent.public), methods=["POST"]),
            Route(
                f"{base}/session", doors.of(OpenSession, agent.open, slow=True), methods=["POST"]
            ),
            Route(f"{base}/step", doors.of(Step, agent.step), methods=["POST"]),
            Route(f"{base}/vote", doors.of(VoteAsk, agent.vote), methods=["POST"]),
            Route(f"{base}/commit", doors.of(Commit, agent.commit, slow=True), methods=["POST"]),
        ],
        exception_handlers={HTTPException: _unknown, Exception: _failed},
    )


class _Doors:
    """From requests to the agent, and from its errors to answers."""

    def __init__(self, agent: NodeAgent, clock: Clock, grid_s: float) -> None:
        self._agent, self._clock, self._grid_s = agent, clock, grid_s

    async def card(self, _: Request) -> Response:
        return _answer(await self._agent.card())

    def of(
        self, kind: type[T], act: Callable[[T], Awaitable[Message]], *, slow: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        decoder = msgspec.msgpack.Decoder(kind, strict=True)

        async def door(request: Request) -> Response:
            # A span ends when the answer leaves, on the grid: it tells what the caller sees.
            name = request.scope["path"].rpartition("/")[2]
            with tracing.incoming("node.answer", request.headers, route=name) as span:
                answer = await answered(request)
                span.note(status=answer.status_code)
                return answer

        async def answered(request: Request) -> Response:
            body = await _body(request)
            if body is None:
                return _refusal("malformed", 413, f"a body has {BODY_MAX} bytes at most")
            try:
                asked = decoder.decode(body)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                return _refusal("malformed", 400, f"no {kind.__name__} of this protocol")
            began = self._clock.monotonic_s()
            spoken_group.set(getattr(request.scope.get(TLS), "group", None))
            answer = await _done(act, asked)
            if slow:
                await self._next_cell(began)
            return answer

        return door

    async def _next_cell(self, began: float) -> None:
        if self._grid_s > 0:
            took = self._clock.monotonic_s() - began
            await asyncio.sleep(math.ceil(took / self._grid_s) * self._grid_s - took)


async def _done(act: Callable[[T], Awaitable[Message]], asked: T) -> Response:
    try:
        return _answer(await act(asked))
    except NodeUnavailable as error:
        return _refusal(error.reason, 503, _detail(error))
    except NodeRefused as error:
        return _refusal(error.reason, STATUS[error.reason], _detail(error), error.room)


async def _body(request: Request) -> bytes | None:
    """The body, or None where it is too long or was broken off."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_MAX:
                return None
    except ClientDisconnect:
        return None  # nobody reads the answer
    return bytes(body)


def _answer(message: Message, status: int = 200) -> Response:
    return Response(
        msgspec.msgpack.encode(message),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers=_LATER if status == 503 else None,
    )


def _refusal(code: str, status: int, detail: str, room: int | None = None) -> Response:
    return _answer(Refusal(code=code, detail=detail, room=room), status)


def _detail(error: BaseException) -> str:
    return error.__cause__.detail if isinstance(error.__cause__, Refused) else ""


async def _unknown(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _refusal("malformed", status, "no such door")


async def _failed(_: Request, error: Exception) -> Response:
    del error  # it is raised on, and logged without its text
    return _refusal("unavailable", 503, "the node failed; what was held is charged")


async def _expire(agent: NodeAgent, channel: Channel | None) -> None:
    """End what is over, again and again. A ledger that is gone for a while is asked again."""
    while True:
        await asyncio.sleep(EXPIRY_S)
        try:
            if channel is not None:
                await asyncio.to_thread(_renewed, agent, channel)
            await agent.keep()
        except (NodeUnavailable, JournalError):
            _log.warning("expiry is late: the ledger is unavailable")


def _renewed(agent: NodeAgent, channel: Channel) -> None:
    if channel.renew():
        agent.audit.certificate("renewed", channel.not_after)
        _log.info("the renewed certificate was taken")


def _certificate_trouble(agent: NodeAgent, sentence: str) -> None:
    agent.audit.certificate(sentence, None)
    _log.error("certificate", problem=sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTls:
    """The node's certificate and key, and who may call: files in PEM.

    Args:
        certificate, key: the node's own; read again when they change.
        client_ca: whose certificates callers must show: the router's authority.
        require_pq: callers without X25519MLKEM768 are not heard.
    """

    certificate: Path
    key: Path
    client_ca: Path
    require_pq: bool = False

    def context(self, *, clock: Clock | None = None) -> Channel:
        """TLS 1.3, and a certificate of every caller.

        Raises:
            InvalidParameter: a file cannot be used.
        """
        files = TlsFiles(certificate=self.certificate, key=self.key, authority=self.client_ca)
        return Channel(files, server_side=True, require_pq=self.require_pq, clock=clock)


def serve_node(app: Starlette, *, host: str, port: int, tls: Channel | None) -> None:
    """Serve until SIGTERM or SIGINT; then sessions that stand are charged in full.

    Args:
        app: of `make_app`, which was given the same channel, so that renewed files are taken.
        host: where to listen.
        port: where to listen.
        tls: the channel; None: plain, on this machine.

    Raises:
        InvalidParameter: no TLS and an address that others reach.
    """
    require_private(host, tls)
    options = ServerOptions(host=host, port=port, connections_most=1000, body_s=30.0, tls=tls)
    uvicorn.Server(PatientConfig(app, options)).run()


def require_private(host: str, tls: object | None) -> None:
    """Refuse to speak plainly to a network: sums of records would be read on the way.

    Raises:
        InvalidParameter: see above.
    """
    if tls is None and host not in ("127.0.0.1", "::1", "localhost"):
        raise InvalidParameter(
            "host", found=host, expected="127.0.0.1, or --cert, --key and --client-ca for TLS"
        )
