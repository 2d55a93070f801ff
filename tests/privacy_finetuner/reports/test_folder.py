from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.errors import CheckpointError, ConfigurationError
from privacy_finetuner.reports import read_folder
from privacy_finetuner.training import run_record
from privacy_runtime.append_log import RunRecordDamaged


def test_a_finished_run_is_read(finished: Any) -> None:
    run = read_folder(finished())

    assert run.is_finished
    assert run.charged_steps == run.plan.steps == 16
    assert run.book is not None
    assert run.book.releases[0].what == "training"


def test_an_unfinished_run_counts_what_was_reserved(write: Any) -> None:
    write.run(write.plan(), charged=8, finish=False)
    run = read_folder(write.folder)

    assert (run.charged_steps, run.is_finished, run.report) == (8, False, None)
    assert "resume" in run.status


def test_results_of_an_earlier_run_are_not_taken_for_this_one(finished: Any, write: Any) -> None:
    folder = finished()
    run_record.archive(folder)
    with run_record.RunRecord(folder) as record:
        record.plan(write.plan(epsilon=2.0).to_json(), "another job")
        record.reserve(8)
    run = read_folder(folder)

    assert (run.report, run.result, run.book) == (None, None, None)
    (old,) = run.earlier_runs
    assert (old.file, old.steps) == ("run-0001", 16)
    assert old.epsilon == pytest.approx(4.0, rel=1e-3)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no run\.jsonl"):
        read_folder(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_file_is_refused(finished: Any, content: str) -> None:
    folder = finished()
    (folder / "training_result.json").write_text(content)

    with pytest.raises(CheckpointError, match=r"training_result\.json"):
        read_folder(folder)


def test_a_forged_run_record_is_refused(finished: Any) -> None:
    folder = finished()
    path = folder / "run.jsonl"
    path.write_text(path.read_text().replace('"steps":16', '"steps":8'))

    with pytest.raises(RunRecordDamaged):
        read_folder(folder)


def test_reading_changes_nothing(finished: Any, tmp_path: Path) -> None:
    folder = finished()
    shutil.copytree(folder, tmp_path / "before")
    read_folder(folder)

    for path in (tmp_path / "before").iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
