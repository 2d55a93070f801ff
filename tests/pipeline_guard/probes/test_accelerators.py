"""GPU faults: the messages of real drivers, and a driver that stands in for a GPU.

The messages are in the forms in which drivers 304 to 610 write them to kernel logs.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline_guard.model import Fault, Verdict
from pipeline_guard.probes.accelerators import (
    APPLICATION,
    DEVICE,
    NOTED,
    GpuProbe,
    Xid,
    XidProbe,
    xids_in,
)

from .conftest import look  # noqa: TID252  of this folder


@pytest.mark.parametrize(
    ("line", "device", "number", "instance", "pid", "group"),
    [
        ("[18296.507578] NVRM: Xid (PCI:0000:01:00): 31, Ch 00000009, engmask 00000101",
         "0000:01:00", 31, None, None, "application"),
        ("Jan 18 11:38:05 host kernel: [ 269.5] NVRM: Xid (0000:01:00): 3, C 00000005 SC 00000007",
         "0000:01:00", 3, None, None, "other"),
        ("6,1234,5678901,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python, GPU has fallen",
         "0000:3b:00", 79, None, 1234, "device"),
        ("kernel: NVRM: Xid (PCI:0000:2b:00): 79, GPU has fallen off the bus.",
         "0000:2b:00", 79, None, None, "device"),
        ("NVRM: Xid (PCI:0000:B3:00): 43, pid='<unknown>', name=<unknown>, Ch 00000010",
         "0000:b3:00", 43, None, None, "application"),
        ("NVRM: Xid (PCI:0000:b3:00 GPU-I:05): 45, pid=99, name=python3, Ch 00000004",
         "0000:b3:00", 45, 5, 99, "application"),
        ("NVRM: Xid (PCI:0000:07:00): 48, pid=1, An uncorrectable double bit error (DBE)",
         "0000:07:00", 48, None, 1, "device"),
        ("NVRM: Xid (PCI:0000:07:00): 63, pid=2, Row Remapper: New row marked for remapping",
         "0000:07:00", 63, None, 2, "noted"),
    ],
)  # fmt: skip
def test_a_message_of_the_driver_is_understood(
    line: str, device: str, number: int, instance: int | None, pid: int | None, group: str
) -> None:
    (found,) = xids_in([line])

    assert found == Xid(device, number, instance, pid)
    assert found.group == group


@pytest.mark.parametrize(
    "line",
    [
        "",
        "NVRM: GPU at PCI:0000:65:00: GPU-cd57429b-a4d9-917d-72d6-1d9b6c4f6a3a",
        "NVRM: GPU 0000:2b:00.0: GPU has fallen off the bus.",
        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 MC TS crumbstore",
        "somebody wrote Xid (PCI:0000:3b:00): 79",
    ],
)
def test_other_lines_are_no_faults(line: str) -> None:
    assert xids_in([line]) == []


def test_no_number_is_in_two_groups() -> None:
    groups = (APPLICATION, DEVICE, NOTED)
    assert sum(map(len, groups)) == len(frozenset().union(*groups))


def appended(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


FALLEN = "NVRM: Xid (PCI:0000:2b:00): 79, GPU has fallen off the bus."
FAULTED = "NVRM: Xid (PCI:0000:2b:00): 31, pid=5, name=python, Ch 00000009"
REMAPPED = "NVRM: Xid (PCI:0000:2b:00): 63, Row Remapper"


def test_only_what_was_added_since_the_look_before_counts(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    appended(log, FALLEN)
    probe = XidProbe(source="file", path=log)

    first = look(probe)
    appended(log, FAULTED)
    second, third = look(probe), look(probe)

    assert [r.verdict for r in (first, second, third)] == [0, 1, 0]
    assert second.fault is Fault.ACCELERATOR_FAULT
    assert second.evidence["xids"][0]["pid"] == 5


def test_a_fault_of_the_device_stays(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.touch()
    probe = XidProbe(source="file", path=log)
    look(probe)
    appended(log, FALLEN)

    verdicts = [look(probe).verdict for _ in range(3)]
    assert verdicts == [Verdict.CRITICAL] * 3


def test_a_corrected_fault_is_a_warning_without_a_class(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.touch()
    probe = XidProbe(source="file", path=log, ignored=(31,))
    look(probe)
    appended(log, REMAPPED, FAULTED)

    reading = look(probe)
    assert (reading.verdict, reading.fault) == (Verdict.WARNING, None)


def test_half_a_line_waits_and_a_rotated_log_is_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    appended(log, "x" * 500)
    probe = XidProbe(source="file", path=log)
    look(probe)
    with log.open("a") as file:
        file.write(FAULTED[:30])
    half = look(probe)
    with log.open("a") as file:
        file.write(FAULTED[30:] + "\n")
    whole = look(probe)
    log.rename(tmp_path / "kern.log.1")
    appended(log, FAULTED)
    rotated = look(probe)

    assert [r.verdict for r in (half, whole, rotated)] == [0, 1, 1]


def test_a_log_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    gone = look(XidProbe(source="file", path=tmp_path / "gone"))
    folder = look(XidProbe(source="file", path=tmp_path))

    assert [gone.verdict, folder.verdict] == [Verdict.UNKNOWN] * 2


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="needs the right to read it")
def test_the_kernels_own_log_is_followed() -> None:
    probe = XidProbe()

    assert [look(probe).verdict for _ in range(2)] == [Verdict.OK] * 2


class Driver:
    """Answers as NVML does, for GPUs that are not there."""

    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, *gpus: dict[str, Any], is_broken: bool = False) -> None:
        self.gpus, self.is_broken = gpus, is_broken

    def nvmlInit(self) -> None:
        if self.is_broken:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return {"used": 1, "total": 10, "celsius": 40, "errors": 0, **self.gpus[index]}

    def nvmlDeviceGetMemoryInfo(self, gpu: dict[str, Any]) -> Any:
        return SimpleNamespace(used=gpu["used"], total=gpu["total"])

    def nvmlDeviceGetUtilizationRates(self, _gpu: dict[str, Any]) -> Any:
        return SimpleNamespace(gpu=55)

    def nvmlDeviceGetTemperature(self, gpu: dict[str, Any], _kind: int) -> int:
        return int(gpu["celsius"])

    def nvmlDeviceGetTotalEccErrors(self, gpu: dict[str, Any], *_kind: int) -> int:
        if gpu["errors"] is None:
            raise self.NVMLError("Not Supported")
        return int(gpu["errors"])


@pytest.mark.parametrize(
    ("driver", "verdict", "fault"),
    [
        (Driver({}), Verdict.OK, None),
        (Driver({"errors": None}), Verdict.OK, None),
        (Driver(), Verdict.CRITICAL, Fault.ACCELERATOR_FAULT),
        (Driver({"celsius": 88}), Verdict.WARNING, Fault.ACCELERATOR_FAULT),
        (Driver({}, {"celsius": 95}), Verdict.CRITICAL, Fault.ACCELERATOR_FAULT),
        (Driver({"errors": 2}), Verdict.CRITICAL, Fault.ACCELERATOR_FAULT),
        (Driver({"used": 10}), Verdict.CRITICAL, Fault.ACCELERATOR_OUT_OF_MEMORY),
        (Driver(is_broken=True), Verdict.UNKNOWN, None),
    ],
)
def test_a_gpu_is_judged_by_what_its_driver_says(
    driver: Driver, verdict: Verdict, fault: Fault | None
) -> None:
    reading = look(GpuProbe(_driver=driver))

    assert (reading.verdict, reading.fault) == (verdict, fault)


@pytest.mark.skipif(find_spec("pynvml") is not None, reason="the extra is installed")
def test_without_the_extra_it_says_what_to_install() -> None:
    reading = look(GpuProbe())

    assert reading.verdict is Verdict.UNKNOWN
    assert "privacy-finetuner[gpu]" in reading.summary
