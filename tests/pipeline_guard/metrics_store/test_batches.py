from __future__ import annotations

import json
import math
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store.batches import POINTS_MAX, parse, parse_json, parse_text
from pipeline_guard.model import MetricPoint

NOW = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
NAMES = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)
LABELS = st.dictionaries(NAMES.map(lambda name: f"l{name}"), st.text(max_size=8))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, LABELS, NUMBERS, st.none() | st.integers(0, 2 * 10**12))))
def test_text_is_read_as_the_peer_reads_it(
    rows: list[tuple[str, dict[str, str], float, int | None]],
) -> None:
    lines = []
    for name, labels, value, milliseconds in rows:
        braces = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        stamp = "" if milliseconds is None else f" {milliseconds}"
        lines.append(f"m_{name}{{{braces}}} {value!r}{stamp}")
    text = "".join(line + "\n" for line in lines)
    expected = [s for family in text_string_to_metric_families(text) for s in family.samples]

    found = parse_text(text, now=NOW)

    def peer(sample: object) -> tuple[object, ...]:
        at = NOW.timestamp() if sample.timestamp is None else sample.timestamp  # type: ignore[attr-defined]  # a named tuple
        return sample.name, sample.labels, float(sample.value), pytest.approx(float(at))  # type: ignore[attr-defined]  # as above

    assert [(p.metric_name, p.labels or {}, p.value, p.timestamp.timestamp()) for p in found] == [
        peer(sample) for sample in expected
    ]


def test_a_scrape_is_read_whole() -> None:
    body = (
        b"# HELP router_seconds How long.\n# TYPE router_seconds histogram\n"
        b'router_seconds_bucket{le="+Inf",component="router"} 3\r\n'
        b"router_seconds_sum   1.5e-3  1768473000123 \n\n"
        b'odd{text="a, \\"b\\" } \\\\ \\n"} NaN\n'
    )

    first, second, third = parse(body, "text/plain; version=0.0.4", now=NOW, component="edge")

    assert first == MetricPoint(NOW, "router", "router_seconds_bucket", 3.0, {"le": "+Inf"})
    assert (second.component, second.value, second.labels) == ("edge", 0.0015, None)
    assert second.timestamp == datetime(2026, 1, 15, 10, 30, 0, 123_000, tzinfo=UTC)
    assert third.labels == {"text": 'a, "b" } \\ \n'}
    assert math.isnan(third.value)


def test_json_has_the_fields_of_a_point() -> None:
    rows = [
        {
            "timestamp": "2026-01-15T11:30:00+01:00",
            "component": "training",
            "metric_name": "loss",
            "value": 0.5,
            "labels": {"model": "v2"},
        },
        {"timestamp": 1768473000.25, "metric_name": "loss", "value": None},
        {"metric_name": "steps", "value": 7},
    ]

    first, second, third = parse(json.dumps(rows).encode(), "application/json", now=NOW)

    assert first == MetricPoint(NOW, "training", "loss", 0.5, {"model": "v2"})
    assert math.isnan(second.value)
    assert second.timestamp == datetime(2026, 1, 15, 10, 30, 0, 250_000, tzinfo=UTC)
    assert third == MetricPoint(NOW, "custom", "steps", 7.0, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "a JSON list"),
        ("[", "a JSON list"),
        ("[" * 100_000, "a JSON list"),
        ('[{"metric_name": "a", "value": NaN}]', "a JSON list"),
        ("[3]", "point 0"),
        ('[{"metric_name": "a", "value": "secret"}]', "value of point 0"),
        ('[{"metric_name": "a", "value": true}]', "value of point 0"),
        ('[{"metric_name": "a", "value": 1' + "0" * 400 + "}]", "value of point 0"),
        ('[{"metric_name": 5, "value": 1}]', "metric_name"),
        ('[{"value": 1}]', "metric_name"),
        ('[{"metric_name": "a", "value": 1, "labels": {"b": 1}}]', "labels of point 0"),
        ('[{"metric_name": "a", "value": 1, "timestamp": "soon"}]', "timestamp of point 0"),
        ('[{"metric_name": "a", "value": 1, "timestamp": 1e300}]', "timestamp of point 0"),
        ('[{"metric_name": "a", "value": 1, "secret": 2}]', "fields"),
    ],
)
def test_json_that_is_no_batch_is_refused_without_its_values(text: str, says: str) -> None:
    with pytest.raises(MonitoringError, match=says) as refused:
        parse_json(text, now=NOW)

    assert "nothing of the body was recorded" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("7up 3", "line 2"),
        ("up", "line 2"),
        ("up secret", "value of line 2"),
        ("up 1_000", "value of line 2"),
        ("up 1 2 3", "line 2"),
        ('up{a="1",a="2"} 3', "labels of line 2"),
        ("up{a=1} 3", "labels of line 2"),
        ('up{a="1} 3', "line 2"),
        ("up 1 " + "9" * 40, "time of line 2"),
    ],
)
def test_text_that_is_no_sample_is_refused_with_its_line(line: str, says: str) -> None:
    with pytest.raises(MonitoringError, match=says) as refused:
        parse_text(f"# a comment\n{line}\n", now=NOW)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_body_has_a_bounded_number_of_points(content_type: str) -> None:
    rows = POINTS_MAX + 1
    one = {"metric_name": "a", "value": 1}
    body = json.dumps([one] * rows) if "json" in content_type else "a 1\n" * rows

    with pytest.raises(MonitoringError, match="10001 points"):
        parse(body.encode(), content_type, now=NOW)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(MonitoringError, match="UTF-8"):
        parse(b"\xff\xfe", "text/plain", now=NOW)
