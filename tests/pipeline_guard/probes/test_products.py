"""Figures of a model, exported artefacts, queues, metrics and drift."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline_guard.config import build
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault, Verdict
from pipeline_guard.probes import PROBES, ProbeInputs, bound
from pipeline_guard.probes.drift import DriftProbe
from pipeline_guard.probes.metrics import MetricProbe
from pipeline_guard.probes.products import ExportProbe, QualityProbe, QueueProbe

from .conftest import START, look  # noqa: TID252  of this folder
from .test_endpoints import serving  # noqa: TID252


def written(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("value", "better", "verdict"),
    [
        (0.90, "greater", 0), (0.895, "greater", 0), (0.88, "greater", 1), (0.86, "greater", 2),
        (0.70, "greater", 2), (0.95, "greater", 0),
        (0.90, "smaller", 0), (0.92, "smaller", 1), (0.94, "smaller", 2), (0.5, "smaller", 0),
    ],
)  # fmt: skip
def test_a_figure_is_compared_with_the_accepted_one(
    tmp_path: Path, value: float, better: str, verdict: int
) -> None:
    probe = build(
        "quality",
        {
            "path": str(written(tmp_path / "new.json", {"eval": {"score": value}})),
            "accepted": str(written(tmp_path / "old.json", {"eval": {"score": 0.9}})),
            "field": "eval.score",
            "better": better,
        },
        PROBES,
        "test",
    )

    reading = look(probe)
    assert reading.verdict == verdict
    assert reading.fault is (Fault.MODEL_QUALITY if verdict else None)


def test_a_bound_holds_without_an_accepted_model(tmp_path: Path) -> None:
    path = written(tmp_path / "f.json", {"accuracy": 0.5})

    assert look(QualityProbe(path=path, field_="accuracy", crit=0.6)).verdict is Verdict.CRITICAL
    assert look(QualityProbe(path=path, field_="accuracy", crit=0.4)).verdict is Verdict.OK


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"accuracy": "high"}', '{"accuracy": NaN}', '{"accuracy": true}'],
)
def test_a_figure_that_is_none_is_unknown(tmp_path: Path, content: str) -> None:
    (tmp_path / "f.json").write_text(content)

    probe = QualityProbe(path=tmp_path / "f.json", field_="accuracy", crit=0.4)
    assert look(probe).verdict is Verdict.UNKNOWN


LOADER = """
import json, sys
number = float(open(sys.argv[1]).read())
print(json.dumps({"outputs": [[number, 2 * number], [number / 3]]}))
"""


def export(tmp_path: Path, content: str, expected: object, **more: object) -> ExportProbe:
    (tmp_path / "model.bin").write_text(content)
    return ExportProbe(
        artefact=tmp_path / "model.bin",
        command=(sys.executable, "-c", LOADER),
        expected=written(tmp_path / "expected.json", expected),
        **more,  # type: ignore[arg-type]  # a test's own keywords
    )


GOOD = {"outputs": [[3, 6], [1]]}


def test_an_artefact_whose_outputs_are_those_expected_is_well(tmp_path: Path) -> None:
    reading = look(export(tmp_path, "3.0001", GOOD))

    assert reading.verdict is Verdict.OK
    assert reading.measurements["output_difference"] == pytest.approx(2e-4)


@pytest.mark.parametrize(
    ("content", "expected", "words"),
    [
        ("3.1", GOOD, "differ by 0.2"),
        ("", GOOD, "empty"),
        ("garbage", GOOD, "cannot be loaded"),
        ("nan", GOOD, "differ"),
        ("inf", GOOD, "differ"),
        ("3", {"outputs": [1]}, "3 outputs, expected 1"),
    ],
)
def test_every_other_artefact_is_a_failed_export(
    tmp_path: Path, content: str, expected: object, words: str
) -> None:
    reading = look(export(tmp_path, content, expected))

    assert (reading.verdict, reading.fault) == (Verdict.CRITICAL, Fault.EXPORT_FAILED)
    assert words in reading.summary


def test_an_artefact_that_is_missing_or_too_large_is_a_failed_export(tmp_path: Path) -> None:
    large = look(export(tmp_path, "3", GOOD, most_bytes=0))
    (tmp_path / "model.bin").unlink()
    missing = look(ExportProbe(artefact=tmp_path / "model.bin", command=("x",), expected=tmp_path))

    assert [large.fault, missing.fault] == [Fault.EXPORT_FAILED] * 2


def test_it_is_loaded_again_only_when_it_changed(tmp_path: Path) -> None:
    probe = export(tmp_path, "3", GOOD)
    first = look(probe)
    (tmp_path / "expected.json").unlink()

    assert look(probe, 10) == first
    (tmp_path / "model.bin").write_text("3.00")
    assert look(probe, 20).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(("count", "verdict"), [(0, 0), (3, 0), (5, 1), (9, 2)])
def test_files_that_wait_are_counted(tmp_path: Path, count: int, verdict: int) -> None:
    for number in range(count):
        (tmp_path / f"{number}.job").touch()
    (tmp_path / "other").touch()

    reading = look(QueueProbe(folder=tmp_path, pattern="*.job", warn=5, crit=8))
    assert (reading.verdict, reading.measurements["waiting"]) == (verdict, count)


def test_a_number_of_an_endpoint_is_read() -> None:
    body = b'{"queue": {"length": 7}}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with serving(answer) as (port, _):
        url = f"http://127.0.0.1:{port}/"
        found = look(QueueProbe(url=url, field_="queue.length", warn=5))
        lacking = look(QueueProbe(url=url, field_="queue.depth"))

    assert (found.verdict, found.fault) == (Verdict.WARNING, Fault.OVERLOAD)
    assert lacking.verdict is Verdict.UNKNOWN


def test_a_queue_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert look(QueueProbe(folder=tmp_path / "gone")).verdict is Verdict.UNKNOWN
    assert look(QueueProbe(url="http://127.0.0.1:1/", field_="x")).verdict is Verdict.UNKNOWN


class Store:
    """Answers as the metrics store does, with what it was given."""

    def __init__(self, *values: float | None) -> None:
        self.values = values
        self.asked: dict[str, object] = {}

    def over(
        self, function: str, **query: object
    ) -> Sequence[tuple[Mapping[str, str], float | None]]:
        self.asked = {"function": function, **query}
        return [({"series": str(number)}, value) for number, value in enumerate(self.values)]


def metric(store: Store, **parameters: object) -> MetricProbe:
    probe = build("metric", {"metric": "loss", **parameters}, PROBES, "test")
    found = bound(probe, ProbeInputs(metrics=store, component="trainer"))
    assert isinstance(found, MetricProbe)
    return found


@pytest.mark.parametrize(
    ("values", "limits", "verdict"),
    [
        ((1.0,), {"crit_above": 2}, 0),
        ((1.0, 3.0), {"crit_above": 2}, 2),
        ((1.0, 2.0), {"crit_above": 2}, 0),
        ((1.5,), {"warn_above": 1, "crit_above": 2}, 1),
        ((5.0, -1.0), {"crit_below": 0}, 2),
        ((5.0, 0.5), {"warn_below": 1, "crit_below": 0}, 1),
        ((), {"crit_above": 2}, 3),
        ((None, math.nan), {"crit_above": 2}, 3),
        ((None, 1.0), {"crit_above": 2}, 0),
    ],
)
def test_the_worst_series_counts(
    values: tuple[float, ...], limits: dict[str, float], verdict: int
) -> None:
    assert look(metric(Store(*values), **limits)).verdict == verdict


def test_the_store_is_asked_for_the_checks_component_over_the_window() -> None:
    store = Store(1.0)
    look(metric(store, crit_above=2, function="rate", window="10m", labels={"model": "a"}))

    assert store.asked == {
        "function": "rate", "component": "trainer", "metric": "loss", "window_s": 600.0,
        "until_s": START.timestamp(), "labels": {"model": "a"}, "quantile": None,
    }  # fmt: skip


def test_a_metric_that_nobody_reports_is_seen_by_absent() -> None:
    assert look(metric(Store(), function="absent", crit_above=0)).verdict is Verdict.CRITICAL


@pytest.mark.parametrize(
    "parameters",
    [{}, {"crit_above": 1, "function": "median"}, {"crit_above": 1, "quantile": 0.5},
     {"crit_above": 1, "function": "quantile_over_time"}],
)  # fmt: skip
def test_a_question_without_an_answer_is_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        build("metric", {"metric": "loss", **parameters}, PROBES, "test")


def test_a_guard_without_a_store_refuses_the_check() -> None:
    probe = build("metric", {"metric": "loss", "crit_above": 1}, PROBES, "test")

    with pytest.raises(ConfigurationError, match="metrics store"):
        bound(probe, ProbeInputs())
    assert look(probe).verdict is Verdict.UNKNOWN


def table(path: Path, shift: float = 0.0, rows: int = 300) -> Path:
    lines = ["age,ward"] + [f"{20 + i % 50 + shift},{'abc'[i % 3]}" for i in range(rows)]
    path.write_text("\n".join(lines))
    return path


def test_a_sample_like_the_reference_is_well_and_a_shifted_one_is_a_warning(tmp_path: Path) -> None:
    reference = table(tmp_path / "reference.csv")
    same = look(DriftProbe(reference=reference, current=table(tmp_path / "same.csv")))
    moved = look(DriftProbe(reference=reference, current=table(tmp_path / "moved.csv", 30)))

    assert same.verdict is Verdict.OK
    assert (moved.verdict, moved.fault) == (Verdict.WARNING, Fault.DRIFTED_DATA)
    assert list(moved.evidence["drifted"]) == ["age"]


def test_too_few_rows_and_unknown_forms_are_unknown(tmp_path: Path) -> None:
    reference = table(tmp_path / "reference.csv")
    (tmp_path / "data.txt").write_text("x")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "odd.jsonl").write_text("[1]\n")
    few = table(tmp_path / "few.csv", rows=5)

    for current in (few, tmp_path / "data.txt", tmp_path / "empty.csv", tmp_path / "odd.jsonl"):
        assert look(DriftProbe(reference=reference, current=current)).verdict is Verdict.UNKNOWN
    assert look(DriftProbe(reference=reference, current=tmp_path / "no.csv")).verdict == 3


def test_a_column_that_is_gone_is_a_warning(tmp_path: Path) -> None:
    reference = table(tmp_path / "reference.csv")
    lines = "\n".join(json.dumps({"age": 20 + i % 50}) for i in range(300))
    (tmp_path / "now.jsonl").write_text(lines)

    reading = look(DriftProbe(reference=reference, current=tmp_path / "now.jsonl"))
    assert (reading.verdict, reading.evidence["missing"]) == (Verdict.WARNING, ["ward"])
