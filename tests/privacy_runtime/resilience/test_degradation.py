from __future__ import annotations

import doctest
import math
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import (
    EventBus,
    Failover,
    FeatureOff,
    Features,
    NoTarget,
    failover,
    features,
    policy,
    trend,
)
from privacy_runtime.testing import SeededEntropy


@pytest.mark.parametrize("module", [failover, features, policy])
def test_the_examples_run(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


# ---- failover


def test_away_at_once_back_when_it_has_been_well() -> None:
    choice = Failover({"a": 3, "b": 2, "c": 1}, stable_s=60, bus=EventBus())
    story = [
        (0, "abc", "a"),
        (1, "bc", "b"),
        (2, "c", "c"),
        (3, "bc", "c"),
        (30, "abc", "c"),
        (63, "abc", "b"),  # b has been well for a minute, a has not
        (70, "bc", "b"),
        (90, "abc", "b"),  # a begins again
        (149, "abc", "b"),
        (150, "abc", "a"),
    ]

    chosen = [choice.choose({t: t in well for t in "abc"}, now_s=at) for at, well, _ in story]

    assert chosen == [wanted for _, _, wanted in story]


def test_where_none_is_well_nothing_is_called() -> None:
    choice = Failover({"a": 1}, bus=EventBus())

    with pytest.raises(NoTarget, match="nothing was called"):
        choice.choose({}, now_s=0)
    assert choice.present is None
    assert choice.choose({"a": True}, now_s=1) == "a"


@given(st.lists(st.tuples(st.floats(0, 50), st.sets(st.sampled_from("abc"))), max_size=40))
def test_what_is_chosen_is_always_well(story: list[tuple[float, set[str]]]) -> None:
    choice, now = Failover({"a": 2, "b": 1, "c": 1}, stable_s=30, bus=EventBus()), 0.0
    for pause, well in story:
        now += pause
        try:
            assert choice.choose(dict.fromkeys(well, True), now_s=now) in well
        except NoTarget:
            assert not well


# ---- features


def test_what_matters_least_goes_first_and_a_hand_overrules() -> None:
    made = Features({"plots": 1, "search": 2, "training": 3}, bus=EventBus())
    made.degrade(2, reason="memory")
    assert made.state() == {"plots": False, "search": False, "training": True}
    with pytest.raises(FeatureOff, match="nothing done"):
        made.require("search")
    made.force("search", on=True)
    made.require("search")
    made.force("search", on=None)

    assert not made.is_on("search")
    with pytest.raises(InvalidParameter):
        made.is_on("serach")


def test_a_guarantee_is_no_feature() -> None:
    with pytest.raises(InvalidParameter, match="cannot be switched off"):
        Features({"accounting": 1})


# ---- trends


def test_a_line_is_found_and_its_end() -> None:
    found = trend([(float(t), 10 + 2.0 * t) for t in range(30)])

    assert found is not None
    assert found.slope_per_s == pytest.approx(2)
    assert found.level == pytest.approx(68)
    assert found.seconds_to(100) == pytest.approx(16)
    assert found.seconds_to(0) is None
    assert found.seconds_to(found.level) == 0


def test_a_quarter_of_wild_values_does_not_move_it() -> None:
    rows = [(float(t), 1_000.0 * (t % 8 == 0) + 0.5 * t) for t in range(80)]

    found = trend(rows)

    assert found is not None
    assert found.slope_per_s == pytest.approx(0.5, rel=0.05)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """95 % nominal; 200 draws of normal noise; fewer than 178 in has a chance below 1e-5."""
    entropy, held = SeededEntropy(11), 0
    for _ in range(200):
        noise = [_normal(entropy) for _ in range(24)]
        found = trend([(float(t), 0.3 * t + noise[t]) for t in range(24)])
        assert found is not None
        held += found.low_per_s <= 0.3 <= found.high_per_s

    assert held >= 178


def _normal(entropy: SeededEntropy) -> float:
    u, v = (int.from_bytes(entropy.token_bytes(6)) / 2**48 for _ in range(2))
    return math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * v)


def test_noise_without_a_trend_reaches_no_limit_for_sure() -> None:
    entropy = SeededEntropy(4)
    found = trend([(float(t), 50 + _normal(entropy)) for t in range(60)])

    assert found is not None
    interval = found.interval_to(100)
    assert interval is None or interval[1] is None


def test_too_little_says_nothing_and_nonsense_is_refused() -> None:
    assert trend([(0.0, 1.0)] * 4) is None
    assert trend([(0.0, 1.0)] * 9) is None
    with pytest.raises(InvalidParameter):
        trend([(0.0, math.nan)] * 9)
    with pytest.raises(InvalidParameter):
        trend([(float(-t), 1.0) for t in range(9)])
