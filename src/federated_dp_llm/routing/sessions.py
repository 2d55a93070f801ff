"""The sessions of one answer at all its nodes: opened, stepped, voted and committed together.

A node that fails, is late, or breaks the protocol has empty slots for the rest of the answer: its
sums count zero. The number of slots is public and stays, so the price stays, too, and the noise is
never less than promised. Which node it was is told to the operator, never to the user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from federated_dp_llm.errors import NodeRefused, NodeUnavailable
from federated_dp_llm.federation.masks import counts_total, totals
from federated_dp_llm.federation.messages import (
    Commit,
    NodeCard,
    PublicDraft,
    Step,
    StepSums,
    Terms,
    VoteAsk,
    VoteCounts,
)
from federated_dp_llm.federation.port import Node
from federated_dp_llm.federation.signing import sign_terms
from privacy_core.decoding.checks import read_sums
from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import ResilienceError
from privacy_runtime.signing import SigningKey

Sums = npt.NDArray[np.int64]
T = TypeVar("T")

_REPLAYED: Final = "replayed"
_MASKED: Final = "masked"
_TOO_LONG: Final = "prompt_too_long"
FAILURES: Final = (NodeRefused, NodeUnavailable, ResilienceError, OSError, TimeoutError)
"""What ends a node's part in an answer; anything else is our own fault, and ends the answer."""


@dataclass(slots=True)
class Seat:
    """One node's part in one answer.

    Attributes:
        slots: of its records, as signed in its terms.
        handle: of its session; None: none was opened.
        live: whether its records still have a part in the answer.
    """

    node: Node
    card: NodeCard
    slots: int
    handle: str | None = None
    live: bool = False


