from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


def test_the_report_agrees_and_writes_a_page(cli: Any, trained: Any, tmp_path: Path) -> None:
    folder, result = trained
    page = tmp_path / "page.html"
    document = cli.document("report", folder, "--html", page)

    assert document["recomputed"]["agrees"] is True
    assert document["epsilon"] == result["epsilon"]
    assert document["steps_charged"] == 3
    assert document["privacy_spent"]["epsilon"] == result["epsilon"]
    assert "<h1>" in page.read_text()


def test_the_printed_command_prices_the_run_again(cli: Any, trained: Any, tmp_path: Path) -> None:
    folder, result = trained
    document = cli.document("report", folder, "--html", tmp_path / "p.html")
    again = cli.document(*document["command"].split()[1:])

    assert again["epsilon"] == pytest.approx(result["epsilon"], rel=1e-6)


def test_a_report_that_understates_is_exit_code_one(cli: Any, trained: Any, tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    shutil.copytree(trained[0], folder)
    path = folder / "privacy_report.json"
    report = json.loads(path.read_text())
    report["theoretical_guarantees"]["epsilon"] = 0.5
    path.write_text(json.dumps(report))
    document = cli.document("report", folder, code=1)

    assert document["recomputed"]["agrees"] is False
    assert "does NOT agree" in (folder / "report.html").read_text()


def test_a_folder_without_a_run_is_exit_code_two(cli: Any, tmp_path: Path) -> None:
    document = cli.document("report", tmp_path, code=2)

    assert "run.jsonl" in document["error"]["message"]
