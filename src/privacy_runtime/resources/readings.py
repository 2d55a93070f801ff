"""What the machine has and what of it is used: processor, memory, disk, accelerators.

One sampler for everybody. In a container the limits are those of the control group (version 2),
not the machine's. Nothing is estimated: what cannot be read is `None`.

Sources: Linux kernel documentation, "Control Group v2" (cpu.max, memory.max, memory.current,
memory.stat) and "PSI - Pressure Stall Information".
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]  # it ships no types

from privacy_runtime.world import Clock

_GROUP: Final = Path("/sys/fs/cgroup")
_PRESSURE: Final = Path("/proc/pressure")
_MICROSECONDS: Final = 1e6


@dataclass(frozen=True, slots=True)
class DiskReading:
    """One file system.

    Attributes:
        path: a folder on it.
        free_bytes: what we may still write.
        total_bytes: its size.
    """

    path: str
    free_bytes: int
    total_bytes: int

    @property
    def used_share(self) -> float:
        """What is not free, as a share of the whole."""
        return 1 - self.free_bytes / self.total_bytes if self.total_bytes else 1.0


@dataclass(frozen=True, slots=True)
class AcceleratorReading:
    """One accelerator, as its driver says.

    Attributes:
        index, name: which.
        used_bytes, total_bytes: of its memory.
        busy_share: of the time in which it computed, lately.
    """

    index: int
    name: str
    used_bytes: int
    total_bytes: int
    busy_share: float

    @property
    def memory_share(self) -> float:
        """Used memory as a share of all."""
        return self.used_bytes / self.total_bytes if self.total_bytes else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at the machine.

    Attributes:
        at_s: monotonic seconds.
        cores: processors we may use; a fraction in a control group with a quota.
        cpu_share: of those, busy since the look before; `None` at the first.
        memory_used_bytes, memory_limit_bytes: of the control group, or of the machine. Caches of
            files that the kernel can drop do not count as used.
        swap_used_bytes: of the machine.
        disks: the file systems that were asked for.
        accelerators: empty where there is no driver.
        memory_stall_share: of the last ten seconds, when something waited for memory; `None` where
            the kernel does not say.
    """

    at_s: float
    cores: float
    cpu_share: float | None
    memory_used_bytes: int
    memory_limit_bytes: int
    swap_used_bytes: int
    disks: tuple[DiskReading, ...]
    accelerators: tuple[AcceleratorReading, ...] = ()
    memory_stall_share: float | None = None

    @property
    def memory_share(self) -> float:
        """Used memory as a share of the limit."""
        return self.memory_used_bytes / self.memory_limit_bytes

    @property
    def memory_free_bytes(self) -> int:
        """What is left below the limit."""
        return max(0, self.memory_limit_bytes - self.memory_used_bytes)


class Sampler:
    """Looks at the machine. Not safe to share: processor time is counted from look to look.

    Args:
        clock: measures the time between two looks.
        folders: on the file systems to watch.
        group: where the control group's files are; only tests name another.
    """

    def __init__(
        self, clock: Clock, folders: Sequence[Path | str] = (".",), *, group: Path = _GROUP
    ) -> None:
        self._clock = clock
        self._folders = tuple(str(folder) for folder in folders)
        self._group = group
        self._driver = _driver()
        self._before: tuple[float, float] | None = None

    def sample(self) -> Reading:
        """Look once. Takes about a millisecond, more where accelerators answer."""
        now_s = self._clock.monotonic_s()
        cores = self._cores()
        busy_s = self._busy_s()
        share = None
        if self._before is not None and now_s > self._before[0]:
            seconds = (now_s - self._before[0]) * cores
            share = min(1.0, max(0.0, (busy_s - self._before[1]) / seconds))
        self._before = (now_s, busy_s)
        used, limit = self._memory()
        return Reading(
            at_s=now_s,
            cores=cores,
            cpu_share=share,
            memory_used_bytes=used,
            memory_limit_bytes=limit,
            swap_used_bytes=psutil.swap_memory().used,
            disks=tuple(_disk(folder) for folder in self._folders),
            accelerators=_accelerators(self._driver),
            memory_stall_share=_stall("memory"),
        )

    def _cores(self) -> float:
        """Processors we may use: by affinity, and by the quota of the control group."""
        mine = float(len(os.sched_getaffinity(0)))
        quota, _, period = self._text("cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            return min(mine, int(quota) / int(period))
        return mine

    def _busy_s(self) -> float:
        """Seconds of processor time used so far, in the control group or on the machine."""
        for line in self._text("cpu.stat").splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / _MICROSECONDS
        times = psutil.cpu_times()
        return float(times.user + times.system)

    def _memory(self) -> tuple[int, int]:
        """Bytes in use, and the limit."""
        machine = psutil.virtual_memory()
        limit, current = self._text("memory.max"), self._text("memory.current")
        if not (limit.isdecimal() and current.isdecimal()) or int(limit) >= machine.total:
            return machine.total - machine.available, machine.total
        droppable = 0
        for line in self._text("memory.stat").splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                droppable = int(value)
        return max(0, int(current) - droppable), int(limit)

    def _text(self, name: str) -> str:
        try:
            return (self._group / name).read_text().strip()
        except OSError:
            return ""


def _disk(folder: str) -> DiskReading:
    usage = shutil.disk_usage(folder)
    return DiskReading(folder, usage.free, usage.total)


def _stall(what: str) -> float | None:
    """The share of the last ten seconds in which some task waited."""
    try:
        words = (_PRESSURE / what).read_text().splitlines()[0].split()
        return float(words[1].removeprefix("avg10=")) / 100
    except (OSError, IndexError, ValueError):
        return None


def _driver() -> Any:
    """NVIDIA's management library, where it is installed and finds a driver; else `None`."""
    try:
        import pynvml  # type: ignore[import-not-found]  # noqa: PLC0415  an extra

        pynvml.nvmlInit()
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return pynvml


def _accelerators(driver: Any) -> tuple[AcceleratorReading, ...]:
    if driver is None:
        return ()
    found = []
    for index in range(driver.nvmlDeviceGetCount()):
        handle = driver.nvmlDeviceGetHandleByIndex(index)
        memory = driver.nvmlDeviceGetMemoryInfo(handle)
        name = driver.nvmlDeviceGetName(handle)
        busy = driver.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        text = name.decode() if isinstance(name, bytes) else str(name)
        found.append(AcceleratorReading(index, text, memory.used, memory.total, busy))
    return tuple(found)
