"""Memory and pressure, from files as real kernels write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_guard.config import build
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault, Verdict
from pipeline_guard.probes import PROBES
from pipeline_guard.probes.machine import MemoryProbe, PressureProbe, memory_of, stalled

from .conftest import look  # noqa: TID252  of this folder

GIB = 1 << 30
MEMINFO = """MemTotal:       24680124 kB
MemFree:          812344 kB
MemAvailable:   18000000 kB
Buffers:          101212 kB
"""
STAT_V2 = "anon 900000000\nfile 300000000\ninactive_anon 4096\ninactive_file 104857600\n"
STAT_V1 = "cache 300000000\nrss 900000000\ntotal_inactive_file 104857600\n"
PRESSURE = (
    "some avg10=41.50 avg60=12.00 avg300=3.10 total=123456\n"
    "full avg10=8.25 avg60=2.00 avg300=0.50 total=65432\n"
)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "pressure").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
    (tmp_path / "proc" / "pressure" / "memory").write_text(PRESSURE)
    return tmp_path / "proc"


def group_v2(folder: Path, used: int, limit: int | str = 2 * GIB, kills: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.stat").write_text(STAT_V2)
    (folder / "memory.events").write_text(f"low 0\nmax 3\noom 1\noom_kill {kills}\n")
    return folder


def test_a_limit_of_the_group_counts_and_droppable_caches_do_not(
    tmp_path: Path, proc: Path
) -> None:
    group = group_v2(tmp_path / "group", 1 * GIB)

    assert memory_of(group, proc) == (1 * GIB - 104_857_600, 2 * GIB)


def test_version_one_is_read_too(tmp_path: Path, proc: Path) -> None:
    group = tmp_path / "group"
    group.mkdir()
    (group / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    (group / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (group / "memory.stat").write_text(STAT_V1)

    assert memory_of(group, proc) == (1 * GIB - 104_857_600, 2 * GIB)


@pytest.mark.parametrize("limit", ["max", 9_223_372_036_854_771_712])
def test_without_a_limit_it_is_the_machine(tmp_path: Path, proc: Path, limit: int | str) -> None:
    group = group_v2(tmp_path / "group", 1 * GIB, limit)

    assert memory_of(group, proc) == ((24_680_124 - 18_000_000) * 1024, 24_680_124 * 1024)


@pytest.mark.parametrize(("share", "verdict"), [(0.5, 0), (0.9, 1), (0.97, 2)])
def test_used_memory_is_judged_by_its_share(
    tmp_path: Path, proc: Path, share: float, verdict: int
) -> None:
    group = group_v2(tmp_path / "group", int(share * 2 * GIB) + 104_857_600)

    reading = look(MemoryProbe(group=group, proc=proc))
    assert reading.verdict == verdict
    assert reading.measurements["memory_used_share"] == pytest.approx(share, rel=1e-3)


def test_a_kill_of_the_kernel_is_critical_once(tmp_path: Path, proc: Path) -> None:
    probe = MemoryProbe(group=group_v2(tmp_path / "group", GIB, kills=4), proc=proc)
    first = look(probe, 0)
    group_v2(tmp_path / "group", GIB, kills=5)
    killed, after = look(probe, 10), look(probe, 20)

    assert [r.verdict for r in (first, killed, after)] == [0, 2, 0]
    assert (killed.fault, killed.evidence["oom_kills"]) == (Fault.OUT_OF_MEMORY, 1)


def test_memory_that_grows_is_critical_before_it_is_full(tmp_path: Path, proc: Path) -> None:
    probe = MemoryProbe(group=tmp_path / "group", proc=proc)
    verdicts = []
    for number in range(30):  # 40 MB a second to 2 GiB
        group_v2(tmp_path / "group", 600_000_000 + 40_000_000 * number)
        verdicts.append(look(probe, float(number)).verdict)

    assert verdicts[0] is Verdict.OK
    assert verdicts[29] is Verdict.OK  # the line is not long enough to believe
    group_v2(tmp_path / "group", 600_000_000 + 40_000_000 * 31)
    assert look(probe, 31.0).verdict is Verdict.CRITICAL


def test_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("nothing")

    assert look(MemoryProbe(group=tmp_path, proc=tmp_path / "gone")).verdict is Verdict.UNKNOWN
    assert look(MemoryProbe(group=tmp_path, proc=tmp_path)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("kind", "window", "share"), [("some", 10, 0.415), ("some", 300, 0.031), ("full", 60, 0.02)]
)
def test_pressure_is_a_share_of_time(kind: str, window: int, share: float) -> None:
    assert stalled(PRESSURE, kind, window) == pytest.approx(share)


def test_pressure_is_judged_by_its_share(proc: Path) -> None:
    high = look(PressureProbe(proc=proc))
    low = look(PressureProbe(proc=proc, kind="full"))

    assert (high.verdict, high.fault) == (Verdict.CRITICAL, Fault.OUT_OF_MEMORY)
    assert low.verdict is Verdict.OK


def test_a_kernel_without_pressure_is_unknown(tmp_path: Path, proc: Path) -> None:
    (tmp_path / "memory.pressure").write_text("")

    assert look(PressureProbe(proc=tmp_path)).verdict is Verdict.UNKNOWN
    assert look(PressureProbe(proc=proc, resource="io")).verdict is Verdict.UNKNOWN
    assert look(PressureProbe(proc=proc, group=tmp_path)).verdict is Verdict.UNKNOWN


def test_a_real_machine_is_read() -> None:
    reading = look(MemoryProbe(warn=1.0, crit=1.0))

    assert reading.verdict is not Verdict.UNKNOWN
    assert 0 < reading.measurements["memory_used_share"] <= 1


def test_limits_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="crit"):
        build("memory", {"warn": 0.9, "crit": 0.5}, PROBES, "test")
