"""WebSockets that a server writes to: who may listen, and how it ends.

A client says who it is in one of four ways, never in the address, which ends up in logs:

- `Authorization: Bearer` or `X-API-Key` in the handshake: programs;
- the session cookie, with an `Origin` that is ours: pages;
- a subprotocol `bearer.TOKEN` beside `pf.v1`: scripts, which can set no headers;
- a first message `{"type": "auth", "token": ...}` within ten seconds.

A later `auth` message renews a token that is about to end. Close codes: 4401 credentials do not
count (any more), 4403 not allowed, 4404 no such thing, 4409, 4429 too many, 1011 an error of ours,
1013 try again later, 1008 the client does not keep to this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from privacy_runtime.http import browsers
from privacy_runtime.http.access import Access
from privacy_runtime.http.credentials import Credentials, Kind, credentials_of, of_text
from privacy_runtime.http.errors import ErrorTable
from privacy_runtime.http.refusals import CrossSiteRefused, Fault, InvalidRequest, Unauthenticated
from privacy_runtime.http.streams import RECHECK_S
from privacy_runtime.http.visits import visit_of
from privacy_runtime.identity import Principal, Scope, require

PROTOCOL: Final = "pf.v1"
_BEARER: Final = "bearer."
_IN_ADDRESS: Final = frozenset({"token", "access_token", "api_key", "authorization", "auth"})
_MESSAGE_MAX: Final = 16_384
_MESSAGES_MOST: Final = 60

Feed = Callable[[Principal], AsyncIterable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptions:
    """How patient a socket is, in seconds.

    Args:
        first_s: for the first message, where it must say who it is.
        send_s: for a client that does not read.
        recheck_s: between two looks at whether the principal still may.
    """

    first_s: float = 10.0
    send_s: float = 20.0
    recheck_s: float = RECHECK_S


async def stream(
    websocket: WebSocket,
    access: Access,
    feed: Feed,
    *scopes: Scope,
    options: SocketOptions | None = None,
) -> None:
    """Serve one socket from handshake to close.

    Guarantee: nothing of the feed is sent before the principal was verified and has the scopes,
    and nothing later than `recheck_s` after they ended.

    Args:
        websocket: not yet accepted.
        access: says who it is.
        feed: makes the messages for a principal; it checks whose object it is.
        scopes: all of them are needed.
        options: patience.

    Raises:
        CrossSiteRefused, InvalidRequest, Unauthenticated: before the handshake is accepted; the
            front door answers with the status.
    """
    numbers = options or SocketOptions()
    shown = _shown(websocket, access)
    if shown is not None and shown.kind is Kind.COOKIE:
        await browsers.require_own_page(websocket, shown.text, access.policy)
    principal = None if shown is None else await _admitted(access, shown, scopes)
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    socket = _Socket(websocket, access, scopes, numbers, shown)
    try:
        if principal is None:
            principal = await socket.introduced()
        with access.seats.taken(principal.subject):
            await socket.run(feed(principal))
    except WebSocketDisconnect:
        return
    except Exception as error:  # noqa: BLE001  whatever it is, the client is told by the table
        await _refuse(websocket, error)


class _Socket:
    def __init__(
        self,
        websocket: WebSocket,
        access: Access,
        scopes: tuple[Scope, ...],
        options: SocketOptions,
        shown: Credentials | None,
    ) -> None:
        self._websocket, self._access, self._scopes = websocket, access, scopes
        self._options, self._shown = options, shown

    async def introduced(self) -> Principal:
        """Wait for the first message and verify who sent it."""
        try:
            async with asyncio.timeout(self._options.first_s):
                message = _read(await self._websocket.receive())
        except TimeoutError:
            raise Unauthenticated("nobody said who it is in time") from None
        if message.get("type") != "auth":
            raise Unauthenticated("the first message should say who it is")
        return await self._renewed(message)

    async def run(self, messages: AsyncIterable[Mapping[str, Any]]) -> None:
        """Send what comes, until it ends, the client leaves, or may no longer listen."""
        tasks = {
            asyncio.create_task(self._send(messages)),
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._watch()),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await _close(self._websocket, 1000)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            close = getattr(messages, "aclose", None)
            if close is not None:
                await close()

    async def _send(self, messages: AsyncIterable[Mapping[str, Any]]) -> None:
        async for message in messages:
            text = orjson.dumps(message, option=orjson.OPT_UTC_Z).decode()
            async with asyncio.timeout(self._options.send_s):
                await self._websocket.send_text(text)

    async def _listen(self) -> None:
        """Read what the client says: it may renew its token, and leave."""
        loop = asyncio.get_running_loop()
        since, count = loop.time(), 0
        while True:
            message = _read(await self._websocket.receive())
            if loop.time() - since > 60:
                since, count = loop.time(), 0
            count += 1
            if count > _MESSAGES_MOST:
                raise InvalidRequest([Fault("message", "should be one of few a minute")])
            if message.get("type") == "auth":
                await self._renewed(message)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._options.recheck_s)
            if self._shown is not None:
                await _admitted(self._access, self._shown, self._scopes)

    async def _renewed(self, message: Mapping[str, Any]) -> Principal:
        token = message.get("token")
        if not isinstance(token, str):
            raise Unauthenticated("the message holds no token")
        shown = of_text(token)
        before = None
        if self._shown is not None:
            before = await self._access.verified(self._shown)
        principal = await _admitted(self._access, shown, self._scopes)
        if before is not None and before.subject != principal.subject:
            raise Unauthenticated("the new token is somebody else's")
        self._shown = shown
        return principal


async def _admitted(access: Access, shown: Credentials, scopes: tuple[Scope, ...]) -> Principal:
    principal = await access.verified(shown)
    for scope in scopes:
        require(principal, scope, tenant=principal.tenant)
    return principal


def _shown(websocket: WebSocket, access: Access) -> Credentials | None:
    if _IN_ADDRESS & {name.lower() for name in websocket.query_params}:
        raise InvalidRequest([Fault("query", "should hold no credentials: addresses are logged")])
    offered = websocket.scope.get("subprotocols", [])
    tokens = [name.removeprefix(_BEARER) for name in offered if name.startswith(_BEARER)]
    name = browsers.cookie_name(visit_of(websocket), access.policy)
    shown = credentials_of(websocket.headers, name)
    if shown is not None and shown.kind is not Kind.COOKIE and tokens:
        raise Unauthenticated("there is more than one credential")
    if len(tokens) > 1:
        raise Unauthenticated("there is more than one credential")
    if tokens:
        return of_text(tokens[0])
    return shown


def _read(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message as an object; whoever left raises."""
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text = message.get("text")
    if text is None or len(text) > _MESSAGE_MAX:
        raise InvalidRequest([Fault("message", f"should be text of {_MESSAGE_MAX} signs at most")])
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise InvalidRequest([Fault("message", "should be a JSON object")])
    return found


async def _refuse(websocket: WebSocket, error: Exception) -> None:
    """Say what is wrong, and close with a code of the same number."""
    if isinstance(error, TimeoutError):
        await _close(websocket, 1008)
        return
    table: ErrorTable = getattr(websocket.app.state, "http_errors", None) or ErrorTable.standard()
    problem = table.answer(error)
    body = {
        "code": problem.code,
        "message": problem.message,
        "details": [],
        "request_id": visit_of(websocket).request_id,
    }
    code = 4000 + problem.status
    if problem.status >= 500:
        code = 1013 if problem.status == 503 else 1011
    elif isinstance(error, InvalidRequest | CrossSiteRefused):
        code = 1008
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await websocket.send_text(orjson.dumps({"error": body}).decode())
    await _close(websocket, code)


async def _close(websocket: WebSocket, code: int) -> None:
    if websocket.application_state is WebSocketState.DISCONNECTED:
        return
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
        await websocket.close(code)
