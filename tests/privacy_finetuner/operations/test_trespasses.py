"""Whose object a request was for is found out later, and said of strangers' objects alone."""

from __future__ import annotations

import pytest

from privacy_finetuner.operations.trespasses import NOTED_MOST, Trespasses
from privacy_runtime.journal import StoreUnavailable
from privacy_runtime.testing import ManualClock

OWNERS = {"job_south0001": "o_2", "job_north0001": "o_1"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def trespasses(clock: ManualClock) -> Trespasses:
    return Trespasses(OWNERS.get, clock)


def test_only_a_strangers_object_is_a_trespass(trespasses: Trespasses) -> None:
    for asked in ("job_south0001", "job_north0001", "job_nobody001", "../../etc/passwd", ""):
        trespasses.not_found("o_1", "u_1", asked)

    assert trespasses.crossed() == [{"tenant": "o_1", "subject": "u_1", "kind": "job"}]
    assert trespasses.crossed() == []


def test_a_flood_is_noted_twenty_times_an_hour(trespasses: Trespasses, clock: ManualClock) -> None:
    for _ in range(50):
        trespasses.not_found("o_1", "u_1", "job_south0001")
    trespasses.not_found("o_1", "u_2", "job_south0001")
    assert len(trespasses.crossed()) == NOTED_MOST + 1

    clock.advance(3601)
    trespasses.not_found("o_1", "u_1", "job_south0001")
    assert len(trespasses.crossed()) == 1


def test_what_could_not_be_looked_up_is_kept_for_the_next_time() -> None:
    away = [True]

    def tenant_of(_: str) -> str:
        if away:
            raise StoreUnavailable("jobs", reason="away")
        return "o_2"

    trespasses = Trespasses(tenant_of, ManualClock())
    trespasses.not_found("o_1", "u_1", "job_south0001")
    with pytest.raises(StoreUnavailable):
        trespasses.crossed()
    away.clear()

    assert len(trespasses.crossed()) == 1
