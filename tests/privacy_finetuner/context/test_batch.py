from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.context.batch import RECORD_FILE, FileOutcome, FileSettings, protect_files
from privacy_finetuner.context.documents import tasks_of
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.world import SystemEntropy


def run(guard: ContextGuard, folder: Path, **settings: Any) -> list[FileOutcome]:
    out = folder / "out"
    extra = {name: settings.pop(name) for name in ("workers", "overwrite") if name in settings}
    return protect_files(
        guard, tasks_of([folder / "in"], out), FileSettings(**settings), record=out, **extra
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "in" / f"{name}.txt").write_text(f"{name}: doe@example.org\n")
    return tmp_path


def statuses(outcomes: list[FileOutcome]) -> dict[str, str]:
    return {outcome.source.name: outcome.status for outcome in outcomes}


def test_what_is_finished_is_not_done_again(folder: Path, guard: ContextGuard) -> None:
    first = run(guard, folder)
    (folder / "in" / "b.txt").write_text("b, changed: doe@example.org\n")
    second = run(guard, folder)

    assert set(statuses(first).values()) == {"done"}
    assert statuses(second) == {"a.txt": "unchanged", "b.txt": "done", "c.txt": "unchanged"}
    assert (folder / "out" / "b.txt").read_text() == "b, changed: [EMAIL]\n"


def test_other_settings_do_everything_again(folder: Path, guard: ContextGuard) -> None:
    run(guard, folder)

    assert set(statuses(run(guard, folder, preserve=("EMAIL",))).values()) == {"done"}
    assert (folder / "out" / "a.txt").read_text() == "a: doe@example.org\n"
    assert set(statuses(run(guard, folder)).values()) == {"done"}


def test_a_file_that_fails_does_not_stop_the_others(folder: Path, guard: ContextGuard) -> None:
    (folder / "in" / "b.txt").write_bytes(b"secret doe@example.org \xff")

    outcomes = run(guard, folder)

    assert statuses(outcomes) == {"a.txt": "done", "b.txt": "refused", "c.txt": "done"}
    assert "doe@" not in str([outcome.to_dict() for outcome in outcomes])
    assert not (folder / "out" / "b.txt").exists()


def test_a_detector_that_fails_lets_nothing_through(folder: Path) -> None:
    class Broken:
        def detect(self, text: str, *, level: str, hints: Any) -> Any:
            raise RuntimeError(f"cannot read {text}")

    outcomes = run(ContextGuard(["pii_removal"], detector=Broken()), folder)

    assert set(statuses(outcomes).values()) == {"refused"}
    assert "doe@" not in str([outcome.to_dict() for outcome in outcomes])
    assert not list((folder / "out").glob("*.txt"))


def test_what_others_wrote_is_not_written_over(folder: Path, guard: ContextGuard) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "a.txt").write_text("mine")

    with pytest.raises(ConfigurationError, match="no earlier run"):
        run(guard, folder)
    assert (folder / "out" / "a.txt").read_text() == "mine"
    assert set(statuses(run(guard, folder, overwrite=True)).values()) == {"done"}


def test_the_record_names_no_value(folder: Path, guard: ContextGuard) -> None:
    run(guard, folder)

    assert "doe@" not in (folder / "out" / RECORD_FILE).read_text()


def test_a_record_that_was_cut_short_is_read_as_far_as_it_goes(
    folder: Path, guard: ContextGuard
) -> None:
    run(guard, folder)
    record = folder / "out" / RECORD_FILE
    whole = record.read_text()
    record.write_text(whole[: whole.rstrip().rindex("\n") + 20])

    assert sorted(statuses(run(guard, folder)).values()) == ["done", "unchanged", "unchanged"]


def test_several_processes_write_what_one_writes(folder: Path) -> None:
    keys = RedactionKeys.generate(SystemEntropy(), folder / "key")
    guard = ContextGuard(["semantic_encryption"], names=None, keys=keys)
    run(guard, folder)
    alone = {p.name: p.read_text() for p in (folder / "out").glob("*.txt")}

    outcomes = run(guard, folder, encoding="utf-8", workers=2)

    assert set(statuses(outcomes).values()) == {"done"}
    assert {p.name: p.read_text() for p in (folder / "out").glob("*.txt")} == alone


def test_texts_in_several_processes_come_back_in_their_order() -> None:
    guard = ContextGuard(["pii_removal"], names=None)
    texts = [f"text {n} of doe{n}@example.org" for n in range(130)]

    together = guard.batch_protect(texts, workers=2, sensitivity_level="low")

    assert [r.protected_text for r in together] == [f"text {n} of [EMAIL]" for n in range(130)]
    assert together[7].redaction_map.originals() == [("doe7@example.org", "[EMAIL]")]


def test_an_unknown_keyword_of_a_batch_is_refused(guard: ContextGuard) -> None:
    with pytest.raises(TypeError, match="levl"):
        guard.batch_protect(["x"], levl="low")


SLOW = """
import signal, sys, time
from pathlib import Path
from privacy_finetuner.context.batch import FileSettings, protect_files
from privacy_finetuner.context.documents import tasks_of
from privacy_finetuner.context.guard import ContextGuard

class Slow:
    def detect(self, text, *, level, hints):
        print("record", flush=True)
        time.sleep(0.02)
        return ()

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell's child ignores it
folder = Path(sys.argv[1])
try:
    protect_files(ContextGuard(["pii_removal"], detector=Slow()),
                  tasks_of([folder / "in"], folder / "out"), FileSettings(), record=folder / "out")
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_stopped_run_leaves_whole_files_only(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.jsonl").write_text('{"a": 1}\n' * 600)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW), str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.stdout.close()

    assert process.wait(30) == 130
    written = [p for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")]
    assert all(len(p.read_text().splitlines()) == 600 for p in written)
    assert not list((tmp_path / "out").glob(".*.tmp"))
