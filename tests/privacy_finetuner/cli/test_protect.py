"""The commands of redaction, as a user meets them. Names are left out: no model is loaded."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.cli.app import app

TEXT = "mail doe@example.org, card 4111 1111 1111 1111\n"
CLEAN = "mail [EMAIL], card [PAYMENT_CARD]\n"


@pytest.fixture
def run(cli: Any) -> Any:
    """Run a command with standard input; returns the result."""

    def call(*words: object, given: str | bytes = TEXT) -> Any:
        return cli.runner.invoke(app, [str(word) for word in words], input=given)

    return call


def test_standard_input_goes_protected_to_standard_output(run: Any) -> None:
    result = run("protect", "--no-names")

    assert (result.exit_code, result.stdout, result.stderr) == (0, CLEAN, "")


def test_json_is_one_document_of_three_fields(run: Any) -> None:
    document = json.loads(run("protect", "--no-names", "--json", "--level", "high").stdout)

    assert set(document) == {"protected_text", "entities", "sensitivity_score"}
    assert document["protected_text"] == CLEAN
    assert [entity["label"] for entity in document["entities"]] == ["EMAIL", "PAYMENT_CARD"]
    assert "doe@" not in json.dumps(document)


@pytest.mark.parametrize(
    ("form", "given", "expected"),
    [
        ("jsonl", '{"a": "doe@example.org"}\n{"a": 1.50}\n', '{"a": "[EMAIL]"}\n{"a": 1.50}\n'),
        ("csv", "mail\ndoe@example.org\n", "mail\n[EMAIL]\n"),
        ("html", "<b>doe@</b>example.org", "<b>[EMAIL]</b>"),
    ],
)
def test_standard_input_may_have_a_format(run: Any, form: str, given: str, expected: str) -> None:
    assert run("protect", "--no-names", "--format", form, given=given).stdout == expected


def test_lines_come_out_while_the_input_is_open() -> None:
    start = "from privacy_finetuner.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", start, "protect", "--no-names"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(TEXT.encode() * 5)
        process.stdin.flush()

        assert process.stdout.readline().decode() == CLEAN
        process.stdin.close()
        assert process.stdout.read().decode() == CLEAN * 4
    assert process.returncode == 0


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    start = "from privacy_finetuner.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", start, "protect", "--no-names"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stdin is not None
        assert process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(TEXT.encode() * 5000)
            process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_input_without_an_end_of_line_does_not_fill_the_memory(run: Any) -> None:
    result = run("protect", "--no-names", given=b"x " * 200_000 + b"\0" * 300_000)

    assert result.exit_code == 2
    assert result.stdout.startswith("x x ")


def test_input_that_is_no_text_is_exit_code_two(run: Any) -> None:
    result = run("protect", "--no-names", given=b"doe@example.org \xff\xfe")

    assert result.exit_code == 2
    assert "at byte 16" in result.stderr
    assert "doe" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--preserve", "EMIAL"], "EMAIL"),
        (["--strategy", "sematic_encryption"], "semantic_encryption"),
        (["--strategy", "entity_hashing"], "--key-file"),
        (["--strategy", "masking", "--key-file", "no.key"], "--create-key"),
        (["--column", "name"], "NAME=TYPE"),
        (["--encoding", "klingon"], "klingon"),
        (["--threshold", "1.5"], "sensitivity_threshold"),
        (["--output", "folder"], "needs files"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("protect", "--no-names", "--json", *options)
    document = json.loads(result.stdout)

    assert result.exit_code == 2
    assert says in document["error"]["message"]
    assert "doe" not in result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_protected_and_done_once(run: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.txt").write_text(TEXT)
    (source / "bad.txt").write_bytes(b"doe@example.org \xff")

    first = run("protect", "--no-names", source, "--output", target, "--json")
    document = json.loads(first.stdout)

    assert first.exit_code == 1
    assert (target / "deep" / "a.txt").read_text() == CLEAN
    assert not (target / "bad.txt").exists()
    assert document["entities"] == {"EMAIL": 1, "PAYMENT_CARD": 1}
    assert "doe@" not in first.stdout + first.stderr
    second = json.loads(run("protect", "--no-names", source, "--output", target, "--json").stdout)
    assert {each["status"] for each in second["files"]} == {"unchanged", "refused"}


def test_one_file_goes_to_standard_output(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("who,mail\nNguyen,doe@example.org\n")

    result = run("protect", "--no-names", path, "--column", "who=PERSON")

    assert result.stdout == "who,mail\n[PERSON],[EMAIL]\n"
    assert path.read_text().endswith("doe@example.org\n")


def test_what_is_sealed_is_revealed_with_the_key(run: Any, tmp_path: Path) -> None:
    key = tmp_path / "key"
    sealing = ("protect", "--no-names", "--strategy", "semantic_encryption", "--key-file", key)
    sealed = run(*sealing, "--create-key").stdout

    all_of_it = run("reveal", "--key-file", key, given=sealed)
    part_of_it = run("reveal", "--key-file", key, "--only", "EMAIL", "--json", given=sealed)
    again = run(*sealing).stdout

    assert "doe@" not in sealed
    assert again == sealed
    assert all_of_it.stdout == TEXT
    assert "doe@" not in all_of_it.stderr
    document = json.loads(part_of_it.stdout)
    assert document["revealed"] == {"EMAIL": 1}
    assert document["refused"] == {"type not allowed": 1}
    assert "4111" not in document["text"]
    assert (key.stat().st_mode & 0o777) == 0o600


def test_the_wrong_key_is_exit_code_two(run: Any, tmp_path: Path) -> None:
    seal = ("protect", "--no-names", "--strategy", "semantic_encryption", "--create-key")
    sealed = run(*seal, "--key-file", tmp_path / "one").stdout
    run(*seal, "--key-file", tmp_path / "two")

    result = run("reveal", "--key-file", tmp_path / "two", "--json", given=sealed)

    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "wrong_key"


def test_reveal_without_a_key_is_refused(run: Any) -> None:
    assert run("reveal", "--json").exit_code == 2


def test_explain_marks_the_text_for_people_and_not_for_programs(run: Any, tmp_path: Path) -> None:
    shown = run("explain", "--no-names").stdout
    page = tmp_path / "why.html"
    document = json.loads(
        run("explain", "--no-names", "--json", "--html", page, "--preserve", "EMAIL").stdout
    )

    assert "doe@example.org" in shown
    assert "PAYMENT_CARD" in shown
    assert "doe@" not in json.dumps(document)
    assert [each["action"] for each in document["decisions"]] == ["leave", "replace"]
    assert "holds the text in clear" in page.read_text()


def test_explain_shows_no_signs_that_move_a_terminal(run: Any) -> None:
    shown = run("explain", "--no-names", given="a\x1b[2Jb\u202ec\n").stdout

    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown


def test_scan_counts_and_writes_a_page(run: Any, tmp_path: Path) -> None:
    path, page = tmp_path / "a.jsonl", tmp_path / "scan.html"
    path.write_text(json.dumps({"note": TEXT}) + "\n" + '{"note": "fine"}\n')

    shown = run("scan", path, "--no-names", "--html", page)
    document = json.loads(run("scan", path, "--no-names", "--json").stdout)

    assert shown.exit_code == 0
    assert "1 of 2 records" in shown.stdout
    assert "outside any privacy guarantee" in shown.stdout
    assert "doe@" not in shown.stdout + page.read_text()
    assert document["records_affected"] == 1


def test_a_scan_of_what_is_not_there_is_exit_code_two(run: Any, tmp_path: Path) -> None:
    assert run("scan", tmp_path / "nothing", "--json").exit_code == 2


@pytest.mark.parametrize("command", ["protect", "explain", "reveal", "scan"])
def test_help_teaches_with_an_example(run: Any, command: str) -> None:
    shown = run(command, "--help").stdout

    assert f"privacy-finetuner {command}" in shown
    assert "Example" in shown
