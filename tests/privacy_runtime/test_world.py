from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import ManualClock, SeededEntropy
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy


def test_the_system_clock_has_a_time_zone_and_its_durations_never_go_back() -> None:
    clock: Clock = SystemClock()

    readings = [clock.monotonic_s() for _ in range(100)]

    assert clock.now().utcoffset() == timedelta(0)
    assert readings == sorted(readings)


def test_system_entropy_gives_as_many_bytes_as_asked_and_not_the_same_twice() -> None:
    entropy: Entropy = SystemEntropy()

    assert len(entropy.token_bytes(0)) == 0
    assert len(entropy.token_bytes(32)) == 32
    assert entropy.token_bytes(32) != entropy.token_bytes(32)


def test_a_manual_clock_moves_only_when_told() -> None:
    clock: Clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    assert isinstance(clock, ManualClock)

    clock.advance(90)

    assert clock.now() == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)
    assert clock.monotonic_s() == 90


def test_a_manual_clock_can_jump_back_without_its_durations_noticing() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.advance(5)

    clock.set_time_of_day(datetime(2020, 1, 1, tzinfo=UTC))

    assert clock.now().year == 2020
    assert clock.monotonic_s() == 5


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_manual_clock_refuses_to_go_back_or_nowhere(seconds: float) -> None:
    clock = ManualClock()

    with pytest.raises(InvalidParameter, match="seconds"):
        clock.advance(seconds)

    assert clock.monotonic_s() == 0


def test_a_manual_clock_refuses_an_instant_without_a_time_zone() -> None:
    with pytest.raises(InvalidParameter, match="time zone"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001  the naive instant is the case under test


def test_seeded_entropy_repeats_by_seed_and_never_within_one() -> None:
    first, again, other = SeededEntropy(1), SeededEntropy(1), SeededEntropy(2)

    drawn = [first.token_bytes(32) for _ in range(10)]

    assert drawn == [again.token_bytes(32) for _ in range(10)]
    assert len(set(drawn)) == 10
    assert other.token_bytes(32) not in drawn
