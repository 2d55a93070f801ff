"""The router's end of a node behind a socket: MessagePack over HTTP, one pool of connections."""

from __future__ import annotations

import asyncio
import ssl as tls
from datetime import datetime
from typing import Any, Final, TypeVar

import httpx2
import msgspec

from federated_dp_llm.errors import NodeRefused, NodeUnavailable
from federated_dp_llm.federation.channel import NoHybridGroup, session_of
from federated_dp_llm.federation.messages import (
    PROTOCOL,
    Commit,
    Committed,
    Message,
    NodeCard,
    OpenSession,
    PublicAsk,
    PublicDraft,
    Refusal,
    SessionOpened,
    Step,
    StepSums,
    VoteAsk,
    VoteCounts,
)
from privacy_core.errors import InvalidParameter
from privacy_runtime import tracing

ANSWER_MAX: Final = 1 << 22
"""The most bytes of an answer that are read: nine positions of 1,024 candidates take 0.1 MB."""
MEDIA_TYPE: Final = "application/vnd.msgpack"

Answer = TypeVar("Answer", bound=Message)


class NodeClient:
    """A node at an address. Implements `port.Node`.

    Guarantees: every call ends within `limit_s`, connecting and reading included; an answer is read
    up to `ANSWER_MAX` bytes and decoded strictly; redirects are not followed and no proxy of the
    environment is used; no text of a node but its error's code reaches an error.

    =====================================  =======================================
    when                                   then
    =====================================  =======================================
    it cannot be reached, or is late       `NodeUnavailable`
    it answers 429 or 503                  `NodeUnavailable`, with its Retry-After
    it has no hybrid key exchange, and     `NodeRefused`, reason `post_quantum: ...`; nothing was
    `ssl` requires one                     sent
    it answers another error               `NodeRefused`, with the code it gave
    its answer is no such message          `NodeRefused`, reason `protocol: ...`
    =====================================  =======================================

    Args:
        node_id: whom we expect there; a card of another name is refused.
        endpoint: `https://host:port`; `http://` only without `ssl`.
        ssl: the router's certificate and whom it trusts (`federation.channel`); None: plain.
        limit_s: for one call.
        connections: that are kept open at most.
        transport: what carries requests; None: the network. For an application in this process.

    Raises:
        InvalidParameter: the endpoint is no such address.
    """

    def __init__(
        self,
        node_id: str,
        endpoint: str,
        *,
        ssl: tls.SSLContext | None = None,
        limit_s: float = 30.0,
        connections: int = 64,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        schemes = ("https://",) if ssl is not None else ("https://", "http://")
        if not endpoint.startswith(schemes):
            raise InvalidParameter("endpoint", found=endpoint, expected=f"{schemes[0]}host:port")
        self._node_id = node_id
        self._limit_s = limit_s
        self.tls_group: str | None = None
        """The key exchange of the connection that answered last; None: plain, or none did."""
        self.peer_ends: datetime | None = None
        """When the certificate that it showed there ends."""
        self._client = httpx2.AsyncClient(
            base_url=endpoint,
            verify=ssl if ssl is not None else True,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(limit_s, connect=min(limit_s, 5.0)),
            limits=httpx2.Limits(
                max_connections=connections, max_keepalive_connections=connections
            ),
            headers={"accept": MEDIA_TYPE, "user-agent": "federated-dp-llm"},
            transport=transport,
        )

    @property
    def node_id(self) -> str:
        """Its name in the federation."""
        return self._node_id

    async def card(self) -> NodeCard:
        """What the node says of itself.

        Raises:
            NodeRefused: another node answers there, or it speaks another protocol.
        """
        card = await self._call("GET", "card", None, NodeCard)
        if card.node_id != self._node_id:
            raise NodeRefused(self._node_id, "protocol: another node answers at its address")
        if card.protocol != PROTOCOL:
            raise NodeRefused(
                self._node_id, f"protocol: it speaks {card.protocol}, expected {PROTOCOL}"
            )
        return card

    async def public(self, ask: PublicAsk) -> PublicDraft:
        """Continue a prompt; no record is looked at."""
        return await self._call("POST", "public", ask, PublicDraft)

    async def open(self, ask: OpenSession) -> SessionOpened:
        """Open a session. Not to be repeated: a request opens one session, ever."""
        return await self._call("POST", "session", ask, SessionOpened)

    async def step(self, ask: Step) -> StepSums:
        """Score a draft. May be repeated as it was."""
        return await self._call("POST", "step", ask, StepSums)

    async def vote(self, ask: VoteAsk) -> VoteCounts:
        """Count votes. May be repeated as it was."""
        return await self._call("POST", "vote", ask, VoteCounts)

    async def commit(self, ask: Commit) -> Committed:
        """Settle a session. May be repeated as it was."""
        return await self._call("POST", "commit", ask, Committed)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _call(
        self, method: str, name: str, ask: Message | None, expected: type[Answer]
    ) -> Answer:
        """One call, in a span of its own that the node's hangs on: no text, no handle."""
        with tracing.span("node.call", endpoint_id=self._node_id, route=name) as span:
            try:
                return await self._asked(method, name, ask, expected)
            except (NodeRefused, NodeUnavailable) as error:
                span.note(code=error.code)
                raise

    async def _asked(
        self, method: str, name: str, ask: Message | None, expected: type[Answer]
    ) -> Answer:
        body = b"" if ask is None else self._encoded(ask)
        headers = {"content-type": MEDIA_TYPE} if ask is not None else {}
        if trace := tracing.carried():
            headers[tracing.HEADER] = trace[tracing.VARIABLE]
        try:
            async with (
                asyncio.timeout(self._limit_s),
                self._client.stream(
                    method, f"/fed/v1/{name}", content=body, headers=headers
                ) as answer,
            ):
                self._spoke(answer.extensions.get("network_stream"))
                content = await self._content(answer)
                status, retry = answer.status_code, answer.headers.get("retry-after", "")
        except (TimeoutError, httpx2.TimeoutException):
            raise NodeUnavailable(self._node_id, f"no answer in {self._limit_s:g} s") from None
        except httpx2.RemoteProtocolError:
            # A node that was killed mid-answer looks like this: it is away, and comes back.
            raise NodeUnavailable(self._node_id, "its answer was cut off, or is no HTTP") from None
        except (httpx2.HTTPError, OSError) as error:
            if _lacks_hybrid(error):
                raise NodeRefused(
                    self._node_id, "post_quantum: it does not agree on X25519MLKEM768"
                ) from None
            raise NodeUnavailable(self._node_id, "it cannot be reached") from None
        if status == 200:
            return self._decoded(content, expected)
        refusal = self._decoded(content, Refusal) if content else None
        code = f"status {status}" if refusal is None else refusal.code
        if status in (429, 503):
            wait_s = min(float(retry), 60.0) if retry.isascii() and retry.isdigit() else 1.0
            raise NodeUnavailable(self._node_id, _word(code), wait_s)
        raise NodeRefused(self._node_id, _word(code), room=refusal.room if refusal else None)

    def _spoke(self, stream: Any) -> None:
        """Look at the connection that an answer came over."""
        session = session_of(stream)
        if session is None:
            return
        self.tls_group = session.group
        peer = session.peer
        self.peer_ends = None if peer is None else peer.not_valid_after_utc

    def _encoded(self, ask: Message) -> bytes:
        try:
            return msgspec.msgpack.encode(ask)
        except UnicodeEncodeError:
            raise NodeRefused(self._node_id, "malformed: a text has no UTF-8") from None

    async def _content(self, answer: httpx2.Response) -> bytes:
        content = bytearray()
        async for chunk in answer.aiter_bytes():
            content += chunk
            if len(content) > ANSWER_MAX:
                raise NodeRefused(
                    self._node_id, f"protocol: its answer has more than {ANSWER_MAX} bytes"
                )
        return bytes(content)

    def _decoded(self, content: bytes, expected: type[Answer]) -> Answer:
        try:
            return msgspec.msgpack.decode(content, type=expected, strict=True)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise NodeRefused(
                self._node_id, f"protocol: its answer is no {expected.__name__}"
            ) from None


def _lacks_hybrid(error: BaseException | None) -> bool:
    """Whether a connection was ended for its key exchange; the transport wraps what it met."""
    while error is not None:
        if isinstance(error, NoHybridGroup):
            return True
        error = error.__cause__ or error.__context__
    return False


def _word(code: str) -> str:
    """A node's code, if it is a word: what it says otherwise is not passed on."""
    plain = code.replace("_", "").replace(" ", "")
    return code if len(code) <= 40 and plain.isascii() and plain.isalnum() else "protocol: no code"
