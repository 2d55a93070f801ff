from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_guard.errors import MonitoringError
from pipeline_guard.metrics_store import MetricStore
from pipeline_guard.metrics_store.store import BATCH_MAX
from pipeline_guard.model import MetricPoint, PipelineComponent
from privacy_runtime.testing import DEFAULT_START, ManualClock

START = DEFAULT_START
NAN = math.nan


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[MetricStore]:
    with MetricStore(tmp_path / "metrics.db", clock=clock) as opened:
        yield opened


def _at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def _points(*rows: tuple[float, float], **labels: str) -> list[MetricPoint]:
    return [MetricPoint(_at(s), "training", "loss", value, labels or None) for s, value in rows]


def _seconds(points: list[MetricPoint]) -> list[tuple[float, float]]:
    return [((point.timestamp - START).total_seconds(), point.value) for point in points]


def _nothing(_: MetricStore) -> None:
    pass


@pytest.fixture(params=[_nothing, MetricStore.seal], ids=["hot", "sealed"])
def settle(request: pytest.FixtureRequest) -> Callable[[MetricStore], None]:
    """Every read gives the same before and after sealing."""
    return request.param


def test_a_point_comes_back_as_it_was(
    store: MetricStore, settle: Callable[[MetricStore], None]
) -> None:
    point = MetricPoint(_at(0.123456), "training", "loss", 0.1, {"model": "v2.1", "größe": ""})
    store.record([point])
    settle(store)

    assert store.query.points() == [point]


def test_a_value_of_now_takes_the_clock(store: MetricStore, clock: ManualClock) -> None:
    clock.advance(7.5)
    store.record_one(PipelineComponent.STORAGE, "free", 3)

    (found,) = store.query.points("storage", "free")

    assert (found.timestamp, found.value, found.labels) == (clock.now(), 3.0, None)


def test_a_naive_time_is_utc_and_another_zone_is_the_same_instant(store: MetricStore) -> None:
    naive = START.replace(tzinfo=None)
    east = START.astimezone(timezone(timedelta(hours=5)))
    store.record([MetricPoint(at, "a", "b", 1.0) for at in (naive, east)])

    assert [point.timestamp for point in store.query.points("a", "b", naive, east)] == [START] * 2


def test_the_newest_are_returned_oldest_first(
    store: MetricStore, settle: Callable[[MetricStore], None]
) -> None:
    store.record(_points(*((s, float(s)) for s in range(2_000)), node="a"))
    store.record(_points(*((s + 0.5, -1.0) for s in range(1_000)), node="b"))
    settle(store)

    found = store.query.points(limit=3)
    middle = store.query.points(end_time=_at(900), limit=3)
    one = store.query.points(labels={"node": "b"}, start_time=_at(998.5), limit=10)

    assert _seconds(found) == [(1997, 1997.0), (1998, 1998.0), (1999, 1999.0)]
    assert _seconds(middle) == [(899, 899.0), (899.5, -1.0), (900, 900.0)]
    assert _seconds(one) == [(998.5, -1.0), (999.5, -1.0)]


def test_late_points_and_points_of_one_instant_are_all_there(
    store: MetricStore, settle: Callable[[MetricStore], None]
) -> None:
    store.record(_points(*((s, 1.0) for s in range(0, 1_200, 2))))
    settle(store)
    store.record(_points((301, 2.0), (300, 3.0), (-50, 4.0), (1_199, 5.0)))
    settle(store)
    store.record(_points(*[(600, 6.0)] * 1_100))
    settle(store)

    found = _seconds(store.query.points(limit=10_000))

    assert len(found) == 600 + 4 + 1_100
    assert [s for s, _ in found] == sorted(s for s, _ in found)
    assert found[0] == (-50, 4.0)
    assert [value for s, value in found if 299 < s < 302] == [1.0, 3.0, 2.0]
    assert sum(1 for s, _ in found if s == 600) == 1_101


TIMES = st.integers(0, 40)
BATCHES = st.lists(
    st.tuples(
        st.lists(st.tuples(TIMES, st.sampled_from([0.5, -3.25, 7.0, NAN]), st.booleans())),
        st.booleans(),
    ),
    max_size=6,
)


