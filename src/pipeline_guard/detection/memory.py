"""What a detector knows, as JSON, so that a guard that restarts goes on where it was.

A closed codec: it writes and reads the classes of this room and nothing else, field by field. What
can be derived (the order of a window) is not written.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from pipeline_guard.detection import components, tails, windows
from pipeline_guard.errors import MonitoringError

VERSION: Final = 1
"""Of what is written; a memory of another version is refused, and the watch learns anew."""

_CLASSES: Final[Mapping[str, type]] = {
    kind.__name__: kind
    for kind in (
        components.EwmaChart,
        components.Extremes,
        components.MeanShift,
        components.Novelty,
        components.ResidualNovelty,
        components.RobustZ,
        components.Seasonal,
        components.VarianceShift,
        tails.Tail,
        windows.HoldOff,
        windows.MovingMean,
        windows.SortedWindow,
    )
}


def written(thing: Any) -> Any:
    """Return a detector, window or plain value as JSON values."""
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if isinstance(thing, (list, tuple)):
        return [written(each) for each in thing]
    if isinstance(thing, array):
        return {"kind": "array", "items": thing.tolist()}
    if isinstance(thing, deque):
        return {"kind": "deque", "items": list(thing)}
    state = {
        field.name: written(getattr(thing, field.name))
        for field in fields(thing)
        if not field.metadata.get("derived")
    }
    return {"kind": type(thing).__name__, **state}


def read(data: Any) -> Any:
    """Return what was written.

    Raises:
        MonitoringError: it is none of what this room writes; the watch has to learn anew.
    """
    if isinstance(data, list):
        return [read(each) for each in data]
    if not isinstance(data, Mapping):
        return _plain(data)
    kind = data.get("kind")
    if kind == "array":
        return array("d", [_number(each) for each in _items(data)])
    if kind == "deque":
        return deque(_number(each) for each in _items(data))
    cls = _CLASSES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise _unreadable("it holds a part of unknown kind")
    names = {field.name for field in fields(cls) if not field.metadata.get("derived")}
    if names != set(data) - {"kind"}:
        raise _unreadable(f"the fields of a {kind} are {', '.join(sorted(names))}")
    thing = cls(**{name: read(data[name]) for name in names})
    if isinstance(thing, windows.SortedWindow):
        thing.rebuild()
    return thing


def _plain(data: Any) -> Any:
    if data is None or isinstance(data, (bool, str)):
        return data
    return _number(data)


def _number(data: Any) -> int | float:
    if isinstance(data, bool) or not isinstance(data, (int, float)) or not math.isfinite(data):
        raise _unreadable("a finite number was expected")
    return data


def _items(data: Mapping[str, Any]) -> list[Any]:
    items = data.get("items")
    if not isinstance(items, list):
        raise _unreadable("a list of numbers was expected")
    return items


def _unreadable(why: str) -> MonitoringError:
    return MonitoringError(
        f"this is not the memory of a watch: {why}; nothing was restored, start a new watch"
    )
