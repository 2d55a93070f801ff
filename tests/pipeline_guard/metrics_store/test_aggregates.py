from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import MetricStore, Retention
from pipeline_guard.metrics_store.aggregates import STEPS_MAX
from pipeline_guard.model import MetricPoint
from privacy_runtime.testing import DEFAULT_START, ManualClock

DAY_S = 86_400.0
POINTS = 9_000  # twelve and a half hours at one in five seconds
OF_STEP: dict[str, Callable[[np.ndarray], float]] = {
    "mean": np.mean,
    "min": np.min,
    "max": np.max,
    "sum": np.sum,
    "count": len,
    "stddev": np.std,
    "quantile": lambda values: float(np.quantile(values, 0.5)),
}


def _at(seconds: float) -> datetime:
    return DEFAULT_START + timedelta(seconds=seconds)


def _series() -> tuple[np.ndarray, np.ndarray]:
    """A gauge at 10^9, with gaps, one value missing in ten, and a late half hour."""
    chance = np.random.default_rng(5)  # noqa: TID251 -- a fixed sample
    times_s = np.arange(POINTS) * 5.0
    times_s[3_000:] += 1_000
    values = 1e9 + chance.normal(size=POINTS)
    values[chance.random(POINTS) < 0.1] = math.nan
    order = np.concatenate((np.arange(4_000), np.arange(4_360, POINTS), np.arange(4_000, 4_360)))
    return times_s[order], values[order]


TIMES_S, VALUES = _series()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, MetricStore]]:
    """The same points: none sealed, all sealed, the last part of them not."""
    opened = {}
    for name, sealed in (("hot", 0), ("sealed", POINTS), ("mixed", POINTS - 1_000)):
        clock = ManualClock(_at(DAY_S))
        store = MetricStore(tmp_path_factory.mktemp(name) / "metrics.db", clock=clock)
        points = [
            MetricPoint(_at(s), "training", "loss", float(value), {"node": "a"})
            for s, value in zip(TIMES_S, VALUES, strict=True)
        ]
        for first in range(0, sealed, 700):
            store.record(points[first : min(first + 700, sealed)])
            store.seal()
        store.record(points[sealed:])
        opened[name] = store
    yield opened
    for store in opened.values():
        store.close()


def _reference(start_s: float, step_s: float, count: int, of: Callable[..., float]) -> list[float]:
    found = []
    for place in range(count):
        low = start_s + place * step_s
        inside = VALUES[(low <= TIMES_S) & (low + step_s > TIMES_S)]
        inside = inside[~np.isnan(inside)]
        found.append(float(of(inside)) if len(inside) else math.nan)
    return found


@pytest.mark.parametrize("statistic", sorted(OF_STEP))
@pytest.mark.parametrize(
    ("start_s", "step_s"),
    [(0.0, 3_600.0), (3_600.0, 7_200.0), (60.0, 60.0), (0.0, 900.0), (7.5, 333.3), (-100.0, 9e3)],
    ids=["hour", "two hours", "minute", "quarter", "odd", "before"],
)
@pytest.mark.parametrize("name", ["hot", "sealed", "mixed"])
def test_steps_are_what_the_points_give(
    stores: dict[str, MetricStore], name: str, start_s: float, step_s: float, statistic: str
) -> None:
    count = math.ceil((40_000 - start_s) / step_s)
    (found,) = stores[name].query.aggregate(
        "training", "loss", statistic, start=_at(start_s), end=_at(40_000), step_s=step_s
    )

    expected = _reference(start_s, step_s, count, OF_STEP[statistic])
    if statistic == "count":
        expected = [0.0 if math.isnan(value) else value for value in expected]
    assert found.starts[0] == _at(start_s)
    assert len(found.values) == count
    relative = 1e-13 if statistic in {"mean", "sum"} else 0.0
    tolerance = 1e-6 if statistic == "stddev" else 0.0
    if statistic == "quantile":
        tolerance = 0.05  # a twentieth of the standard deviation: a digest, where hours are whole
    assert found.values == pytest.approx(expected, rel=relative, abs=tolerance, nan_ok=True)


