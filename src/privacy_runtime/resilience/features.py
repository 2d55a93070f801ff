"""What is switched off first when there is not enough for everything.

>>> features = Features({"reports": 1, "dashboard": 2, "training": 3})
>>> features.degrade(1, reason="disk 95 % full")
>>> features.is_on("reports"), features.is_on("training")
(False, True)
>>> features.degrade(0, reason="disk 60 % full")
>>> features.is_on("reports")
True
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import ClassVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience.errors import ResilienceError
from privacy_runtime.resilience.events import BUS, Body, Event, EventBus, Kind


class FeatureOff(ResilienceError):
    """A feature is switched off for now. Nothing was done."""

    code: ClassVar[str] = "feature_off"

    def __str__(self) -> str:
        return f"{self.policy} is switched off for now, to spare what matters more; nothing done"


class Features:
    """Features by importance: degradation switches off all that matter no more than its level.

    What a guarantee needs is no feature: accounting, redaction, the audit trail cannot be named
    here, because nothing may switch them off.

    Args:
        importance: of each feature, from 1.
        name, bus: for events.

    Raises:
        InvalidParameter: an importance is below 1, or a guarantee is named as a feature.
    """

    GUARANTEES: ClassVar[frozenset[str]] = frozenset(
        {"accounting", "ledger", "redaction", "audit", "clipping", "noise", "authentication"}
    )

    __slots__ = ("_bus", "_by_hand", "_importance", "_level", "_lock", "name")

    def __init__(
        self, importance: Mapping[str, int], *, name: str = "features", bus: EventBus = BUS
    ) -> None:
        forbidden = sorted(self.GUARANTEES & set(importance))
        if forbidden:
            raise InvalidParameter(
                "importance", found=forbidden, expected="no guarantee: those cannot be switched off"
            )
        if any(rank < 1 for rank in importance.values()):
            raise InvalidParameter("importance", found=min(importance.values()), expected="from 1")
        self.name = name
        self._importance = dict(importance)
        self._level = 0
        self._by_hand: dict[str, bool] = {}
        self._bus = bus
        self._lock = threading.Lock()

    @property
    def level(self) -> int:
        """How far degradation goes; 0: everything is on."""
        return self._level

    def is_on(self, feature: str) -> bool:
        """Whether a feature is on.

        Raises:
            InvalidParameter: there is no such feature.
        """
        if feature not in self._importance:
            raise InvalidParameter(
                "feature", found=feature, expected=f"one of {sorted(self._importance)}"
            )
        by_hand = self._by_hand.get(feature)
        return self._importance[feature] > self._level if by_hand is None else by_hand

    def require(self, feature: str) -> None:
        """Refuse what is switched off.

        Raises:
            FeatureOff: it is.
        """
        if not self.is_on(feature):
            raise FeatureOff(feature)

    def degrade(self, level: int, *, reason: str) -> None:
        """Switch off all features of this importance and below; 0 switches all on again."""
        if level < 0:
            raise InvalidParameter("level", found=level, expected="0 or above")
        with self._lock:
            before, self._level = self._level, level
        if before != level:
            body: Body = {"from": before, "to": level, "reason": reason}
            self._bus.emit(Event(self.name, Kind.DEGRADED, body))

    def force(self, feature: str, on: bool | None) -> None:
        """Switch one by hand, whatever the level; `None` ends that."""
        self.is_on(feature)
        with self._lock:
            if on is None:
                self._by_hand.pop(feature, None)
            else:
                self._by_hand[feature] = on

    def state(self) -> dict[str, bool]:
        """Every feature, and whether it is on."""
        return {feature: self.is_on(feature) for feature in self._importance}
