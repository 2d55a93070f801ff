"""What the guard hands to a probe beside its parameters, and what probes share.

A probe that needs more than a file can say has a method `bind(inputs)`, which returns the probe to
use; `bound` calls it where there is one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault, Moment, Probe, Reading, Verdict

T = TypeVar("T")


class MetricReader(Protocol):
    """Reads the metrics store."""

    def over(
        self,
        function: str,
        *,
        component: str,
        metric: str,
        window_s: float,
        until_s: float,
        labels: Mapping[str, str],
        quantile: float | None = None,
    ) -> Sequence[tuple[Mapping[str, str], float | None]]:
        """What a function of the store (`avg_over_time`, `rate`, ...) says of each series.

        Series with at least these labels; `None` where the window cannot answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeInputs:
    """What the guard hands over.

    Attributes:
        metrics: the store; `None` where the guard keeps none.
        component: whose check it is.
    """

    metrics: MetricReader | None = None
    component: str = ""


@runtime_checkable
class Bindable(Protocol):
    """A probe that needs more than its parameters."""

    def bind(self, inputs: ProbeInputs) -> Probe:
        """The probe to use."""
        ...


def bound(probe: Any, inputs: ProbeInputs) -> Probe:
    """The probe to use: with its inputs, where it asks for them.

    Raises:
        ConfigurationError: an input that it needs is not there.
    """
    if isinstance(probe, Bindable):
        return probe.bind(inputs)
    made: Probe = probe
    return made


def ok(summary: str, **more: Any) -> Reading:
    """A reading that all is well."""
    return Reading(verdict=Verdict.OK, summary=summary, **more)


def stale(summary: str, **more: Any) -> Reading:
    """A critical reading that data are not there or too old."""
    return critical(summary, Fault.STALE_DATA, **more)


def warning(summary: str, fault: Fault | None = None, **more: Any) -> Reading:
    """A reading that something should be looked at."""
    return Reading(verdict=Verdict.WARNING, summary=summary, fault=fault, **more)


def critical(summary: str, fault: Fault | None = None, **more: Any) -> Reading:
    """A reading that something is broken."""
    return Reading(verdict=Verdict.CRITICAL, summary=summary, fault=fault, **more)


def unknown(summary: str, **more: Any) -> Reading:
    """A reading that it could not be looked at: that is not "well"."""
    return Reading(verdict=Verdict.UNKNOWN, summary=summary, **more)


def refused(parameter: str, value: object, constraint: str) -> ConfigurationError:
    """The error for a parameter that a probe or its type cannot take."""
    return ConfigurationError(
        f"{parameter} is {value!r}, expected {constraint}; nothing was started",
        {"parameter": parameter, "value": value, "constraint": constraint},
    )


def why(error: OSError) -> str:
    """What the operating system refused, without the path."""
    if error.errno is not None and error.errno > 0:  # asyncio puts addresses into `strerror`
        return os.strerror(error.errno).lower()
    return (error.strerror or type(error).__name__).lower()


class StillWaiting(Exception):
    """An earlier call has not come back, or this one did not in time. `for_s`: for how long."""

    def __init__(self, for_s: float) -> None:
        super().__init__(for_s)
        self.for_s = for_s


@dataclass(slots=True)
class Patience:
    """Calls what may never come back (a dead network file system), one call at a time.

    A call that is late stays behind on its own thread, and no second one is begun before it has
    come back: a file system that hangs costs one thread, not one for each look.
    """

    _pending: threading.Thread | None = field(default=None, repr=False)
    _since_s: float = 0.0

    def call(self, action: Callable[[], T], *, within_s: float, now_s: float) -> T:
        """The result of `action`, if it comes in time; whatever it raises is raised here.

        Raises:
            StillWaiting: it did not, or an earlier one is still out.
        """
        if self._pending is not None and self._pending.is_alive():
            raise StillWaiting(now_s - self._since_s)
        answers: list[T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                answers.append(action())
            except BaseException as error:  # noqa: BLE001 -- raised again where it is waited for
                errors.append(error)

        self._since_s = now_s
        self._pending = threading.Thread(target=run, daemon=True, name="probe")
        self._pending.start()
        self._pending.join(within_s)
        if self._pending.is_alive():
            raise StillWaiting(within_s)
        self._pending = None
        if errors:
            raise errors[0]
        return answers[0]


def asked(
    patience: Patience,
    action: Callable[[], T],
    *,
    name: str,
    within_s: float,
    moment: Moment,
    missing: Callable[..., Reading] | None = None,
    evidence: Mapping[str, Any],
) -> T | Reading:
    """What `action` finds on a file system, or the reading of why it finds nothing.

    A file system that does not answer, a refusal and content of the wrong form (`ValueError`) are
    unknown. So is what is not there, unless `missing` makes another reading of it.
    """
    try:
        return patience.call(action, within_s=within_s, now_s=moment.monotonic_s)
    except StillWaiting as error:
        words = f"the file system has not answered for {error.for_s:.0f} s"
        return unknown(words, evidence=evidence)
    except FileNotFoundError:
        return (missing or unknown)(f"{name} is not there", evidence=evidence)
    except OSError as error:
        return unknown(f"{name} cannot be read: {why(error)}", evidence=evidence)
    except ValueError as error:
        return unknown(f"{name} cannot be used: {error}", evidence=evidence)


NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
