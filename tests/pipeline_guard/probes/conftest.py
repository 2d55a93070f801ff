"""Looks at a probe at a moment of one's choice."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline_guard.model import Moment, Reading

START = datetime(2026, 11, 22, tzinfo=UTC)


def look(probe: Any, at_s: float = 0.0, *, at: datetime = START) -> Reading:
    """One look, so many seconds after the start."""
    moment = Moment(at + timedelta(seconds=at_s), at_s)
    found = probe.look(moment)
    if inspect.isawaitable(found):
        return asyncio.run(_awaited(found))
    assert isinstance(found, Reading)
    return found


def look_now(probe: Any) -> Reading:
    """One look by the machine's clocks."""
    moment = Moment(datetime.now(UTC), time.monotonic())  # noqa: TID251 -- real processes and files
    found = probe.look(moment)
    return asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found


async def _awaited(found: Awaitable[Reading]) -> Reading:
    return await found
