"""Live events: one poller, many streams, and what happens to a slow one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from privacy_finetuner.jobs import FeedFull, JobFeed, JobState, SlowSubscriber, UnknownJob
from privacy_finetuner.jobs.claims import Claim, Ending
from privacy_finetuner.jobs.feed import Subscription
from privacy_finetuner.jobs.model import EventKind

LINE = (EventKind.STEP, {"step": 1})


async def collected(stream: Subscription) -> list[int]:
    return [event.seq async for event in stream]


def begun(yard: Any) -> Claim:
    yard.submit()
    claim: Claim = yard.leases().claim("w")
    return claim


def test_a_stream_begins_with_what_is_there_and_ends_with_the_job(yard: Any) -> None:
    claim = begun(yard)
    leases = yard.leases()

    async def scene() -> None:
        feed = JobFeed(yard.jobs, poll_s=0.01)
        everything = asyncio.create_task(
            collected(feed.subscribe(claim.job.id, tenant=yard.tenant))
        )
        rest = asyncio.create_task(
            collected(feed.subscribe(claim.job.id, tenant=yard.tenant, after=3))
        )
        for _ in range(5):
            await asyncio.sleep(0.02)
            await asyncio.to_thread(leases.tell, claim, [LINE, LINE])
        await asyncio.to_thread(leases.finish, claim, Ending(state=JobState.SUCCEEDED))
        assert await everything == list(range(1, 14))
        assert await rest == list(range(4, 14))
        assert feed.subscribers == 0
        late = feed.subscribe(claim.job.id, tenant=yard.tenant, after=13)
        assert await collected(late) == []

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_streams_of_one_job_share_the_questions(small_yard: Any) -> None:
    claim = begun(small_yard)
    leases, asked = small_yard.leases(), []
    feed = JobFeed(small_yard.jobs, poll_s=0.02)
    ask = feed._news

    def counted() -> Any:
        asked.append(len(feed._watches))
        return ask()

    feed._news = counted  # type: ignore[method-assign]

    async def scene() -> None:
        streams = [await feed.subscribe(claim.job.id, tenant=small_yard.tenant) for _ in range(100)]
        tasks = [asyncio.create_task(collected(stream)) for stream in streams]
        await asyncio.sleep(0.2)
        leases.finish(claim, Ending(state=JobState.SUCCEEDED))
        stories = await asyncio.gather(*tasks)
        assert all(story == [1, 2, 3] for story in stories)

    asyncio.run(asyncio.wait_for(scene(), 30))
    assert set(asked) == {1}  # one job watched, whoever watches


def test_a_slow_stream_is_let_go_and_goes_on_where_it_was(small_yard: Any) -> None:
    claim = begun(small_yard)
    leases = small_yard.leases()

    async def scene() -> None:
        feed = JobFeed(small_yard.jobs, poll_s=0.01, waiting_most=10)
        slow = await feed.subscribe(claim.job.id, tenant=small_yard.tenant)
        assert [(await anext(slow)).seq for _ in range(2)] == [1, 2]
        pending = asyncio.create_task(anext(slow))
        await asyncio.sleep(0.05)
        leases.tell(claim, [LINE])
        assert (await pending).seq == 3
        for _ in range(4):
            leases.tell(claim, [LINE] * 5)
            await asyncio.sleep(0.05)
        assert feed.subscribers == 0
        with pytest.raises(SlowSubscriber) as dropped:
            await anext(slow)
        assert dropped.value.last_seq == 3
        leases.finish(claim, Ending(state=JobState.SUCCEEDED))
        again = feed.subscribe(claim.job.id, tenant=small_yard.tenant, after=3)
        assert await collected(again) == list(range(4, 25))

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_a_stranger_gets_no_stream_and_leaves_nothing_behind(small_yard: Any) -> None:
    claim = begun(small_yard)

    async def scene() -> None:
        feed = JobFeed(small_yard.jobs)
        with pytest.raises(UnknownJob):
            await feed.subscribe(claim.job.id, tenant="o_two")
        with pytest.raises(UnknownJob):
            await anext(feed.subscribe("job_none", tenant=small_yard.tenant))
        assert feed.subscribers == 0

    asyncio.run(scene())


def test_a_process_serves_so_many_streams(small_yard: Any) -> None:
    claim = begun(small_yard)

    async def scene() -> None:
        feed = JobFeed(small_yard.jobs, subscribers_most=2)
        one = await feed.subscribe(claim.job.id, tenant=small_yard.tenant)
        async with feed.subscribe(claim.job.id, tenant=small_yard.tenant):
            with pytest.raises(FeedFull):
                await feed.subscribe(claim.job.id, tenant=small_yard.tenant)
        assert feed.subscribers == 1
        await feed.subscribe(claim.job.id, tenant=small_yard.tenant)
        await one.aclose()
        await one.aclose()
        assert feed.subscribers == 1
        await feed.close()
        assert feed.subscribers == 0

    asyncio.run(scene())


def test_a_stream_waits_for_a_database_that_is_away(small_yard: Any) -> None:
    from privacy_finetuner.jobs import JobStoreUnavailable

    claim = begun(small_yard)
    leases = small_yard.leases()

    async def scene() -> None:
        feed = JobFeed(small_yard.jobs, poll_s=0.01)
        ask, failures = feed._news, iter([1, 1, 1])

        def sometimes() -> Any:
            if next(failures, None):
                raise JobStoreUnavailable("db", reason="away")
            return ask()

        feed._news = sometimes  # type: ignore[method-assign]
        stream = await feed.subscribe(claim.job.id, tenant=small_yard.tenant, after=2)
        pending = asyncio.create_task(collected(stream))
        await asyncio.sleep(0.02)
        leases.finish(claim, Ending(state=JobState.SUCCEEDED))
        assert await pending == [3]

    asyncio.run(asyncio.wait_for(scene(), 30))
