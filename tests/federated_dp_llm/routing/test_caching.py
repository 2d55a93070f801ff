"""Caches: bounds, order, strategies that change and keep what they have; released answers."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federated_dp_llm.routing.world import question, run

from federated_dp_llm.caching import (
    AdaptiveCache,
    CacheStrategy,
    LFUCache,
    LRUCache,
    MemoryHome,
    RedisHome,
    ReleasedAnswers,
    TTLCache,
)
from federated_dp_llm.core.query import Answer
from privacy_core.errors import InvalidParameter
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock

ANSWER = Answer(
    request_id="r-1",
    response="amber",
    tokens=(1, 2),
    finish_reason="stop",
    mechanism="private_decoding",
    privacy_cost=1.5,
    rho=0.1,
    remaining_budget=3.0,
    node_id="a+b",
    slots=16,
    processing_time=0.5,
    confidence_interval=(0.1, 0.9),
)
CACHES = [LRUCache, LFUCache, TTLCache]


@pytest.mark.parametrize("make", CACHES)
@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["get", "put", "age"]), st.integers(0, 8), st.integers(0, 40)),
        max_size=60,
    )
)
def test_bounds_hold_and_what_is_found_is_what_was_put(
    make: type[LRUCache[bytes]], steps: list[tuple[str, int, int]]
) -> None:
    clock = ManualClock()
    cache = make(4, max_bytes=90, ttl_s=10.0, clock=clock)
    truth: dict[str, tuple[bytes, float]] = {}
    for what, place, size in steps:
        key = f"k{place}"
        if what == "put":
            truth[key] = (bytes(size), clock.monotonic_s())
            cache.put(key, bytes(size))
        elif what == "age":
            clock.advance(1.0)
        elif (found := cache.get(key)) is not None:
            assert found == truth[key][0]
            assert clock.monotonic_s() - truth[key][1] < 10.0
        assert len(cache) <= 4
        assert cache.bytes == sum(entry.size for _, entry in cache.items()) <= 90


def test_each_strategy_lets_go_of_its_own() -> None:
    gone = {}
    for make in CACHES:
        cache = make(3)
        for key in "abc":
            cache.put(key, key)
        for key in "abaac":  # used: a three times, b once, c last
            cache.get(key)
        cache.get("a")
        cache.put("d", "d")
        gone[make] = {key for key in "abc" if key not in cache}

    assert gone == {LRUCache: {"b"}, LFUCache: {"b"}, TTLCache: {"a"}}


def test_least_often_is_not_longest_ago() -> None:
    lru, lfu = LRUCache[str](2), LFUCache[str](2)
    for cache in (lru, lfu):
        cache.put("often", "x")
        for _ in range(5):
            cache.get("often")
        cache.put("once", "y")
        cache.get("once")
        cache.put("new", "z")

    assert "often" not in lru
    assert "often" in lfu


@pytest.mark.parametrize("to", list(CacheStrategy))
def test_a_change_of_strategy_keeps_entries_their_age_and_their_uses(to: CacheStrategy) -> None:
    clock = ManualClock()
    cache = AdaptiveCache[str](10, ttl_s=10.0, clock=clock)
    cache.put("a", "1")
    cache.put("b", "2")
    clock.advance(9.0)
    cache.set_strategy(to)
    assert (cache.get("a"), cache.get("b")) == ("1", "2")
    clock.advance(2.0)
    assert cache.get("a") is None
    assert cache.get_statistics()["strategy"] == to.value


def test_the_documented_adaptation_follows_the_patterns() -> None:
    cache = AdaptiveCache[str]()
    patterns = [(0.9, 0.9, "lru"), (0.1, 0.9, "lfu"), (0.1, 0.1, "ttl")]
    for temporal, frequency, expected in patterns:
        cache.adapt_strategy({"temporal_locality": temporal, "frequency_locality": frequency})
        assert cache.current_strategy.value == expected


def test_localities_are_measured() -> None:
    bursts = AdaptiveCache[str]()
    for key in range(50):
        for _ in range(10):
            bursts.get(str(key))
    assert bursts.localities()["temporal_locality"] > 0.8
    few = AdaptiveCache[str]()
    for turn in range(500):
        few.get("hot" if turn % 2 else f"cold-{turn}")
    assert few.localities()["frequency_locality"] > 0.5
    scan = AdaptiveCache[str]()
    for turn in range(500):
        scan.get(str(turn))
    assert scan.localities() == {
        "temporal_locality": 0.0,
        "frequency_locality": pytest.approx(0.2, abs=0.01),
    }


def test_statistics_count_what_happened_and_a_smaller_cache_lets_go_at_once() -> None:
    cache = AdaptiveCache[str](10)
    for key in "abcdef":
        cache.put(key, key)
    hits = [cache.get(key) for key in "abx"]
    cache.resize(2)
    told = cache.get_statistics()

    assert hits == ["a", "b", None]
    assert (told["hits"], told["misses"], told["current_size"]) == (2, 1, 2)
    assert told["hit_rate"] == pytest.approx(2 / 3)
    with pytest.raises(InvalidParameter):
        cache.resize(0)
    with pytest.raises(InvalidParameter):
        LRUCache(0)


def test_an_answer_comes_back_as_it_was_for_the_same_question_of_the_same_tenant() -> None:
    async def main() -> None:
        cache = ReleasedAnswers()
        await cache.put(question(), ANSWER)
        assert await cache.get(question(prompt=question().prompt + "  ")) == ANSWER
        others = [
            question(department="icu"),
            question(cohort="trial"),
            question(prompt="another"),
            question(max_tokens=3),
            question(temperature=0.9),
            question(privacy_budget=1.0),
            question(require_consensus=True),
            question(labels=("a", "b")),
            question(context="none"),
            question(public_tail=True),
        ]
        for other in others:
            assert await cache.get(other) is None
        told = cache.get_statistics()
        assert (told["hits"], told["misses"], told["current_size"]) == (1, 10, 1)
        await cache.forget("er", "all")
        assert await cache.get(question()) is None

    run(main())


def test_one_tenant_cannot_drive_out_another() -> None:
    async def main() -> None:
        cache = ReleasedAnswers(MemoryHome(2))
        await cache.put(question(), ANSWER)
        for k in range(50):
            await cache.put(question(department="icu", prompt=f"flood {k}"), ANSWER)
        assert await cache.get(question()) == ANSWER
        cache.set_strategy(CacheStrategy.LFU)
        cache.resize(1)
        assert await cache.get(question()) == ANSWER

    run(main())


REDIS = os.environ.get("TEST_REDIS_URL")


@pytest.mark.skipif(REDIS is None, reason="TEST_REDIS_URL is not set")
def test_redis_keeps_answers_that_it_cannot_read() -> None:
    redis = pytest.importorskip("redis.asyncio")

    async def main() -> None:
        client = redis.Redis.from_url(REDIS)
        home = RedisHome(client, Secret("ab" * 32))
        cache = ReleasedAnswers(home)
        query = question(prompt="a planted question about quinces")
        try:
            await cache.put(query, replace(ANSWER, response="a planted answer"))
            found = await cache.get(query)
            assert found is not None
            assert found.response == "a planted answer"
            names = [name async for name in client.scan_iter(match="answers:*")]
            values = [await client.get(name) for name in names]
            assert not any(b"planted" in text or b"quince" in text for text in (*names, *values))
            other = ReleasedAnswers(RedisHome(client, Secret("cd" * 32)))
            assert await other.get(query) is None
            await client.set(names[0], b"x" * 40)
            assert await cache.get(query) is None
        finally:
            await cache.forget("er", "all")
            await client.aclose()

    run(main())


def test_a_redis_that_is_away_is_a_miss() -> None:
    redis = pytest.importorskip("redis.asyncio")

    async def main() -> None:
        client = redis.Redis(host="127.0.0.1", port=1, socket_connect_timeout=0.2, retry=None)
        home = RedisHome(client, Secret("ab" * 32))
        cache = ReleasedAnswers(home)
        await cache.put(question(), ANSWER)
        assert await cache.get(question()) is None
        assert home.failures == 2
        await client.aclose()
        await asyncio.sleep(0)

    run(main())