@given(BATCHES, TIMES, TIMES, st.integers(1, 30))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
def test_any_order_of_points_and_seals_reads_like_a_sorted_list(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[tuple[list[tuple[int, float, bool]], bool]],
    first: int,
    last: int,
    limit: int,
) -> None:
    reference: list[tuple[int, float]] = []
    with MetricStore(tmp_path_factory.mktemp("s") / "m.db", clock=ManualClock()) as store:
        for rows, seals in batches:
            for second, value, is_first in rows:
                store.record(_points((second, value), node="a" if is_first else "b"))
                reference.append((second, value))
            if seals:
                store.seal()
        found = store.query.points(start_time=_at(first), end_time=_at(last), limit=limit)

    inside = sorted(s for s, _ in reference if first <= s <= last)
    assert [s for s, _ in _seconds(found)] == inside[-limit:]
    if limit >= len(inside):
        expected = sorted(repr(value) for s, value in reference if first <= s <= last)
        assert sorted(repr(point.value) for point in found) == expected


def test_a_clock_that_went_back_costs_no_point(store: MetricStore, clock: ManualClock) -> None:
    clock.advance(100)
    store.record_one("a", "b", 1.0)
    store.seal()
    clock.set_time_of_day(START)
    store.record_one("a", "b", 2.0)
    store.seal()

    assert [point.value for point in store.query.points()] == [2.0, 1.0]
    assert store.query.latest()[0].value == 1.0


def test_no_value_is_a_point_and_in_no_sum(
    store: MetricStore, settle: Callable[[MetricStore], None]
) -> None:
    store.record(_points((0, 1.0), (1, NAN), (2, 5.0), (3, NAN)))
    settle(store)

    ((_, summary),) = store.query.summaries()
    values = [point.value for point in store.query.points()]

    assert values == pytest.approx([1.0, NAN, 5.0, NAN], nan_ok=True)
    assert (summary.points, summary.n, summary.mean) == (4, 2, 3.0)
    assert (summary.min, summary.max) == (1.0, 5.0)
    assert math.isnan(store.query.latest()[0].value)


def test_a_series_without_any_value_has_no_figures(
    store: MetricStore, settle: Callable[[MetricStore], None]
) -> None:
    store.record(_points((0, NAN)))
    settle(store)

    ((_, summary),) = store.query.summaries()

    assert (summary.points, summary.n) == (1, 0)
    assert all(math.isnan(v) for v in (summary.min, summary.max, summary.mean))


@pytest.mark.parametrize(
    "point",
    [
        MetricPoint(START, "a", "b", math.inf),
        MetricPoint(START, "a", "b", -math.inf),
        MetricPoint(START, "a", "b", 1e151),
        MetricPoint(START + timedelta(days=1, seconds=1), "a", "b", 1.0),
        MetricPoint(datetime(1969, 12, 31, tzinfo=UTC), "a", "b", 1.0),
        MetricPoint(START, "", "b", 1.0),
        MetricPoint(START, "a", "b" * 201, 1.0),
        MetricPoint(START, "a", "b", 1.0, {"c": 5}),  # type: ignore[dict-item]  # what is tested
        MetricPoint(START, "a", "b", 1.0, {"c": []}),  # type: ignore[dict-item]  # what is tested
        MetricPoint(START, "a", "b", 1.0, {"c": "d" * 501}),
        MetricPoint(START, "a", "b", 1.0, {f"l{n}": "" for n in range(33)}),
        MetricPoint(START, "a", "b", "much"),  # type: ignore[arg-type]  # what is tested
        MetricPoint("now", "a", "b", 1.0),  # type: ignore[arg-type]  # what is tested
        MetricPoint(START, "a", "b", 10**400),
    ],
)
def test_a_batch_with_a_point_that_is_none_leaves_nothing(
    store: MetricStore, point: MetricPoint
) -> None:
    with pytest.raises(MonitoringError, match="nothing of this batch was recorded"):
        store.record([*_points((0, 1.0)), point])

    assert store.query.points() == []
    assert store.record(_points((0, 1.0))) == 1


def test_a_refused_batch_says_how_many_stand(store: MetricStore) -> None:
    good = _points(*((0, 1.0) for _ in range(BATCH_MAX)))

    with pytest.raises(MonitoringError) as refused:
        store.record([*good, *_points((0, math.inf))])

    assert refused.value.details["recorded"] == BATCH_MAX
    ((_, summary),) = store.query.summaries()
    assert summary.points == BATCH_MAX


def test_labels_in_another_order_are_the_same_series(store: MetricStore) -> None:
    store.record([MetricPoint(START, "a", "b", 1.0, {"x": "1", "y": "2"})])
    store.record([MetricPoint(START, "a", "b", 1.0, {"y": "2", "x": "1"})])
    store.record([MetricPoint(START, "a", "b", 1.0, {"x": "1"})])

    assert len(store.query.series()) == 2
    assert len(store.query.series("a", "b", {"x": "1"})) == 2
    assert len(store.query.series("a", "b", {"y": "2"})) == 1


