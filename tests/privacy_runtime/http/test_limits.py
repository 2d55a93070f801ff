"""Rates: what passes, what the answer says, and what happens without Redis."""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_runtime.http import Rate, RateLimits, TooManyRequests, Visit
from privacy_runtime.http.window_counts import WindowCounts
from privacy_runtime.identity import Role
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock

pytestmark = pytest.mark.anyio
FEW = {"few": Rate("few", 3, 10)}


async def _passes(limits: RateLimits, who: str = "a") -> Visit | None:
    visit = Visit("req_1")
    try:
        await limits.admit("few", who, visit)
    except TooManyRequests:
        return None
    return visit


async def test_so_many_pass_and_the_answer_says_what_is_left() -> None:
    limits = RateLimits(ManualClock(), rates=FEW)
    left = []
    for _ in range(3):
        visit = await _passes(limits)
        assert visit is not None
        left.append(dict(visit.headers)[b"ratelimit"])
        assert dict(visit.headers)[b"ratelimit-policy"] == b'"few";q=3;w=10'
    assert [text.split(b";")[1] for text in left] == [b"r=2", b"r=1", b"r=0"]
    assert await _passes(limits) is None
    assert await _passes(limits, "b") is not None


@given(
    gaps=st.lists(st.floats(0, 25, allow_nan=False), min_size=1, max_size=60),
    most=st.integers(1, 5),
)
async def test_retry_after_is_enough_and_no_window_holds_too_many(
    gaps: list[float], most: int
) -> None:
    clock = ManualClock()
    limits = RateLimits(clock, rates={"few": Rate("few", most, 10)})
    passed: list[float] = []
    for gap in gaps:
        clock.advance(gap)
        try:
            await limits.admit("few", "a", Visit("req_1"))
        except TooManyRequests as error:
            clock.advance(error.retry_after_s)
            await limits.admit("few", "a", Visit("req_1"))
        passed.append(clock.monotonic_s())
    for index in range(int(passed[-1] // 10) + 1):
        assert sum(index * 10 <= at < index * 10 + 10 for at in passed) <= most


async def test_memory_is_bounded() -> None:
    counts = WindowCounts(ManualClock(), most_keys=10)
    for n in range(1000):
        counts.hit(f"address/{n}", 5, 60)
    assert len(counts._counts) == 10


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("unknown", "unknown"),
    ],
)
def test_whom_a_rate_counts(address: str, network: str) -> None:
    assert Visit("req_1", address).network == network


async def test_principals_are_counted_and_told(
    house_class: Any, tmp_path: Any, as_bearer: Any
) -> None:
    house = house_class(tmp_path, rates={"reads": Rate("reads", 2), "writes": Rate("writes", 1)})
    one, other = house.user("nora", Role.VIEWER), house.user("olaf", Role.VIEWER)
    async with house.client() as client:
        statuses = [(await client.get("/me", headers=as_bearer(one))).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await client.get("/me", headers=as_bearer(other))).status_code == 200
        assert (await client.post("/me", headers=as_bearer(one))).status_code == 200
        answer = await client.post("/me", headers=as_bearer(one))
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "rate_limited"
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["ratelimit"].startswith('"writes";r=0;t=')
    house.identity.close()


async def test_an_address_is_counted_before_anything_is_looked_at(
    house_class: Any, tmp_path: Any
) -> None:
    house = house_class(tmp_path, rates={"address": Rate("address", 2)})
    async with house.client() as client:
        for path in ("/nowhere", "/me"):
            await client.get(path)
        assert (await client.get("/list")).status_code == 429
    house.identity.close()


class Gone:
    """A Redis that is away until it is back."""

    def __init__(self) -> None:
        self.is_away, self.asked = True, 0

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        self.asked += 1
        if self.is_away:
            raise ConnectionError("away")
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        return 0, 1.0, 1, 11.0


async def test_without_redis_each_process_goes_on_counting_and_says_so() -> None:
    clock, shared, states = ManualClock(), Gone(), []
    limits = RateLimits(clock, rates=FEW, shared=shared, on_change=states.append)
    passed = [await _passes(limits) is not None for _ in range(5)]
    assert passed == [True, True, True, False, False]
    assert shared.asked == 1  # and is not asked again at every request
    assert not await limits.is_healthy()
    shared.is_away = False
    clock.advance(5)
    assert await _passes(limits) is not None
    assert (await limits.is_healthy(), states) == (True, ["degraded", "redis"])


def _redis_url() -> str:
    url = os.environ.get("TEST_REDIS_URL")
    if url is None:
        pytest.skip("no Redis: set TEST_REDIS_URL")
    return url


async def test_processes_count_together_in_redis() -> None:
    url, prefix = _redis_url(), f"pf-test-{uuid.uuid4().hex}"
    limits = [RateLimits(SystemClock(), rates=FEW, redis_url=url, prefix=prefix) for _ in range(2)]
    # Not across the edge of a window of Redis's clock, where the count would begin to fall.
    since = SystemClock().now().timestamp() % 10
    await asyncio.sleep(10 - since if since > 8 else 0)
    passed = [await _passes(limits[n % 2]) is not None for n in range(6)]
    assert [one.state for one in limits] == ["redis", "redis"]
    assert sum(passed) == 3
    for one in limits:
        await one.close()


async def test_a_redis_that_refuses_connections_lets_nobody_in_for_free() -> None:
    limits = RateLimits(SystemClock(), rates=FEW, redis_url="redis://127.0.0.1:1/0")
    assert sum([await _passes(limits) is not None for _ in range(5)]) == 3
    assert limits.state == "degraded"
    await limits.close()
