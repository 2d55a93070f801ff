"""The machine: memory and when it will be full, and how long work waits for something.

Source: Linux kernel documentation, "PSI - Pressure Stall Information", "Control Group v2",
/proc/meminfo in proc(5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.model import Fault, Moment, Reading
from pipeline_guard.probes.inputs import critical, ok, refused, unknown, warning, why
from pipeline_guard.probes.trends import Trend, duration

Share = Annotated[float, Within(0, 1)]
Span = Annotated[float, POSITIVE]
_GROUP: Final = Path("/sys/fs/cgroup")
_PROC: Final = Path("/proc")
_GIB: Final = 1 << 30


@dataclass(slots=True)
class _Memory:
    trend: Trend
    kills: int | None = None


@dataclass(frozen=True, kw_only=True)
class MemoryProbe:
    """Memory of the control group, or of the machine: used share, forecast, kills for memory.

    What the kernel can drop at any time (caches of files) does not count as used. A kill for memory
    since the look before is critical, whoever was killed.

    Args:
        warn, crit: used shares.
        crit_s: full within this time, by a line through the past.
        window_s: the line looks back so far; no forecast from less than a quarter of it.
        group: folder of a control group, version 2 or 1; of the machine where it has no limit.
        proc: where /proc is; only tests name another folder.
    """

    warn: Share = 0.85
    crit: Share = 0.95
    crit_s: Span = 60.0
    window_s: Span = 120.0
    group: Path = _GROUP
    proc: Path = field(default=_PROC, metadata={"is_internal": True})
    _state: _Memory = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse limits that are the wrong way round."""
        if self.crit < self.warn:
            raise refused("crit", self.crit, f"at least warn, {self.warn:g}")
        object.__setattr__(self, "_state", _Memory(Trend(self.window_s)))

    def look(self, moment: Moment) -> Reading:
        """Read what the kernel counts."""
        evidence: dict[str, Any] = {"group": str(self.group)}
        try:
            used, limit = memory_of(self.group, self.proc)
        except OSError as error:
            return unknown(f"memory cannot be read: {why(error)}", evidence=evidence)
        except ValueError:
            return unknown("memory cannot be read: unknown form", evidence=evidence)
        kills = _kills(self.group)
        before, self._state.kills = self._state.kills, kills
        trend = self._state.trend
        trend.add(moment.monotonic_s, float(used))
        full_s = math.nan
        if trend.span_s >= self.window_s / 4:
            full_s = trend.seconds_to(float(limit))
        share = used / limit if limit else 1.0
        words = f"{share:.0%} of {limit / _GIB:.1f} GiB used"
        figures = {"memory_used_share": share, "memory_used_bytes": float(used)}
        more: dict[str, Any] = {"measurements": figures, "evidence": evidence}
        if kills is not None and before is not None and kills > before:
            evidence["oom_kills"] = kills - before
            words = f"the kernel killed {kills - before} for memory; {words}"
            return critical(words, Fault.OUT_OF_MEMORY, **more)
        if full_s <= self.crit_s and share >= self.warn / 2:
            words = f"{words}, full in {duration(full_s)}"
            return critical(words, Fault.OUT_OF_MEMORY, **more)
        if share >= self.crit:
            return critical(words, Fault.OUT_OF_MEMORY, **more)
        return (
            warning(words, Fault.OUT_OF_MEMORY, **more) if share >= self.warn else ok(words, **more)
        )


@dataclass(frozen=True, kw_only=True)
class PressureProbe:
    """Pressure: the share of time in which work waited for memory, a processor or a disk.

    Args:
        resource: what is waited for.
        kind: "some" task waited, or all of them, "full".
        window: the kernel's average, in seconds.
        warn, crit: shares of time.
        group: folder of a control group (version 2); without, the whole machine.
        proc: where /proc is; only tests name another folder.
    """

    resource: Literal["memory", "cpu", "io"] = "memory"
    kind: Literal["some", "full"] = "some"
    window: Literal[10, 60, 300] = 10
    warn: Share = 0.20
    crit: Share = 0.40
    group: Path | None = None
    proc: Path = field(default=_PROC, metadata={"is_internal": True})

    def look(self, moment: Moment) -> Reading:
        """Read the kernel's average."""
        path = self.proc / "pressure" / self.resource
        if self.group is not None:
            path = self.group / f"{self.resource}.pressure"
        evidence: dict[str, Any] = {"file": str(path)}
        try:
            share = stalled(path.read_text(), self.kind, self.window)
        except OSError as error:
            words = f"pressure cannot be read: {why(error)} (the kernel needs PSI)"
            return unknown(words, evidence=evidence)
        except ValueError:
            return unknown("pressure cannot be read: unknown form", evidence=evidence)
        name = f"{self.resource}_stalled_share"
        more: dict[str, Any] = {"measurements": {name: share}, "evidence": evidence}
        words = f"{share:.0%} of the last {self.window} s waited for {self.resource}"
        fault = Fault.OUT_OF_MEMORY if self.resource == "memory" else Fault.OVERLOAD
        if share >= self.crit:
            return critical(words, fault, **more)
        return warning(words, fault, **more) if share >= self.warn else ok(words, **more)


def memory_of(group: Path, proc: Path = _PROC) -> tuple[int, int]:
    """Bytes in use and the limit: of the control group where it has one, else of the machine.

    Raises:
        OSError: not even the machine's can be read.
        ValueError: its form is unknown.
    """
    total, available = _machine(proc)
    for current, limit, cache in (
        ("memory.current", "memory.max", "inactive_file"),
        ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
    ):
        try:
            used_text = (group / current).read_text().strip()
            limit_text = (group / limit).read_text().strip()
            statistics = (group / "memory.stat").read_text()
        except OSError:
            continue
        if limit_text.isdecimal() and used_text.isdecimal() and int(limit_text) < total:
            droppable = _named(statistics, cache) or 0
            return max(0, int(used_text) - droppable), int(limit_text)
    return total - available, total


def stalled(text: str, kind: str, window: int) -> float:
    """A share of time from a file of /proc/pressure.

    Raises:
        ValueError: it has no such line.
    """
    for line in text.splitlines():
        words = line.split()
        if words[:1] == [kind]:
            for word in words[1:]:
                name, _, value = word.partition("=")
                if name == f"avg{window}":
                    return float(value) / 100
    raise ValueError("no such line")


def _machine(proc: Path) -> tuple[int, int]:
    text = (proc / "meminfo").read_text()
    total, available = (_named(text, f"{name}:") for name in ("MemTotal", "MemAvailable"))
    if total is None or available is None:
        raise ValueError("no MemTotal")
    return 1_024 * total, 1_024 * available


def _kills(group: Path) -> int | None:
    for name in ("memory.events", "memory.oom_control"):
        try:
            return _named((group / name).read_text(), "oom_kill")
        except OSError:
            continue
    return None


def _named(text: str, name: str) -> int | None:
    for line in text.splitlines():
        words = line.split()
        if words[:1] == [name] and len(words) > 1 and words[1].isdecimal():
            return int(words[1])
    return None
