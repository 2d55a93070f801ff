"""`JobFeed`: the events of jobs as they happen, for every stream of one process.

One task asks the database for all watched jobs at once, and hands what is new to everybody who
watches: a thousand subscribers cost what one does. A subscriber that does not take its events is
let go, so that nobody's memory grows; all events stay in the store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa

from privacy_finetuner.jobs.errors import FeedFull, JobError, SlowSubscriber
from privacy_finetuner.jobs.jobs import Jobs
from privacy_finetuner.jobs.model import EventKind, JobEvent, JobState
from privacy_finetuner.jobs.schema import EVENTS, JOBS
from privacy_finetuner.jobs.store import event_of

POLL_S: Final = 0.2
SUBSCRIBERS_MOST: Final = 5000
WAITING_MOST: Final = 1000
"""Events that may wait for one subscriber before it is let go."""
_PAGE: Final = 500
_TOGETHER: Final = 200
_PAUSE_MOST_S: Final = 5.0

_Item = TypeVar("_Item")


@dataclass(slots=True)
class _Watch:
    """One job that somebody watches: the newest event handed out, and to whom."""

    newest: int
    subscribers: set[Subscription] = field(default_factory=set)


class JobFeed:
    """Live events of jobs. Belongs to one event loop.

    Args:
        jobs: where the events are.
        poll_s: how often the database is asked, in seconds.
        subscribers_most: how many streams this process serves.
        waiting_most: how many events may wait for one of them.
    """

    def __init__(
        self,
        jobs: Jobs,
        *,
        poll_s: float = POLL_S,
        subscribers_most: int = SUBSCRIBERS_MOST,
        waiting_most: int = WAITING_MOST,
    ) -> None:
        self.jobs = jobs
        self._poll_s = poll_s
        self._subscribers_most = subscribers_most
        self._waiting_most = waiting_most
        self._watches: dict[str, _Watch] = {}
        self._open: set[Subscription] = set()
        self._poller: asyncio.Task[None] | None = None

    @property
    def subscribers(self) -> int:
        """How many streams are open."""
        return len(self._open)

    def subscribe(self, job_id: str, *, tenant: str, after: int = 0) -> Subscription:
        """Return the events of a job with `seq > after`: those that are there, then new ones.

        `async for event in feed.subscribe(...)` begins at the first event; `await` the subscription
        first to hear of a refusal before anything is sent. It ends by itself after the event that
        ends the job. Close it (`aclose`, or `async with`) when it is left earlier.

        Raises, when awaited or first asked for an event:
            UnknownJob: there is none of that id in this organisation.
            FeedFull: too many streams are open in this process.
            SlowSubscriber: (later) events were not taken in time; begin again after `last_seq`.
            JobStoreUnavailable: the database is away. Once begun, a stream waits for it instead.
        """
        return Subscription(self, job_id, tenant=tenant, after=after, most=self._waiting_most)

    async def close(self) -> None:
        """End every stream."""
        for subscription in list(self._open):
            subscription._end()
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.cancel()
            await asyncio.gather(poller, return_exceptions=True)

    def _enter(self, subscription: Subscription) -> None:
        if len(self._open) >= self._subscribers_most:
            raise FeedFull(subscribers=len(self._open))
        self._open.add(subscription)

    def _watch(self, subscription: Subscription) -> bool:
        """Hand new events to a subscription; False: it has to read what it missed first."""
        watch = self._watches.setdefault(subscription.job, _Watch(subscription.last_seq))
        if watch.newest > subscription.last_seq:
            return False
        watch.subscribers.add(subscription)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll(), name="job-feed")
        return True

    def _leave(self, subscription: Subscription) -> None:
        self._open.discard(subscription)
        watch = self._watches.get(subscription.job)
        if watch is not None:
            watch.subscribers.discard(subscription)
            if not watch.subscribers:
                del self._watches[subscription.job]

    async def _poll(self) -> None:
        """Ask for news until nobody watches any more."""
        pause_s = self._poll_s
        while self._watches:
            try:
                for events in await asyncio.to_thread(self._news):
                    self._hand_out(events)
                pause_s = self._poll_s
            except JobError:  # the database is away: the streams wait for it
                pause_s = min(2 * pause_s, _PAUSE_MOST_S)
            await asyncio.sleep(pause_s)

    def _news(self) -> list[list[JobEvent]]:
        """What is new in all watched jobs, each job's events in order. Runs in a thread."""
        known = {job: watch.newest for job, watch in list(self._watches.items())}
        moved: dict[str, int] = {}
        for ids in _chunks(list(known)):
            moved |= {job: known[job] for job, newest in self._newest(ids) if newest > known[job]}
        found: dict[str, list[JobEvent]] = {}
        for pairs in _chunks(list(moved.items())):
            for event in self._after(pairs):
                found.setdefault(event.job, []).append(event)
        return list(found.values())

    def _newest(self, ids: Sequence[str]) -> list[tuple[str, int]]:
        query = sa.select(JOBS.c.id, JOBS.c.events).where(JOBS.c.id.in_(ids))
        rows = self.jobs.store.read(lambda connection: connection.execute(query).all())
        return [(row.id, row.events) for row in rows]

    def _after(self, pairs: Sequence[tuple[str, int]]) -> list[JobEvent]:
        newer = [sa.and_(EVENTS.c.job == job, EVENTS.c.seq > seq) for job, seq in pairs]
        query = sa.select(EVENTS).where(sa.or_(*newer)).order_by(EVENTS.c.job, EVENTS.c.seq)
        return [event_of(row) for row in self.jobs.store.read(lambda c: c.execute(query).all())]

    def _hand_out(self, events: Sequence[JobEvent]) -> None:
        watch = self._watches.get(events[0].job)
        if watch is None:
            return
        watch.newest = max(watch.newest, events[-1].seq)
        for subscription in list(watch.subscribers):
            subscription._take(events)


