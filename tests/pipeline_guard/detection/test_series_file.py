from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipeline_guard.cli.detect import detect
from pipeline_guard.detection.series_file import read_series
from pipeline_guard.errors import MonitoringError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """600 rows of a quiet series with one spike in row 500 (line 502) and no value in row 510."""
    rows = [
        f"2026-01-{1 + at // 288:02}T{at // 12 % 24:02}:{at % 12 * 5:02}:00Z,{10 + at % 7}"
        for at in range(600)
    ]
    rows[500] = rows[500].split(",")[0] + ",90"
    rows[510] = rows[510].split(",")[0] + ","
    path = tmp_path / "series.csv"
    path.write_text("timestamp,value\n" + "\n".join(rows) + "\n", "utf-8")
    return path


def run(*words: str | Path):
    app = typer.Typer()
    app.command()(detect)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_every_row_gets_a_score_and_an_alarm_flag(file):
    result = run(file, "--json")
    rows = json.loads(result.stdout)

    assert result.exit_code == 0
    assert len(rows) == 600
    assert {tuple(row) for row in rows} == {("timestamp", "value", "score", "alarm", "state")}
    assert [at for at, row in enumerate(rows) if row["alarm"]] == [500]
    assert rows[500]["timestamp"] == "2026-01-02T17:40:00Z"
    assert (rows[510]["value"], rows[510]["state"], rows[0]["state"]) == (
        None,
        "missing",
        "learning",
    )


def test_without_json_the_alarms_are_listed(file):
    result = run(file, "--profile", "precision", "--threshold", "8")

    assert result.exit_code == 0
    first, header, alarm = result.stdout.splitlines()
    assert first == (
        "600 rows (100 learning, 1 missing, 499 watching); profile precision, threshold 8 "
        "(scales); 1 alarms"
    )
    assert header.split() == ["timestamp", "value", "score"]
    assert alarm.startswith("2026-01-02T17:40:00Z")


def test_auto_says_what_it_tried_and_uses_the_chosen(file):
    result = run(file, "--profile", "auto")

    assert result.exit_code == 0
    assert result.stderr.count("of planted faults") >= 2
    assert result.stderr.count("* ") == 1


def test_a_plot_is_drawn(file, tmp_path):
    result = run(file, "--plot", tmp_path / "plot.png")

    assert result.exit_code == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_cannot_be_drawn_is_a_fault(file, tmp_path):
    result = run(file, "--plot", tmp_path / "plot.docx")

    assert result.exit_code == 3
    assert "no plot was written" in result.stderr


def test_a_bad_file_is_refused_with_the_lines(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("timestamp,value\n1,2\nsecret,3\n4,secret\n5\n,6\n", "utf-8")
    result = run(path, "--json")

    assert result.exit_code == 3
    for line in (3, 4, 5, 6):
        assert f"{path}:{line}: " in result.stderr
    assert "nothing was looked at" in result.stderr
    assert "secret" not in result.output
    assert len(json.loads(result.stdout)["error"]["details"]["faults"]) == 4


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "1: a header with the columns timestamp and value"),
        (b"time,value\n1,2\n", "1: a header with the columns timestamp and value"),
        (b"timestamp,value\n", "2: a row was expected"),
        (b"timestamp,value\ninf,2\n", "2: the timestamp"),
        (b"timestamp,value\n\xff\xfe,2\n", "not a CSV file in UTF-8"),
    ],
)
def test_what_is_no_series_is_refused(tmp_path, content, fault):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)

    with pytest.raises(MonitoringError, match=fault):
        read_series(path)


def test_of_many_faults_ten_are_shown_and_all_are_in_the_details(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text("timestamp,value\n" + "1,x\n" * 25, "utf-8")

    with pytest.raises(MonitoringError, match="and 15 more") as raised:
        read_series(path)
    assert len(raised.value.details["faults"]) == 25


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MonitoringError, match=r"none\.csv cannot be read"):
        read_series(tmp_path / "none.csv")


def test_timestamps_are_seconds_or_iso_and_utc_without_a_zone(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text(
        "\ufeffvalue,note,timestamp\n"
        "1,,1767225600\n"
        "2,,2026-01-01 00:00:00\n"
        "3,,2026-01-01T01:00:00+01:00\n"
        "\n"
        "nan,,1767225600.5\n"
        "inf,,20260101\n",
        "utf-8",
    )
    points = read_series(path)

    assert [each.time_s for each in points] == [1767225600.0] * 3 + [1767225600.5, 20260101.0]
    assert math.isnan(points[3].value)
    assert points[4].value == math.inf


def test_an_unknown_profile_is_wrong_input(file):
    assert run(file, "--profile", "best").exit_code == 2
