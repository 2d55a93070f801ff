"""Batches of public requests, placed by the planners."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from tests.federated_dp_llm.routing.world import question

from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.routing.batches import place
from federated_dp_llm.routing.load import Load
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import ManualClock, SeededEntropy


@dataclass
class Place:
    node_id: str
    load: Load
    slots: int = 8


def _places(*seconds: float) -> list[Place]:
    clock = ManualClock()
    places = [Place(f"n{k}", Load(clock)) for k in range(len(seconds))]
    for each, time_s in zip(places, seconds, strict=True):
        each.load.took(time_s)
    return places


def test_a_batch_is_spread_by_speed_and_what_begins_alike_stays_together() -> None:
    head = "an instruction that all of these requests begin with. " * 6
    batch = [
        question(request_id=f"r{k}", context="none", max_tokens=10, prompt=f"own question {k}")
        for k in range(12)
    ] + [
        question(request_id=f"s{k}", context="none", max_tokens=10, prompt=head + str(k))
        for k in range(4)
    ]
    placed = place(
        batch, _places(0.5, 1.0), entropy=SeededEntropy(1), solver="milp", time_limit_s=20.0
    )
    counts = Counter(placed.nodes.values())

    assert placed.plan.feasible
    assert not placed.plan.quantum_hardware
    assert set(placed.nodes) == {query.request_id for query in batch}
    assert counts["n0"] > counts["n1"] > 0
    assert len({placed.nodes[f"s{k}"] for k in range(4)}) == 1


def test_private_questions_and_no_nodes_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="records"):
        place([question()], _places(1.0), entropy=SeededEntropy(1))
    with pytest.raises(NodeUnavailable):
        place([question(context="none")], [], entropy=SeededEntropy(1))
