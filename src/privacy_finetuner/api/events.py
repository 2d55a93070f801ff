"""A job's story as it happens: server-sent events and a WebSocket.

Both begin at the first event, or after the one that the client saw last, end after the event that
ends the job, and survive a lost connection: `Last-Event-ID` or `?after=` goes on where it broke.
Exact figures are left out unless the reader's role may see them and asks for them by name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, WebSocket
from starlette.responses import Response

from privacy_finetuner.api.routes import By, operation, router_of
from privacy_finetuner.api.shapes.bodies import rfc3339
from privacy_finetuner.api.shapes.training import EventAnswer
from privacy_finetuner.api.training import Include, JobId
from privacy_finetuner.jobs import EventKind, JobEvent, SlowSubscriber
from privacy_finetuner.jobs.feed import Subscription
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.refusals import TooManyRequests
from privacy_runtime.http.sockets import stream
from privacy_runtime.http.streams import Event, last_event_id, sse
from privacy_runtime.identity import Principal, Scope, require

After = Annotated[
    int, Query(ge=0, le=2**53, description="Only events after the one of this number.")
]
_EXAMPLE: Final = (
    'id: 7\nevent: step\ndata: {"job":"job_2k7w","seq":7,"at":"2026-01-01T12:00:00.000Z",'
    '"kind":"step","body":{"step":6,"steps":40,"epsilon":0.41,"delta":1e-05,"eta_s":12.4}}\n\n'
)
_STREAM: Final = {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}}


class Events:
    """Events of jobs over HTTP.

    Args:
        service: whose jobs.
        access: settles who opened a WebSocket.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._feed, self._jobs, self._access = service.feed, service.jobs, access

    @operation("GET", "/{job_id}/events", Scope.JOBS_READ, raw=_STREAM)
    async def training_events(
        self,
        job_id: JobId,
        by: By,
        request: Request,
        after: After = 0,
        include: Include = None,
        last_event: Annotated[
            str | None, Header(alias="Last-Event-ID", description="Goes on after this event.")
        ] = None,
    ) -> Response:
        """Follow a job: server-sent events until it ends.

        `id` is the event's number, `event` its kind, `data` the event as JSON. A comment comes
        every 15 seconds. A reader that is too slow is let go; nothing is lost, go on after the last
        event.
        """
        del last_event  # read from the request; declared for the documentation
        seen = last_event_id(request) or after
        story = await self._begun(by, job_id, after=seen, include=include)
        events = _as_events(story, shows_exact=include is not None)
        try:
            return sse(request, events, self._access)
        except TooManyRequests:
            await story.aclose()
            raise

    @operation("GET", "/{job_id}/history", Scope.JOBS_READ)
    def training_history(
        self,
        job_id: JobId,
        by: By,
        after: After = 0,
        include: Include = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    ) -> list[EventAnswer]:
        """List what happened to a job so far, oldest first."""
        _require_exact(by, include)
        events = self._jobs.events(job_id, tenant=by.tenant, after=after, limit=limit)
        shown = (e for e in events if include or e.kind is not EventKind.EXACT)
        return [EventAnswer.of(event) for event in shown]

    async def socket(
        self, websocket: WebSocket, job_id: str, after: int = 0, include: str | None = None
    ) -> None:
        """Follow a job over a WebSocket: one JSON message an event, then a normal close."""
        feed = partial(self._messages, job_id, max(0, after), include)
        await stream(websocket, self._access, feed, Scope.JOBS_READ)

    async def _messages(
        self, job_id: str, after: int, include: str | None, by: Principal
    ) -> AsyncIterator[dict[str, Any]]:
        async with await self._begun(by, job_id, after=after, include=include) as story:
            async for event in story:
                if include or event.kind is not EventKind.EXACT:
                    yield message_of(event)

    async def _begun(
        self, by: Principal, job_id: str, *, after: int, include: str | None
    ) -> Subscription:
        _require_exact(by, include)
        return await self._feed.subscribe(job_id, tenant=by.tenant, after=after)


def router(service: Service, access: Access) -> APIRouter:
    """The streams below `/training`."""
    return router_of(Events(service, access), access, tag="training", prefix="/training")


def sockets(service: Service, access: Access) -> APIRouter:
    """The WebSockets, below `/ws/v1`."""
    made = APIRouter()
    made.add_api_websocket_route("/ws/v1/jobs/{job_id}", Events(service, access).socket)
    return made


def message_of(event: JobEvent) -> dict[str, Any]:
    """An event as clients read it."""
    return {
        "job": event.job,
        "seq": event.seq,
        "at": rfc3339(event.at),
        "kind": event.kind.value,
        "body": event.body,
    }


async def _as_events(story: Subscription, *, shows_exact: bool) -> AsyncIterator[Event]:
    async with story:
        try:
            async for event in story:
                if shows_exact or event.kind is not EventKind.EXACT:
                    data = message_of(event)
                    yield Event(data=data, id=str(event.seq), name=event.kind.value)
        except SlowSubscriber:
            return  # the client comes back after the last event that it saw


def _require_exact(by: Principal, include: str | None) -> None:
    if include is not None:
        require(by, Scope.RESULTS_OUTSIDE_GUARANTEE, tenant=by.tenant)
