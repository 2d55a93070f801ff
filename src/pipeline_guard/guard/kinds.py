"""Which probes, remedies and gates there are: the guard's own, and those that our products bring.

A product's are found by entry points of this distribution, and imported when a configuration names
them. Those of other distributions are code that runs with the guard's rights: they are let in by
name, in the environment of the guard and not in a file that it reads:
`PIPELINE_GUARD_PLUGINS=acme-probes,acme-remedies`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from typing import Final

from pipeline_guard.config import Registries
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.probes import PROBES
from pipeline_guard.remedies import REMEDIES

_OURS: Final = "privacy-finetuner"
ALLOWED_VARIABLE: Final = "PIPELINE_GUARD_PLUGINS"


class Kinds(Mapping[str, type]):
    """Classes by name; those of entry points are imported when they are asked for.

    Args:
        group: of the entry points.
        own: what is there already.
        allowed: other distributions whose entry points may be loaded.

    Raises:
        ConfigurationError: two are of one name; nothing was loaded.
    """

    def __init__(self, group: str, own: Mapping[str, type], allowed: Collection[str] = ()) -> None:
        self._own = own
        self._points: dict[str, metadata.EntryPoint] = {}
        for point in metadata.entry_points(group=group):
            if point.dist is None or point.dist.name not in (_OURS, *allowed):
                continue
            if point.name in own or point.name in self._points:
                raise ConfigurationError(
                    f"{group}: {point.name!r} of {point.dist.name} is taken; nothing was loaded",
                    {"group": group, "name": point.name, "distribution": point.dist.name},
                )
            self._points[point.name] = point

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


def registries(allowed: Collection[str] | None = None) -> Registries:
    """Every kind that a configuration may name.

    Args:
        allowed: other distributions whose plugins may be loaded; none: those that the environment
            variable names.
    """
    if allowed is None:
        said = os.environ.get(ALLOWED_VARIABLE, "").split(",")
        allowed = [name.strip() for name in said if name.strip()]
    return Registries(
        Kinds("pipeline_guard.probes", PROBES, allowed),
        Kinds("pipeline_guard.remedies", REMEDIES, allowed),
        Kinds("pipeline_guard.gates", {}, allowed),
    )
