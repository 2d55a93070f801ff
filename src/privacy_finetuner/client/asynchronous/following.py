"""Follows the story of a job over server-sent events, across lost connections and restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2

from privacy_finetuner.client.asynchronous.session import AsyncSession
from privacy_finetuner.client.calls import Call, place
from privacy_finetuner.client.decoding import decoded
from privacy_finetuner.client.errors import ClientError, StreamSilent, UnexpectedAnswer
from privacy_finetuner.client.retries import is_passing, pause_s
from privacy_finetuner.client.shapes.training import JobEvent


class AsyncFollowing:
    """One watch of one job.

    Guarantee: each event that the caller may see comes once and in order, none is left out: after a
    loss the service is asked for what follows the last one that was handed over. Numbers of events
    that the caller may not see (exact figures) are missing.

    Args:
        session: to ask with.
        job_id: of the job.
        after: the last event that is known already; 0 for the whole story.
        patience_s: for how long the connection may stay lost before `StreamSilent`.
    """

    def __init__(
        self, session: AsyncSession, job_id: str, *, after: int, patience_s: float
    ) -> None:
        self._session = session
        self._job_id = job_id
        self._last = after
        self._patience_s = patience_s
        self._ended = False
        self._losses = 0
        self._connected_s = session.clock.monotonic_s()

    async def events(self) -> AsyncIterator[JobEvent]:
        """All events from here to the end of the job.

        Raises:
            NotFound: there is no such job.
            StreamSilent: the connection stayed lost.
        """
        while not self._ended:
            lost: ClientError | None = None
            try:
                async for event in self._connected():
                    yield event
            except ClientError as error:
                if not is_passing(error):
                    raise
                lost = error
            if not self._ended:
                await self._pause(lost)

    async def _connected(self) -> AsyncIterator[JobEvent]:
        """The events of one connection."""
        call = Call(
            method="GET",
            path=place("training", self._job_id, "events"),
            headers={
                "Accept": "text/event-stream",
                "Last-Event-ID": str(self._last),
                "Cache-Control": "no-store",
            },
        )
        async with self._session.stream(call) as response:
            _require_events(response)
            self._connected_s = self._session.clock.monotonic_s()
            async for message in httpx2.EventSource(response):
                self._connected_s = self._session.clock.monotonic_s()
                if not message.data:
                    continue
                event = decoded(JobEvent, message.data)
                if event.seq <= self._last:
                    continue
                self._last, self._losses = event.seq, 0
                self._ended = event.ends_the_job
                yield event
                if self._ended:
                    return

    async def _pause(self, lost: ClientError | None) -> None:
        """Wait before the next connection, or give up."""
        silent_s = self._session.clock.monotonic_s() - self._connected_s
        if lost is not None and silent_s > self._patience_s:
            raise StreamSilent(
                f"job {self._job_id}", silent_s=silent_s, last_event=self._last
            ) from lost
        self._losses += 1
        settings = self._session.settings
        asked_s = pause_s(settings.retries, self._losses, lost, settings.entropy)
        await settings.sleep(min(asked_s, self._patience_s))


def _require_events(response: httpx2.Response) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        raise UnexpectedAnswer(
            f"the service answered with {kind or 'no type'}, expected text/event-stream"
        )
