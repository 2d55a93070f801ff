"""A plugin is registered by contract and version; others' code runs only where it is allowed."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest

from privacy_runtime.plugins import (
    OURS,
    DuplicatePlugin,
    IncompatiblePluginError,
    InvalidPluginError,
    Plugin,
    PluginMetadata,
    PluginNotAllowed,
    PluginRegistry,
    UnknownPlugin,
)

GROUP = "privacy_finetuner.mechanisms"
IMPORTED: list[str] = []


class Half:
    """A plugin with the part that its contract asks for."""

    plugin_metadata = PluginMetadata(name="half", version="1.0", requires=">=0.1,<0.2")

    def __init__(self, size: int = 1) -> None:
        self.size = size

    def release(self) -> float:
        return self.size / 2


class Distribution(metadata.Distribution):
    def __init__(self, name: str) -> None:
        self._name = name

    def read_text(self, filename: str) -> str:
        return f"Metadata-Version: 2.1\nName: {self._name}\n"

    def locate_file(self, path: Any) -> Any:
        return path


class Point:
    """An entry point that remembers whether it was imported."""

    def __init__(self, name: str, thing: Any, source: str = "theirs") -> None:
        self.name, self._thing = name, thing
        self.dist = Distribution(source)

    def load(self) -> Any:
        IMPORTED.append(self.name)
        return self._thing


def registry(*points: Point, allowed: tuple[str, ...] = ()) -> PluginRegistry:
    IMPORTED.clear()
    return PluginRegistry(
        "0.1.0",
        {GROUP: ("release",)},
        allowed,
        entry_points=lambda _: points,  # type: ignore[arg-type, return-value]
    )


def plugin(factory: Any = Half, **changes: str) -> Plugin:
    said = {"name": "half", "version": "1.0", "requires": ">=0.1,<0.2"} | changes
    return Plugin(group=GROUP, metadata=PluginMetadata(**said), factory=factory)


def test_a_registered_plugin_is_made_with_its_configuration() -> None:
    found = registry()
    found.register(plugin())

    assert found.load(GROUP, "half", {"size": 4}).release() == 2.0
    assert dict(found.names(GROUP)) == {"half": OURS}
    assert found.usable(GROUP) == ["half"]
    assert registry(Point("half", Half)).usable(GROUP) == []


def test_what_is_installed_is_listed_without_being_imported() -> None:
    found = registry(Point("half", Half), allowed=("theirs",))

    assert dict(found.names(GROUP)) == {"half": "theirs"}
    assert IMPORTED == []
    assert found.get(GROUP, "half").distribution == "theirs"
    assert IMPORTED == ["half"]


def test_code_of_others_is_not_run_unless_it_is_allowed() -> None:
    with pytest.raises(PluginNotAllowed, match="'theirs'"):
        registry(Point("half", Half)).load(GROUP, "half", {})
    assert IMPORTED == []


def test_two_plugins_of_one_name_are_an_error_and_the_first_stays() -> None:
    found = registry()
    found.register(plugin())
    with pytest.raises(DuplicatePlugin):
        found.register(plugin(version="2.0"))
    assert found.get(GROUP, "half").metadata.version == "1.0"
    both = registry(Point("half", Half), Point("half", Half, "more"), allowed=("theirs", "more"))
    with pytest.raises(DuplicatePlugin, match="2 distributions"):
        both.get(GROUP, "half")


@pytest.mark.parametrize("requires", [">=0.2", "<0.1", "==1.*", "soon"])
def test_a_plugin_for_another_version_is_refused(requires: str) -> None:
    with pytest.raises(IncompatiblePluginError, match="not registered"):
        registry().register(plugin(requires=requires))


@pytest.mark.parametrize("factory", [object, "half", int])
def test_a_plugin_that_lacks_its_contract_is_refused(factory: Any) -> None:
    with pytest.raises(InvalidPluginError):
        registry().register(plugin(factory))


@pytest.mark.parametrize("name", ["../half", "", "half/", "1half", "a" * 65])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InvalidPluginError, match="letters"):
        registry().register(plugin(name=name))


def test_a_function_is_looked_at_when_it_makes_something() -> None:
    found = registry()

    def nothing() -> object:
        return object()

    found.register(plugin(nothing))
    with pytest.raises(InvalidPluginError, match="release"):
        found.load(GROUP, "half", {})


def test_an_installed_plugin_says_what_it_is() -> None:
    found = registry(Point("half", int), Point("third", Half), allowed=("theirs",))
    for name in ("half", "third"):
        with pytest.raises(InvalidPluginError, match="plugin_metadata"):
            found.get(GROUP, name)


def test_keywords_that_a_plugin_does_not_take_are_refused() -> None:
    found = registry()
    found.register(plugin())
    with pytest.raises(InvalidPluginError, match="colour"):
        found.load(GROUP, "half", {"colour": 1})


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    found = registry()
    found.register(plugin())
    with pytest.raises(UnknownPlugin, match="'half'"):
        found.get(GROUP, "halve")
    with pytest.raises(UnknownPlugin, match="group"):
        found.names("privacy_finetuner.hats")
