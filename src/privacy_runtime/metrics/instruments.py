"""What an instrument is: a row of the table, with bounded labels and its readers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

OTHER: Final = "other"
"""The value that stands for every value beyond a label's bound."""


class Kind(StrEnum):
    """What a figure does."""

    COUNTER = "counter"  # only grows; its name ends in _total
    GAUGE = "gauge"  # goes up and down
    HISTOGRAM = "histogram"  # counts observations up to each of some bounds


class Audience(StrEnum):
    """Who may read a figure."""

    MONITORING = "monitoring"  # whoever may read how the service is loaded
    OPERATOR = "operator"  # who runs the deployment: budgets of all organisations, step times


@dataclass(frozen=True, slots=True)
class Label:
    """One dimension, bounded.

    Args:
        name: of the label.
        values: all it can be; empty: an open set.
        most: how many different values of an open set become series; the rest is `other`.
    """

    name: str
    values: tuple[str, ...] = ()
    most: int = 0

    @property
    def bound(self) -> str:
        """The bound in words."""
        return ", ".join(self.values) if self.values else f"at most {self.most}, then `{OTHER}`"

    @property
    def size(self) -> int:
        """How many values it has at most."""
        return len(self.values) + 1 if self.values else self.most + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One row of the table.

    Attributes:
        name: as Prometheus has it.
        kind: what it does.
        help: one sentence.
        unit: of the figure; empty for a count of things that the name says.
        labels: its dimensions, in order.
        buckets: upper bounds of a histogram, in the unit.
        audience: who may read it.
    """

    name: str
    kind: Kind
    help: str
    unit: str = ""
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    audience: Audience = Audience.MONITORING

    @property
    def most_series(self) -> int:
        """How many series it can become."""
        series = 1
        for label in self.labels:
            series *= label.size
        return series * (len(self.buckets) + 3 if self.buckets else 1)
