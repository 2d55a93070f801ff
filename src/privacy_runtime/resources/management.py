"""The documented face of resource management: one watch of this process, by documented names."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

from privacy_runtime.resources.allocation import Amounts, Promise, ScalingPolicy
from privacy_runtime.resources.readings import Sampler
from privacy_runtime.resources.watch import Level, ResourceWatch
from privacy_runtime.world import Clock, SystemClock


class ResourceManagement:
    """Looks after the resources of this process's machine. Making one does nothing yet.

    Args:
        policy: `conservative`, `balanced` or `aggressive`: how much may be promised, and from
            which use on people are told and something is done.
        interval_s: between two looks.
        clock: measures time.
    """

    def __init__(
        self,
        policy: ScalingPolicy | str = ScalingPolicy.BALANCED,
        *,
        interval_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self.policy = ScalingPolicy(policy)
        self._interval_s = interval_s
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._watch: ResourceWatch | None = None

    def start_resource_management(self) -> None:
        """Begin to look, in a thread. In an emergency of memory, Python's garbage is collected."""
        self.watch.start()

    def stop_resource_management(self) -> None:
        """End; what was promised stays promised."""
        self.watch.stop()

    def allocate_resources(
        self,
        holder: str,
        *,
        cores: float = 0.0,
        memory_bytes: int = 0,
        accelerator_bytes: int = 0,
        priority: int = 0,
        told: Callable[[], None] | None = None,
    ) -> Promise:
        """Promise so much to somebody; see `Allocation.allocate`.

        Raises:
            NotEnough: there is not enough left.
        """
        amounts = Amounts(cores, memory_bytes, accelerator_bytes)
        return self.watch.allocation.allocate(holder, amounts, priority=priority, told=told)

    def deallocate_resources(self, promise: Promise) -> None:
        """Give a promise back."""
        self.watch.allocation.release(promise)

    def get_comprehensive_status(self) -> dict[str, Any]:
        """What was seen, what it means, what was done and promised. Looks, if nobody has yet."""
        if self.watch.newest() is None:
            self.watch.look()
        return self.watch.status()

    def get_system_health(self) -> dict[str, Any]:
        """`healthy`, `degraded` (something is short) or `critical` (something runs out), and what.

        About this machine only: a public matter.
        """
        if self.watch.newest() is None:
            self.watch.look()
        short = [s for s in self.watch.shortages() if s.level is not Level.FINE]
        levels = {s.level for s in short}
        status = "critical" if Level.EMERGENCY in levels else "degraded" if short else "healthy"
        return {
            "status": status,
            "short": [
                {"resource": s.resource, "used_share": s.used_share, "level": s.level.value}
                for s in short
            ],
        }

    @property
    def watch(self) -> ResourceWatch:
        """The watch of this process, made on first use."""
        with self._lock:
            if self._watch is None:
                self._watch = ResourceWatch(
                    Sampler(self._clock), policy=self.policy, interval_s=self._interval_s
                )
                self._watch.on_emergency("memory", "collect garbage", _collect)
            return self._watch


def _collect() -> None:
    gc.collect()


resource_manager = ResourceManagement()
"""The one of this process, by its documented name."""
