"""Charts as values: a title, an axis, and series. The page shows the table; a script draws it.

So there is one source for the picture and for its alternative in text, and without scripts nothing
is lost but the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

MOST_ROWS: Final = 240
"""More rows than a picture has pixels for are thinned; the table says so."""


class Draw(StrEnum):
    """How a series is drawn."""

    LINE = "line"
    STEP = "step"  # holds until the next value
    CAP = "cap"  # dashed: a limit
    LOW = "low"  # the lower edge of a band; the next series is its upper edge
    HIGH = "high"
    DOTS = "dots"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One row of numbers beside the axis. `None` is a gap; it is drawn as one."""

    label: str
    values: Sequence[float | None]
    draw: Draw = Draw.LINE
    colour: int = 1
    is_secondary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture with its figures.

    Attributes:
        name: id of the figure in the page.
        title: what it shows, in one line.
        x_label: of the axis.
        x: instants, or numbers that rise.
        series: at least one.
        note: what a careful reader must know.
        y_from_zero: whether the vertical axis starts at zero: where areas or caps are compared.
    """

    name: str
    title: str
    x_label: str
    x: Sequence[float | datetime]
    series: Sequence[Series]
    note: str = ""
    y_from_zero: bool = True
    y_label: str = ""
    labels: Sequence[str] = field(default_factory=tuple)

    @property
    def is_time(self) -> bool:
        """Whether the axis is one of time."""
        return bool(self.x) and isinstance(self.x[0], datetime)

    @property
    def rows(self) -> list[tuple[float, float | datetime, list[float | None]]]:
        """For each place of the axis: as a number, as it is, and the values."""
        return [
            (
                at.timestamp() if isinstance(at, datetime) else float(at),
                at,
                [each.values[place] for each in self.series],
            )
            for place, at in enumerate(self.x)
        ]

    def thinned(self, most: int = MOST_ROWS) -> Chart:
        """At most so many rows, evenly taken, the first and the last among them."""
        count = len(self.x)
        if count <= most:
            return self
        places = sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})
        return replace(
            self,
            x=[self.x[place] for place in places],
            series=[
                replace(each, values=[each.values[place] for place in places])
                for each in self.series
            ],
            labels=[self.labels[place] for place in places] if self.labels else (),
        )


def spark_points(
    values: Sequence[float], *, most: float, width: int = 100, height: int = 24
) -> str:
    """The `points` of a small polyline: values from 0 to `most` in a box of that size."""
    if not values or most <= 0:
        return ""
    step = width / max(1, len(values) - 1)
    return " ".join(
        f"{place * step:.1f},{height - min(1.0, value / most) * height:.1f}"
        for place, value in enumerate(values)
    )
