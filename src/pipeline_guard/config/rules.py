"""What keys must agree on: names that exist, windows that can be met, no circle of dependencies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from pipeline_guard.config.settings import (
    CheckSettings,
    Destination,
    GuardConfig,
    MaintenanceWindow,
    RecoverySettings,
)
from pipeline_guard.model import PipelineComponent
from privacy_runtime.settings.faults import nearest, unknown

T = TypeVar("T")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,99}")
_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


@dataclass(frozen=True, slots=True)
class Conflict:
    """Keys that do not go together.

    Args:
        path: the key to blame, with dots and indexes.
        value: what it holds, as it may be shown.
        expected: what would be right, as the rest of a sentence.
        near: the known name that was perhaps meant.
    """

    path: str
    value: str
    expected: str
    near: str = ""

    def __str__(self) -> str:
        words = f"is {self.value!r}, expected {self.expected}"
        return unknown(words, self.near)


def conflicts(config: GuardConfig) -> Iterator[Conflict]:
    """Everything that keys of a configuration do not agree on. None: it can be used."""
    known = {*config.components, *(component.value for component in PipelineComponent)}
    yield from _names(config)
    for name, component in config.components.items():
        path = f"components.{name}.depends_on"
        yield from _unknown(path, component.depends_on, known)
    yield from _circles(config)
    yield from _checks(config, known)
    yield from _recoveries(config, known)
    for number, window in _numbered(config.maintenance):
        yield from _window(f"maintenance[{number}]", window, known)
    yield from _notify(config)


def check_ids(config: GuardConfig) -> list[str]:
    """The ids of all checks, with those that heartbeats of components stand for."""
    return [check.id for check in all_checks(config)]


def all_checks(config: GuardConfig) -> tuple[CheckSettings, ...]:
    """The checks, and those that heartbeats of components are short for."""
    beats = [
        CheckSettings(
            id=f"{name}.progress",
            component=name,
            type="heartbeat",
            parameters=component.heartbeat,
            where=f"components.{name}.heartbeat",
        )
        for name, component in config.components.items()
        if component.heartbeat is not None
    ]
    return (*(check for _, check in _numbered(config.checks)), *beats)


def _numbered(items: Sequence[T | None]) -> Iterator[tuple[int, T]]:
    """Items with their places; `None` stands for one that could not be read."""
    return ((n, item) for n, item in enumerate(items) if item is not None)


def _names(config: GuardConfig) -> Iterator[Conflict]:
    words = "letters, digits and _ . : / @ -, beginning with a letter or digit"
    for name in config.components:
        if not _NAME.fullmatch(name):
            yield Conflict(f"components.{name}", name, words)
    seen: set[str] = set()
    for number, check in _numbered(config.checks):
        if not _NAME.fullmatch(check.id):
            yield Conflict(f"checks[{number}].id", check.id, words)
        if check.id in seen:
            yield Conflict(f"checks[{number}].id", check.id, "an id that no other check has")
        seen.add(check.id)
    for name, component in config.components.items():
        if component.heartbeat is not None and f"{name}.progress" in seen:
            path = f"components.{name}.heartbeat"
            yield Conflict(path, f"{name}.progress", "no check of that id beside it")
    recoveries: set[str] = set()
    for number, recovery in _numbered(config.recoveries):
        if recovery.name in recoveries:
            path = f"recoveries[{number}].id"
            yield Conflict(path, recovery.name, "an id that no other recovery has")
        recoveries.add(recovery.name)


def _checks(config: GuardConfig, known: set[str]) -> Iterator[Conflict]:
    for number, check in _numbered(config.checks):
        path = f"checks[{number}]"
        yield from _unknown(f"{path}.component", [check.component], known)
        least = check.for_ or config.defaults.for_
        of = check.of or config.defaults.of
        if of is not None and of < least:
            yield Conflict(f"{path}.of", str(of), f"at least for, which is {least}")


def _recoveries(config: GuardConfig, known: set[str]) -> Iterator[Conflict]:
    ids = check_ids(config)
    for number, recovery in _numbered(config.recoveries):
        path = f"recoveries[{number}]"
        yield from _unknown(f"{path}.on.component", [recovery.on.component], known)
        check = recovery.verify.check
        if check is not None and check not in ids:
            near = nearest(check, ids)
            yield Conflict(f"{path}.verify.check", check, "the id of a check", near)
        yield from _destinations(f"{path}.escalate", recovery, config.notify.destinations)


def _destinations(
    path: str, recovery: RecoverySettings, known: Mapping[str, Destination]
) -> Iterator[Conflict]:
    for name in recovery.escalate:
        if destination_of(name, known) is None:
            near = nearest(name, known)
            words = "a destination of notify, as NAME or as KIND:NAME"
            yield Conflict(path, name, words, near)


def destination_of(name: str, known: Mapping[str, Destination]) -> str | None:
    """The destination that `NAME` or `KIND:NAME` means; `None` where there is none."""
    if name in known:
        return name
    kind, _, inner = name.partition(":")
    found = known.get(inner)
    return inner if found is not None and found.kind == kind else None


def _window(path: str, window: MaintenanceWindow, known: set[str]) -> Iterator[Conflict]:
    yield from _unknown(f"{path}.components", window.components, known)
    is_once = window.start is not None and window.end is not None
    is_weekly = bool(window.days and window.from_ and window.to)
    if is_once == is_weekly:
        words = "either start and end, or days with from and to"
        yield Conflict(path, window.name, words)
    if window.start is not None and window.end is not None and window.end <= window.start:
        yield Conflict(f"{path}.end", window.end.isoformat(), "an instant after start")
    for key, text in (("from", window.from_), ("to", window.to)):
        if text and not _TIME.fullmatch(text):
            yield Conflict(f"{path}.{key}", text, "a time such as 02:00")
    try:
        ZoneInfo(window.timezone)
    except (ValueError, OSError):
        yield Conflict(f"{path}.timezone", window.timezone, "a time zone such as Europe/Berlin")


def _notify(config: GuardConfig) -> Iterator[Conflict]:
    for name, destination in config.notify.destinations.items():
        path = f"notify.destinations.{name}"
        if destination.kind == "email" and config.notify.mail is None:
            yield Conflict(path, "email", "notify.mail to be given, with host and sender")
        if destination.kind == "webhook" and destination.secret is None:
            words = "a secret that signs what is sent: notify.destinations.NAME.secret"
            yield Conflict(path, "webhook", words)
    for number, network in enumerate(config.notify.allow_networks):
        try:
            ip_network(network)
        except ValueError:
            words = "a network such as 10.0.0.0/8"
            yield Conflict(f"notify.allow_networks[{number}]", network, words)


def _unknown(path: str, names: Iterable[str], known: set[str]) -> Iterator[Conflict]:
    for name in names:
        if name not in known:
            yield Conflict(path, name, "a component that is declared", nearest(name, known))


def _circles(config: GuardConfig) -> Iterator[Conflict]:
    """Dependencies that lead back; each circle once, at its first component by name."""
    told: set[frozenset[str]] = set()
    for start in sorted(config.components):
        circle = _circle(config, start)
        if circle and frozenset(circle) not in told:
            told.add(frozenset(circle))
            path = f"components.{start}.depends_on"
            words = " -> ".join([*circle, start])
            yield Conflict(path, words, "no circle: nobody would be the root of a fault")


def _circle(config: GuardConfig, start: str) -> list[str] | None:
    """A way from a component back to itself."""
    ways, seen = [[start]], set[str]()
    while ways:
        way = ways.pop()
        below = config.components.get(way[-1])
        for name in below.depends_on if below else ():
            if name == start:
                return way
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return None
