"""Checks and recoveries that are functions of a program: the documented ways to add one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pipeline_guard.errors import RecoveryError
from pipeline_guard.model import (
    Alert,
    Applied,
    Case,
    Component,
    HealthStatus,
    Moment,
    Reading,
    Verdict,
    component_of,
)

CheckFunction: TypeAlias = Callable[[], "HealthStatus | Reading | bool | Awaitable[Any]"]
RecoveryFunction: TypeAlias = Callable[[Alert], bool]

_VERDICTS: Final = {
    HealthStatus.HEALTHY: Verdict.OK,
    HealthStatus.DEGRADED: Verdict.WARNING,
    HealthStatus.RECOVERING: Verdict.WARNING,
    HealthStatus.CRITICAL: Verdict.CRITICAL,
    HealthStatus.FAILED: Verdict.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class FunctionProbe:
    """Looks by calling a function.

    Attributes:
        function: returns a `HealthStatus`, a `Reading`, or whether all is well.
        name: of the check.
    """

    function: CheckFunction
    name: str

    def look(self, moment: Moment) -> Reading:
        """Call it. What it raises counts as unknown."""
        return self.reading(self.function())

    def reading(self, found: Any) -> Reading:
        """What the function returned, as a reading."""
        if isinstance(found, Reading):
            return found
        if isinstance(found, bool):
            found = HealthStatus.HEALTHY if found else HealthStatus.CRITICAL
        if not isinstance(found, HealthStatus):
            said = f"{self.name} returned a {type(found).__name__}, expected a HealthStatus"
            return Reading(verdict=Verdict.UNKNOWN, summary=said)
        return Reading(verdict=_VERDICTS[found], summary=f"{self.name} says {found.value}")


@dataclass(frozen=True, slots=True)
class CoroutineProbe:
    """Looks by awaiting a coroutine function."""

    function: Callable[[], Awaitable[Any]]
    name: str

    async def look(self, moment: Moment) -> Reading:
        """Await it."""
        return FunctionProbe(lambda: False, self.name).reading(await self.function())


def probe_of(function: CheckFunction, name: str) -> FunctionProbe | CoroutineProbe:
    """The probe that calls a function, on a thread unless it is a coroutine function."""
    if inspect.iscoroutinefunction(function):
        return CoroutineProbe(function, name)
    return FunctionProbe(function, name)


@dataclass(frozen=True, slots=True)
class FunctionRemedy:
    """Heals by calling a function with the alert."""

    function: RecoveryFunction
    name: str

    def objection(self, case: Case) -> str | None:
        """None that the guard could know of."""
        return None

    def intent(self, case: Case) -> str:
        """Name the function."""
        return f"call {self.name}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Call it; `False` counts as a failure."""
        is_critical = case.reading.verdict is Verdict.CRITICAL
        alert = Alert(
            component=case.component,
            severity=HealthStatus.CRITICAL if is_critical else HealthStatus.DEGRADED,
            message=case.reading.summary,
            timestamp=case.since,
            metadata=dict(case.reading.evidence),
            id=case.id,
            fault=case.fault,
            check=case.check,
            since=case.since,
        )
        if not self.function(alert):
            raise RecoveryError(f"{self.name} returned a false value: it says that it did not help")
        return Applied(summary=f"{self.name} was called")


class Strategies(MutableMapping[Component, RecoveryFunction]):
    """Recovery functions by component; setting one makes it known to the guard.

    Args:
        changed: told of the component, and of the function or `None` where it was taken away.
    """

    def __init__(self, changed: Callable[[Component, RecoveryFunction | None], None]) -> None:
        self._changed = changed
        self._functions: dict[Component, RecoveryFunction] = {}

    def __getitem__(self, component: str) -> RecoveryFunction:
        return self._functions[component_of(component)]

    def __setitem__(self, component: str, function: RecoveryFunction) -> None:
        self._changed(component_of(component), function)
        self._functions[component_of(component)] = function

    def __delitem__(self, component: str) -> None:
        del self._functions[component_of(component)]
        self._changed(component_of(component), None)

    def __iter__(self) -> Iterator[Component]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)
