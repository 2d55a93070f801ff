"""The policies between requests and nodes, by discrete events (notes: 327.5 requests a second)."""

from __future__ import annotations

import pytest
from tests.federated_dp_llm.routing.simulation import (
    SPEEDS,
    Spike,
    arrivals,
    at_random,
    early_binding,
    late_binding,
    of_two,
    round_robin,
    services,
)

from federated_dp_llm.routing.scaling import ScalingPolicy

RATE, SLOTS = 327.5, 90


def _of(count: int, seed: int) -> tuple[list[float], list[float]]:
    return arrivals(RATE, count, seed), services(count, seed)


def test_late_binding_stays_short_on_unequal_nodes_where_random_and_turns_pile_up() -> None:
    comes, takes = _of(12_000, 1)
    late = late_binding(comes, takes, SPEEDS, SLOTS)
    pair = early_binding(comes, takes, SPEEDS, SLOTS, of_two(1, SPEEDS))

    assert late.mean_s <= 0.80
    assert late.percentile_s(95) <= 1.30
    assert pair.mean_s <= 0.85
    for choose in (at_random(1), round_robin()):
        piled = early_binding(comes, takes, SPEEDS, SLOTS, choose)
        assert piled.mean_s > 3 * late.mean_s


def test_every_request_is_served_once_and_never_faster_than_its_node() -> None:
    comes, takes = _of(3_000, 2)
    late = late_binding(comes, takes, SPEEDS, 4)

    assert all(
        took >= need / 1.3 - 1e-9 for took, need in zip(late.latencies_s, takes, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_late_binding_at_full_length(seed: int) -> None:
    comes, takes = _of(200_000, seed)
    late = late_binding(comes, takes, SPEEDS, SLOTS)

    assert late.mean_s <= 0.77
    assert late.percentile_s(95) <= 1.25
    assert late.percentile_s(99) <= 2.156
    assert early_binding(comes, takes, SPEEDS, SLOTS, round_robin()).mean_s > 5


@pytest.mark.parametrize("start_s", [5.0, 15.0])
def test_a_spike_drops_nothing_where_nodes_start_in_time(start_s: float) -> None:
    told = Spike(
        start_s=start_s, policy=ScalingPolicy(), before=10.0, after=100.0, at_s=10.0, until_s=50.0
    )

    assert told.dropped == 0
    assert told.served > 3_000


def test_a_spike_drops_requests_where_nodes_start_too_late() -> None:
    told = Spike(
        start_s=60.0, policy=ScalingPolicy(), before=10.0, after=100.0, at_s=10.0, until_s=60.0
    )

    assert told.dropped > 0


@pytest.mark.slow
@pytest.mark.parametrize("start_s", [2.0, 5.0, 10.0, 15.0, 20.0, 30.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_spike_drops_nothing_up_to_thirty_seconds(start_s: float, seed: int) -> None:
    told = Spike(start_s=start_s, policy=ScalingPolicy(), seed=seed)

    assert told.dropped == 0
    assert told.worst_wait_s <= 30.0
    assert told.settled_s <= 8 + 1.8 * start_s
