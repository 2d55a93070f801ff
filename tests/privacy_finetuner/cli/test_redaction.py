"""`redaction evaluate` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TEXT = "Please ask Maria Keller in Vienna, maria.keller@example.org, before noon."


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    path = tmp_path / "marked.jsonl"
    spans = [[11, 23, "PATIENT"], [27, 33, "CITY"], [35, 59, "EMAIL_ADDRESS"]]
    path.write_text(json.dumps({"id": "a", "text": TEXT, "spans": spans}) + "\n")
    return path


def test_the_document_has_the_shape_that_is_promised(cli: Any, marked: Path) -> None:
    document = cli.document("redaction", "evaluate", marked)

    assert set(document["micro"]) >= {"precision", "recall", "f1"}
    assert set(document["entities"]) >= {"PERSON", "LOCATION", "EMAIL"}
    for scores in document["entities"].values():
        assert set(scores) == {"precision", "recall", "f1", "n"}
    assert document["entities"]["EMAIL"]["f1"] == 1
    assert document["entities"]["PERSON"]["f1"] == 1
    assert 0 <= document["character_recall"] <= 1
    assert document["level"] == "high"


def test_without_names_people_leak_and_the_report_says_so(cli: Any, marked: Path) -> None:
    document = cli.document("redaction", "evaluate", marked, "--no-names")

    assert document["leaks"]["PERSON"]["characters"] == 12
    assert document["leaks"]["EMAIL"]["characters"] == 0


def test_the_table_and_the_page_show_no_text(cli: Any, marked: Path, tmp_path: Path) -> None:
    page = tmp_path / "scores.html"
    result = cli("redaction", "evaluate", marked, "--html", page)

    assert result.exit_code == 0, result.output
    for shown in (result.stdout, page.read_text(encoding="utf-8")):
        assert "PERSON" in shown
        assert "Keller" not in shown
    assert "<script" not in page.read_text(encoding="utf-8")


def test_a_label_that_nobody_knows_is_refused_unless_it_is_ignored(
    cli: Any, tmp_path: Path
) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_text(json.dumps({"text": TEXT, "spans": [[11, 23, "PHI_TYPE7"]]}) + "\n")

    assert cli.document("redaction", "evaluate", path, code=2)["error"]["code"] == "unknown_entity"
    left = cli.document("redaction", "evaluate", path, "--ignore-label", "PHI_TYPE7")
    assert left["labels"]["marks_left_out"] == {"PHI_TYPE7": 1}


def test_bad_lines_end_in_bad_input_with_their_numbers(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_text('{"text": "ok", "spans": []}\n{"text": \n')

    error = cli.document("redaction", "evaluate", path, code=2)["error"]

    assert error["code"] == "dataset_error"
    assert "line 2" in error["message"]


def test_strict_counts_what_the_file_never_marks(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    text = "Card 4111 1111 1111 1111, mail jo@example.org"
    path.write_text(json.dumps({"text": text, "spans": [[31, 45, "EMAIL"]]}) + "\n")

    lenient = cli.document("redaction", "evaluate", path)
    strict = cli.document("redaction", "evaluate", path, "--strict")

    assert lenient["labels"]["findings_not_scored"] == {"PAYMENT_CARD": 1}
    assert lenient["micro"]["precision"] == 1
    assert strict["micro"]["precision"] == 0.5
