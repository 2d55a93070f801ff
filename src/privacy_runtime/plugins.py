"""Plugins: one registry for what is built in and what others add.

PluginError (PrivacyError)
+-- InvalidPluginError         it lacks a part of its contract
+-- IncompatiblePluginError    it was made for other versions of this program
+-- DuplicatePlugin            its name is taken; the first one stays
+-- UnknownPlugin              there is none of this name; the nearest are named
+-- PluginNotAllowed           it comes from another distribution and is not on the allow-list

Entry points of other distributions are listed by name without running a line of theirs. They are
imported only when asked for, and only where their distribution is on the allow-list: a plugin is
code, and code that runs beside private records can read them. A report that was made with one says
so (`Plugin.distribution`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from privacy_core.errors import PrivacyError

OURS: Final = "privacy-finetuner"
GROUPS: Final = (
    "privacy_finetuner.mechanisms",
    "privacy_finetuner.accountants",
    "privacy_finetuner.recognizers",
    "privacy_finetuner.layer_rules",
    "privacy_finetuner.algorithms",
    "pipeline_guard.probes",
    "pipeline_guard.remedies",
    "federated_dp_llm.solvers",
    "federated_dp_llm.strategies",
)

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
"""A name becomes a folder's: it leads nowhere else."""

EntryPoints: TypeAlias = Callable[[str], Iterable[metadata.EntryPoint]]
"""Entry points of a group."""


class PluginError(PrivacyError):
    """A plugin cannot be used. Nothing was run or spent."""

    code: ClassVar[str] = "plugin_error"


class InvalidPluginError(PluginError):
    """It lacks a part of its contract."""

    code: ClassVar[str] = "invalid_plugin"


class IncompatiblePluginError(PluginError):
    """It was made for other versions of this program."""

    code: ClassVar[str] = "incompatible_plugin"


class DuplicatePlugin(PluginError):
    """Its name is taken; the first one stays."""

    code: ClassVar[str] = "duplicate_plugin"


class UnknownPlugin(PluginError):
    """There is none of this name."""

    code: ClassVar[str] = "unknown_plugin"