@pytest.mark.parametrize("name", ["hot", "sealed", "mixed"])
def test_a_counter_grows_in_steps_as_much_as_in_whole(tmp_path: Path, name: str) -> None:
    with MetricStore(tmp_path / "m.db", clock=ManualClock(_at(DAY_S))) as store:
        counts = [float((s * 3) % 500) for s in range(2_000)]  # begins anew every 167 s
        store.record([MetricPoint(_at(s), "a", "b", v) for s, v in enumerate(counts[:1_500])])
        if name != "hot":
            store.seal()
        store.record(
            [MetricPoint(_at(s), "a", "b", v) for s, v in enumerate(counts[1_500:], 1_500)]
        )
        if name == "sealed":
            store.seal()
        asked = {"start": _at(0), "end": _at(2_000)}
        (fine,) = store.query.aggregate("a", "b", "increase", step_s=50, **asked)
        (whole,) = store.query.aggregate("a", "b", "increase", step_s=2_000, **asked)
        (rate,) = store.query.aggregate("a", "b", "rate", step_s=50, **asked)

    expected = sum(new - old if new >= old else new for old, new in itertools.pairwise(counts))
    assert whole.values == (expected,)
    assert sum(fine.values) == pytest.approx(expected)
    assert rate.values == pytest.approx([value / 50 for value in fine.values])


def test_old_hours_answer_when_the_points_are_gone(tmp_path: Path) -> None:
    clock = ManualClock()
    rules = [Retention(points_days=1, minutes_days=2, hours_days=100)]
    with MetricStore(tmp_path / "m.db", clock=clock, rules=rules) as store:
        for hour in range(96):
            clock.advance(3_600)
            now = clock.now()
            store.record(
                [
                    MetricPoint(now - timedelta(seconds=30 * k), "a", "b", hour + k / 120)
                    for k in range(1, 120)
                ]
            )
            store.maintain()
        asked = {"start": DEFAULT_START, "end": clock.now()}
        (hours,) = store.query.aggregate("a", "b", "max", step_s=3_600, **asked)
        (medians,) = store.query.aggregate("a", "b", "quantile", step_s=3_600, **asked)
        with pytest.raises(MonitoringError, match="whole hours"):
            store.query.aggregate("a", "b", "max", step_s=60, **asked)
        with pytest.raises(MonitoringError, match="whole hours"):
            store.query.aggregate("a", "b", "rate", step_s=3_600, **asked)
        recent = {"start": clock.now() - timedelta(hours=20), "end": clock.now()}
        (minutes,) = store.query.aggregate("a", "b", "count", step_s=60, **recent)

    assert hours.values == pytest.approx([hour + 119 / 120 for hour in range(96)])
    assert medians.values == pytest.approx([hour + 0.5 for hour in range(96)], abs=0.02)
    assert sum(minutes.values) == 20 * 119


@pytest.mark.parametrize(
    ("end_s", "step_s"),
    [
        (0, 60),
        (-5, 60),
        (100, 0),
        (100, -1),
        (100, math.nan),
        (100, math.inf),
        (STEPS_MAX * 60 + 1, 60),
    ],
)
def test_steps_that_are_none_are_refused(
    stores: dict[str, MetricStore], end_s: float, step_s: float
) -> None:
    with pytest.raises(MonitoringError, match="nothing was computed"):
        stores["hot"].query.aggregate(
            "training", "loss", "mean", start=_at(0), end=_at(end_s), step_s=step_s
        )


def test_a_summary_is_what_the_points_give(stores: dict[str, MetricStore]) -> None:
    there = VALUES[~np.isnan(VALUES)]
    for store in stores.values():
        ((series, summary),) = store.query.summaries("training")

        assert series.labels == {"node": "a"}
        assert (summary.points, summary.n) == (POINTS, len(there))
        assert (summary.min, summary.max) == (there.min(), there.max())
        assert summary.mean == pytest.approx(there.mean(), rel=1e-13)


def test_an_unknown_metric_has_no_steps(stores: dict[str, MetricStore]) -> None:
    asked = {"start": _at(0), "end": _at(60), "step_s": 60}

    assert stores["hot"].query.aggregate("training", "never", "mean", **asked) == []


@pytest.mark.parametrize(
    ("statistic", "quantile", "says"),
    [("median", 0.5, "statistic = median"), ("quantile", 1.5, "0 to 1")],
)
def test_a_statistic_that_is_none_is_refused(
    stores: dict[str, MetricStore], statistic: str, quantile: float, says: str
) -> None:
    with pytest.raises(MonitoringError, match=says):
        stores["hot"].query.aggregate(
            "training", "loss", statistic, start=_at(0), end=_at(60), step_s=60, quantile=quantile
        )