@dataclass(slots=True)
class Sessions:
    """The nodes of one answer.

    Args:
        seats: all nodes whose slots the terms count.
        timeout_s: for one call of one node.
        lost: told a node's name and why it has empty slots from now on; for operators.
    """

    seats: Sequence[Seat]
    timeout_s: float
    lost: Callable[[str, str], object]
    asked_votes: bool = False
    too_long: bool = False
    """A node had no room for so many tokens after the prompt, and held nothing."""

    async def open(self, terms: Sequence[Terms], key: SigningKey, prompt: str) -> bool:
        """Open a session at each node; whether any stands.

        Raises:
            NodeRefused: a node answered this request before: it is not answered twice.
        """

        async def one(seat: Seat, its_terms: Terms) -> None:
            ask = sign_terms(its_terms, key).session(prompt)
            opened = await self._asked(seat, lambda: seat.node.open(ask), opening=True)
            if opened is not None:
                seat.handle, seat.live = opened.handle, True

        results = await asyncio.gather(
            *(one(seat, its) for seat, its in zip(self.seats, terms, strict=True)),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return any(seat.live for seat in self.seats)

    async def step(self, released: Sequence[int], public: PublicDraft) -> list[Sums]:
        """The sums of all nodes at each position of a draft; zeros where no node is left.

        Raises:
            NodeUnavailable: of masked nodes, whose sums are only right together, one is missing.
        """
        sizes = [len(ids) for ids in public.candidates]

        async def one(seat: Seat, handle: str) -> tuple[Seat, StepSums] | None:
            ask = Step(
                handle=handle,
                released=tuple(released),
                draft=public.draft,
                candidates=public.candidates,
                logits=public.logits,
            )
            answer = await self._asked(seat, lambda: seat.node.step(ask))
            return None if answer is None else (seat, answer)

        answers = await self._together(one)
        if self.masked:
            self._require_all()
            parts = {seat.card.node_id: answer for seat, answer in answers}
            return [part.astype(np.int64) for part in totals(parts, sizes, slots=self._slots)]
        total = [np.zeros(size, dtype=np.int64) for size in sizes]
        for seat, answer in answers:
            if (read := self._read(seat, answer, sizes)) is not None:
                total = [whole + part for whole, part in zip(total, read, strict=True)]
        return total

    async def vote(self, question: str, options: Sequence[str]) -> list[int]:
        """How many records of all nodes chose each option: private, noise follows.

        Raises:
            NodeUnavailable: as `step`.
        """
        self.asked_votes = True

        async def one(seat: Seat, handle: str) -> tuple[Seat, VoteCounts] | None:
            ask = VoteAsk(handle=handle, question=question, options=tuple(options))
            answer = await self._asked(seat, lambda: seat.node.vote(ask))
            return None if answer is None else (seat, answer)

        answers = await self._together(one)
        if self.masked:
            self._require_all()
            parts = {seat.card.node_id: answer.counts for seat, answer in answers}
            return counts_total(parts, len(options), slots=self._slots)
        fair = [a.counts for seat, a in answers if self._counts_hold(seat, a, len(options))]
        return [sum(counts[place] for counts in fair) for place in range(len(options))]

    async def commit(self, tokens: int) -> None:
        """Settle every session that was opened, also of nodes that failed since.

        A node that cannot be told counts all that it held as spent when the session expires.
        """

        async def one(seat: Seat, handle: str) -> None:
            ask = Commit(handle=handle, tokens=tokens, voted=self.asked_votes)
            await self._asked(seat, lambda: seat.node.commit(ask))

        handles = [(seat, seat.handle) for seat in self.seats if seat.handle is not None]
        await asyncio.gather(*(one(seat, handle) for seat, handle in handles))

    @property
    def masked(self) -> bool:
        """Whether sums are only right together (`federation.masks`)."""
        return any(_MASKED in seat.card.modes for seat in self.seats)

    @property
    def _slots(self) -> int:
        return sum(seat.slots for seat in self.seats)

    def _require_all(self) -> None:
        if missing := [seat.card.node_id for seat in self.seats if not seat.live]:
            raise NodeUnavailable(
                "+".join(missing), "it is missing, and the others' masks do not cancel without it"
            )

    async def _together(self, one: Callable[[Seat, str], Awaitable[T | None]]) -> list[T]:
        """Ask all nodes that still have a part, at once; what answered, in the order of seats."""
        living = [(seat, seat.handle) for seat in self.seats if seat.live]
        answers = await asyncio.gather(*(one(s, handle) for s, handle in living if handle))
        return [answer for answer in answers if answer is not None]

    def _read(self, seat: Seat, answer: StepSums, sizes: Sequence[int]) -> list[Any] | None:
        if len(answer.sums) != len(sizes):
            self._lose(seat, "protocol: another number of positions than was asked")
            return None
        try:
            return [
                read_sums(part, seat.slots, size)
                for part, size in zip(answer.sums, sizes, strict=True)
            ]
        except InvalidParameter:
            self._lose(seat, "protocol: sums that its slots cannot make")
            return None

    def _counts_hold(self, seat: Seat, answer: VoteCounts, options: int) -> bool:
        counts = answer.counts
        fair = len(counts) == options and min(counts) >= 0 and sum(counts) <= seat.slots
        if not fair:
            self._lose(seat, "protocol: votes that its slots cannot cast")
        return fair

    async def _asked(
        self, seat: Seat, call: Callable[[], Awaitable[T]], *, opening: bool = False
    ) -> T | None:
        """A node's answer; None, and empty slots from now on, where there is none."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await call()
        except FAILURES as error:
            if opening and isinstance(error, NodeRefused) and error.reason.startswith(_REPLAYED):
                raise
            self.too_long |= opening and _reason(error).startswith(_TOO_LONG)
            self._lose(seat, _reason(error))
            return None

    def _lose(self, seat: Seat, reason: str) -> None:
        seat.live = False
        self.lost(seat.card.node_id, reason)


def _reason(error: BaseException) -> str:
    if isinstance(error, NodeRefused | NodeUnavailable):
        return error.reason
    return type(error).__name__
