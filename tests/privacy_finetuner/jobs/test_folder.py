"""The folder of a run, when the job has ended."""

from __future__ import annotations

from pathlib import Path

from privacy_finetuner.jobs.folder import LOCK_FILE, forget


def test_what_killed_processes_left_half_written_goes_and_the_rest_stays(tmp_path: Path) -> None:
    kept = (LOCK_FILE, "run.jsonl", "model.safetensors", "checkpoint-4")
    for name in (*kept, ".resume", ".noise", ".report.html.8135-16.tmp"):
        (tmp_path / name).touch()
    (tmp_path / ".checkpoint-8.partial").mkdir()
    (tmp_path / ".checkpoint-8.partial" / "optimizer.pt").touch()
    forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
