"""What a running service does by itself: everything that must happen though nobody asks.

=============  ================================================================================
every          it
=============  ================================================================================
5 s            announces jobs that ended and budgets that passed their threshold
30 s           commits in full every reservation whose time ran out
a day          deletes sessions, counts and kept answers whose time is over
as configured  looks for security evidence (`security.enable_threat_detection`)
=============  ================================================================================

A failure of one round, whatever it is, is logged and tried again at the next: the database may be
away, and the other chores must not end with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from privacy_finetuner.service import herald
from privacy_finetuner.service.service import Service
from privacy_runtime import logs

_log = logs.logger(__name__)
EXPIRY_S: Final = 30.0
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do every so often.

    Attributes:
        name: for the log.
        every_s: seconds from the end of one round to the next.
        act: one round; synchronous, run in a thread.
    """

    name: str
    every_s: float
    act: Callable[[], object]


def chores_of(service: Service) -> list[Chore]:
    """What this service has to do by itself."""
    return [
        Chore("expire reservations", EXPIRY_S, service.ledger.expire_due),
        Chore("purge identity", DAY_S, service.identity.purge),
        Chore("announce and count", herald.EVERY_S, service.herald.round),
    ]


async def run(
    chores: list[Chore], *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Do all of them, each at its own pace, until cancelled. The first rounds come at once.

    Args:
        chores: what to do.
        pause: waits so many seconds.
    """
    async with asyncio.TaskGroup() as group:
        for chore in chores:
            group.create_task(_repeat(chore, pause), name=chore.name)


async def _repeat(chore: Chore, pause: Callable[[float], Awaitable[None]]) -> None:
    while True:
        try:
            await asyncio.to_thread(chore.act)
        except Exception:  # noqa: BLE001  whatever one chore has, it and the others go on
            _log.exception("a round of upkeep failed", action=chore.name)
        await pause(chore.every_s)
