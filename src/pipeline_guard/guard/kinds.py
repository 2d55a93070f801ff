"""Which probes, remedies and gates there are: the guard's own, and those that our products bring.

A product's are found by entry points of this distribution, and imported when a configuration names
them. Those of other distributions are not loaded: they are code that runs with the guard's rights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Final

from pipeline_guard.config import Registries
from pipeline_guard.probes import PROBES
from pipeline_guard.remedies import REMEDIES

_OURS: Final = "privacy-finetuner"


class Kinds(Mapping[str, type]):
    """Classes by name; those of entry points are imported when they are asked for.

    Args:
        group: of the entry points.
        own: what is there already; an entry point of the same name does not replace it.
    """

    def __init__(self, group: str, own: Mapping[str, type]) -> None:
        self._own = own
        self._points = {
            point.name: point
            for point in metadata.entry_points(group=group)
            if point.name not in own and point.dist is not None and point.dist.name == _OURS
        }

    def __getitem__(self, name: str) -> type:
        if name in self._own:
            return self._own[name]
        found: type = self._points[name].load()
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._points

    def __iter__(self) -> Iterator[str]:
        return iter((*self._own, *self._points))

    def __len__(self) -> int:
        return len(self._own) + len(self._points)


def registries() -> Registries:
    """Every kind that a configuration may name."""
    return Registries(
        Kinds("pipeline_guard.probes", PROBES),
        Kinds("pipeline_guard.remedies", REMEDIES),
        Kinds("pipeline_guard.gates", {}),
    )
