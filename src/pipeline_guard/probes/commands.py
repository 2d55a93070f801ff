"""Programs as probes: any command, any Nagios plugin, any Python function."""

from __future__ import annotations

import asyncio
import importlib
import math
import os
import re
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pipeline_guard.config.values import POSITIVE
from pipeline_guard.model import HealthStatus, Moment, Reading, Verdict
from pipeline_guard.probes.inputs import critical, ok, refused, unknown, why

Span = Annotated[float, POSITIVE]
_OUTPUT_BYTES_MOST: Final = 65_536
_LINE_MOST: Final = 200
_METRICS_MOST: Final = 64

# label=value[unit];warn;crit;min;max; a label in quotes may hold blanks, two quotes mean one.
_DATUM: Final = re.compile(
    r"(?:'((?:[^']|'')+)'|([^\s=']+))=(U|-?[\d.,]+(?:[eE][-+]?\d+)?)([^\s;]*)\S*"
)
_UNITS: Final = {
    "s": ("seconds", 1.0), "ms": ("seconds", 1e-3), "us": ("seconds", 1e-6),
    "%": ("percent", 1.0), "B": ("bytes", 1.0), "KB": ("bytes", 1024.0),
    "MB": ("bytes", 1024.0**2), "GB": ("bytes", 1024.0**3), "TB": ("bytes", 1024.0**4),
    "c": ("total", 1.0), "": ("", 1.0),
}  # fmt: skip
"""The units of the plugin guidelines, as a metric's name and a factor."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a program did: its exit code, negative for a signal, and the start of what it said."""

    code: int
    text: str