def test_too_many_series_name_the_label_at_fault(tmp_path: Path) -> None:
    with MetricStore(tmp_path / "m.db", clock=ManualClock(), series_max=20) as store:
        for number in range(15):
            store.record_one("router", "seconds", 1.0, {"request": str(number), "node": "a"})
        for number in range(5):
            store.record_one("router", "calls", 1.0, {"node": str(number)})
        with pytest.raises(MonitoringError) as refused:
            store.record_one("router", "errors", 1.0)
        store.record_one("router", "calls", 2.0, {"node": "1"})

        assert len(store.query.points(limit=100)) == 21
    details = refused.value.details
    assert (details["metric"], details["label"], details["label_values"]) == (
        "seconds",
        "request",
        15,
    )
    assert "'request' takes 15 values" in str(refused.value)


@pytest.mark.parametrize("limit", [0, -1, 1_000_001])
def test_a_limit_outside_its_domain_is_refused(store: MetricStore, limit: int) -> None:
    with pytest.raises(MonitoringError, match="nothing was read"):
        store.query.points(limit=limit)


def test_the_latest_of_every_series(
    store: MetricStore, settle: Callable[[MetricStore], None]
) -> None:
    store.record(_points((0, 1.0), (5, 2.0), node="a") + _points((3, 7.0), (2, 9.0), node="b"))
    settle(store)
    store.record(_points((1, 8.0), node="b"))

    found = {str(point.labels): point.value for point in store.query.latest("training")}

    assert found == {"{'node': 'a'}": 2.0, "{'node': 'b'}": 7.0}


def test_a_window_holds_its_start_and_not_its_end(
    store: MetricStore, settle: Callable[[MetricStore], None]
) -> None:
    store.record(_points(*((s, float(s)) for s in range(100)), node="a"))
    store.record(_points((0, 1.0), node="b"))
    settle(store)

    found = store.query.windows("training", "loss", over_s=10, until=_at(60))
    never = store.query.windows("training", "never", over_s=10)

    assert [list(window.values) for window in found] == [[50.0 + k for k in range(10)], []]
    assert found[0].end_s - found[0].start_s == 10
    assert found[0].labels == {"node": "a"}
    assert never == []


def test_readers_and_a_sealer_see_every_point_once(store: MetricStore) -> None:
    wrong: list[int] = []
    done = threading.Event()

    def read() -> None:
        least = 0
        while not done.is_set():
            ((_, summary),) = store.query.summaries()
            points = store.query.points(limit=5_000)
            if (
                summary.points < least
                or len(points) < summary.points
                or len(set(point.timestamp for point in points)) != len(points)
            ):
                wrong.append(summary.points)
            least = summary.points

    store.record(_points((0, 0.0)))
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for second in range(1, 1_000):
        store.record(_points((second, 0.0)))
        if second % 100 == 0:
            store.seal()
    done.set()
    for reader in readers:
        reader.join()

    assert wrong == []
    assert len(store.query.points()) == 1_000


def test_a_reader_that_is_in_the_middle_blocks_no_writer(store: MetricStore) -> None:
    store.record(_points((0, 0.0)))
    with store._reading() as connection:
        connection.execute("SELECT count(*) FROM arrivals").fetchone()
        store.record(_points((1, 1.0)))
        store.maintain()
        within = connection.execute("SELECT count(*) FROM arrivals").fetchone()[0]

    assert within == 1
    assert len(store.query.points()) == 2


def test_a_closed_store_says_so(store: MetricStore) -> None:
    store.close()

    with pytest.raises(MonitoringError, match="was closed"):
        store.record_one("a", "b", 1.0)
    with pytest.raises(MonitoringError, match="was closed"):
        store.query.points()


@pytest.mark.parametrize("over_s", [0.0, -1.0, math.nan, math.inf])
def test_a_window_of_no_length_is_refused(store: MetricStore, over_s: float) -> None:
    with pytest.raises(MonitoringError, match="nothing was read"):
        store.query.windows("training", "loss", over_s=over_s)


def test_a_sealing_that_fails_takes_no_point_back(
    store: MetricStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.record(_points((0, 1.0)))
    store.seal()
    store._writer.execute("UPDATE packed SET samples = zeroblob(40)")
    monkeypatch.setattr("pipeline_guard.metrics_store.store._HOT_MAX", 2)

    assert store.record(_points((1, 2.0), (2, 3.0))) == 2
    assert "is damaged" in str(store.sealing_failure)
    assert [
        w.values for w in store.query.windows("training", "loss", over_s=2, until=_at(2.5))
    ] == [[2.0, 3.0]]
    with pytest.raises(MonitoringError, match="is damaged"):
        store.maintain()

    store._writer.execute("DELETE FROM chunks")
    store.maintain()
    assert len(store.query.points()) == 2
