"""Disks, files that should be fresh, checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_guard import checkpoints
from pipeline_guard.config import build
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault, Verdict
from pipeline_guard.probes import PROBES
from pipeline_guard.probes.storage import CheckpointProbe, DiskProbe, FreshnessProbe
from pipeline_guard.probes.trends import Trend

from .conftest import START, look  # noqa: TID252  of this folder


@given(
    slope=st.floats(1, 1e9),
    left_s=st.floats(60, 1e5),
    noise=st.lists(st.floats(-1, 1), min_size=20, max_size=20),
)
def test_a_line_says_when_it_is_full_whatever_small_noise_there_is(
    slope: float, left_s: float, noise: list[float]
) -> None:
    trend = Trend(1_000)
    for number in range(20):
        trend.add(number * 10.0, slope * (number * 10 + noise[number]))
    newest = slope * (190 + noise[19])

    assert trend.seconds_to(newest + slope * left_s) == pytest.approx(left_s, rel=0.03)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0]])
def test_fewer_than_three_points_make_no_line(values: list[float]) -> None:
    trend = Trend(100)
    for number, value in enumerate(values):
        trend.add(number, value)

    assert trend.slope() != trend.slope()


def test_what_shrinks_is_never_full_and_a_clock_that_goes_back_begins_anew() -> None:
    trend = Trend(1_000)
    for number in range(10):
        trend.add(number, 100.0 - number)
    assert trend.seconds_to(200) == float("inf")

    trend.add(5, 0.0)
    assert trend.span_s == 0


def test_a_disk_that_fills_is_forecast_fifteen_minutes_ahead(tmp_path: Path) -> None:
    stats = os.statvfs(tmp_path)
    free = stats.f_bavail * stats.f_frsize
    used = (stats.f_blocks - stats.f_bfree) * stats.f_frsize
    probe = DiskProbe(path=tmp_path, warn_free=0, crit_free=0)
    probe._state.device = tmp_path.stat().st_dev

    def read(minutes: float) -> Verdict:
        probe._state.trend = trend = Trend(1_800)
        rate = free / (minutes * 60)
        for number in range(30):
            trend.add(number * 10.0, used - rate * (290 - number * 10))
        return look(probe, 300.0).verdict

    assert read(10) is Verdict.CRITICAL
    assert read(40) is Verdict.WARNING
    assert read(600) is Verdict.OK


def test_there_is_no_forecast_from_the_first_minute(tmp_path: Path) -> None:
    probe = DiskProbe(path=tmp_path, warn_free=0, crit_free=0)
    readings = [look(probe, at_s) for at_s in (0.0, 10.0, 20.0)]

    assert all("full_in_seconds" not in reading.measurements for reading in readings)
    assert {"free_bytes_share", "free_inodes_share", "free_bytes"} <= set(readings[0].measurements)


def test_too_little_room_is_critical_without_a_forecast(tmp_path: Path) -> None:
    reading = look(DiskProbe(path=tmp_path, warn_free=1.0, crit_free=1.0))

    assert (reading.verdict, reading.fault) == (Verdict.CRITICAL, Fault.DISK_FULL)


def test_a_path_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert look(DiskProbe(path=tmp_path / "gone")).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(("name", "value"), [("crit", "2h"), ("crit_free", 0.5)])
def test_limits_the_wrong_way_round_are_refused(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        build("disk", {"path": str(tmp_path), name: value}, PROBES, "test")


def aged(path: Path, seconds: float, content: bytes = b"x") -> Path:
    path.write_bytes(content)
    at = START.timestamp() - seconds
    os.utime(path, (at, at))
    return path


@pytest.mark.parametrize(
    ("age_s", "verdict"), [(0, 0), (59, 0), (61, 1), (301, 2), (-30, 0), (-90, 3)]
)
def test_a_file_is_judged_by_its_age(tmp_path: Path, age_s: float, verdict: int) -> None:
    probe = FreshnessProbe(path=aged(tmp_path / "f", age_s), warn_s=60, crit_s=300)

    reading = look(probe)
    assert reading.verdict == verdict
    assert reading.fault is (Fault.STALE_DATA if verdict in (1, 2) else None)


def test_a_folder_is_as_old_as_its_newest_file_that_fits(tmp_path: Path) -> None:
    aged(tmp_path / "old.csv", 500)
    aged(tmp_path / "new.csv", 10)
    aged(tmp_path / "other.txt", 0)

    reading = look(FreshnessProbe(path=tmp_path, pattern="*.csv", crit_s=60))
    assert (reading.verdict, reading.evidence["file"]) == (Verdict.OK, "new.csv")


def test_what_is_missing_or_empty_is_stale(tmp_path: Path) -> None:
    missing = look(FreshnessProbe(path=tmp_path / "f", crit_s=60))
    empty = look(FreshnessProbe(path=aged(tmp_path / "g", 0, b""), crit_s=60))
    no_file = look(FreshnessProbe(path=tmp_path, pattern="*.csv", crit_s=60))

    assert [r.fault for r in (missing, empty, no_file)] == [Fault.STALE_DATA] * 3


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        ({"newest": START.timestamp() - 10}, Verdict.OK),
        ({"newest": (START - timedelta(seconds=10)).isoformat()}, Verdict.OK),
        ({"newest": (START - timedelta(hours=1)).isoformat()}, Verdict.CRITICAL),
        ({"newest": "2026-11-22T00:00:00"}, Verdict.UNKNOWN),
        ({"newest": True}, Verdict.UNKNOWN),
        ({}, Verdict.UNKNOWN),
        ([], Verdict.UNKNOWN),
    ],
)
def test_a_watermark_counts_instead_of_the_files_time(
    tmp_path: Path, content: object, verdict: Verdict
) -> None:
    path = aged(tmp_path / "state.json", 9_999, json.dumps(content).encode())

    assert look(FreshnessProbe(path=path, watermark="newest", crit_s=60)).verdict is verdict


def test_a_file_system_that_hangs_is_unknown(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    probe = FreshnessProbe(path=tmp_path / "state.json", watermark="at", crit_s=60, answer_s=0.05)
    probe_of_size = look(probe)  # a pipe has no bytes: it is not read

    assert probe_of_size.verdict is Verdict.CRITICAL


def safetensors(size: int = 16) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    return struct.pack("<Q", len(header)) + header.encode() + bytes(range(size))


def checkpoint(run: Path, step: int, *, digests: bool = True) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors())
    (folder / "optimizer.pt").write_bytes(b"optimizer" * 10)
    if digests:
        sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
        (folder / "state.json").write_text(json.dumps({"digests": sums, "state": {"step": step}}))
        digest = hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
        body = {"checkpoint": folder.name, "digest": digest, "steps": step}
        with (run / "run.jsonl").open("a") as file:
            file.write(json.dumps({"type": "settled", "body": body}) + "\n")
    return folder


def test_a_checkpoint_that_is_what_was_written_is_verified(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    checkpoint(tmp_path, 10)

    reading = look(CheckpointProbe(run=tmp_path))
    assert (reading.verdict, reading.evidence["sound"]) == (Verdict.OK, "checkpoint-10")
    assert reading.measurements["newest_sound_step"] == 10


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 5)
    missed = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for place in range(8 * len(content)):
            changed = bytearray(content)
            changed[place // 8] ^= 1 << place % 8
            path.write_bytes(changed)
            if checkpoints.verify(folder).is_sound:
                missed.append((path.name, place))
        path.write_bytes(content)

    assert missed == []
    assert checkpoints.verify(folder).is_verified


def test_the_damaged_one_is_named_with_the_newest_sound_one(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    (checkpoint(tmp_path, 10) / "optimizer.pt").write_bytes(b"optimizes" * 10)

    reading = look(CheckpointProbe(run=tmp_path))
    assert (reading.verdict, reading.fault) == (Verdict.CRITICAL, Fault.CORRUPT_CHECKPOINT)
    assert list(reading.evidence["damaged"]) == ["checkpoint-10"]
    assert reading.evidence["sound"] == "checkpoint-5"


def test_a_bit_that_rots_is_found_when_it_is_read_again(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 5)
    probe = CheckpointProbe(run=tmp_path, again_s=100)
    assert look(probe, 0).verdict is Verdict.OK
    path = folder / "optimizer.pt"
    stats = path.stat()
    with path.open("r+b") as file:
        file.write(b"O")
    os.utime(path, ns=(stats.st_atime_ns, stats.st_mtime_ns))

    assert look(probe, 50).verdict is Verdict.OK
    assert look(probe, 101).verdict is Verdict.CRITICAL


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "too short"),
        (b"1234567", "too short"),
        (safetensors()[:-1], "cut off"),
        (safetensors() + b"x", "grew"),
        (struct.pack("<Q", 2**60) + b"{}", "cut off"),
        (struct.pack("<Q", 2) + b"[]", "cannot be read"),
        (struct.pack("<Q", 4) + b"null", "cannot be read"),
        (safetensors().replace(b"[0, 16]", b"[4, 20]"), "gap"),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_damage(
    tmp_path: Path, content: bytes, words: str
) -> None:
    folder = checkpoint(tmp_path, 5, digests=False)
    (folder / "model.safetensors").write_bytes(content)

    found = checkpoints.verify(folder)
    assert not found.is_sound
    assert words in found.faults[0]


def test_a_checkpoint_without_digests_is_sound_and_never_verified(tmp_path: Path) -> None:
    found = checkpoints.verify(checkpoint(tmp_path, 5, digests=False))

    assert (found.is_sound, found.is_verified) == (True, False)


def test_the_sums_of_sha256sum_are_digests(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 5, digests=False)
    sums = "".join(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n"
        for p in sorted(folder.iterdir())
    )
    (folder / "SHA256SUMS").write_text(sums)
    assert checkpoints.verify(folder).is_verified

    (folder / "optimizer.pt").unlink()
    assert checkpoints.verify(folder).faults == ("optimizer.pt is missing",)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", ""])
def test_a_list_that_leads_out_of_the_folder_is_damage(tmp_path: Path, name: str) -> None:
    folder = checkpoint(tmp_path, 5, digests=False)
    (folder / "state.json").write_text(json.dumps({"digests": {name: "0" * 64}}))

    assert not checkpoints.verify(folder).is_sound


@pytest.mark.parametrize(("expected", "verdict"), [(False, Verdict.OK), (True, Verdict.CRITICAL)])
def test_no_checkpoint_yet_is_what_the_configuration_says(
    tmp_path: Path, expected: bool, verdict: Verdict
) -> None:
    assert look(CheckpointProbe(run=tmp_path, expected=expected)).verdict is verdict


def test_a_run_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert look(CheckpointProbe(run=tmp_path / "gone")).verdict is Verdict.UNKNOWN


def test_a_half_written_or_damaged_name_is_no_checkpoint(tmp_path: Path) -> None:
    for name in (".checkpoint-5.partial", "checkpoint-5.damaged", "checkpoint-x"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-7").write_text("a file")

    assert checkpoints.found_in(tmp_path) == []


def test_a_real_clock_judges_a_file_that_was_just_written(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    time.sleep(0.01)
    reading = look(FreshnessProbe(path=tmp_path / "f", crit_s=60), at=datetime.now(UTC))  # noqa: TID251

    assert reading.verdict is Verdict.OK
