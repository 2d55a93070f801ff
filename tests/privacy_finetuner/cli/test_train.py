from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest


def test_the_result_names_what_was_promised_and_where_it_lies(trained: Any) -> None:
    folder, document = trained

    assert {
        "epsilon", "delta", "noise_multiplier", "steps", "sample_rate", "clip_norm", "output",
    } <= set(document)  # fmt: skip
    assert document["epsilon"] <= 8
    assert document["delta"] == 1e-3
    assert document["steps"] == 3
    assert document["output"] == str(folder)
    assert (folder / "model.safetensors").is_file()


def test_the_result_is_what_the_accountant_says(cli: Any, trained: Any) -> None:
    _, document = trained
    again = cli.document(
        "accountant", "epsilon", "--noise-multiplier", repr(document["noise_multiplier"]),
        "--sample-rate", repr(document["sample_rate"]), "--steps", document["steps"],
        "--delta", document["delta"],
    )  # fmt: skip

    assert again["epsilon"] == pytest.approx(document["epsilon"], rel=1e-6)


def test_a_dry_run_plans_and_leaves_nothing(cli: Any, records: Path, tmp_path: Path) -> None:
    document = cli.document(
        "train", "--model", tmp_path / "no-model", "--data", records, "--epsilon", 2,
        "--output", tmp_path / "out", "--dry-run",
    )  # fmt: skip

    assert document["epsilon"] <= 2
    assert (document["examples"], document["batch_size"], document["steps"]) == (24, 8, 9)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_loads_no_torch(records: Path, tmp_path: Path) -> None:
    arguments = [
        "train", "--model", "m", "--data", str(records), "--epsilon", "2",
        "--output", str(tmp_path / "out"), "--dry-run", "--json",
    ]  # fmt: skip
    code = (
        "import sys\nfrom privacy_finetuner.cli import main\n"
        f"sys.argv = ['x', *{arguments!r}]\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write(repr('torch' in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stderr == "False"
    assert json.loads(done.stdout)["dry_run"] is True


def test_progress_goes_to_stderr_with_epsilon_and_time(
    cli: Any, model: str, records: Path, tmp_path: Path
) -> None:
    result = cli(
        "train", "--model", model, "--data", records, "--epsilon", 8, "--epochs", 0.6,
        "--max-length", 12, "--output", tmp_path / "out", "--delta", 0.1,
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert "step 2/2" in result.stderr
    assert "ETA" in result.stderr
    assert "delta 0.1 is larger than 1/n" in " ".join(result.stderr.split())
    assert "step 2/2" not in result.stdout
    assert "add_or_remove_one" in result.stdout


def test_a_budget_that_ends_the_run_is_exit_code_three_with_the_result(
    cli: Any, model: str, records: Path, tmp_path: Path
) -> None:
    document = cli.document(
        "train", "--model", model, "--data", records, "--epsilon", 2, "--noise-multiplier", 2,
        "--epochs", 20, "--max-length", 12, "--output", tmp_path / "out", code=3,
    )  # fmt: skip

    assert document["error"]["code"] == "privacy_budget_exhausted"
    assert document["result"]["epsilon"] <= 2
    assert 0 < document["result"]["steps"] < 60


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"--data": "missing.jsonl"}, "dataset_error"),
        ({"--epsilon": "-1"}, "configuration_error"),
        ({"--delta": "2"}, "configuration_error"),
        ({"--model": "no/such/folder"}, "model_load_error"),
        ({"--resume": None}, "configuration_error"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_bad_input_is_exit_code_two_and_no_traceback(
    cli: Any, model: str, records: Path, tmp_path: Path, change: dict[str, str | None], code: str
) -> None:
    options = {
        "--model": model, "--data": str(records), "--epsilon": "8",
        "--output": str(tmp_path / "out"), **change,
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair if word is not None]
    result = cli("train", *words, "--json")

    assert result.exit_code == 2, result.output
    assert json.loads(result.stdout)["error"]["code"] == code
    assert "Traceback" not in result.output


def test_an_output_that_is_a_file_is_one_line(
    cli: Any, model: str, records: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("")
    document = cli.document(
        "train", "--model", model, "--data", records, "--epsilon", 8, "--max-length", 6,
        "--output", tmp_path / "out", code=1,
    )  # fmt: skip

    assert document["error"]["code"] == "os_error"


def test_an_interrupted_run_says_how_to_resume_and_resumes(
    cli: Any, model: str, records: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    command = (
        "train", "--model", model, "--data", records, "--epsilon", 8, "--epochs", 15,
        "--max-length", 6, "--output", folder,
    )  # fmt: skip
    thread = threading.Thread(target=_interrupt_when_stepping, args=(folder / "run.jsonl",))
    thread.start()
    stopped = cli.document(*command, code=130)
    thread.join()
    finished = cli.document(*command, "--resume")

    assert stopped["error"]["code"] == "interrupted"
    assert stopped["resume"].endswith("--epochs 15 --max-length 6 --resume")
    assert 0 < stopped["charged_steps"] < 45
    assert finished["steps"] == 45
    assert finished["epsilon"] <= 8


def _interrupt_when_stepping(record: Path) -> None:
    """Press Ctrl-C once, as soon as the first steps are reserved on the disk."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        if record.exists() and b'"reserved"' in record.read_bytes():
            os.kill(os.getpid(), signal.SIGINT)
            return
        time.sleep(0.01)