@dataclass(frozen=True, kw_only=True)
class CommandProbe:
    """A command: exit code 0 is well, every other is critical.

    Args:
        command: the program and its arguments; no shell reads them.
        output: a regular expression that what it prints must contain.
        folder: its working folder.
        environment: added to the guard's.
        answer_s: it is killed, with its children, after this time, and is unknown.
    """

    command: tuple[str, ...]
    output: str = ""
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    answer_s: Span = 4.0

    def __post_init__(self) -> None:
        """Refuse no command, and what is no expression."""
        _require_command(self.command)
        try:
            re.compile(self.output)
        except re.error as error:
            raise refused("output", self.output, "a regular expression") from error

    async def look(self, moment: Moment) -> Reading:
        """Run it once."""
        done = await run(
            self.command, self.answer_s, folder=self.folder, environment=self.environment
        )
        if isinstance(done, Reading):
            return done
        first = _first_line(done.text)
        evidence = {"command": self.command[0], "exit_code": done.code, "output": first}
        if done.code != 0:
            return critical(f"{_ending(done.code)}: {first}", evidence=evidence)
        if self.output and not re.search(self.output, done.text):
            words = "it ended well, but did not print what it should"
            return critical(words, evidence=evidence)
        return ok(first or "it ended with exit code 0", evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class NagiosProbe:
    """A Nagios plugin: exit codes 0 to 3, the first line, and performance data as measurements.

    Every other end (another code, a signal, too late, no such program) is unknown.

    Source: Monitoring Plugins Development Guidelines, sections "Plugin Output for Nagios".

    Args:
        command: the plugin and its arguments; no shell reads them.
        folder: its working folder.
        environment: added to the guard's.
        answer_s: it is killed, with its children, after this time, and is unknown.
    """

    command: tuple[str, ...]
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    answer_s: Span = 4.0

    def __post_init__(self) -> None:
        """Refuse no command."""
        _require_command(self.command)

    async def look(self, moment: Moment) -> Reading:
        """Run it once."""
        done = await run(
            self.command, self.answer_s, folder=self.folder, environment=self.environment
        )
        if isinstance(done, Reading):
            return done
        words, figures = parsed(done.text)
        evidence = {"plugin": self.command[0], "exit_code": done.code}
        if done.code not in (0, 1, 2, 3):
            return unknown(f"{_ending(done.code)}: {words}", evidence=evidence)
        verdict = Verdict(done.code)
        return Reading(
            verdict=verdict,
            summary=words or f"it said nothing, exit code {done.code}",
            measurements=figures,
            evidence=evidence,
        )


@dataclass(frozen=True, kw_only=True)
class PythonProbe:
    """A Python function: called without arguments, on a thread.

    =========================================  ==================================================
    it returns                                 which is
    =========================================  ==================================================
    a `Reading` or a `Verdict`                 that
    a `HealthStatus`                           HEALTHY is well, DEGRADED a warning, CRITICAL and
                                               FAILED are critical, RECOVERING a warning
    true or false                              well, or critical
    anything else, or it raises                unknown; only the kind of the error is shown
    =========================================  ==================================================

    Args:
        function: `package.module:name`; the module is imported by the guard, so it is trusted.
    """

    function: str
    _called: Callable[[], object] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Find the function.

        Raises:
            ConfigurationError: there is none of that name.
        """
        if self._called is not None:
            return
        module, _, name = self.function.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise refused("function", self.function, "package.module:name of a function") from error
        if not callable(found):
            raise refused("function", self.function, "package.module:name of a function")
        object.__setattr__(self, "_called", found)

    @classmethod
    def of(cls, function: Callable[[], object]) -> PythonProbe:
        """The probe of a function that is at hand."""
        name = getattr(function, "__qualname__", type(function).__name__)
        return cls(function=name, _called=function)

    def look(self, moment: Moment) -> Reading:
        """Call it."""
        if self._called is None:
            raise AssertionError
        try:
            found = self._called()
        except Exception as error:  # noqa: BLE001 -- a stranger's function; its message may hold anything
            return unknown(f"{self.function} raised {type(error).__name__}")
        if isinstance(found, Reading):
            return found
        if isinstance(found, HealthStatus):
            found = _VERDICTS[found]
        if isinstance(found, bool):
            found = Verdict.OK if found else Verdict.CRITICAL
        if not isinstance(found, Verdict):
            return unknown(f"{self.function} returned a {type(found).__name__}")
        return Reading(verdict=found, summary=f"{self.function}: {found.name.lower()}")


async def run(
    command: tuple[str, ...],
    within_s: float,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Output | Reading:
    """Run a program as the leader of a group of its own; the group is killed when time is up.

    Returns:
        what it did, or the reading of why that is not known.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    except OSError as error:
        return unknown(f"{command[0]} cannot be run: {why(error)}")
    if process.stdout is None:
        raise AssertionError
    try:
        async with asyncio.timeout(within_s):
            text = await _start_of(process.stdout)
            code = await process.wait()
    except TimeoutError:
        return unknown(f"{command[0]} took over {within_s:g} s and was killed")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Output(code, text)


async def _start_of(stream: asyncio.StreamReader) -> str:
    """What it prints, up to 64 KiB; the rest is read and dropped, so that it does not block."""
    pieces = b""
    while piece := await stream.read(8_192):
        pieces += piece[: max(0, _OUTPUT_BYTES_MOST - len(pieces))]
    return pieces.decode(errors="replace")


def parsed(text: str) -> tuple[str, dict[str, float]]:
    """The first line of a plugin without its performance data, and those as measurements.

    Later lines may hold more data after a `|`; a datum that cannot be read is passed over.
    """
    lines = text.splitlines() or [""]
    words, _, data = lines[0].partition("|")
    rest = "\n".join(lines[1:]).partition("|")[2]
    figures: dict[str, float] = {}
    for match in _DATUM.finditer(f"{data} {rest}"):
        label = (match[1] or match[2]).replace("''", "'")
        name, factor = _UNITS.get(match[4], ("", 1.0))
        value = _number(match[3])
        if math.isfinite(value) and len(figures) < _METRICS_MOST:
            figures[_metric(label, name)] = value * factor
    return words.strip()[:_LINE_MOST], figures


def _number(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:  # "U": the plugin could not say
        return math.nan


def _metric(label: str, unit: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "value"
    return f"{name}_{unit}" if unit and not name.endswith(unit) else name


def _first_line(text: str) -> str:
    return next((line.strip()[:_LINE_MOST] for line in text.splitlines() if line.strip()), "")


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _require_command(command: tuple[str, ...]) -> None:
    if not command or not command[0]:
        raise refused("command", list(command), "a program and its arguments")


_VERDICTS: Final = {
    HealthStatus.HEALTHY: Verdict.OK,
    HealthStatus.DEGRADED: Verdict.WARNING,
    HealthStatus.RECOVERING: Verdict.WARNING,
    HealthStatus.CRITICAL: Verdict.CRITICAL,
    HealthStatus.FAILED: Verdict.CRITICAL,
}
