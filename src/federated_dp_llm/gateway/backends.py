"""Which backend a request goes to: counted places, measured speed, and who is left in peace.

Each backend has so many places (`slots`). A request takes one when it is chosen, and gives it back
whatever happens. When all places are taken, requests wait here and the next free place takes the
first of them: late binding, which no choice made early can beat when backends are unequal. Every
free backend is compared, not two drawn at random: two choices are for counts that are old, and
these are exact.

Sources: Mitzenmacher 2001, "The Power of Two Choices in Randomized Load Balancing"; the peak-EWMA
of Finagle for weighting by measured time; outlier ejection as a circuit breaker for each backend.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ssl import SSLContext
from types import TracebackType
from typing import Final, Self

from federated_dp_llm.errors import Overloaded
from federated_dp_llm.gateway.client import Pool
from federated_dp_llm.gateway.connection import Answer, Limits, Timeouts
from federated_dp_llm.gateway.faults import BackendFault, PoolExhausted
from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import BreakerPolicy, CircuitBreaker, CircuitOpen
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, Entropy

PATHS: Final = ("/v1/chat/completions", "/v1/completions")
_MEMORY_S: Final = 10.0
"""Measured times count e-fold less after so many seconds."""
_FAILED: Final = frozenset({429, 500, 502, 503, 504, 529})
"""Statuses with which a backend says that it cannot now; somebody else may."""
EJECTION: Final = BreakerPolicy(
    failure_rate=0.5,
    slow_s=1e9,  # a long answer is no failure; what is too long has a timeout
    window=20,
    least_calls=5,
    break_s=1.0,
    break_most_s=30.0,
    trials=1,
)


class Strategy(StrEnum):
    """How to choose among backends with a free place."""

    LEAST_LOADED = "least_loaded"
    """The least (requests under way + 1) x seconds a request: for servers that slow down under
    load, as batching ones do."""
    FASTEST_FREE = "fastest_free"
    """The fastest with a free place: for servers whose places do not slow each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One OpenAI-compatible server.

    Attributes:
        name: for metrics and the audit; no user sees it.
        url: what comes before `/v1/...`.
        models: that it serves.
        slots: how many requests it is given at once.
        speed: relative to the others; None: measured.
        key: what it wants to see as a bearer token.
        tls: for https; None: the system's certificates.
    """

    name: str
    url: str
    models: tuple[str, ...]
    slots: int = 64
    speed: float | None = None
    key: Secret | None = field(default=None, repr=False)
    tls: SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.name or not self.models or self.slots < 1:
            raise InvalidParameter(
                "backend", found=self.name, expected="a name, a model or more, a slot or more"
            )
        if self.speed is not None and not 0 < self.speed < math.inf:
            raise InvalidParameter("speed", found=self.speed, expected="a finite number above 0")


class Member:
    """A backend as it stands now."""

    __slots__ = (
        "_seen_at", "answered", "backend", "breaker", "failed", "heads", "in_flight", "is_draining",
        "pool", "seconds", "shut_until",
    )  # fmt: skip

    def __init__(self, backend: Backend, pool: Pool, breaker: CircuitBreaker) -> None:
        self.backend, self.pool, self.breaker = backend, pool, breaker
        key = [] if backend.key is None else [("authorization", f"Bearer {backend.key.reveal()}")]
        headers = [*key, ("content-type", "application/json")]
        self.heads = {path: pool.head(path, headers) for path in PATHS}
        self.in_flight = self.answered = self.failed = 0
        self.is_draining = False
        self.seconds = 0.0 if backend.speed is None else 1.0 / backend.speed
        self.shut_until = -math.inf
        self._seen_at = -math.inf

    def measured(self, seconds: float, now: float) -> None:
        """Take the time of an answer into the mean; a peak counts at once."""
        if self.backend.speed is not None:
            return
        if seconds >= self.seconds:
            weight = 0.3  # of a peak; all of it, and one long answer would drive everybody away
        else:
            weight = 1.0 - math.exp(-max(now - self._seen_at, 0.001) / _MEMORY_S)
        self.seconds += weight * (seconds - self.seconds)
        self._seen_at = now


class Lease:
    """One place at a backend, given back when the block ends, however it ends."""

    __slots__ = ("_backends", "begun", "is_timed", "member")

    def __init__(self, backends: Backends, member: Member, begun: float) -> None:
        self._backends, self.member, self.begun = backends, member, begun
        self.is_timed = False

    def __enter__(self) -> Self:
        """Return the lease."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the place back."""
        if self.is_timed:
            now = self._backends.now()
            self.member.measured(now - self.begun, now)
        self._backends.give_back(self.member)


