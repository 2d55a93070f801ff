"""The audit trail: what the gateway did, in the hash-chained journal, without a value in it.

One entry a message, in the stream `audit`: session, server, tool, direction, and for every value
its type, a keyed hash, what was done, by which rule, how often; and the digest of the policy.

A message that gives real values to a tool is on the disk before the tool hears of it. Entries
that give nothing to anybody are written within moments, several in one transaction; when the
journal refuses them, every later message is refused until it takes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final, TypeVar

import anyio
from anyio.to_thread import run_sync

from privacy_core.errors import PrivacyError
from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.passage import Tally
from privacy_runtime.journal import Change, Draft, Entry, Journal, View
from privacy_runtime.world import Entropy

STREAM: Final = "audit"
ENTRY: Final = "gateway.message"
LARGEST_BATCH: Final = 256
LONGEST_QUEUE: Final = 10_000
ITEMS_MAX: Final = 2000
GATHER_S: Final = 0.1
THREADS: Final = 4

_Answer = TypeVar("_Answer")


class Direction(StrEnum):
    """Which way a message went."""

    TO_MODEL = "to_model"
    TO_TOOL = "to_tool"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What happened to one message. `refused` is the reason when it did not pass."""

    session: str
    server: str
    tool: str
    direction: Direction
    tally: Tally
    refused: Reason | None = None

    def body(self, policy_digest: str) -> dict[str, Any]:
        """The record as the journal keeps it."""
        items = [
            {
                "act": str(item.act),
                "type": item.label,
                "hash": item.fingerprint,
                "rule": item.rule,
                "count": count,
            }
            for item, count in self.tally.items.most_common(ITEMS_MAX)
        ]
        return {
            "session": self.session,
            "server": self.server,
            "tool": self.tool,
            "direction": str(self.direction),
            "refused": None if self.refused is None else str(self.refused),
            "items": items,
            "items_left_out": max(0, len(self.tally.items) - ITEMS_MAX),
            "policy": policy_digest,
        }


class Trail:
    """Writes records. One for a gateway; used from one event loop.

    Args:
        journal: where to; it may be shared with other streams.
        policy_digest: of the policy in force.
        entropy: makes the keys of entries.
    """

    def __init__(self, journal: Journal, *, policy_digest: str, entropy: Entropy) -> None:
        self.journal = journal
        self._digest = policy_digest
        self._entropy = entropy
        self._waiting: deque[Draft] = deque()
        self._wake = anyio.Event()
        self._writing = anyio.Lock()
        self._is_broken = False
        self._threads = anyio.CapacityLimiter(THREADS)

    async def record(self, record: Record) -> None:
        """Keep a record; it is on the disk when this returns if it gives a value to a tool.

        Raises:
            MessageRefused: the journal does not take it, or did not take an earlier one.
        """
        draft = Draft(ENTRY, self._entropy.token_bytes(16).hex(), record.body(self._digest))
        self._waiting.append(draft)
        if record.tally.reveals or self._is_broken or len(self._waiting) > LONGEST_QUEUE:
            if not await self.flush():
                raise MessageRefused(Reason.AUDIT_FAILED)
        else:
            self._wake.set()

    async def flush(self) -> bool:
        """Write what waits; returns whether the journal took it."""
        async with self._writing:
            while self._waiting:
                batch = [self._waiting[k] for k in range(min(LARGEST_BATCH, len(self._waiting)))]
                try:
                    await self.in_thread(partial(append, self.journal, batch))
                except (PrivacyError, OSError):
                    self._is_broken = True
                    return False
                for _ in batch:
                    self._waiting.popleft()
            self._is_broken = False
            return True

    async def in_thread(self, work: Callable[[], _Answer]) -> _Answer:
        """Use the journal in a thread: of its own few, which no detector that hangs can take."""
        return await run_sync(work, limiter=self._threads)

    async def run(self) -> None:
        """Write in the background, for ever."""
        while True:
            await self._wake.wait()
            # What comes within a tenth of a second shares one wait for the disk.
            await anyio.sleep(GATHER_S)
            self._wake = anyio.Event()
            await self.flush()


def append(journal: Journal, drafts: list[Draft]) -> list[Entry]:
    """Append drafts that are not there yet, in one transaction."""

    def decide(view: View) -> Change:
        return Change([draft for draft in drafts if draft.key not in view.entries])

    return journal.transact(STREAM, decide, keys=[draft.key for draft in drafts])


def read(journal: Journal, wanted: Callable[[Entry], bool] = lambda _: True) -> Iterator[Entry]:
    """Yield the entries of gateways, in order."""
    for entry in journal.read(STREAM):
        if entry.type.startswith("gateway.") and wanted(entry):
            yield entry
