"""A completion that goes straight through: held, asked, answered, settled, each by a callback.

Most requests meet nothing unusual: their cost can be held, a backend has a free place and an open
connection, and its answer is whole. For these no task is made and nothing is awaited. Whatever is
unusual goes on as a coroutine from where it stands (`Counter.answer`), so that what a failure means
is written once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from federated_dp_llm.gateway.backends import Lease
from federated_dp_llm.gateway.charges import Hold
from federated_dp_llm.gateway.connection import Answer
from federated_dp_llm.gateway.exchange import Counter, Exchange, SoFar, Watched
from federated_dp_llm.gateway.faults import BackendFault, ConnectionLost
from federated_dp_llm.gateway.relay import PLAIN, First, head_of, usage


class Client(Watched, Protocol):
    """Where the answer goes.

    Attributes:
        has_left: the client has hung up.
    """

    has_left: bool

    def go_on(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        """Run the rest of a request as a task."""
        ...


class Passage:
    """One request on its way.

    Guarantees: those of `Counter.answer`; nothing is raised into whoever calls back.

    Args:
        counter: where it is paid and noted.
        exchange: who asks what; no stream.
        client: who waits for the answer.
    """

    __slots__ = (
        "_answer", "_begun", "_client", "_counter", "_end", "_exchange", "_has_left", "_hold",
        "_lease",
    )  # fmt: skip

    def __init__(self, counter: Counter, exchange: Exchange, client: Client) -> None:
        self._counter, self._exchange, self._client = counter, exchange, client
        self._hold: Hold | None = None
        self._lease: Lease | None = None  # while a backend is at it
        self._answer: Answer | None = None
        self._begun = (0, 0.0)
        self._end: asyncio.Future[None] | None = None
        self._has_left = False

    def begin(self) -> None:
        """Hold what it can cost at most; the rest follows."""
        counter, exchange = self._counter, self._exchange
        counter.figures.open += 1
        try:
            principal, asked = exchange.principal, exchange.asked
            assert principal is not None and asked is not None  # noqa: S101, PT018  it is known
            counter.backends.require_room()
            accounts = counter.accounts_of(principal)
            counter.charges.hold_then(exchange.request_id, accounts, asked.tokens_most, self._held)
        except Exception as error:  # noqa: BLE001  told, or logged, by the coroutine
            self._go_on(error=error)

    def leave(self) -> None:
        """The client has hung up: the backend's work ends, and is paid as what it can be at most.

        While the hold is awaited nothing is under way yet; then nothing is forwarded, or paid.
        """
        if self._answer is not None:
            self._has_left = True
            self._answer.close()

    async def whole(self) -> None:
        """Wait until it is answered, or goes on as a coroutine."""
        self._end = asyncio.get_running_loop().create_future()
        await self._end

    def _held(self, outcome: object) -> None:
        """The disk has it, or it was refused."""
        if isinstance(outcome, BaseException):
            self._go_on(error=outcome)
            return
        self._safely(self._forward, outcome)

    def _forward(self, hold: Hold) -> None:
        self._hold = hold
        exchange, asked = self._exchange, self._exchange.asked
        lease = None
        if asked is not None and not self._client.has_left:
            lease = self._counter.backends.take_now(asked.model)
        if lease is None or asked is None:
            self._go_on()
            return
        self._lease = lease
        member, ended = lease.member, exchange.ended
        if member.breaker.is_closed:
            head = head_of(member, exchange.path, asked, exchange.request_id)
            self._begun = member.breaker.begin()
            ended.tokens, ended.backend = None, member.backend.name
            self._answer = member.pool.ask_then(head, asked.body, self._heard)
        if self._answer is None and self._lease is lease:  # nothing was sent
            ended.tokens = 0
            self._given_back(lease)
            self._go_on()

    def _heard(self, fault: BackendFault | None) -> None:
        """The whole answer is there, or there is none."""
        self._safely(self._passed_on, fault)

    def _passed_on(self, fault: BackendFault | None) -> None:
        lease, answer, ended = self._lease, self._answer, self._exchange.ended
        if lease is None:
            return
        member, self._answer = lease.member, None
        if self._has_left:
            member.breaker.failed(self._begun, asyncio.CancelledError())
            self._given_back(lease)
            ended.ending = "client_left"
            self._settle()
            return
        if fault is not None or answer is None:
            fault = fault or ConnectionLost(member.backend.name)
            member.breaker.failed(self._begun, fault)
            self._given_back(lease)
            self._go_on(first=(lease, fault))
            return
        member.breaker.returned(self._begun, answer)
        lease.is_timed = answer.status == 200
        self._given_back(lease)
        if answer.status != 200 or answer.header(b"content-encoding") not in PLAIN:
            self._go_on(first=(lease, answer))
            return
        body = answer.body()
        try:
            ended.tokens = usage(body, member)
        except BackendFault as malformed:
            self._go_on(first=(lease, malformed))
            return
        member.answered += 1
        ended.is_unknown = ended.tokens is None
        ended.status, ended.ending = 200, "answered"
        self._client.whole(200, body, self._exchange.request_id)
        self._settle()

    def _settle(self) -> None:
        """Give back what was not spent; nobody waits for it."""
        hold, spent = self._hold, self._exchange.ended.spent
        assert hold is not None  # noqa: S101  nothing is asked without one
        charges = self._counter.charges
        if charges.covers(hold, spent):
            charges.settle_then(hold, spent, self._settled)
        else:  # a backend used more than it was told: account by account
            task = asyncio.get_running_loop().create_task(charges.settle(hold, spent))
            task.add_done_callback(self._settled_beyond)
        self._over()

    def _settled(self, charged: int) -> None:
        self._counter.over(self._exchange, self._hold, charged)

    def _settled_beyond(self, task: asyncio.Task[int]) -> None:
        failed = task.cancelled() or task.exception() is not None
        hold = self._hold
        self._settled(0 if hold is None else hold.amount if failed else task.result())

    def _given_back(self, lease: Lease) -> None:
        self._lease = None
        lease.__exit__(None, None, None)

    def _go_on(self, *, error: BaseException | None = None, first: First | None = None) -> None:
        """The rest is for the coroutine."""
        exchange, client = self._exchange, self._client
        so_far = SoFar(self._hold, error, first)
        client.go_on(exchange, self._counter.answer(exchange, client, so_far=so_far))
        self._over()

    def _over(self) -> None:
        """Nothing is to be waited for here any more."""
        if self._end is not None and not self._end.done():
            self._end.set_result(None)

    def _safely(self, step: Callable[[Any], None], outcome: object) -> None:
        """A step whose failure is this request's alone."""
        try:
            step(outcome)
        except Exception as error:  # noqa: BLE001  logged by the coroutine, and told to the client
            if self._lease is not None:
                self._given_back(self._lease)
            self._go_on(error=error)
