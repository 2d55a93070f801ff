"""The lockout: a machine of two numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity import LockoutPolicy
from privacy_runtime.identity.lockout import Attempts

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = LockoutPolicy(free=5, base_s=30, most_s=900, forget_s=86_400)


def test_delays_double_from_the_last_free_failure_up_to_the_cap() -> None:
    delays = [POLICY.delay_s(n) for n in range(12)]

    assert delays == [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 900, 900]
    assert POLICY.delay_s(10**6) == 900


def test_a_lock_ends_when_its_time_is_over() -> None:
    attempts = Attempts(6, NOW)

    assert attempts.locked_for_s(POLICY, NOW) == 60
    assert attempts.locked_for_s(POLICY, NOW + timedelta(seconds=59.5)) == 1
    assert attempts.locked_for_s(POLICY, NOW + timedelta(seconds=60)) == 0


def test_failures_are_forgotten_after_a_day() -> None:
    later = NOW + timedelta(days=1)

    assert Attempts(40, NOW).failed(POLICY, later) == Attempts(1, later)
    assert Attempts(40, NOW).failed(POLICY, later - timedelta(seconds=1)).failures == 41


@given(failures=st.integers(0, 10**9), back_s=st.floats(0, 1e9))
def test_a_clock_that_was_put_back_never_locks_longer_than_the_whole_lock(
    failures: int, back_s: float
) -> None:
    wait_s = Attempts(failures, NOW).locked_for_s(POLICY, NOW - timedelta(seconds=back_s))

    assert wait_s == POLICY.delay_s(failures)


@given(gaps_s=st.lists(st.floats(0, 2000), max_size=60))
def test_a_patient_guesser_gets_no_more_than_the_policy_lets_through(gaps_s: list[float]) -> None:
    attempts, now, looked_at = Attempts(), NOW, []
    for gap_s in gaps_s:
        now += timedelta(seconds=gap_s)
        if not attempts.locked_for_s(POLICY, now):
            attempts = attempts.failed(POLICY, now)
            looked_at.append(now)

    for failures, (before, after) in enumerate(pairwise(looked_at), 1):
        assert (after - before).total_seconds() >= POLICY.delay_s(failures)


def test_giving_back_never_goes_below_zero() -> None:
    assert Attempts(0, NOW).given_back().failures == 0


@pytest.mark.parametrize(
    "numbers",
    [{"free": 0}, {"base_s": 0}, {"most_s": 1}, {"forget_s": 900}, {"base_s": float("nan")}],
)
def test_a_policy_that_never_delays_or_never_forgets_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(InvalidParameter):
        LockoutPolicy(**numbers)  # type: ignore[arg-type]
