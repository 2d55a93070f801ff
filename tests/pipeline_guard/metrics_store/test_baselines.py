from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pipeline_guard.detection.baselines import hour_of_week, summarize, unusual
from pipeline_guard.guard.measurements import Measurements
from pipeline_guard.metrics_store import MetricStore
from pipeline_guard.model import MetricPoint
from privacy_runtime.testing import DEFAULT_START, ManualClock

DAYS = 10
EVERY_S = 120


def _at(seconds: float) -> datetime:
    return DEFAULT_START + timedelta(seconds=seconds)


def _points() -> tuple[np.ndarray, np.ndarray]:
    """A daily wave with noise, far from zero."""
    chance = np.random.default_rng(2)  # noqa: TID251 -- a fixed sample
    times_s = np.arange(DAYS * 86_400 // EVERY_S) * float(EVERY_S)
    wave = 10 * np.sin(times_s * 2 * np.pi / 86_400)
    return times_s, 5_000 + wave + chance.normal(size=len(times_s))


TIMES_S, VALUES = _points()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MetricStore]:
    clock = ManualClock(_at(DAYS * 86_400))
    with MetricStore(tmp_path_factory.mktemp("b") / "m.db", clock=clock) as opened:
        rows = zip(TIMES_S, VALUES, strict=True)
        opened.record(MetricPoint(_at(s), "training", "loss", float(v)) for s, v in rows)
        opened.record(
            MetricPoint(_at(s), "training", "constant", 7.0, {"node": "a"}) for s in TIMES_S[:50]
        )
        opened.record([MetricPoint(_at(0), "training", "absent", float("nan"))])
        opened.seal()
        assert opened.refresh_baselines() == 2
        yield opened


def test_a_baseline_of_digests_is_near_that_of_the_points(store: MetricStore) -> None:
    ((series, found),) = store.query.baselines("training", "loss")
    expected = summarize(TIMES_S + DEFAULT_START.timestamp(), VALUES)

    assert series.metric_name == "loss"
    assert found.count == expected.count
    assert found.hours.keys() == expected.hours.keys()
    assert found.overall is not None
    assert expected.overall is not None
    pairs = [(found.overall, expected.overall, 0.02)]
    pairs += [(found.hours[hour], expected.hours[hour], 0.25) for hour in expected.hours]
    for mine, theirs, share in pairs:  # an hour of the week has thirty points, or sixty
        assert mine.count == theirs.count
        spread = share * (theirs.q95 - theirs.q05)
        for name in ("median", "q05", "q25", "q75", "q95"):
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), abs=spread)
        assert mine.mad == pytest.approx(theirs.mad, abs=spread)


def test_a_value_is_judged_by_its_hour(store: MetricStore) -> None:
    ((_, found),) = store.query.baselines("training", "loss")
    start_s = DEFAULT_START.timestamp()

    at_evening, at_morning = (unusual(found, start_s + hour * 3_600, 5_010.0) for hour in (18, 6))

    assert at_morning < 2
    assert at_evening > 6


def test_a_constant_series_has_a_baseline_and_an_absent_one_has_none(store: MetricStore) -> None:
    ((_, found),) = store.query.baselines("training", "constant", {"node": "a"})

    assert found.overall is not None
    assert (found.overall.median, found.overall.mad, found.overall.q99) == (7.0, 0.0, 7.0)
    assert found.hours.keys() == {hour_of_week(DEFAULT_START.timestamp()) + k for k in range(2)}
    assert store.query.baselines("training", "absent") == []


def test_a_refresh_is_a_new_version(tmp_path: Path) -> None:
    clock = ManualClock()
    with MetricStore(tmp_path / "m.db", clock=clock) as store:
        versions = []
        for value in (1.0, 2.0, 3.0):
            store.record_one("a", "b", value)
            store.seal()
            clock.advance(3_600)
            store.refresh_baselines()
            ((_, found),) = store.query.baselines()
            versions.append((found.version, found.count))

    assert versions == [(1, 1), (2, 2), (3, 3)]


def test_a_series_that_fell_silent_keeps_what_it_had(tmp_path: Path) -> None:
    clock = ManualClock()
    with MetricStore(tmp_path / "m.db", clock=clock) as store:
        store.record_one("a", "b", 1.0)
        store.seal()
        store.refresh_baselines()
        clock.advance(100 * 86_400)

        assert store.refresh_baselines() == 0
        assert len(store.query.baselines()) == 1


def test_baselines_are_learned_anew_once_an_hour_by_whichever_process(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "m.db"
    with MetricStore(path, clock=clock) as one, MetricStore(path, clock=clock) as other:
        one.record_one("a", "b", 1.0)
        one.seal()
        assert (one.keep_baselines(), other.keep_baselines()) == (1, 0)
        clock.advance(3_599)
        assert (one.keep_baselines(), other.keep_baselines()) == (0, 0)
        clock.advance(2)
        assert (other.keep_baselines(), one.keep_baselines()) == (1, 0)
        ((_, found),) = one.query.baselines()
        assert found.version == 2


def test_a_clock_that_went_back_does_not_stop_the_learning(tmp_path: Path) -> None:
    clock = ManualClock()
    with MetricStore(tmp_path / "m.db", clock=clock) as store:
        store.record_one("a", "b", 1.0)
        store.seal()
        ahead = ManualClock(clock.now() + timedelta(hours=12))
        with MetricStore(tmp_path / "m.db", clock=ahead) as wrong:
            assert wrong.keep_baselines() == 1
        assert store.keep_baselines() == 1


def test_the_guards_measurements_have_baselines_without_being_asked(tmp_path: Path) -> None:
    clock = ManualClock()
    measurements = Measurements(tmp_path / "m.db", clock)
    try:
        measurements.record([MetricPoint(clock.now(), "trainer", "loss", 2.0)])
        measurements._write()
        measurements._keep_up()
    finally:
        measurements.close()

    with MetricStore(tmp_path / "m.db", clock=clock) as store:
        ((series, found),) = store.query.baselines()
        assert (series.component, found.version) == ("trainer", 1)