class Subscription:
    """The events of one job, for one reader. Made by `JobFeed.subscribe`."""

    def __init__(self, feed: JobFeed, job: str, *, tenant: str, after: int, most: int) -> None:
        self.job = job
        self.last_seq = after
        self._feed, self._tenant, self._most = feed, tenant, most
        self._waiting: deque[JobEvent] = deque()
        self._woken = asyncio.Event()
        self._state = "new"  # then: open, dropped, over
        self._is_live = False

    def __await__(self) -> Generator[Any, None, Self]:
        """Check that the job is there, and begin."""
        return self._begun().__await__()

    def __aiter__(self) -> Self:
        """Return the subscription itself."""
        return self

    async def __aenter__(self) -> Self:
        """Begin."""
        return await self._begun()

    async def __aexit__(self, *_: object) -> None:
        """Let go."""
        await self.aclose()

    async def __anext__(self) -> JobEvent:
        """Wait for the next event."""
        await self._begun()
        while not self._waiting:
            if self._state == "dropped":
                raise SlowSubscriber(last_seq=self.last_seq)
            if self._state == "over":
                raise StopAsyncIteration
            if not self._is_live:
                await self._read_page()
                continue
            self._woken.clear()
            await self._woken.wait()
        event = self._waiting.popleft()
        self.last_seq = event.seq
        if is_last(event):
            self._end()
        return event

    async def aclose(self) -> None:
        """Let go; the next event is the end."""
        self._end()

    async def _begun(self) -> Self:
        if self._state == "new":
            self._feed._enter(self)
            self._state = "open"
            try:
                await self._read_page()
            except BaseException:
                self._end()
                raise
        return self

    async def _read_page(self) -> None:
        """Read what is there; when that is nothing, begin to listen."""
        jobs, after = self._feed.jobs, self.last_seq
        page = await asyncio.to_thread(
            jobs.events, self.job, tenant=self._tenant, after=after, limit=_PAGE
        )
        if self._state != "open":
            return
        if page:
            self._waiting.extend(page)
            return
        if await asyncio.to_thread(self._has_ended):
            self._end()
        elif self._state == "open":
            self._is_live = self._feed._watch(self)

    def _has_ended(self) -> bool:
        """Whether the job has ended and nothing of its story is still to be read."""
        query = sa.select(JOBS.c.state, JOBS.c.events).where(JOBS.c.id == self.job)
        row = self._feed.jobs.store.read(lambda c: c.execute(query).one())
        return JobState(row.state).is_final and row.events <= self.last_seq

    def _take(self, events: Sequence[JobEvent]) -> None:
        """New events, from the feed."""
        newest = self._waiting[-1].seq if self._waiting else self.last_seq
        fresh = [event for event in events if event.seq > newest]
        if len(self._waiting) + len(fresh) > self._most:
            self._waiting.clear()
            self._end("dropped")
        else:
            self._waiting.extend(fresh)
        self._woken.set()

    def _end(self, state: str = "over") -> None:
        if self._state == "open":
            self._feed._leave(self)
        if self._state in ("new", "open"):
            self._state = state
            self._woken.set()


def is_last(event: JobEvent) -> bool:
    """Whether nothing follows in a job's story."""
    state = event.body.get("state")
    return event.kind is EventKind.STATE and state is not None and JobState(state).is_final


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), _TOGETHER):
        yield items[start : start + _TOGETHER]
