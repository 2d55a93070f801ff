"""Panels of Grafana dashboards as values, and how a dashboard is written from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

WIDTH: Final = 24
GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
Steps = Sequence[tuple[float | None, str]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title, says: its heading, and the sentence behind the small i.
        kind: Grafana's name of it.
        queries: (legend, expression) pairs.
        width, height: of 24 columns, of rows of 30 pixels.
        unit: Grafana's name of the unit.
        steps: thresholds from low to high with their colours; the first has None.
        options, custom: further options of the kind.
        colours: by legend, where a series has a meaning.
        instant: ask for the newest value only.
        most: end of the axis or gauge.
    """

    title: str
    says: str
    kind: str
    queries: Sequence[tuple[str, str]]
    width: int
    height: int = 8
    unit: str = "short"
    steps: Steps = ((None, GREY),)
    options: dict[str, Any] = field(default_factory=dict)
    custom: dict[str, Any] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)
    transformations: Sequence[dict[str, Any]] = ()
    instant: bool = False
    most: float | None = None


def stat(title: str, says: str, query: str, *, steps: Steps, unit: str = "short") -> Panel:
    """A figure with the colour of its threshold."""
    return Panel(
        title=title,
        says=says,
        kind="stat",
        queries=[("", query)],
        width=4,
        height=4,
        unit=unit,
        steps=steps,
        options={
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value",
        },
    )


def lines(  # one keyword an aspect
    title: str,
    says: str,
    *queries: tuple[str, str],
    width: int = 12,
    unit: str = "short",
    stacked: bool = False,
    colours: dict[str, str] | None = None,
) -> Panel:
    """Curves over time; stacked where they are parts of a whole."""
    return Panel(
        title=title,
        says=says,
        kind="timeseries",
        queries=queries,
        width=width,
        unit=unit,
        colours=colours or {},
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        custom={
            "drawStyle": "line",
            "lineInterpolation": "linear",
            "lineWidth": 1 if stacked else 2,
            "fillOpacity": 40 if stacked else 6,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        },
    )


OK_IS_ONE: Final[Steps] = ((None, RED), (1, GREEN))
NONE_IS_GOOD: Final[Steps] = ((None, GREEN), (1, RED))

Rows: TypeAlias = Sequence[tuple[str, Sequence[Panel]]]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One dashboard.

    Attributes:
        uid, title, says: its name in addresses, its heading, what it is for.
        rows: headings with their panels.
        variables: (name, label, query) of what a reader may choose.
        notes: (name, expression, colour, text) of marks on every curve.
    """

    uid: str
    title: str
    says: str
    rows: Rows
    variables: Sequence[tuple[str, str, str]]
    notes: Sequence[tuple[str, str, str, str]] = ()

    def document(self) -> dict[str, Any]:
        """The dashboard as Grafana imports it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.says,
            "tags": ["privacy-finetuner"],
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "schemaVersion": 39,
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": [_note(*each) for each in self.notes]},
            "templating": {"list": list(_variables(self.variables))},
            "panels": list(_placed(self.rows)),
        }

    def text(self) -> str:
        """The file's text."""
        return json.dumps(self.document(), indent=2, ensure_ascii=False) + "\n"


def _note(name: str, expression: str, colour: str, text: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "expr": expression,
        "iconColor": colour,
        "titleFormat": text,
    }


def _variables(chosen: Sequence[tuple[str, str, str]]) -> Iterator[dict[str, Any]]:
    yield {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
    }
    for name, label, query in chosen:
        yield {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
            "sort": 1,
        }


def _placed(rows: Rows) -> Iterator[dict[str, Any]]:
    """Every panel at its place, row by row."""
    number, top = 1, 0
    for title, panels in rows:
        place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place}
        number, top, left, deepest = number + 1, top + 1, 0, 0
        for panel in panels:
            if left + panel.width > WIDTH:
                left, top, deepest = 0, top + deepest, 0
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            yield {"id": number, "gridPos": place, **_written(panel)}
            number, left, deepest = number + 1, left + panel.width, max(deepest, panel.height)
        top += deepest


def _written(panel: Panel) -> dict[str, Any]:
    steps = [{"color": colour, "value": value} for value, colour in panel.steps]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "custom": panel.custom,
        "noValue": "no data",
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": expression,
                "legendFormat": legend or "__auto",
                "instant": panel.instant,
                "range": not panel.instant,
                **({"format": "table"} if panel.kind == "table" else {}),
            }
            for index, (legend, expression) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": defaults, "overrides": list(_overrides(panel))},
        "options": panel.options,
        "transformations": list(panel.transformations),
    }


def _overrides(panel: Panel) -> Iterator[dict[str, Any]]:
    for name, colour in panel.colours.items():
        yield {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
