"""Who may use how much: promises of processor, memory and accelerator memory, by priority.

A promise is book-keeping: nothing here holds a process to it. What is promised never exceeds the
share of the machine that the policy gives away; a more important request takes back promises of
less important ones, whose holders are told and must let go.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Final

from privacy_core.errors import InvalidParameter, PrivacyError


class ScalingPolicy(StrEnum):
    """How much of the machine is given away, and how early it is called short."""

    CONSERVATIVE = "conservative"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the machine.

    Attributes:
        given: of everything that may be promised.
        warning: in use, from which on people are told.
        emergency: in use, from which on something is done.
    """

    given: float
    warning: float
    emergency: float


SHARES: Final = {
    ScalingPolicy.CONSERVATIVE: Shares(0.6, 0.7, 0.85),
    ScalingPolicy.BALANCED: Shares(0.8, 0.8, 0.9),
    ScalingPolicy.AGGRESSIVE: Shares(0.95, 0.9, 0.95),
}


class NotEnough(PrivacyError):
    """There is not enough left to promise. Nothing was promised, nothing taken back."""

    code: ClassVar[str] = "not_enough_resources"

    def __init__(self, what: str, *, asked: float, left: float) -> None:
        super().__init__(what, asked, left)
        self.what = what
        self.asked = asked
        self.left = left

    def __str__(self) -> str:
        return (
            f"{self.asked:g} of {self.what} were asked for, {self.left:g} are left; none promised"
        )


@dataclass(frozen=True, slots=True)
class Amounts:
    """Of each kind.

    Attributes:
        cores: processors.
        memory_bytes: main memory.
        accelerator_bytes: memory of accelerators, all together.
    """

    cores: float = 0.0
    memory_bytes: int = 0
    accelerator_bytes: int = 0

    def __post_init__(self) -> None:
        if min(self.cores, self.memory_bytes, self.accelerator_bytes) < 0:
            raise InvalidParameter("amounts", found=str(self), expected="none below zero")

    def plus(self, other: Amounts) -> Amounts:
        """Both together."""
        return Amounts(
            self.cores + other.cores,
            self.memory_bytes + other.memory_bytes,
            self.accelerator_bytes + other.accelerator_bytes,
        )

    def short_of(self, asked: Amounts) -> tuple[str, float, float] | None:
        """The first kind of which there is less here than asked: its name, both amounts."""
        kinds = (
            ("cores", asked.cores, self.cores),
            ("bytes of memory", asked.memory_bytes, self.memory_bytes),
            ("bytes of accelerator memory", asked.accelerator_bytes, self.accelerator_bytes),
        )
        return next((kind for kind in kinds if kind[1] > kind[2] + 1e-9), None)


@dataclass(frozen=True, slots=True)
class Promise:
    """What somebody may use.

    Attributes:
        number: in the order of promises.
        holder: a name.
        amounts: of each kind.
        priority: higher ones take back from lower ones.
        told: called when it is taken back, outside every lock.
    """

    number: int
    holder: str
    amounts: Amounts
    priority: int = 0
    told: Callable[[], None] | None = field(default=None, compare=False, repr=False)


class Allocation:
    """Promises of one machine.

    Guarantee: together they never exceed the policy's share of the capacity; a promise is taken
    back only for one of higher priority, the least important and newest first, and only if that is
    enough: else nothing changes.

    Args:
        capacity: all that the machine has.
        policy: which share of it is given away.
    """

    def __init__(self, capacity: Amounts, policy: ScalingPolicy = ScalingPolicy.BALANCED) -> None:
        share = SHARES[policy].given
        self.policy = policy
        self._given = Amounts(
            capacity.cores * share,
            int(capacity.memory_bytes * share),
            int(capacity.accelerator_bytes * share),
        )
        self._promises: dict[int, Promise] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def promises(self) -> tuple[Promise, ...]:
        """All of them, oldest first."""
        with self._lock:
            return tuple(self._promises.values())

    @property
    def left(self) -> Amounts:
        """What can still be promised without taking back."""
        with self._lock:
            return self._left(self._promises.values())

    def allocate(
        self,
        holder: str,
        amounts: Amounts,
        *,
        priority: int = 0,
        told: Callable[[], None] | None = None,
    ) -> Promise:
        """Promise so much to somebody.

        Raises:
            NotEnough: not even with the promises of lower priority.
        """
        with self._lock:
            kept = dict(self._promises)
            gone: list[Promise] = []
            lower = sorted(
                (p for p in kept.values() if p.priority < priority),
                key=lambda p: (p.priority, -p.number),
            )
            while (short := self._left(kept.values()).short_of(amounts)) is not None:
                if not lower:
                    left = self._left(self._promises.values()).short_of(amounts) or short
                    raise NotEnough(left[0], asked=left[1], left=left[2])
                gone.append(lower.pop(0))
                del kept[gone[-1].number]
            promise = Promise(next(self._numbers), holder, amounts, priority, told)
            self._promises = {**kept, promise.number: promise}
        for each in gone:
            if each.told is not None:
                each.told()
        return promise

    def release(self, promise: Promise) -> None:
        """Give a promise back; nothing happens if it was taken back before."""
        with self._lock:
            self._promises.pop(promise.number, None)

    def _left(self, promises: object) -> Amounts:
        used = Amounts()
        for promise in promises:  # type: ignore[attr-defined]
            used = used.plus(promise.amounts)
        given = self._given
        return Amounts(
            max(0.0, given.cores - used.cores),
            max(0, given.memory_bytes - used.memory_bytes),
            max(0, given.accelerator_bytes - used.accelerator_bytes),
        )
