from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.errors import CheckpointError
from privacy_finetuner.training.run_record import FILE_NAME, RunRecord, archive, fold, read_state
from privacy_runtime.append_log import LogEntry, RunRecordDamaged, RunRecordLocked

PLANNED = ("planned", {"plan": {"steps": 40}, "job_id": "a"})


def reserved(until: int) -> tuple[str, dict[str, Any]]:
    return "reserved", {"until": until}


def settled(steps: int, checkpoint: str | None = None) -> tuple[str, dict[str, Any]]:
    return "settled", {"steps": steps, "checkpoint": checkpoint}


def resumed(charged: int) -> tuple[str, dict[str, Any]]:
    return "resumed", {"charged": charged, "from_step": 0}


def damaged(checkpoint: str) -> tuple[str, dict[str, Any]]:
    return "damaged", {"checkpoint": checkpoint}


FINISHED = ("finished", {"steps": 40})


@pytest.mark.parametrize(
    ("entries", "charged", "checkpoint", "finished"),
    [
        ([], 0, None, False),
        ([PLANNED], 0, None, False),
        ([PLANNED, reserved(8)], 8, None, False),
        ([PLANNED, reserved(8), reserved(16)], 16, None, False),
        ([PLANNED, reserved(8), settled(5, "c5")], 5, "c5", False),
        ([PLANNED, reserved(8), settled(5, "c5"), settled(7)], 7, "c5", False),
        ([PLANNED, reserved(8), settled(5, "c5"), reserved(13)], 13, "c5", False),
        ([PLANNED, reserved(8), resumed(8), reserved(16)], 16, None, False),
        ([PLANNED, settled(5, "c5"), settled(7, "c7"), damaged("c7")], 7, "c5", False),
        ([PLANNED, settled(5, "c5"), damaged("c5")], 5, None, False),
        ([PLANNED, reserved(8), settled(8, "c8"), FINISHED], 8, "c8", True),
        ([PLANNED, reserved(8), settled(8, "c8"), FINISHED, PLANNED], 0, None, False),
    ],
)
def test_the_entries_add_up(
    entries: list[tuple[str, dict[str, Any]]], charged: int, checkpoint: str | None, finished: bool
) -> None:
    log = [
        LogEntry(index=i, type=kind, body=body, prev_hash="", hash="")
        for i, (kind, body) in enumerate(entries)
    ]
    state = fold(log)
    assert (state.charged_steps, state.checkpoint, state.is_finished) == (
        charged,
        checkpoint,
        finished,
    )


def test_an_entry_of_an_unknown_kind_is_refused() -> None:
    entry = LogEntry(index=0, type="refunded", body={}, prev_hash="", hash="")
    with pytest.raises(CheckpointError, match="refunded"):
        fold([entry])


def test_what_a_dead_process_reserved_counts_as_taken(tmp_path: Path) -> None:
    record = RunRecord(tmp_path)
    record.plan({"steps": 40}, "job")
    record.reserve(8)
    record.settle(3, checkpoint="checkpoint-3")
    record.reserve(11)
    record.close()  # no settling: as after kill -9
    with RunRecord(tmp_path) as later:
        assert later.resume(from_step=3) == 11
        assert later.state.charged_steps == 11


def test_a_reservation_never_lowers_the_account(tmp_path: Path) -> None:
    with RunRecord(tmp_path) as record:
        record.plan({}, "job")
        record.reserve(8)
        record.reserve(4)
        assert record.state.charged_steps == 8


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with RunRecord(tmp_path), pytest.raises(RunRecordLocked):
        RunRecord(tmp_path)


def test_a_reservation_is_on_the_disk_before_the_call_returns(tmp_path: Path) -> None:
    with RunRecord(tmp_path) as record:
        record.plan({}, "job")
        record.reserve(8)
        state = read_state(tmp_path)
        assert state is not None
        assert state.charged_steps == 8


def test_an_edited_record_is_refused(tmp_path: Path) -> None:
    with RunRecord(tmp_path) as record:
        record.plan({}, "job")
        record.reserve(8)
    path = tmp_path / FILE_NAME
    path.write_text(path.read_text().replace('"until":8', '"until":1'))
    with pytest.raises(RunRecordDamaged):
        RunRecord(tmp_path)


def test_archiving_takes_the_checkpoints_along(tmp_path: Path) -> None:
    for _ in range(2):
        with RunRecord(tmp_path) as record:
            record.plan({}, "job")
        (tmp_path / "checkpoint-30").mkdir()
        archive(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-0001", "run-0002"]
    assert (tmp_path / "run-0002" / "checkpoint-30").is_dir()
    assert read_state(tmp_path) is None
    assert read_state(tmp_path / "run-0001") is not None
