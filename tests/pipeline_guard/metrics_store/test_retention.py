from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pipeline_guard.errors import ConfigurationError
from pipeline_guard.metrics_store import MetricStore, Retention
from pipeline_guard.model import MetricPoint
from privacy_runtime.testing import DEFAULT_START, ManualClock

DAY_S = 86_400
RULES = (
    Retention(component="audit", points_days=30, minutes_days=30, hours_days=30),
    Retention(component="*", points_days=2, minutes_days=4, hours_days=8),
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[MetricStore]:
    with MetricStore(tmp_path / "m.db", clock=clock, rules=RULES, series_max=3) as opened:
        yield opened


def _day(store: MetricStore, clock: ManualClock, component: str) -> None:
    """Record a point a minute for a day, then maintain."""
    start = clock.now()
    clock.advance(DAY_S)
    store.record(
        MetricPoint(start + timedelta(minutes=k), component, "b", float(k)) for k in range(1_440)
    )
    store.maintain()


def _oldest(store: MetricStore, component: str) -> datetime:
    return store.query.points(component, limit=100_000)[0].timestamp


def test_chunks_go_by_their_rule(store: MetricStore, clock: ManualClock) -> None:
    for _ in range(5):
        _day(store, clock, "training")
    chunk = timedelta(minutes=512)

    age = clock.now() - _oldest(store, "training")

    assert timedelta(days=2) <= age <= timedelta(days=2) + chunk


def test_the_first_rule_that_matches_counts(store: MetricStore, clock: ManualClock) -> None:
    _day(store, clock, "audit")
    for _ in range(4):
        _day(store, clock, "training")

    assert _oldest(store, "audit") == DEFAULT_START


def test_rollups_outlive_points_and_hours_outlive_minutes(
    store: MetricStore, clock: ManualClock
) -> None:
    for _ in range(10):
        _day(store, clock, "training")
    with store._reading() as connection:
        rows = connection.execute(
            "SELECT step_s, min(start_s) FROM rollups GROUP BY step_s ORDER BY 1"
        ).fetchall()

    ages_s = {step_s: clock.now().timestamp() - start_s for step_s, start_s in rows}

    assert ages_s == {60: 4 * DAY_S, 3_600: 8 * DAY_S}


def test_a_series_that_is_gone_makes_room(store: MetricStore, clock: ManualClock) -> None:
    for name in ("a", "b"):
        store.record_one("pods", name, 1.0)
    for _ in range(9):
        _day(store, clock, "training")

    assert [series.component for series in store.query.series()] == ["training"]
    for name in ("c", "d"):
        store.record_one("pods", name, 1.0)
    store.record_one("training", "b", 7.0)
    assert len(store.query.series()) == 3
    assert store.query.latest("training")[0].value == 7.0


def test_a_clock_that_jumps_ahead_costs_a_day_at_most(
    store: MetricStore, clock: ManualClock
) -> None:
    for _ in range(2):
        _day(store, clock, "training")
    true = clock.now()
    clock.set_time_of_day(true + timedelta(days=400))
    store.maintain()
    clock.set_time_of_day(true)
    store.maintain()

    assert len(store.query.points("training", limit=100_000)) >= 1_440


def test_after_a_standstill_retention_catches_up(store: MetricStore, clock: ManualClock) -> None:
    _day(store, clock, "training")
    clock.advance(40 * DAY_S)
    for _ in range(41):
        store.maintain()

    assert store.query.series() == []


def test_freed_pages_go_back_to_the_file_system(
    store: MetricStore, clock: ManualClock, tmp_path: Path
) -> None:
    start = clock.now()
    clock.advance(DAY_S)
    store.record(
        MetricPoint(start + timedelta(seconds=k), "training", "b", k**0.5) for k in range(60_000)
    )
    store.maintain()
    pages = _pages(store)
    for _ in range(12):
        clock.advance(DAY_S)
        store.maintain()

    assert _pages(store) < pages / 3
    store.close()
    assert os.path.getsize(tmp_path / "m.db") < 4_096 * pages / 3


def _pages(store: MetricStore) -> int:
    with store._reading() as connection:
        assert connection.execute("PRAGMA freelist_count").fetchone()[0] == 0
        return int(connection.execute("PRAGMA page_count").fetchone()[0])


@pytest.mark.parametrize(
    ("points", "minutes", "hours"), [(0, 1, 2), (2, 1, 3), (1, 3, 2), (1, 2, float("inf"))]
)
def test_times_that_are_out_of_order_are_refused(
    points: float, minutes: float, hours: float
) -> None:
    with pytest.raises(ConfigurationError, match="points <= minutes <= hours"):
        Retention(points_days=points, minutes_days=minutes, hours_days=hours)
