"""Which of several targets is used: the best healthy one, and back to it when it has been well.

>>> choice = Failover({"primary": 10, "replica": 5})
>>> choice.choose({"primary": True, "replica": True}, now_s=0.0)
'primary'
>>> choice.choose({"primary": False, "replica": True}, now_s=1.0)
'replica'
>>> choice.choose({"primary": True, "replica": True}, now_s=2.0)  # not yet: it has just come back
'replica'
>>> choice.choose({"primary": True, "replica": True}, now_s=62.0)
'primary'
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import ClassVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.errors import ResilienceError
from privacy_runtime.resilience.events import BUS, Event, EventBus, Kind


class NoTarget(ResilienceError):
    """None of the targets is well. Nothing was called."""

    code: ClassVar[str] = "no_target"

    def __str__(self) -> str:
        return f"failover {self.policy!r}: no target is healthy; nothing was called"


class Failover:
    """Chooses a target by priority and health.

    Guarantee: a target that is not healthy is never chosen; away from the present one at once when
    it fails; to a better one only after that has been healthy for `stable_s` without a gap, so that
    a flapping primary is not returned to.

    Args:
        priorities: by target; the highest healthy one is used. Equal ones: the first named.
        stable_s: how long a better target must have been well.
        name, bus: for errors and events.
    """

    __slots__ = ("_bus", "_lock", "_order", "_present", "_priorities", "_stable_s", "_well_since_s",
                 "name")  # fmt: skip

    def __init__(
        self,
        priorities: Mapping[str, int],
        *,
        stable_s: float = 60.0,
        name: str = "failover",
        bus: EventBus = BUS,
    ) -> None:
        if not priorities or stable_s < 0:
            raise InvalidParameter(
                "priorities", found=len(priorities), expected="a target or more, stable_s from 0"
            )
        self.name = name
        self._priorities = dict(priorities)
        self._order = sorted(self._priorities, key=lambda t: -self._priorities[t])
        self._stable_s = stable_s
        self._bus = bus
        self._lock = threading.Lock()
        self._present: str | None = None
        self._well_since_s: dict[str, float] = {}

    @property
    def present(self) -> str | None:
        """The target in use; `None` before the first choice, and while none is well."""
        return self._present

    def choose(self, healthy: Mapping[str, bool], *, now_s: float) -> str:
        """Return the target to use now.

        Args:
            healthy: what the checks say now; a target that is not named is not well.
            now_s: the time of the checks.

        Raises:
            NoTarget: none is well.
        """
        with self._lock:
            before = self._present
            after = self._present = self._choice(healthy, now_s)
        if before != after:
            self._bus.emit(Event(self.name, Kind.SWITCHED, {"from": before, "to": after}))
        if after is None:
            raise NoTarget(self.name)
        return after

    def _choice(self, healthy: Mapping[str, bool], now_s: float) -> str | None:
        for target in self._order:
            if healthy.get(target, False):
                self._well_since_s.setdefault(target, now_s)
            else:
                self._well_since_s.pop(target, None)
        well = [target for target in self._order if target in self._well_since_s]
        if not well:
            return None
        held = self._present
        if held not in well:
            return well[0]
        better = [t for t in well if self._priorities[t] > self._priorities[held]]
        stable = [t for t in better if now_s - self._well_since_s[t] >= self._stable_s]
        return stable[0] if stable else held
