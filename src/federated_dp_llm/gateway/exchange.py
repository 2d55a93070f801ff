"""One request from its hold to its note, the same for every way in.

Is there room at a backend; hold the cost on disk; forward; pass the answer on; settle; note. In
this order, and none of it twice. Who asks and what they ask was found out before.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol

from federated_dp_llm.gateway import refusals
from federated_dp_llm.gateway.audit import AuditTrail, Line
from federated_dp_llm.gateway.charges import Charges, Hold
from federated_dp_llm.gateway.completions import Asked
from federated_dp_llm.gateway.figures import Figures
from federated_dp_llm.gateway.presence import ClientLeft
from federated_dp_llm.gateway.refusals import Refusal
from federated_dp_llm.gateway.relay import Ended, First, Relay, Reply
from privacy_core.errors import PrivacyError
from privacy_runtime.identity import Principal
from privacy_runtime.world import Clock, Entropy

AccountsOf = Callable[[Principal], Sequence[str]]
"""The accounts that pay for a principal's requests; all of them must have room."""
_INSTANT_S: Final = 0.01
"""The audit's instants are as fine as this."""
_CHANCE: Final = 10
_DRAWN: Final = 400 * _CHANCE


class Watched(Reply, Protocol):
    """Where an answer goes; as a block it ends with `ClientLeft` when the client hangs up."""

    def __enter__(self) -> object:
        """Begin to look whether the client is still there."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Look no more."""
        ...


class Exchange:
    """One request, as far as it has come.

    Attributes:
        request_id: of our own making.
        path: that was asked.
        principal, asked: who asks what; None until that is known.
        ended: how it ended, true at every step.
    """

    __slots__ = ("asked", "begun", "ended", "path", "principal", "request_id")

    def __init__(
        self,
        request_id: str,
        path: str,
        begun: float,
        principal: Principal | None = None,
        asked: Asked | None = None,
    ) -> None:
        self.request_id, self.path, self.begun = request_id, path, begun
        self.principal, self.asked = principal, asked
        self.ended = Ended()


@dataclass(frozen=True, slots=True)
class SoFar:
    """How far a request came by callbacks (`passage`), where it is to go on otherwise.

    Attributes:
        hold: what is held for it; None: nothing, or that is not known.
        error: why it can go no further.
        first: how the first backend that was asked has answered.
    """

    hold: Hold | None = None
    error: BaseException | None = None
    first: First | None = None


