"""By when a data subject must have an answer: a table of the law, and the calendar that reads it.

The clock starts when the request is received, not when the person is verified. The law may move a
deadline that falls on a weekend or holiday to the next working day; the date here is never moved,
so it is never later than the law's. Business days are Monday to Friday less nothing: holidays are
counted as working days, which is again the earlier date.

The table is `law/deadlines.yaml`. It is not legal advice.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from importlib import resources
from typing import Any, Final

from privacy_finetuner.governance.errors import UnknownLaw

_SATURDAY: Final = 5
_MONTHS: Final = 12


class RequestType(StrEnum):
    """What a data subject asks for."""

    ACCESS = "access"
    ERASURE = "erasure"
    RECTIFICATION = "rectification"
    PORTABILITY = "portability"
    RESTRICTION = "restriction"
    OBJECTION = "objection"
    OPT_OUT_SALE = "opt_out_sale"


class Unit(StrEnum):
    """What a deadline is counted in."""

    MONTHS = "months"
    DAYS = "days"
    BUSINESS_DAYS = "business_days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A length of time as a law writes it."""

    amount: int
    unit: Unit

    def after(self, start: datetime) -> datetime:
        """The instant this long after `start`, at the same time of day.

        A month ends on the day of the same number, or on the month's last (Regulation 1182/71,
        Art. 3(2)(c)).
        """
        match self.unit:
            case Unit.DAYS:
                return start + timedelta(days=self.amount)
            case Unit.MONTHS:
                months = start.year * _MONTHS + start.month - 1 + self.amount
                year, month = divmod(months, _MONTHS)
                last = calendar.monthrange(year, month + 1)[1]
                return start.replace(year=year, month=month + 1, day=min(start.day, last))
            case Unit.BUSINESS_DAYS:
                end, left = start, self.amount
                while left:
                    end += timedelta(days=1)
                    left -= end.weekday() < _SATURDAY
                return end


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one regime wants for one kind of request.

    Attributes:
        regime: its key in the table, such as `gdpr`.
        law: its name.
        span: the time to answer, from receipt.
        extension: what may be added once; `None` where the law has no such thing.
        notice: how the extension must be told.
        source: article or section.
        confidence: `high`, `medium` or `low`: how well the source was read.
        kind: `statute`, `regulation`, `guidance`, or `house` for a number of ours.
    """

    regime: str
    law: str
    span: Span
    extension: Span | None
    notice: str
    source: str
    confidence: str
    kind: str

    def due(self, received: datetime) -> datetime:
        """By when."""
        return self.span.after(received)

    def due_extended(self, received: datetime) -> datetime | None:
        """By when at the latest; `None` where nothing may be added.

        Counted from receipt as one span where the units agree: a month and two are three months.
        """
        if self.extension is None:
            return None
        if self.extension.unit is self.span.unit:
            whole = self.span.amount + self.extension.amount
            return Span(amount=whole, unit=self.span.unit).after(received)
        return self.extension.after(self.due(received))


@dataclass(frozen=True, slots=True)
class Law:
    """The table.

    Attributes:
        version: of the data; kept with every request that was dated by it.
        regions: region -> its regimes, in the order of the file.
        regimes: regime -> its name.
        cells: (regime, request) -> what it wants.
    """

    version: str
    regions: Mapping[str, tuple[str, ...]]
    regimes: Mapping[str, str]
    cells: Mapping[tuple[str, str], Cell]

    def applying(self, request: str, region: str) -> list[Cell]:
        """What the regimes of a region want, the earliest to end first within equal units.

        Raises:
            UnknownLaw: nothing is known; names what is. There is no default.
        """
        wanted = [
            self.cells[regime, request]
            for regime in self.regions.get(region, ())
            if (regime, request) in self.cells
        ]
        if not wanted:
            known = sorted(
                name
                for name, regimes in self.regions.items()
                if any((regime, request) in self.cells for regime in regimes)
            )
            raise UnknownLaw(request=request, region=region, known=known)
        return wanted

    def regimes_of(self, regions: tuple[str, ...]) -> list[str]:
        """The regimes of some regions, each once; unknown regions are left out."""
        return list(dict.fromkeys(r for region in regions for r in self.regions.get(region, ())))


@lru_cache(maxsize=1)
def law() -> Law:
    """The table that ships with this version."""
    import yaml  # noqa: PLC0415 -- few need it

    text = resources.files("privacy_finetuner.governance.law").joinpath("deadlines.yaml")
    document = yaml.safe_load(text.read_text("utf-8"))
    cells = {
        (regime, str(RequestType(request))): _cell(regime, about["name"], cell)
        for regime, about in document["regimes"].items()
        for request, cell in about["requests"].items()
    }
    return Law(
        version=document["version"],
        regions={name: tuple(regimes) for name, regimes in document["regions"].items()},
        regimes={regime: about["name"] for regime, about in document["regimes"].items()},
        cells=cells,
    )


def _cell(regime: str, name: str, cell: Mapping[str, Any]) -> Cell:
    extension = cell.get("extension")
    return Cell(
        regime=regime,
        law=name,
        span=_span(cell),
        extension=None if extension is None else _span(extension),
        notice="" if extension is None else extension["notice"],
        source=cell["source"],
        confidence=cell["confidence"],
        kind=cell["kind"],
    )


def _span(cell: Mapping[str, Any]) -> Span:
    return Span(amount=cell["amount"], unit=Unit(cell["unit"]))