class PluginNotAllowed(PluginError):
    """It comes from another distribution that nobody allowed."""

    code: ClassVar[str] = "plugin_not_allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginMetadata:
    """What a plugin says of itself.

    Attributes:
        name: unique in its group.
        version: of the plugin.
        requires: versions of this program that it was made for, as `">=0.1,<0.2"` (PEP 440).
        description: one line.
    """

    name: str
    version: str
    requires: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """Whether a plugin was made for this version; `issues` says why not."""

    is_compatible: bool
    issues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A registered plugin. `distribution` is where its code comes from; ours is `OURS`."""

    group: str
    metadata: PluginMetadata
    factory: Callable[..., Any]
    distribution: str = OURS

    @property
    def is_ours(self) -> bool:
        """Whether it came with this program."""
        return self.distribution == OURS


@dataclass(slots=True)
class PluginRegistry:
    """What can be chosen by name, by group.

    Args:
        version: of this program.
        contracts: what an instance of a group must have, by name; a group without an entry asks
            for nothing.
        allowed: distributions whose plugins may be loaded.
        entry_points: how other distributions' are found; only tests replace it.
    """

    version: str
    contracts: Mapping[str, Collection[str]] = field(default_factory=dict)
    allowed: Collection[str] = ()
    entry_points: EntryPoints = field(default=lambda group: metadata.entry_points(group=group))
    _plugins: dict[tuple[str, str], Plugin] = field(default_factory=dict, repr=False)

    def register(self, plugin: Plugin) -> None:
        """Add a plugin.

        Raises:
            UnknownPlugin: there is no such group.
            InvalidPluginError: its class lacks a part of the contract.
            IncompatiblePluginError: see there.
            DuplicatePlugin: see there.
        """
        _require_group(plugin.group)
        if not _NAME.fullmatch(plugin.metadata.name):
            raise InvalidPluginError(
                f"a plugin is named {plugin.metadata.name!r}, expected letters, digits, '-' and "
                "'_', beginning with a letter; it was not registered"
            )
        self._require_parts(plugin, plugin.factory)
        found = self.compatibility(plugin.metadata)
        if not found.is_compatible:
            raise IncompatiblePluginError(
                f"plugin {plugin.metadata.name!r}: {'; '.join(found.issues)}; it was not registered"
            )
        key = (plugin.group, plugin.metadata.name)
        if key in self._plugins:
            raise DuplicatePlugin(
                f"{plugin.group} has a plugin {plugin.metadata.name!r} already, from "
                f"{self._plugins[key].distribution}; the one from {plugin.distribution} was not "
                "registered"
            )
        self._plugins[key] = plugin

    def compatibility(self, plugin: PluginMetadata) -> Compatibility:
        """Whether the plugin says that it was made for this version."""
        try:
            fits = SpecifierSet(plugin.requires).contains(Version(self.version), prereleases=True)
        except (InvalidSpecifier, InvalidVersion):
            issue = f"requires is {plugin.requires!r}, expected versions such as '>=0.1,<0.2'"
            return Compatibility(is_compatible=False, issues=(issue,))
        if fits:
            return Compatibility(is_compatible=True)
        issue = f"it was made for {plugin.requires}, this is {self.version}"
        return Compatibility(is_compatible=False, issues=(issue,))

    def names(self, group: str) -> Mapping[str, str]:
        """Every name of a group, installed ones too, with the distribution. Runs none of them."""
        _require_group(group)
        found = {
            point.name: point.dist.name if point.dist is not None else "unknown"
            for point in self.entry_points(group)
        }
        return MappingProxyType(
            found | {name: p.distribution for (g, name), p in self._plugins.items() if g == group}
        )

    def usable(self, group: str) -> list[str]:
        """Names that may be loaded, sorted: those registered, and those the allow-list lets in."""
        allowed = (OURS, *self.allowed)
        names = {name for name, source in self.names(group).items() if source in allowed}
        return sorted(names | {name for (g, name) in self._plugins if g == group})

    def get(self, group: str, name: str) -> Plugin:
        """A plugin by name; an installed one is imported now, if its distribution is allowed.

        An installed plugin is a class or function with an attribute `plugin_metadata`.

        Raises:
            UnknownPlugin, PluginNotAllowed, InvalidPluginError, IncompatiblePluginError,
            DuplicatePlugin: see there.
        """
        _require_group(group)
        if (group, name) in self._plugins:
            return self._plugins[group, name]
        points = [point for point in self.entry_points(group) if point.name == name]
        if not points:
            near = difflib.get_close_matches(name, self.names(group), n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UnknownPlugin(f"{group} has no plugin {name!r}{hint}")
        if len(points) > 1:
            raise DuplicatePlugin(f"{len(points)} distributions offer {group} {name!r}; keep one")
        return self._import(group, points[0])

    def load(self, group: str, name: str, configuration: Mapping[str, Any]) -> Any:
        """An instance of a plugin, made with `configuration` as keywords.

        Raises:
            InvalidPluginError: it cannot be made with these keywords, or lacks a part of its
                contract; and what `get` raises.
        """
        plugin = self.get(group, name)
        try:
            instance = plugin.factory(**configuration)
        except TypeError as error:
            raise InvalidPluginError(
                f"plugin {name!r} of {group} cannot be made with {sorted(configuration)}: {error}"
            ) from error
        self._require_parts(plugin, instance)
        return instance

    def _import(self, group: str, point: metadata.EntryPoint) -> Plugin:
        source = point.dist.name if point.dist is not None else "unknown"
        if source != OURS and source not in self.allowed:
            raise PluginNotAllowed(
                f"plugin {point.name!r} of {group} comes from {source!r}, which is not on the "
                "allow-list; nothing of it was run"
            )
        factory = point.load()
        said = getattr(factory, "plugin_metadata", None)
        if not isinstance(said, PluginMetadata) or said.name != point.name:
            raise InvalidPluginError(
                f"plugin {point.name!r} of {group} has no plugin_metadata of that name; it was not "
                "registered"
            )
        plugin = Plugin(group=group, metadata=said, factory=factory, distribution=source)
        self.register(plugin)
        return plugin

    def _require_parts(self, plugin: Plugin, what: Any) -> None:
        if not callable(plugin.factory):
            raise InvalidPluginError(
                f"plugin {plugin.metadata.name!r} is a {type(plugin.factory).__name__}, expected a "
                "class or a function that makes one"
            )
        if what is plugin.factory and not isinstance(what, type):
            return  # a function: what it makes is looked at when it is made
        fields = getattr(what, "__dataclass_fields__", {})
        missing = [
            part
            for part in sorted(self.contracts.get(plugin.group, ()))
            if not hasattr(what, part) and part not in fields
        ]
        if missing:
            raise InvalidPluginError(
                f"plugin {plugin.metadata.name!r} lacks {', '.join(missing)}, which {plugin.group} "
                "asks for; it was not registered"
            )


def _require_group(group: str) -> None:
    if group not in GROUPS:
        raise UnknownPlugin(f"there is no group {group!r}, expected one of {', '.join(GROUPS)}")