class Backends:
    """All backends, the places at them, and who waits for one.

    Guarantee: no backend is given more than `slots` requests at once; a place is never lost. A
    backend whose answers fail (half of the last calls, five at least) is left in peace for a
    second, then for twice as long each time, and tried with one request.

    Args:
        backends: with different names.
        strategy: how to choose.
        waiting_most: so many requests may wait; further ones are refused.
        timeouts, limits: of every backend.
        clock, entropy: the world.

    Raises:
        InvalidParameter: none, two of one name, or one that cannot be.
    """

    def __init__(
        self,
        backends: Sequence[Backend],
        *,
        strategy: Strategy = Strategy.LEAST_LOADED,
        waiting_most: int = 1000,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        names = [backend.name for backend in backends]
        if not backends or len(set(names)) < len(names):
            raise InvalidParameter("backends", found=len(names), expected="one or more, each once")
        self.now = clock.monotonic_s
        self.timeouts = timeouts or Timeouts()
        self.members = [
            Member(
                backend,
                Pool(
                    backend.name,
                    backend.url,
                    max_size=backend.slots,
                    timeouts=timeouts,
                    limits=limits,
                    tls=backend.tls,
                ),
                CircuitBreaker(
                    f"backend {backend.name}",
                    EJECTION,
                    counts=_is_failure,
                    refuses=_is_refusal,
                    clock=clock,
                    entropy=entropy,
                ),
            )
            for backend in backends
        ]
        self.models: dict[str, list[Member]] = {}
        for member in self.members:
            for model in member.backend.models:
                self.models.setdefault(model, []).append(member)
        self.waiting_most = waiting_most
        self._strategy = strategy
        self._waiting: deque[tuple[asyncio.Future[Member], str, Member | None]] = deque()
        self._turn = 0

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return len(self._waiting)

    def require_room(self) -> None:
        """Refuse, where a request could not even wait. Ask this before anything is debited.

        Raises:
            Overloaded: so many wait already.
        """
        if len(self._waiting) >= self.waiting_most:
            raise Overloaded(f"{len(self._waiting)} requests wait for a backend", 1.0)

    async def take(self, model: str, *, wait_s: float, but: Member | None = None) -> Lease:
        """A place for a request: the best one now, or the first that comes free.

        Args:
            model: that is asked.
            wait_s: how long to wait.
            but: not at this one, which has just failed.

        Raises:
            Overloaded: none came free in time, or too many wait; or every backend is ejected.
        """
        lease = self.take_now(model, but)
        if lease is not None:
            return lease
        now = self.now()
        self.require_room()
        opens_s = self._opens_in(model, now, but)
        if opens_s > 0:
            raise Overloaded("every backend of this model fails", max(opens_s, 0.1))
        member = await self._wait(model, wait_s, but)
        return Lease(self, member, self.now())

    def take_now(self, model: str, but: Member | None = None) -> Lease | None:
        """The best place that is free; None: there is none."""
        now = self.now()
        member = self._best(model, now, but)
        if member is None:
            return None
        member.in_flight += 1
        return Lease(self, member, now)

    def give_back(self, member: Member) -> None:
        """A place is free: the first who waits for such a one has it."""
        member.in_flight -= 1
        if self._waiting:
            self._serve()

    async def ask(self, member: Member, head: bytes, body: bytes, *, is_stream: bool) -> Answer:
        """Ask a backend, through its breaker.

        Raises:
            CircuitOpen: it is left in peace; nothing was sent.
            BackendFault: as `Pool.ask`.
        """
        try:
            return await member.breaker.acall(member.pool.ask, head, body, is_stream=is_stream)
        except CircuitOpen as refused:
            wait_s = max(refused.retry_after_s or 0.0, 0.05)
            member.shut_until = self.now() + wait_s
            asyncio.get_running_loop().call_later(wait_s, self._serve)
            raise

    def drain(self, name: str, *, is_draining: bool = True) -> None:
        """Send nothing new to a backend; what is under way goes on.

        Raises:
            InvalidParameter: there is no such backend.
        """
        for member in self.members:
            if member.backend.name == name:
                member.is_draining = is_draining
                self._serve()
                return
        raise InvalidParameter("backend", found=name, expected="the name of a backend")

    def get_statistics(self) -> dict[str, float]:
        """The statistics of all pools together: counts added, times and shares of the fullest."""
        each = [member.pool.get_statistics() for member in self.members]
        worst = {"utilization", "wait_time"}
        return {
            name: max(one[name] for one in each)
            if name in worst
            else sum(one[name] for one in each)
            for name in each[0]
        }

    def resize(self, min_size: int, max_size: int) -> None:
        """Change the bounds of every pool; see `Pool.resize`."""
        for member in self.members:
            member.pool.resize(min_size, max_size)

    def enable_connection_preallocation(self) -> None:
        """Keep connections to every backend open ahead of requests."""
        for member in self.members:
            member.pool.enable_connection_preallocation()

    async def aclose(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(member.pool.aclose() for member in self.members))

    def _serve(self) -> None:
        """Hand a free place to the first who can use it."""
        now, tried = self.now(), set()
        for entry in self._waiting:
            future, model, but = entry
            if future.done() or (model, but) in tried:
                continue
            member = self._best(model, now, but)
            if member is not None:
                self._waiting.remove(entry)
                member.in_flight += 1
                future.set_result(member)
                return
            tried.add((model, but))

    def _is_free(self, member: Member, now: float) -> bool:
        return (
            member.in_flight < member.backend.slots
            and member.shut_until <= now
            and not member.is_draining
        )

    def _best(self, model: str, now: float, but: Member | None) -> Member | None:
        """The best backend with a free place. Equals take turns."""
        members = self.models.get(model, ())
        count = len(members)
        self._turn = turn = self._turn + 1
        is_fastest = self._strategy is Strategy.FASTEST_FREE
        best: Member | None = None
        least = math.inf
        for k in range(count):
            member = members[(turn + k) % count]
            if member is but or not self._is_free(member, now):
                continue
            cost = member.seconds if is_fastest else (member.in_flight + 1) * member.seconds
            if cost < least or (cost == least and best and member.in_flight < best.in_flight):
                best, least = member, cost
        return best

    def _opens_in(self, model: str, now: float, but: Member | None) -> float:
        """In how many seconds the first ejected backend is tried again; 0 if one is not ejected."""
        members = [m for m in self.models.get(model, ()) if m is not but and not m.is_draining]
        return max(0.0, min((m.shut_until for m in members), default=now + 1.0) - now)

    async def _wait(self, model: str, wait_s: float, but: Member | None) -> Member:
        future: asyncio.Future[Member] = asyncio.get_running_loop().create_future()
        entry = (future, model, but)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(wait_s):
                return await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                self.give_back(future.result())  # handed over in the very moment
            else:
                self._waiting.remove(entry)
            if isinstance(error, TimeoutError):
                raise Overloaded(f"no backend came free in {wait_s:g} s", 1.0) from None
            raise


def note_cut(member: Member, fault: BackendFault) -> None:
    """Count a stream that broke off as a failed call."""

    def broke_off() -> None:
        raise fault

    try:
        member.breaker.call(broke_off)
    except (BackendFault, CircuitOpen):
        return


def can_go_elsewhere(status: int) -> bool:
    """Whether an answer says that this backend cannot now."""
    return status in _FAILED


def _is_failure(error: Exception) -> bool:
    return isinstance(error, BackendFault) and not isinstance(error, PoolExhausted)


def _is_refusal(answer: object) -> bool:
    return isinstance(answer, Answer) and answer.status in _FAILED
