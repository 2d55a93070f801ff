"""Strategies for requests that need one node."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from tests.federated_dp_llm.routing.world import question

from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.routing.load import Load
from federated_dp_llm.routing.load_balancer import LoadBalancer, QuantumLoadBalancer, Strategy
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import ManualClock, SeededEntropy


@dataclass
class Place:
    node_id: str
    load: Load
    slots: int = 8


def _places(count: int = 3, clock: ManualClock | None = None) -> list[Place]:
    clock = clock or ManualClock()
    return [Place(f"n{k}", Load(clock)) for k in range(count)]


def _counts(balancer: LoadBalancer, places: list[Place], times: int = 300) -> Counter[str]:
    return Counter(balancer.choose(places, question()).node_id for _ in range(times))


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_chooses_one_of_the_nodes_or_says_that_there_is_none(
    strategy: Strategy,
) -> None:
    balancer = LoadBalancer(strategy.value, entropy=SeededEntropy(1))
    places = _places()

    assert balancer.choose(places, question()) in places
    assert balancer.choose(places[:1], question()) is places[0]
    with pytest.raises(NodeUnavailable):
        balancer.choose([], question())


def test_a_strategy_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match="performance"):
        LoadBalancer("psychic")


def test_performance_never_takes_the_worst_and_does_not_run_to_the_best() -> None:
    places = _places(4)
    for place, seconds in zip(places, (0.1, 0.2, 0.3, 9.0), strict=True):
        place.load.took(seconds)
    counts = _counts(LoadBalancer(entropy=SeededEntropy(1)), places)

    assert counts["n3"] == 0
    assert counts["n0"] < 250
    assert counts["n1"] > 40


def test_a_peak_counts_at_once_and_is_forgotten_by_and_by() -> None:
    clock = ManualClock()
    load = Load(clock)
    load.took(0.1)
    load.took(5.0)
    assert load.latency_s == 5.0
    clock.advance(1.0)
    load.took(0.1)
    assert 4.0 < load.latency_s < 5.0
    clock.advance(100.0)
    load.took(0.1)
    assert load.latency_s < 0.11


def test_a_call_that_fails_is_not_under_way_any_more() -> None:
    load = Load(ManualClock())
    with pytest.raises(OSError, match="away"), load.call():
        raise OSError("away")

    assert (load.in_flight, load.errors, load.served) == (0, 1, 0)


def test_round_robin_takes_turns() -> None:
    assert set(_counts(LoadBalancer("round_robin"), _places()).values()) == {100}


def test_privacy_aware_looks_at_declared_slots_and_load_alone() -> None:
    places = _places()
    places[1].slots = 64
    balancer = LoadBalancer("privacy_aware")
    assert balancer.choose(places, question()) is places[1]
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(places[1].load.call())
        assert balancer.choose(places, question()) is not places[1]


def test_consensus_prefers_who_answers() -> None:
    places = _places()
    for place in places[:2]:
        with pytest.raises(OSError, match="x"), place.load.call():
            raise OSError("x")

    assert LoadBalancer("consensus").choose(places, question()) is places[2]


def test_a_prefix_goes_where_it_was_until_that_node_is_much_busier() -> None:
    places = _places()
    balancer = LoadBalancer("prefix_aware", entropy=SeededEntropy(4))
    head = "the same long instruction to begin with, " * 5
    first = balancer.choose(places, question(prompt=head + "one"))
    same = {balancer.choose(places, question(prompt=head + str(k))).node_id for k in range(20)}
    assert same == {first.node_id}
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(first.load.call())
        assert balancer.choose(places, question(prompt=head + "two")) is not first


def test_the_quantum_name_is_a_draw_with_weights_that_fall_in_the_expected_wait() -> None:
    places = _places()
    for place, seconds in zip(places, (0.1, 0.5, 2.0), strict=True):
        place.load.took(seconds)
    balancer = QuantumLoadBalancer(entropy=SeededEntropy(2))
    shares = balancer.probabilities(places)
    counts = Counter(
        balancer.quantum_route_selection(places, question()).node_id for _ in range(3000)
    )

    assert sum(shares) == pytest.approx(1.0)
    assert shares[0] > shares[1] > shares[2] > 0
    for place, share in zip(places, shares, strict=True):
        # 6 standard deviations: false alarm below 1e-8
        assert abs(counts[place.node_id] - 3000 * share) < 6 * (3000 * share * (1 - share)) ** 0.5
