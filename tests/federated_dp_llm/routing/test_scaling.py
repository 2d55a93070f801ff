"""How many nodes there should be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_dp_llm.routing.scaling import (
    AutoScaler,
    Needs,
    PerformanceMetrics,
    ScalingDecision,
    ScalingPolicy,
    Signals,
    decide,
    need,
)
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import ManualClock

POLICY = ScalingPolicy()
SIGNALS = st.builds(
    Signals,
    offered_per_s=st.floats(0, 1e4),
    service_s=st.floats(0, 10),
    waiting=st.integers(0, 10**5),
    nodes=st.integers(0, 80),
    starting=st.integers(0, 20),
)


@given(SIGNALS, st.floats(0, 1e4), st.integers(0, 10**5))
def test_more_load_never_asks_for_fewer_nodes(signals: Signals, rate: float, more: int) -> None:
    busier = Signals(
        offered_per_s=signals.offered_per_s + rate,
        service_s=signals.service_s,
        waiting=signals.waiting + more,
        nodes=signals.nodes,
    )

    assert POLICY.least <= need(signals, POLICY) <= need(busier, POLICY) <= POLICY.most


@given(st.lists(SIGNALS, min_size=1, max_size=20))
def test_nodes_that_are_starting_are_not_ordered_twice(seen: list[Signals]) -> None:
    needs = Needs()
    for at, signals in enumerate(seen):
        wish = decide(signals, POLICY, needs, float(at))
        assert wish.nodes <= max(POLICY.most, signals.nodes + signals.starting)
        have = signals.nodes + signals.starting
        assert wish.nodes <= max(have, need(signals, POLICY))


def test_nodes_go_only_after_the_need_was_low_for_the_whole_patience() -> None:
    needs = Needs()
    busy = Signals(offered_per_s=500, service_s=0.82, waiting=0, nodes=33)
    calm = Signals(offered_per_s=50, service_s=0.82, waiting=0, nodes=33)
    assert decide(busy, POLICY, needs, 0.0).nodes == 33
    assert decide(calm, POLICY, needs, 119.0).nodes == 33
    assert decide(calm, POLICY, needs, 121.0).nodes == 4


def test_the_documented_face_says_the_same() -> None:
    clock = ManualClock()
    scaler = AutoScaler(clock=clock)

    def asked(rate: float, nodes: int, **more: float) -> ScalingDecision:
        metrics = PerformanceMetrics(
            requests_per_second=rate, avg_response_time=0.8, nodes=nodes, **more
        )
        return scaler.evaluate_scaling_need(metrics)

    assert asked(500, 4) is ScalingDecision.SCALE_OUT
    assert scaler.wish is not None
    assert "500" in scaler.wish.reason
    assert asked(500, scaler.wish.nodes) is ScalingDecision.MAINTAIN
    clock.advance(1000)
    assert asked(10, 32, memory_usage=0.95) is ScalingDecision.MAINTAIN
    assert asked(10, 32) is ScalingDecision.SCALE_IN


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_signal_that_is_no_number_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidParameter):
        decide(Signals(offered_per_s=wrong, service_s=1, waiting=0, nodes=1), POLICY, Needs(), 0.0)
    with pytest.raises(InvalidParameter):
        ScalingPolicy(utilisation=0.0)
    with pytest.raises(InvalidParameter):
        ScalingPolicy(least=5, most=4)
    with pytest.raises(InvalidParameter):
        ScalingPolicy(drain_s=0.0)