class Refused(Exception):
    """A refusal that is ready.

    Attributes:
        ending: one of `figures.ENDINGS`.
        refusal: what the client is told.
    """

    def __init__(self, ending: str, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.ending, self.refusal = ending, refusal


class Counter:
    """Where requests are paid, forwarded, settled and noted.

    Guarantees: those of `Gateway`.

    Args:
        charges, relay, figures: its parts.
        accounts_of: who pays.
        audit: where each request is noted; None: nowhere.
        exhausted_retry_s: what `Retry-After` says when an allowance is exhausted.
        clock, entropy: the world.
    """

    def __init__(
        self,
        *,
        charges: Charges,
        relay: Relay,
        figures: Figures,
        accounts_of: AccountsOf,
        audit: AuditTrail | None,
        exhausted_retry_s: float,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.audit = audit
        self.backends, self.charges, self.figures = relay.backends, charges, figures
        self.accounts_of = accounts_of
        self._relay = relay
        self._retry_s = exhausted_retry_s
        self._clock, self._now_s, self._entropy = clock, clock.monotonic_s, entropy
        self._epoch_s = clock.now().timestamp() - clock.monotonic_s()
        self._at, self._at_until = "", -math.inf
        self._chance, self._used = "", 0

    def begun(
        self, path: str, principal: Principal | None = None, asked: Asked | None = None
    ) -> Exchange:
        """A request that has just come."""
        return Exchange(self.fresh_id(), path, self._now_s(), principal, asked)

    async def answer(
        self,
        exchange: Exchange,
        reply: Watched,
        prepare: Callable[[Exchange], Awaitable[None]] | None = None,
        *,
        so_far: SoFar | None = None,
    ) -> None:
        """Answer a request, whatever happens.

        Args:
            exchange: the request.
            reply: to its client.
            prepare: finds out who asks what; None: that is known.
            so_far: it was begun by callbacks, and is counted as open; None: it begins here.
        """
        ended = exchange.ended
        hold = None if so_far is None else so_far.hold
        charged = 0
        self.figures.open += so_far is None
        try:
            if prepare is not None:
                await prepare(exchange)
            principal, asked = exchange.principal, exchange.asked
            assert principal is not None and asked is not None  # noqa: S101, PT018  what prepare is for
            if so_far is None:
                self.backends.require_room()
                accounts = self.accounts_of(principal)
                hold = await self.charges.hold(exchange.request_id, accounts, asked.tokens_most)
            elif so_far.error is not None:
                raise so_far.error
            first = None if so_far is None else so_far.first
            path, request_id = exchange.path, exchange.request_id
            with reply:
                await self._relay.forward(asked, path, request_id, ended, reply, first=first)
            if ended.refusal is not None:
                ended.status = ended.refusal.status
                await self._refuse(reply, exchange, ended.refusal)
        except ClientLeft:
            ended.ending = "client_left"
        except Refused as refused:
            ended.ending, ended.status = refused.ending, refused.refusal.status
            await self._refuse(reply, exchange, refused.refusal)
        except PrivacyError as error:
            refusal = refusals.of(error, exhausted_retry_s=self._retry_s)
            ended.ending, ended.status = _ending(refusal), refusal.status
            await self._refuse(reply, exchange, refusal)
        finally:
            try:
                if hold is not None:
                    charged = hold.amount  # whoever is interrupted here notes the most it can be
                    charged = await self.charges.settle(hold, ended.spent)
            finally:
                self.over(exchange, hold, charged)

    def over(self, exchange: Exchange, hold: Hold | None, charged: int) -> None:
        """Note and count a request that has ended, and was charged so much."""
        now_s = self._now_s()
        if self.audit is not None and exchange.principal is not None:
            self._note(self.audit, exchange, hold, charged, now_s)
        self.figures.ended(exchange.ended.ending, now_s - exchange.begun, charged)

    def fresh_id(self) -> str:
        """A fresh id that begins with the time: keys that grow are written near each other."""
        used = self._used
        if used >= len(self._chance):
            self._chance, used = self._entropy.token_bytes(_DRAWN).hex(), 0
        self._used = end = used + 2 * _CHANCE
        ms = int((self._epoch_s + self._now_s()) * 1000)
        return f"{ms & 0xFFFFFFFFFFFF:012x}{self._chance[used:end]}"

    async def _refuse(self, reply: Reply, exchange: Exchange, refusal: Refusal) -> None:
        waiting = reply.whole(
            refusal.status, refusal.body(), exchange.request_id, refusal.headers()
        )
        if waiting is not None:
            await waiting

    def _note(
        self,
        audit: AuditTrail,
        exchange: Exchange,
        hold: Hold | None,
        charged: int,
        now_s: float,
    ) -> None:
        """One line of the audit. A model's name is the client's text until a backend serves it."""
        if now_s >= self._at_until:  # to write an instant costs as much as the whole line
            self._at = self._clock.now().isoformat(timespec="milliseconds")
            self._at_until = now_s + _INSTANT_S
        ended, asked, principal = exchange.ended, exchange.asked, exchange.principal
        audit.add(
            Line(
                request_id=exchange.request_id,
                at=self._at,
                subject="" if principal is None else principal.subject,
                model="" if asked is None else asked.model,
                backend=ended.backend,
                status=ended.status,
                held=0 if hold is None else hold.amount,
                spent=charged,
                ms=round((now_s - exchange.begun) * 1000),
            )
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
