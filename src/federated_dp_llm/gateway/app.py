"""The gateway as an ASGI application: OpenAI's requests in, paid for, forwarded, answered.

Who asks and what they ask is found out here; `exchange` does the rest. `front` is the short way
in for requests of which all of that is known at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from federated_dp_llm.gateway import refusals
from federated_dp_llm.gateway.asgi import AsgiReply, Receive, Send
from federated_dp_llm.gateway.audit import AuditTrail
from federated_dp_llm.gateway.backends import PATHS, Backend, Backends, Strategy
from federated_dp_llm.gateway.charges import Charges, Debits, Unit
from federated_dp_llm.gateway.completions import Asked, CompletionTerms, InvalidRequest, read
from federated_dp_llm.gateway.connection import Limits, Timeouts
from federated_dp_llm.gateway.exchange import AccountsOf, Counter, Exchange, Refused
from federated_dp_llm.gateway.figures import Figures
from federated_dp_llm.gateway.presence import ClientLeft
from federated_dp_llm.gateway.refusals import Refusal
from federated_dp_llm.gateway.relay import Relay
from privacy_core.errors import PrivacyError
from privacy_runtime.http.credentials import Credentials, of_text
from privacy_runtime.http.principals import VerifiedPrincipals
from privacy_runtime.identity import Principal, Scope, require
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

MODELS_PATH: Final = "/v1/models"
_SETTLE_MARGIN_S: Final = 60.0
Authenticate = Callable[[Credentials], Awaitable[Principal]]
"""Says whose credential it is, or raises `Unauthenticated` or an `IdentityError`."""
Known = Callable[[Credentials], Principal | None]
"""The principal of a credential that was verified moments ago; None: `Authenticate` says it."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Who says whose credential it is.

    Attributes:
        authenticate: asks for it.
        known: says it without waiting, for those that were asked for moments ago, and sees to it
            that they are asked for again in time; `privacy_runtime.http.Access.known` is one.
            None: the gateway keeps them for `GatewayPolicy.kept_s`.
    """

    authenticate: Authenticate
    known: Known | None = None


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
        authenticate: Authenticate | Verifier,
        accounts_of: AccountsOf,
        audit: AuditTrail | None,
        policy: GatewayPolicy,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.backends, self.policy = backends, policy
        ttl_s = policy.wait_s + policy.attempts * policy.timeouts.total_s + _SETTLE_MARGIN_S
        self.charges = Charges(allowances, unit=policy.unit, ttl_s=ttl_s)
        self.relay = Relay(backends, attempts=policy.attempts, wait_s=policy.wait_s)
        self.figures = Figures(backends, self.charges, self.relay)
        self.counter = Counter(
            charges=self.charges,
            relay=self.relay,
            figures=self.figures,
            accounts_of=accounts_of,
            audit=audit,
            exhausted_retry_s=policy.exhausted_retry_s,
            clock=clock,
            entropy=entropy,
        )
        if not isinstance(authenticate, Verifier):
            authenticate = Verifier(authenticate)
        self._authenticate, self._known = authenticate.authenticate, authenticate.known
        kept_s = policy.kept_s if self._known is None else 0.0  # nobody is believed twice as long
        self._kept = VerifiedPrincipals(clock, kept_s=kept_s)
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
        reply = AsgiReply(receive, send)
        if is_chat is not None and scope["method"] == "POST":

            async def prepare(exchange: Exchange) -> None:
                exchange.principal = await self._principal(scope)
                exchange.asked = await self._asked(receive, is_chat=is_chat)

            await self.counter.answer(self.counter.begun(path), reply, prepare)
        elif path == MODELS_PATH and scope["method"] == "GET":
            await self._list(scope, reply)
        elif is_chat is not None or path == MODELS_PATH:
            await self._refuse(reply, refusals.WRONG_METHOD)
        else:
            await self._refuse(reply, refusals.NO_ROUTE)

    @property
    def audit(self) -> AuditTrail | None:
        """Where each request is noted."""
        return self.counter.audit

    @audit.setter
    def audit(self, trail: AuditTrail | None) -> None:
        self.counter.audit = trail

    def at_once(self, path: str, shown: Credentials, body: bytes) -> Exchange | None:
        """A request that can be answered without asking anybody; None: `__call__` finds out.

        Guarantee: who asks was verified moments ago and may ask, what they ask can be read and is
        served, and the audit can be written.

        Args:
            path: one of `PATHS`.
            shown: by the request.
            body: of it, whole.
        """
        if self.audit is not None and not self.audit.is_ready:
            return None
        principal = self.principal_known(shown)
        if principal is None or Scope.MODELS_QUERY not in principal.scopes:
            return None
        try:
            asked = read(body, self.policy.terms, is_chat=self._routes[path])
        except InvalidRequest:
            return None
        if asked.model not in self.backends.models:
            return None
        return self.counter.begun(path, principal, asked)

    def principal_known(self, shown: Credentials) -> Principal | None:
        """Whose credential it is, if it was verified moments ago."""
        if self._known is not None:
            return self._known(shown)
        return self._kept.known(shown, self._authenticate)

    async def aclose(self) -> None:
        """Wait for what is still settled, close all connections, write the last of the audit."""
        await self.figures.none_open()
        await self.backends.aclose()
        if self.audit is not None:
            await self.audit.aclose()

    async def _principal(self, scope: Any) -> Principal:
        """Who asks, if they may ask models."""
        shown = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                if shown:
                    raise Refused("unauthenticated", refusals.BAD_KEY)
                shown = value
        if shown[:7].lower() != b"bearer ":
            raise Refused("unauthenticated", refusals.NO_KEY)
        credentials = of_text(shown[7:].strip().decode("latin-1"))
        principal = await self._kept.get(credentials, partial(self._authenticate, credentials))
        require(principal, Scope.MODELS_QUERY, tenant=principal.tenant)
        return principal

    async def _asked(self, receive: Receive, *, is_chat: bool) -> Asked:
        """What is asked, if it can be."""
        if self.audit is not None and not self.audit.is_ready:
            raise Refused("failed", refusals.AUDIT_GONE)
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest(body, receive)
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if len(body) > self.policy.body_bytes:
            raise Refused("refused", refusals.TOO_LARGE)
        asked = read(body, self.policy.terms, is_chat=is_chat)
        if asked.model not in self.backends.models:
            raise Refused("refused", refusals.UNKNOWN_MODEL)
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

    async def _list(self, scope: Any, reply: AsgiReply) -> None:
        try:
            await self._principal(scope)
        except Refused as refused:
            await self._refuse(reply, refused.refusal)
        except PrivacyError as error:
            await self._refuse(reply, refusals.of(error, exhausted_retry_s=1.0))
        else:
            await reply.whole(200, self._models, self.counter.fresh_id())

    async def _refuse(self, reply: AsgiReply, refusal: Refusal) -> None:
        headers = refusal.headers()
        await reply.whole(refusal.status, refusal.body(), self.counter.fresh_id(), headers)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


def make_app(
    *,
    allowances: Debits,
    backends: Sequence[Backend],
    authenticate: Authenticate | Verifier,
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
        authenticate: whose credential it is: `privacy_runtime.http.Access.verified` is one, and
            `Verifier(access.verified, access.known)` spares keeping them twice.
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


def _list_of(models: Sequence[str] | dict[str, Any]) -> bytes:
    """The answer to `GET /v1/models`."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "gateway"}
        for name in sorted(models)
    ]
    return msgspec.json.encode({"object": "list", "data": data})
