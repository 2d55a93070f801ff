"""The alerts of one detector: which are new, and how many of what there were."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from privacy_finetuner.operations.alerts import Alert, Severity

DAY: Final = timedelta(days=1)
_KEPT_MOST: Final = 10_000


class RaisedAlerts:
    """Remembers alerts by id, the newest ten thousand. For any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Alert] = OrderedDict()
        self.total = 0

    def known(self, alert: Alert) -> Alert | None:
        """What was kept under the alert's id, unless the alert is worse than it."""
        with self._lock:
            held = self._held.get(alert.id)
        return None if held is None or held.severity.rank < alert.severity.rank else held

    def keep(self, alert: Alert) -> None:
        """Remember an alert as it was answered."""
        with self._lock:
            self.total += alert.id not in self._held
            self._held[alert.id] = alert
            while len(self._held) > _KEPT_MOST:
                self._held.popitem(last=False)

    def of_last_day(self, now: datetime) -> list[Alert]:
        """Those whose evidence is at most a day old."""
        with self._lock:
            return [each for each in self._held.values() if now - each.at <= DAY]

    def by_type(self) -> dict[str, int]:
        """How many of each type."""
        with self._lock:
            return dict(Counter(each.threat_type.value for each in self._held.values()))

    def by_level(self) -> dict[str, int]:
        """How many of each severity."""
        with self._lock:
            return dict(Counter(each.severity.value for each in self._held.values()))


def worst_of(alerts: Iterable[Alert]) -> Severity:
    """The worst severity; low where there is none."""
    return max((each.severity for each in alerts), key=lambda s: s.rank, default=Severity.LOW)
