"""Accelerators: what the driver says of each GPU, and what the kernel log says of its faults.

XID numbers are grouped by what helps. A GPU is never reset automatically.

Sources: NVIDIA, "XID Errors"; facebookresearch/gcm, health checks (which numbers are not critical);
NVML API, "Field Value Queries" and "Device Queries".
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.model import Fault, Moment, Pace, Reading
from pipeline_guard.probes.inputs import Patience, asked, critical, ok, unknown, warning

Share = Annotated[float, Within(0, 1)]

APPLICATION: Final = frozenset({8, 13, 31, 43, 45, 68, 69, 109})
"""A program did something wrong, or was ended: restart it."""
NOTED: Final = frozenset({63, 92})
"""The hardware corrected it, or put the page aside: nothing needs to be done now."""
DEVICE: Final = frozenset({48, 61, 62, 64, 74, 79, 94, 95, 119, 120, 121, 140, 143, 154})
"""The device cannot be relied on: move the work elsewhere, and call for the hardware."""

_XID: Final = re.compile(
    r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)(?: GPU-I:(\d+))?\): (\d+)"
    r"(?:, pid=[\"']?(\d+))?"
)
_KMSG: Final = Path("/dev/kmsg")
_CURSOR: Final = "-- cursor: "
_RECORD_BYTES: Final = 8_192
_READ_BYTES_MOST: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Xid:
    """One fault of a GPU, as the kernel log says it.

    Attributes:
        device: its PCI address.
        number: which fault.
        instance: of a GPU that is split (MIG); `None` where it is not.
        pid: the process that it is about, where the log says.
    """

    device: str
    number: int
    instance: int | None = None
    pid: int | None = None

    @property
    def group(self) -> Literal["application", "noted", "device", "other"]:
        """What helps: see the groups of this module."""
        if self.number in APPLICATION:
            return "application"
        if self.number in NOTED:
            return "noted"
        return "device" if self.number in DEVICE else "other"


def xids_in(lines: Iterable[str]) -> list[Xid]:
    """The faults in lines of a kernel log, in whatever form: kmsg, dmesg or journal."""
    found = []
    for line in lines:
        match = _XID.search(line)
        if match is not None:
            instance = None if match[2] is None else int(match[2])
            pid = None if match[4] is None else int(match[4])
            found.append(Xid(match[1].lower(), int(match[3]), instance, pid))
    return found


@dataclass(slots=True)
class _Log:
    """Where in a log the last look ended."""

    descriptor: int | None = None
    inode: int = 0
    offset: int = 0
    is_begun: bool = False
    cursor: str = ""
    standing: dict[str, Xid] = field(default_factory=dict)
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, kw_only=True)
class XidProbe:
    """GPU faults (XID) in the kernel log since the look before.

    A fault of a device stays critical until the guard starts anew: it does not go away by itself. A
    fault of an application counts for the look that sees it.

    Args:
        source: `kmsg` (`/dev/kmsg`, needs the right to read it), `journal` (`journalctl -k`), or
            `file`.
        path: of the log file; for `kmsg` the device.
        ignored: numbers that are passed over.
        answer_s: the log must answer within this time.
    """

    pace: ClassVar[Pace] = Pace(5.0)

    source: Literal["kmsg", "journal", "file"] = "kmsg"
    path: Path = _KMSG
    ignored: tuple[int, ...] = ()
    answer_s: Annotated[float, POSITIVE] = 3.0
    _log: _Log = field(default_factory=_Log, init=False, repr=False, compare=False)

    def look(self, moment: Moment) -> Reading:
        """Read what was added."""
        log = self._log
        evidence: dict[str, Any] = {"source": self.source}
        lines = asked(
            log.patience,
            self._added,
            name=f"the kernel log ({self.source})",
            within_s=self.answer_s,
            moment=moment,
            evidence=evidence,
        )
        if isinstance(lines, Reading):
            return lines
        fresh = [xid for xid in xids_in(lines) if xid.number not in self.ignored]
        for xid in fresh:
            if xid.group == "device":
                log.standing[xid.device] = xid
        shown = [vars_of(xid) for xid in (*log.standing.values(), *fresh)]
        more: dict[str, Any] = {
            "evidence": {**evidence, "xids": shown[:16]},
            "measurements": {"xids": float(len(fresh))},
        }
        if log.standing:
            words = ", ".join(f"XID {x.number} on {x.device}" for x in log.standing.values())
            return critical(f"{words}: move the work away", Fault.ACCELERATOR_FAULT, **more)
        serious = [xid for xid in fresh if xid.group != "noted"]
        if serious:
            words = ", ".join(f"XID {xid.number} on {xid.device}" for xid in serious[:4])
            return warning(words, Fault.ACCELERATOR_FAULT, **more)
        if fresh:
            return warning(f"XID {fresh[0].number} on {fresh[0].device}: corrected", **more)
        return ok("no new fault in the kernel log", **more)

    def _added(self) -> list[str]:
        if self.source == "journal":
            return self._from_journal()
        return self._from_device() if self.source == "kmsg" else self._from_file()

    def _from_device(self) -> list[str]:
        """Records since the last look; each read of the device gives one."""
        log = self._log
        if log.descriptor is None:
            log.descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(log.descriptor, 0, os.SEEK_END)
        lines = []
        while True:
            try:
                lines.append(os.read(log.descriptor, _RECORD_BYTES).decode(errors="replace"))
            except BlockingIOError:
                return lines
            except BrokenPipeError:  # records were overwritten before they were read: go on
                continue

    def _from_file(self) -> list[str]:
        log = self._log
        with self.path.open("rb") as file:
            stats = os.fstat(file.fileno())
            if not log.is_begun:
                log.is_begun, log.offset = True, stats.st_size
            elif stats.st_ino != log.inode or stats.st_size < log.offset:
                log.offset = 0  # it was rotated
            log.inode = stats.st_ino
            file.seek(log.offset)
            data = file.read(_READ_BYTES_MOST)
        whole = data.rpartition(b"\n")[0]
        log.offset += len(whole) + 1 if whole else 0
        return whole.decode(errors="replace").splitlines()

    def _from_journal(self) -> list[str]:
        """Entries after the cursor of the last look; the first look only asks for the cursor."""
        log = self._log
        which = [f"--after-cursor={log.cursor}"] if log.cursor else ["--lines=1"]
        done = subprocess.run(  # noqa: S603 -- a fixed list
            ["journalctl", "--dmesg", "--no-pager", "--output=cat", "--show-cursor", *which],  # noqa: S607
            capture_output=True,
            timeout=self.answer_s,
            check=False,
        )
        if done.returncode != 0:
            raise PermissionError(errno.EPERM, "journalctl refused")
        lines = done.stdout.decode(errors="replace").splitlines()
        is_first, cursors = not log.cursor, [n for n, li in enumerate(lines) if _CURSOR in li]
        if cursors:
            log.cursor = lines.pop(cursors[-1]).partition(_CURSOR)[2].strip()
        return [] if is_first else lines


@dataclass(frozen=True, kw_only=True)
class GpuProbe:
    """GPUs by their driver: there, not too hot, memory not full, no memory error that stays.

    Needs the extra `gpu` (nvidia-ml-py) and a driver; without, it is unknown and says so.

    Args:
        expected: so many must be there.
        warn_celsius, crit_celsius: temperature of the chip.
        crit_memory: used share of a GPU's memory.
        answer_s: the driver must answer within this time; one that hangs is a fault itself.
    """

    expected: Annotated[int, Within(1, 1_024)] = 1
    warn_celsius: float = 85.0
    crit_celsius: float = 92.0
    crit_memory: Share = 0.99
    answer_s: Annotated[float, POSITIVE] = 3.0
    _driver: Any = field(default=None, repr=False, compare=False)
    _patience: Patience = field(default_factory=Patience, init=False, repr=False, compare=False)

    def look(self, moment: Moment) -> Reading:
        """Ask the driver."""
        try:
            driver = self._driver or _nvml()
        except ImportError:
            words = "nvidia-ml-py is not installed: pip install 'privacy-finetuner[gpu]'"
            return unknown(words)
        found = asked(
            self._patience,
            lambda: _gpus(driver),
            name="the NVIDIA driver",
            within_s=self.answer_s,
            moment=moment,
            evidence={},
        )
        return found if isinstance(found, Reading) else self._judged(found)

    def _judged(self, gpus: list[dict[str, Any]]) -> Reading:
        figures = {}
        for gpu in gpus:
            for name in ("memory_used_share", "busy_share", "celsius"):
                figures[f"gpu{gpu['index']}_{name}"] = float(gpu[name])
        more: dict[str, Any] = {"measurements": figures, "evidence": {"gpus": gpus}}
        fault = Fault.ACCELERATOR_FAULT
        if len(gpus) < self.expected:
            return critical(f"{len(gpus)} GPUs are there, expected {self.expected}", fault, **more)
        for gpu in gpus:
            name = f"GPU {gpu['index']}"
            if gpu["uncorrected_errors"]:
                words = f"{name} has {gpu['uncorrected_errors']} uncorrected memory errors"
                return critical(words, fault, **more)
            if gpu["celsius"] >= self.crit_celsius:
                return critical(f"{name} is at {gpu['celsius']} degrees", fault, **more)
            if gpu["memory_used_share"] >= self.crit_memory:
                words = f"the memory of {name} is {gpu['memory_used_share']:.0%} full"
                return critical(words, Fault.ACCELERATOR_OUT_OF_MEMORY, **more)
        hot = [gpu for gpu in gpus if gpu["celsius"] >= self.warn_celsius]
        if hot:
            words = f"GPU {hot[0]['index']} is at {hot[0]['celsius']} degrees"
            return warning(words, fault, **more)
        return ok(f"{len(gpus)} GPUs are well", **more)


def vars_of(xid: Xid) -> dict[str, Any]:
    """A fault as JSON values."""
    return {
        "device": xid.device, "xid": xid.number, "instance": xid.instance, "pid": xid.pid,
        "group": xid.group,
    }  # fmt: skip


def _nvml() -> Any:
    import pynvml  # type: ignore[import-not-found]  # noqa: PLC0415  an extra

    return pynvml


def _gpus(driver: Any) -> list[dict[str, Any]]:
    """What the driver says of each GPU.

    Raises:
        OSError: it does not work.
    """
    try:
        driver.nvmlInit()
        return [_gpu(driver, index) for index in range(driver.nvmlDeviceGetCount())]
    except driver.NVMLError as error:
        raise OSError(None, str(error)) from error


def _gpu(driver: Any, index: int) -> dict[str, Any]:
    handle = driver.nvmlDeviceGetHandleByIndex(index)
    memory = driver.nvmlDeviceGetMemoryInfo(handle)
    try:
        errors = driver.nvmlDeviceGetTotalEccErrors(
            handle, driver.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, driver.NVML_VOLATILE_ECC
        )
    except driver.NVMLError:  # a GPU without error correction
        errors = 0
    return {
        "index": index,
        "memory_used_share": memory.used / memory.total if memory.total else 1.0,
        "busy_share": driver.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
        "celsius": driver.nvmlDeviceGetTemperature(handle, driver.NVML_TEMPERATURE_GPU),
        "uncorrected_errors": int(errors),
    }
