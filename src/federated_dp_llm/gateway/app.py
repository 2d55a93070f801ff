"""The gateway as an ASGI application: OpenAI's requests in, paid for, forwarded, answered.

One request: who asks, what they ask, what it can cost; is there room at a backend; hold the cost
on disk; forward; pass the answer on; settle; note. In this order, and none of it twice.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from federated_dp_llm.gateway import refusals
from federated_dp_llm.gateway.audit import AuditTrail, Line
from federated_dp_llm.gateway.backends import PATHS, Backend, Backends, Strategy
from federated_dp_llm.gateway.charges import Charges, Debits, Hold, Unit
from federated_dp_llm.gateway.completions import Asked, CompletionTerms, read
from federated_dp_llm.gateway.connection import Limits, Timeouts
from federated_dp_llm.gateway.figures import Figures
from federated_dp_llm.gateway.presence import ClientLeft, Presence, Receive
from federated_dp_llm.gateway.refusals import Refusal
from federated_dp_llm.gateway.relay import Ended, Relay, Send
from privacy_core.errors import PrivacyError
from privacy_runtime.http.credentials import Credentials, of_text
from privacy_runtime.http.principals import VerifiedPrincipals
from privacy_runtime.identity import Principal, Scope, require
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

MODELS_PATH: Final = "/v1/models"
_SETTLE_MARGIN_S: Final = 60.0
_INSTANT_S: Final = 0.01
"""The audit's instants are as fine as this."""
Authenticate = Callable[[Credentials], Awaitable[Principal]]
"""Says whose credential it is, or raises `Unauthenticated` or an `IdentityError`."""
AccountsOf = Callable[[Principal], Sequence[str]]
"""The accounts that pay for a principal's requests; all of them must have room."""


