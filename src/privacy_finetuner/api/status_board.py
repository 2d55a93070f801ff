"""The status of jobs as it is asked for most: prepared bytes, at most a fifth of a second old.

Steps become visible at the pace at which the feed looks (200 ms), so asking the database more often
finds nothing new. Whatever this process changes itself is forgotten at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from privacy_finetuner.api.shapes.training import status_of
from privacy_finetuner.jobs.model import Job
from privacy_runtime.world import Clock

KEPT_S: Final = 0.2
MOST: Final = 10_000


class StatusBoard:
    """Prepared answers by organisation and job. For one event loop.

    Guarantee: no answer is handed out `KEPT_S` after its reading began; of requests at the same
    time, one reads and the others wait for it. Refusals are not kept.

    Args:
        clock: measures.
        kept_s: for how long an answer is handed out; 0 keeps nothing.
    """

    def __init__(self, clock: Clock, *, kept_s: float = KEPT_S) -> None:
        self._clock, self._kept_s = clock, kept_s
        self._answers: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._asked: dict[tuple[str, str], asyncio.Task[bytes]] = {}

    async def get(self, tenant: str, job_id: str, read: Callable[[], Awaitable[Job]]) -> bytes:
        """The status of a job as JSON.

        Raises:
            UnknownJob, JobStoreUnavailable: what `read` raises.
        """
        key, now_s = (tenant, job_id), self._clock.monotonic_s()
        known = self._answers.get(key)
        if known is None or now_s >= known[0]:
            return await asyncio.shield(self._reading(key, read))
        if known[0] - now_s < self._kept_s / 2:
            self._reading(key, read)  # ahead of time, so that nobody waits when it is too old
        return known[1]

    def _reading(
        self, key: tuple[str, str], read: Callable[[], Awaitable[Job]]
    ) -> asyncio.Task[bytes]:
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.ensure_future(self._read(key, read))
            asked.add_done_callback(lambda done: self._settle(key, done))
        return asked

    def forget(self, tenant: str, job_id: str) -> None:
        """Hand out nothing that was read before now."""
        self._answers.pop((tenant, job_id), None)
        self._asked.pop((tenant, job_id), None)

    async def _read(self, key: tuple[str, str], read: Callable[[], Awaitable[Job]]) -> bytes:
        begun, task = self._clock.monotonic_s(), asyncio.current_task()
        answer = orjson.dumps(status_of(await read()))
        if self._asked.get(key) is task:  # otherwise it was forgotten meanwhile
            self._answers[key] = (begun + self._kept_s, answer)
            self._answers.move_to_end(key)
            while len(self._answers) > MOST:
                self._answers.popitem(last=False)
        return answer

    def _settle(self, key: tuple[str, str], done: asyncio.Task[bytes]) -> None:
        if self._asked.get(key) is done:
            del self._asked[key]
        if not done.cancelled():
            done.exception()  # somebody has looked: whoever asked may have gone
