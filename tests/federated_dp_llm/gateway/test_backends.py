"""Places at backends: never more than there are, and none lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_dp_llm.errors import Overloaded
from federated_dp_llm.gateway.backends import Backend, Backends, Strategy
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import ManualClock, SeededEntropy


def made(
    *speeds: float,
    slots: int = 2,
    strategy: Strategy = Strategy.LEAST_LOADED,
    waiting_most: int = 1000,
) -> Backends:
    """Backends of these speeds; nothing listens there."""
    return Backends(
        [
            Backend(name=f"b{k}", url="http://127.0.0.1:9", models=("m",), slots=slots, speed=speed)
            for k, speed in enumerate(speeds)
        ],
        strategy=strategy,
        waiting_most=waiting_most,
        clock=ManualClock(),
        entropy=SeededEntropy(1),
    )


@settings(max_examples=40, deadline=None)
@given(
    slots=st.integers(1, 3),
    moves=st.lists(st.tuples(st.sampled_from(["ask", "end", "leave"]), st.integers(0, 50))),
    strategy=st.sampled_from(list(Strategy)),
)
def test_no_backend_has_more_than_its_places_and_no_place_is_lost(
    slots: int, moves: list[tuple[str, int]], strategy: Strategy
) -> None:
    async def run() -> None:
        backends = made(1.0, 2.0, slots=slots, strategy=strategy)
        ends: list[tuple[asyncio.Task[None], asyncio.Event]] = []

        async def request(end: asyncio.Event) -> None:
            with await backends.take("m", wait_s=60.0):
                await end.wait()

        for what, which in moves:
            if what == "ask":
                end = asyncio.Event()
                ends.append((asyncio.create_task(request(end)), end))
            elif ends and what == "end":
                ends[which % len(ends)][1].set()
            elif ends:
                ends[which % len(ends)][0].cancel()
            await asyncio.sleep(0)
            assert all(0 <= member.in_flight <= slots for member in backends.members)
            free = any(member.in_flight < slots for member in backends.members)
            assert not (free and backends.waiting)
        for task, end in ends:
            end.set()
            await asyncio.wait([task])
        assert [member.in_flight for member in backends.members] == [0, 0]
        assert backends.waiting == 0

    asyncio.run(run())


def counts(strategy: Strategy, requests: int, slots: int) -> list[int]:
    async def run() -> list[int]:
        backends = made(1.3, 1.1, 0.9, 0.5, slots=slots, strategy=strategy)
        for _ in range(requests):
            await backends.take("m", wait_s=1.0)
        return [member.in_flight for member in backends.members]

    return asyncio.run(run())


def test_the_fastest_free_backend_is_filled_first() -> None:
    assert counts(Strategy.FASTEST_FREE, 25, 10) == [10, 10, 5, 0]


def test_load_is_shared_by_speed() -> None:
    assert counts(Strategy.LEAST_LOADED, 38, 100) == [13, 11, 9, 5]


def test_equal_backends_take_turns() -> None:
    async def run() -> list[int]:
        backends = made(1.0, 1.0, 1.0)
        asked = []
        for _ in range(9):
            with await backends.take("m", wait_s=1.0) as lease:
                asked.append(backends.members.index(lease.member))
        return asked

    assert sorted(asyncio.run(run())) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_backend_that_is_drained_gets_nothing_new() -> None:
    async def run() -> list[int]:
        backends = made(5.0, 1.0, slots=8)
        backends.drain("b0")
        for _ in range(4):
            await backends.take("m", wait_s=1.0)
        backends.drain("b0", is_draining=False)
        await backends.take("m", wait_s=1.0)
        return [member.in_flight for member in backends.members]

    assert asyncio.run(run()) == [1, 4]


def test_who_waits_too_long_is_refused_with_a_time_to_come_back() -> None:
    async def run() -> None:
        backends = made(1.0, slots=1)
        await backends.take("m", wait_s=1.0)
        with pytest.raises(Overloaded) as refused:
            await backends.take("m", wait_s=0.01)
        assert refused.value.retry_after_s > 0
        assert backends.waiting == 0

    asyncio.run(run())


def test_measured_times_follow_a_backend() -> None:
    backends = Backends(
        [Backend(name="b", url="http://127.0.0.1:9", models=("m",))],
        clock=ManualClock(),
        entropy=SeededEntropy(1),
    )
    (member,) = backends.members

    for k in range(200):
        member.measured(0.5, float(k))

    assert member.seconds == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize(
    "backends", [[], [Backend(name="b", url="http://a", models=("m",))] * 2], ids=["none", "twice"]
)
def test_backends_must_be_told_apart(backends: list[Backend]) -> None:
    with pytest.raises(InvalidParameter):
        Backends(backends, clock=ManualClock(), entropy=SeededEntropy(1))


def test_a_backends_key_does_not_show() -> None:
    from privacy_runtime.secret import Secret

    backend = Backend(name="b", url="http://a", models=("m",), key=Secret("a-long-secret-key"))

    assert "a-long-secret-key" not in repr(backend)
