"""The router-held queue: credits, order, fairness, deadlines, backpressure."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federated_dp_llm.routing.world import run

from federated_dp_llm.errors import Overloaded
from federated_dp_llm.routing.queue import LateBindingQueue
from federated_dp_llm.routing.waiting import Ticket, Waiting
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import ManualClock

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("submit"),
            st.sampled_from([None, frozenset("a"), frozenset("b"), frozenset("ab")]),
            st.integers(1, 3),
            st.sampled_from(["er", "icu", "lab"]),
            st.integers(0, 9),
        ),
        st.tuples(st.just("release"), st.sampled_from("ab")),
        st.tuples(st.just("abandon"), st.integers(0, 30)),
        st.tuples(st.just("credits"), st.sampled_from("ab"), st.integers(0, 3)),
        st.tuples(st.just("pause"), st.sampled_from("ab"), st.booleans()),
    ),
    max_size=60,
)


class Watched:
    """A queue of two nodes, and what should be true of it."""

    def __init__(self) -> None:
        self.queue, self.tickets, self.bound = Waiting(), list[Ticket](), set[Ticket]()
        self.used, self.limits = {"a": 0, "b": 0}, {"a": 1, "b": 2}
        self.paused = {"a": False, "b": False}
        for name, credits in self.limits.items():
            self.queue.set_credits(name, credits)

    def submit(self, nodes: frozenset[str] | None, priority: int, tenant: str, due: int) -> None:
        ticket = Ticket(nodes=nodes, priority=priority, tenant=tenant, deadline_s=due)
        self.tickets.append(ticket)
        self.queue.submit(ticket)
        if ticket.node is not None:
            self._took(ticket)

    def release(self, name: str) -> None:
        if self.used[name]:
            self.used[name] -= 1
            self.queue.release(name)

    def abandon(self, place: int) -> None:
        if place < len(self.tickets):
            self.queue.abandon(self.tickets[place])

    def credits(self, name: str, count: int) -> None:
        self.limits[name] = max(count, self.used[name])  # lowered ones drain first
        self.queue.set_credits(name, self.limits[name])

    def pause(self, name: str, stop: bool) -> None:
        self.paused[name] = stop
        self.queue.pause(name, paused=stop)

    def check(self) -> None:
        for ticket in self.queue.bind():
            self._took(ticket)
        waiting = [ticket for ticket in self.tickets if not ticket.gone]
        assert self.queue.length == len(waiting)
        for name in "ab":
            if not self.paused[name] and self.used[name] < self.limits[name]:
                assert not any(t.nodes is None or name in t.nodes for t in waiting)

    def _took(self, ticket: Ticket) -> None:
        node = ticket.node
        assert node is not None
        assert ticket not in self.bound
        self.bound.add(ticket)
        self.used[node] += 1
        assert self.used[node] <= self.limits[node]
        assert ticket.nodes is None or node in ticket.nodes


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_no_credit_is_used_twice_and_none_is_free_while_somebody_waits_for_it(
    steps: list[tuple[Any, ...]],
) -> None:
    watched = Watched()
    for name, *values in steps:
        getattr(watched, name)(*values)
        watched.check()


def _served(queue: Waiting, tickets: list[Ticket]) -> list[Ticket]:
    """In which order one credit serves them."""
    for ticket in tickets:
        queue.submit(ticket)
    order: list[Ticket] = []
    while len(order) < len(tickets):
        queue.release("a")
        order += queue.bind()
    return order


def _busy() -> Waiting:
    queue = Waiting()
    queue.set_credits("a", 1)
    queue.submit(Ticket())
    return queue


def test_priorities_come_first_then_deadlines() -> None:
    late, soon = Ticket(deadline_s=9), Ticket(deadline_s=1)
    urgent = Ticket(priority=1, deadline_s=99)

    assert _served(_busy(), [late, soon, urgent]) == [urgent, soon, late]


def test_a_tenant_with_many_requests_does_not_starve_one_with_few() -> None:
    many = [Ticket(tenant="er", deadline_s=k) for k in range(20)]
    few = [Ticket(tenant="icu", deadline_s=1000 + k) for k in range(3)]
    order = _served(_busy(), [*many, *few])

    assert max(order.index(ticket) for ticket in few) <= 6


def test_the_fastest_free_node_is_taken_and_a_slow_one_only_when_it_is_the_last() -> None:
    queue = Waiting()
    queue.set_credits("slow", 5, speed=0.5)
    queue.set_credits("fast", 2, speed=2.0)
    tickets = [Ticket() for _ in range(3)]
    for ticket in tickets:
        queue.submit(ticket)

    assert [ticket.node for ticket in tickets] == ["fast", "fast", "slow"]


def test_a_dropped_node_gets_nothing_more() -> None:
    queue = _busy()
    queue.drop("a")
    ticket = Ticket()
    queue.submit(ticket)

    assert queue.bind() == []
    assert ticket.node is None
    with pytest.raises(InvalidParameter):
        queue.set_credits("a", -1)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def main() -> None:
        queue = LateBindingQueue(most=1, clock=ManualClock())
        queue.set_credits("a", 1)
        lease = await queue.acquire()
        waiter = asyncio.create_task(queue.acquire())
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await queue.acquire()
        assert caught.value.retry_after_s > 0
        with lease:
            pass
        assert (await waiter).node_id == "a"
        assert queue.length == 0

    run(main())


def test_a_deadline_in_the_queue_ends_the_wait_and_leaves_no_trace() -> None:
    async def main() -> None:
        queue = LateBindingQueue(most=9, clock=ManualClock())
        queue.set_credits("a", 1)
        lease = await queue.acquire()
        with pytest.raises(Overloaded, match="deadline"):
            await queue.acquire(deadline_s=0.01)
        with pytest.raises(Overloaded, match="deadline"):
            await queue.acquire(deadline_s=-1.0)
        assert queue.length == 0
        with lease:
            pass
        with await queue.acquire() as again:
            assert again.node_id == "a"

    run(main())


def test_a_wait_that_cannot_end_in_time_is_refused_before_it_begins() -> None:
    async def main() -> None:
        clock = ManualClock()
        queue = LateBindingQueue(most=100, clock=clock)
        queue.set_credits("a", 1)
        lease = await queue.acquire()
        waiters = [asyncio.create_task(queue.acquire()) for _ in range(12)]
        await asyncio.sleep(0)
        for waiter in waiters[:3]:  # one every ten seconds
            clock.advance(10.0)
            with lease:
                pass
            lease = await waiter
        with pytest.raises(Overloaded, match="longer than the deadline"):
            await queue.acquire(deadline_s=clock.monotonic_s() + 20)
        for waiter in waiters[3:]:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        assert queue.length == 0

    run(main())


def test_a_credit_is_given_back_once_however_often_the_lease_is_left() -> None:
    async def main() -> None:
        queue = LateBindingQueue(most=9, clock=ManualClock())
        queue.set_credits("a", 1)
        lease = await queue.acquire()
        for _ in range(3):
            with lease:
                pass
        first = await queue.acquire()
        waiter = asyncio.create_task(queue.acquire())
        await asyncio.sleep(0)
        assert not waiter.done()
        with first:
            pass
        await waiter

    run(main())


@pytest.mark.parametrize("turns", range(6))
def test_a_cancelled_waiter_loses_no_credit(turns: int) -> None:
    async def main() -> None:
        queue = LateBindingQueue(most=9, clock=ManualClock())
        queue.set_credits("a", 1)
        lease = await queue.acquire()
        waiter = asyncio.create_task(queue.acquire())
        await asyncio.sleep(0)
        with lease:
            pass
        for _ in range(turns):
            await asyncio.sleep(0)
        waiter.cancel()
        done = (await asyncio.gather(waiter, return_exceptions=True))[0]
        if not isinstance(done, BaseException):
            with done:
                pass
        with await queue.acquire(deadline_s=5.0):
            pass

    run(main())