def user_and_tenant(principal: Principal) -> tuple[str, str]:
    """Accounts of a user and of their organisation."""
    return (f"user/{principal.subject}/tokens", f"tenant/{principal.tenant}/tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPolicy:
    """Numbers of the gateway; each has a default that may stay.

    Attributes:
        unit: what the accounts count.
        terms: what a request may ask for.
        body_bytes: of a request, at most.
        attempts: how many backends are asked for one request.
        wait_s: for a place at a backend.
        waiting_most: how many requests may wait for one.
        strategy: how a backend is chosen.
        timeouts, limits: of backends.
        exhausted_retry_s: what `Retry-After` says when an allowance is exhausted.
        kept_s: a verified credential is believed so long, at most 1 s: what is revoked counts no
            longer than that here. 0: `authenticate` keeps them itself.
    """

    unit: Unit = Unit.TOKENS
    terms: CompletionTerms = field(default_factory=CompletionTerms)
    body_bytes: int = 1024 * 1024
    attempts: int = 2
    wait_s: float = 30.0
    waiting_most: int = 1000
    strategy: Strategy = Strategy.LEAST_LOADED
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    exhausted_retry_s: float = 60.0
    kept_s: float = 1.0


class Gateway:
    """An ASGI application for `/v1/chat/completions`, `/v1/completions` and `/v1/models`.

    Guarantees, for every request and however it ends:

    * a backend hears of it only after what it can cost at most is held on disk for every account;
    * what is settled is what the backend counted; if nobody knows what was generated, all of it;
    * a stream that breaks off ends with an error event and without `[DONE]`;
    * it is given to another backend only before the first byte of an answer;
    * a client that hangs up ends the work of the backend.

    Attributes:
        backends: with `get_statistics`, `resize`, `drain`.
        figures: for a registry of prometheus_client.
        charges: what could not be settled, or was used beyond what was held.
    """

    def __init__(
        self,
        *,
        allowances: Debits,
        backends: Backends,
        authenticate: Authenticate,
        accounts_of: AccountsOf,
        audit: AuditTrail | None,
        policy: GatewayPolicy,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.backends, self.policy, self.audit = backends, policy, audit
        ttl_s = policy.wait_s + policy.attempts * policy.timeouts.total_s + _SETTLE_MARGIN_S
        self.charges = Charges(allowances, unit=policy.unit, ttl_s=ttl_s)
        self.relay = Relay(backends, attempts=policy.attempts, wait_s=policy.wait_s)
        self.figures = Figures(backends, self.charges, self.relay)
        self._authenticate, self._accounts_of = authenticate, accounts_of
        self._clock, self._entropy = clock, entropy
        self._epoch_s = clock.now().timestamp() - clock.monotonic_s()
        self._at, self._at_until = "", -math.inf
        self._kept = VerifiedPrincipals(clock, kept_s=policy.kept_s)
        self._routes = {path: number == 0 for number, path in enumerate(PATHS)}  # to `is_chat`
        self._models = _list_of(backends.models)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, or the server's start and stop."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(receive, send)
            return
        if kind != "http":
            raise RuntimeError(f"the gateway speaks HTTP, not {kind}")
        path = scope["path"]
        root = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        is_chat = self._routes.get(path)
        if is_chat is not None and scope["method"] == "POST":
            await self._complete(scope, receive, send, path=path, is_chat=is_chat)
        elif path == MODELS_PATH and scope["method"] == "GET":
            await self._list(scope, send)
        elif is_chat is not None or path == MODELS_PATH:
            await _refuse(send, refusals.WRONG_METHOD, self._id())
        else:
            await _refuse(send, refusals.NO_ROUTE, self._id())

    async def aclose(self) -> None:
        """Close every connection to a backend, and write the last lines of the audit."""
        await self.backends.aclose()
        if self.audit is not None:
            await self.audit.aclose()

    async def _complete(
        self, scope: Any, receive: Receive, send: Send, *, path: str, is_chat: bool
    ) -> None:
        figures, begun = self.figures, self._clock.monotonic_s()
        request_id = self._id()
        ended = Ended()
        principal: Principal | None = None
        asked: Asked | None = None
        hold: Hold | None = None
        charged = 0
        figures.open += 1
        try:
            principal = await self._principal(scope)
            asked = await self._asked(scope, receive, is_chat=is_chat)
            self.backends.require_room()
            accounts = self._accounts_of(principal)
            hold = await self.charges.hold(request_id, accounts, asked.tokens_most)
            with Presence(receive):
                await self.relay.forward(asked, path, request_id, ended, send)
            if ended.refusal is not None:
                ended.status = ended.refusal.status
                await _refuse(send, ended.refusal, request_id)
        except ClientLeft:
            ended.ending = "client_left"
        except _Refused as refused:
            ended.ending, ended.status = refused.ending, refused.refusal.status
            await _refuse(send, refused.refusal, request_id)
        except PrivacyError as error:
            refusal = refusals.of(error, exhausted_retry_s=self.policy.exhausted_retry_s)
            ended.ending, ended.status = _ending(refusal), refusal.status
            await _refuse(send, refusal, request_id)
        finally:
            figures.open -= 1
            if hold is not None:
                charged = await self.charges.settle(hold, ended.spent)
            figures.ended(ended.ending, self._clock.monotonic_s() - begun, charged)
            if self.audit is not None and principal is not None:
                self._note(request_id, principal, asked, hold, ended, charged, begun)

    async def _principal(self, scope: Any) -> Principal:
        """Who asks, if they may ask models."""
        shown = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                if shown:
                    raise _Refused("unauthenticated", refusals.BAD_KEY)
                shown = value
        if shown[:7].lower() != b"bearer ":
            raise _Refused("unauthenticated", refusals.NO_KEY)
        credentials = of_text(shown[7:].strip().decode("latin-1"))
        principal = await self._kept.get(credentials, partial(self._authenticate, credentials))
        require(principal, Scope.MODELS_QUERY, tenant=principal.tenant)
        return principal

    async def _asked(self, scope: Any, receive: Receive, *, is_chat: bool) -> Asked:
        """What is asked, if it can be."""
        if self.audit is not None and not self.audit.is_ready:
            raise _Refused("failed", refusals.AUDIT_GONE)
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest(body, receive)
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if len(body) > self.policy.body_bytes:
            raise _Refused("refused", refusals.TOO_LARGE)
        asked = read(body, self.policy.terms, is_chat=is_chat)
        if asked.model not in self.backends.models:
            raise _Refused("refused", refusals.UNKNOWN_MODEL)
        return asked

    async def _rest(self, body: bytes, receive: Receive) -> bytes:
        """The whole body, or as much of it as shows that it is too large."""
        pieces, size = [body], len(body)
        while size <= self.policy.body_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if not message.get("more_body"):
                break
        return b"".join(pieces)

    async def _list(self, scope: Any, send: Send) -> None:
        request_id = self._id()
        try:
            await self._principal(scope)
        except _Refused as refused:
            await _refuse(send, refused.refusal, request_id)
        except PrivacyError as error:
            await _refuse(send, refusals.of(error, exhausted_retry_s=1.0), request_id)
        else:
            await _say(send, 200, self._models, [(b"x-request-id", request_id.encode())])

    def _note(
        self,
        request_id: str,
        principal: Principal,
        asked: Asked | None,
        hold: Hold | None,
        ended: Ended,
        charged: int,
        begun: float,
    ) -> None:
        """One line of the audit. A model's name is the client's text until a backend serves it."""
        if self.audit is not None:
            now_s = self._clock.monotonic_s()
            if now_s >= self._at_until:  # to write an instant costs as much as the whole line
                self._at = self._clock.now().isoformat(timespec="milliseconds")
                self._at_until = now_s + _INSTANT_S
            line = Line(
                request_id=request_id,
                at=self._at,
                subject=principal.subject,
                model="" if asked is None else asked.model,
                backend=ended.backend,
                status=ended.status,
                held=0 if hold is None else hold.amount,
                spent=charged,
                ms=round((now_s - begun) * 1000),
            )
            self.audit.add(line)

    def _id(self) -> str:
        """A fresh id that begins with the time: keys that grow are written near each other."""
        ms = int((self._epoch_s + self._clock.monotonic_s()) * 1000)
        return f"{ms & 0xFFFFFFFFFFFF:012x}{self._entropy.token_bytes(10).hex()}"

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


class _Refused(Exception):
    """A refusal that is ready."""

    def __init__(self, ending: str, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.ending, self.refusal = ending, refusal


def make_app(
    *,
    allowances: Debits,
    backends: Sequence[Backend],
    authenticate: Authenticate,
    accounts_of: AccountsOf = user_and_tenant,
    audit: AuditTrail | None = None,
    policy: GatewayPolicy | None = None,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
) -> Gateway:
    """Put a gateway together. Serve it, or call it from another application for its paths.

    Args:
        allowances: `AsyncAllowances` of an open store; the caller opens accounts and closes it.
        backends: who answers.
        authenticate: whose credential it is; `privacy_runtime.http.Access.verified` is one.
        accounts_of: who pays.
        audit: where each request is noted; None: nowhere.
        policy: the numbers.
        clock: tells the time; None: the machine's.
        entropy: makes the ids; None: the machine's.

    Raises:
        InvalidParameter: no backend, two of one name, a URL that is none.
    """
    numbers = policy or GatewayPolicy()
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    all_ = Backends(
        backends,
        strategy=numbers.strategy,
        waiting_most=numbers.waiting_most,
        timeouts=numbers.timeouts,
        limits=numbers.limits,
        clock=clock,
        entropy=entropy,
    )
    return Gateway(
        allowances=allowances,
        backends=all_,
        authenticate=authenticate,
        accounts_of=accounts_of,
        audit=audit,
        policy=numbers,
        clock=clock,
        entropy=entropy,
    )


def _ending(refusal: Refusal) -> str:
    """How a request ended that was refused like this."""
    if refusal.status == 401:
        return "unauthenticated"
    if refusal.type == "insufficient_quota":
        return "exhausted"
    if refusal.type == "overloaded_error":
        return "overloaded"
    return "failed" if refusal.status >= 500 else "refused"


async def _refuse(send: Send, refusal: Refusal, request_id: str) -> None:
    headers = [*refusal.headers(), (b"x-request-id", request_id.encode())]
    await _say(send, refusal.status, refusal.body(), headers)


async def _say(send: Send, status: int, body: bytes, more: list[tuple[bytes, bytes]]) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _list_of(models: Sequence[str] | dict[str, Any]) -> bytes:
    """The answer to `GET /v1/models`."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "gateway"}
        for name in sorted(models)
    ]
    return msgspec.json.encode({"object": "list", "data": data})
