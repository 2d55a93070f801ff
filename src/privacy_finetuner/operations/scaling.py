"""How many workers there are, how busy the machine is, and who changed it: the stream `scaling`.

A node is a worker process of this installation. Figures are measured, or `None`: processor load
between two questions (psutil), accelerator load from the driver (NVML) where there is one. What
an hour costs nobody here knows, so it is not said.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

import psutil  # type: ignore[import-untyped]  # it ships no types

from privacy_finetuner.operations.errors import PoolRefused
from privacy_runtime.journal import REPAIRED, Change, Draft, Journal, View
from privacy_runtime.world import Clock, Entropy

STREAM: Final = "scaling"
RECENT: Final = timedelta(hours=1)
_SAMPLE_S: Final = 1.0
_ID_BYTES: Final = 16


class Direction(StrEnum):
    """More or fewer."""

    OUT = "scale_out"
    IN = "scale_in"


class NodeType(StrEnum):
    """What kind of worker. All workers of a machine are of its kind."""

    WORKER = "worker"
    CPU_WORKER = "cpu_worker"
    GPU_WORKER = "gpu_worker"


class PoolOfWorkers(Protocol):
    """What can be made larger and smaller: `jobs.pool.WorkerPool`, or what wraps it."""

    @property
    def size(self) -> int:
        """How many workers are wanted."""
        ...

    def resize(self, count: int) -> None:
        """Have so many from now on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resized:
    """A change that was asked for, as it stands in the journal."""

    id: str
    before: int
    after: int


class Load:
    """How busy the machine is, measured between two questions at least a second apart.

    Args:
        clock: measures.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._at_s, self._times = clock.monotonic_s(), _cpu_seconds()
        self._cpu: float | None = None

    def cpu_percent(self) -> float | None:
        """Load of all processors since the last look; `None` in the first second."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            if now_s - self._at_s >= _SAMPLE_S:
                before, self._times, self._at_s = self._times, _cpu_seconds(), now_s
                busy, total = (self._times[n] - before[n] for n in range(2))
                self._cpu = min(100.0, max(0.0, 100 * busy / total)) if total > 0 else self._cpu
            return self._cpu

    def gpu_percent(self) -> float | None:
        """Mean load of the accelerators as the driver says; `None` where there is none."""
        loads = _gpu_loads()
        return sum(loads) / len(loads) if loads else None


class ScalingDesk:
    """Changes the number of workers, and remembers who did. One for a process.

    Args:
        journal: holds the stream.
        clock, entropy: the world.
        least, most: of `scaling.scaling_policy`.
    """

    def __init__(
        self, journal: Journal, *, clock: Clock, entropy: Entropy, least: int, most: int
    ) -> None:
        self._journal, self._clock, self._entropy = journal, clock, entropy
        self._least, self._most = least, most
        self._lock = threading.Lock()
        self._seen = 0
        self._instants: list[datetime] = []

    def scale(  # what a change consists of
        self,
        pool: PoolOfWorkers,
        *,
        direction: Direction,
        count: int,
        tenant: str,
        by: str,
        reason: str,
        key: str | None = None,
    ) -> Resized:
        """Have more or fewer workers. Journalled before it happens; the same key happens once.

        Workers that are too many give their jobs back to the queue, which go on elsewhere.

        Raises:
            PoolRefused: it would leave the configured bounds.
            JournalError: the database is away; nothing was changed.
        """
        with self._lock:
            before = pool.size
            after = before + (count if direction is Direction.OUT else -count)
            name = f"scale:{key or self._entropy.token_bytes(_ID_BYTES).hex()}"
            body: dict[str, Any] = {
                "id": f"scale_{self._entropy.token_bytes(_ID_BYTES).hex()}",
                "tenant": tenant,
                "by": by,
                "reason": reason,
                "before": before,
                "after": after,
            }
            done: list[Mapping[str, Any]] = []

            def decide(view: View) -> Change:
                earlier = view.entries.get(name)
                if earlier is not None:
                    done[:] = [earlier.body]
                    return Change()
                if not self._least <= after <= self._most:
                    raise PoolRefused(
                        f"{after} workers are asked for, {self._least} to {self._most} are allowed"
                    )
                done[:] = [body]
                return Change([Draft("scaling.asked", name, body)])

            self._journal.transact(STREAM, decide, keys=(name,))
            entry = done[0]
            if entry is body:
                pool.resize(after)
            return Resized(id=entry["id"], before=entry["before"], after=entry["after"])

    def changes_last_hour(self) -> int:
        """How often the number was changed within the last hour, by anybody."""
        with self._lock:
            for entry in self._journal.read(STREAM, after=self._seen):
                self._seen = entry.seq
                if entry.type != REPAIRED:
                    self._instants.append(datetime.fromisoformat(entry.at))
            since = self._clock.now() - RECENT
            self._instants = [each for each in self._instants if each >= since]
            return len(self._instants)


def _cpu_seconds() -> tuple[float, float]:
    """Seconds that the processors were busy, and all seconds, since the machine started."""
    times = psutil.cpu_times()
    # Guests' time is in the users' already; waiting for a disk is no work.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def has_gpu() -> bool:
    """Whether the driver knows an accelerator."""
    return bool(_gpu_loads())


def _gpu_loads() -> list[float]:
    try:
        import pynvml  # type: ignore[import-not-found]  # noqa: PLC0415 -- the extra `gpu`
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [float(pynvml.nvmlDeviceGetUtilizationRates(each).gpu) for each in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
