"""A running job, as it happens: its events to the page, over server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response

from privacy_finetuner.dashboard.pages import Act
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.jobs import EventKind, SlowSubscriber
from privacy_finetuner.jobs.feed import Subscription
from privacy_runtime.http import Access
from privacy_runtime.http.streams import Event, last_event_id, sse
from privacy_runtime.identity import Scope

_AFTER_MOST: Final = 10**9


def following(access: Access) -> Act:
    """The events of a job after `?after=` or `Last-Event-ID`; the stream ends with the job.

    Exact figures are left out for who may not see them: they are never sent and hidden.
    """

    async def follow(asked: Asked) -> Response:
        subscription = await asked.service.feed.subscribe(
            asked.path["job"], tenant=asked.tenant, after=_after(asked)
        )
        shows_exact = asked.may(Scope.RESULTS_OUTSIDE_GUARANTEE)
        return sse(asked.request, _events(subscription, shows_exact=shows_exact), access)

    return follow


def _after(asked: Asked) -> int:
    seen = last_event_id(asked.request)
    if seen is not None:
        return int(seen)
    text = asked.query.get("after", "0")
    return min(_AFTER_MOST, int(text)) if text.isascii() and text.isdigit() else 0


async def _events(subscription: Subscription, *, shows_exact: bool) -> AsyncIterator[Event]:
    try:
        async for event in subscription:
            if event.kind is EventKind.EXACT and not shows_exact:
                continue
            body = {**event.body, "at": event.at.isoformat()}
            yield Event(data=body, id=str(event.seq), name=event.kind.value)
    except SlowSubscriber:
        return  # the browser connects again, after the last event that it took
    finally:
        await subscription.aclose()
