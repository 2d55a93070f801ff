"""Watching one machine: readings every few seconds, what they lead to, and what may be done.

An emergency action lowers speed or comfort: it drops caches, makes passes smaller, pauses what can
wait. It never changes what a guarantee rests on, and it never ends a process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.trends import trend
from privacy_runtime.resources.allocation import SHARES, Allocation, Amounts, ScalingPolicy
from privacy_runtime.resources.readings import Reading, Sampler

_KEPT: Final = 720  # an hour at one reading in five seconds
_FORECAST_S: Final = 24 * 3600.0


class Level(StrEnum):
    """How short a resource is."""

    FINE = "fine"
    WARNING = "warning"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class Shortage:
    """One resource that is short, or will be.

    Attributes:
        resource: `memory`, `disk PATH`, `accelerator N`.
        used_share: now.
        level: by the policy's thresholds.
        exhausted_in_s: when its trend reaches the whole, at the soonest and at the latest of a
            95 % interval; `None` if it does not within a day.
    """

    resource: str
    used_share: float
    level: Level
    exhausted_in_s: tuple[float, float | None] | None


class ResourceWatch:
    """Looks at the machine in a thread, and acts when a resource runs out.

    Guarantee: an action runs once when its resource enters an emergency, and again only after it
    has been below the warning; actions run one after the other, in the order of registration, in
    the watch's thread; one that raises is reported in the status and stops no other.

    Args:
        sampler: the looks.
        policy: its thresholds.
        interval_s: between two looks.
        allocation: what was promised; one of the whole machine by default.
    """

    def __init__(
        self,
        sampler: Sampler,
        *,
        policy: ScalingPolicy = ScalingPolicy.BALANCED,
        interval_s: float = 5.0,
        allocation: Allocation | None = None,
    ) -> None:
        if not interval_s > 0:
            raise InvalidParameter("interval_s", found=interval_s, expected="a time above zero")
        self.policy = policy
        self._sampler = sampler
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._looking = threading.RLock()  # one look at a time; an action may ask for another
        self._readings: deque[Reading] = deque(maxlen=_KEPT)
        self._actions: list[tuple[str, str, Callable[[], None]]] = []
        self._in_emergency: set[str] = set()
        self._acted: deque[dict[str, Any]] = deque(maxlen=100)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._allocation = allocation

    @property
    def allocation(self) -> Allocation:
        """What of this machine was promised to whom."""
        with self._looking:
            if self._allocation is None:
                reading = self.newest() or self.look()
                accelerators = sum(each.total_bytes for each in reading.accelerators)
                capacity = Amounts(reading.cores, reading.memory_limit_bytes, accelerators)
                self._allocation = Allocation(capacity, self.policy)
            return self._allocation

    def on_emergency(self, resource: str, name: str, act: Callable[[], None]) -> None:
        """Do something when a resource (`memory`, `disk`, `accelerator`) runs out."""
        self._actions.append((resource, name, act))

    def start(self) -> None:
        """Begin to look, in a thread; nothing happens if it has begun."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="resources", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; waits for the look under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def look(self) -> Reading:
        """Look once, now, and act if need be."""
        with self._looking:
            reading = self._sampler.sample()
            with self._lock:
                self._readings.append(reading)
            for shortage in self.shortages():
                self._heed(shortage)
        return reading

    def newest(self) -> Reading | None:
        """The last look."""
        return self._readings[-1] if self._readings else None

    def shortages(self) -> list[Shortage]:
        """Every resource with its level and forecast, from the readings so far."""
        with self._lock:
            readings = list(self._readings)
        if not readings:
            return []
        shares = SHARES[self.policy]
        found = []
        for resource, used in _used(readings[-1]).items():
            level = Level.FINE
            if used >= shares.warning:
                level = Level.EMERGENCY if used >= shares.emergency else Level.WARNING
            found.append(Shortage(resource, used, level, _forecast(readings, resource)))
        return found

    def status(self) -> dict[str, Any]:
        """What was seen, what it means, what was done: plain data, as JSON has it."""
        reading = self.newest()
        with self._lock:
            acted = list(self._acted)
        allocation = self._allocation
        return {
            "running": self._thread is not None and self._thread.is_alive(),
            "policy": self.policy.value,
            "interval_s": self._interval_s,
            "reading": None if reading is None else asdict(reading),
            "shortages": [asdict(shortage) for shortage in self.shortages()],
            "actions_taken": acted,
            "promised": []
            if allocation is None
            else [
                {"holder": p.holder, "priority": p.priority, **asdict(p.amounts)}
                for p in allocation.promises
            ],
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._interval_s)

    def _heed(self, shortage: Shortage) -> None:
        if shortage.level is Level.FINE:
            self._in_emergency.discard(shortage.resource)
        if shortage.level is not Level.EMERGENCY or shortage.resource in self._in_emergency:
            return
        self._in_emergency.add(shortage.resource)
        for resource, name, act in self._actions:
            if shortage.resource.split(" ", maxsplit=1)[0] == resource:
                failed = _failure_of(act)
                done = {"resource": shortage.resource, "action": name, "failed": failed}
                with self._lock:
                    self._acted.append(done)


def _failure_of(act: Callable[[], None]) -> str | None:
    try:
        act()
    except Exception as error:  # noqa: BLE001  a failed remedy is reported, and the next one tried
        return type(error).__name__
    return None


def _used(reading: Reading) -> Mapping[str, float]:
    """The used share of every resource that can run out."""
    return {
        "memory": reading.memory_share,
        **{f"disk {disk.path}": disk.used_share for disk in reading.disks},
        **{f"accelerator {each.index}": each.memory_share for each in reading.accelerators},
    }


def _forecast(readings: list[Reading], resource: str) -> tuple[float, float | None] | None:
    rows = [(each.at_s, _used(each)[resource]) for each in readings if resource in _used(each)]
    found = trend(rows)
    interval = None if found is None else found.interval_to(1.0)
    if interval is None or interval[0] > _FORECAST_S:
        return None
    return interval
