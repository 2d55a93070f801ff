"""Nodes: who is taken in, who is left out, and what a restart knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.federated_dp_llm.routing.world import Federation, run

from federated_dp_llm.config import NodeSpec
from federated_dp_llm.errors import NodeRefused, NodeUnavailable, UnknownNode
from federated_dp_llm.federation.messages import PublicAsk
from federated_dp_llm.routing.registry import NodeRegistry
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import SeededEntropy

LOGITS = frozenset({"logits"})


def _spec(name: str, **more: object) -> NodeSpec:
    return NodeSpec(node_id=name, endpoint="http://node", **more)  # type: ignore[arg-type]  # fields


@pytest.mark.parametrize("what", ["weights", "tokenizer"])
def test_a_node_with_another_model_is_refused_by_name_and_not_kept(
    tmp_path: Path, what: str
) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        setattr(federation.models["coast"], what, "x" * 64)
        registry = NodeRegistry(
            lambda spec: federation.nodes[spec.node_id], coordinators=[federation.coordinator]
        )
        await registry.register(_spec("north"))
        with pytest.raises(NodeRefused, match=f"coast.*{what}"):
            await registry.register(_spec("coast"))
        assert [member.node_id for member in registry.members] == ["north"]

    run(main())


def test_a_node_whose_model_changes_is_left_out_until_it_changes_back(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        await federation.router()
        registry = federation.registry
        federation.models["coast"].weights = "x" * 64
        await registry.probe()
        assert [m.node_id for m in registry.participants("all", LOGITS)] == ["north"]
        assert registry.get("coast").state == "mismatch"
        federation.models["coast"].weights = federation.models["north"].weights
        await registry.probe()
        assert [m.node_id for m in registry.participants("all", LOGITS)] == ["coast", "north"]

    run(main())


def test_a_restart_knows_its_nodes_and_their_cards_come_with_the_first_probe(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        file = tmp_path / "nodes.json"
        first = NodeRegistry(lambda spec: federation.nodes[spec.node_id], file=file)
        await first.register(_spec("north", slots=4, specializations=("cardiology",)))
        await first.register(_spec("coast"))
        first.drain("coast")
        second = NodeRegistry(lambda spec: federation.nodes[spec.node_id], file=file)

        assert [member.state for member in second.members] == ["draining", "unreachable"]
        with pytest.raises(NodeUnavailable, match="coast is draining, north is unreachable"):
            second.participants("all", LOGITS)
        await second.probe()
        (north,) = second.participants("all", LOGITS)
        assert (north.slots, north.spec.specializations) == (4, ("cardiology",))

    run(main())


def test_a_node_that_was_away_for_long_is_in_again_within_half_a_minute(tmp_path: Path) -> None:
    """However often the probes failed: a restarted node is not left out for as long as it was."""

    async def main() -> None:
        federation = Federation(tmp_path)
        await federation.router()
        registry, clock = federation.registry, federation.clock
        federation.nodes["coast"].is_gone = True
        for _ in range(120):
            await registry.probe()
            clock.advance(5)
        assert registry.get("coast").state == "unreachable"
        federation.nodes["coast"].is_gone = False
        for _ in range(6):
            await registry.probe()
            clock.advance(5)
        assert registry.get("coast").state == "healthy"

    run(main())


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nodes.json"
    file.write_text('{"version": 1, "nodes": [{"node_id": "a", "colour": "red"}]}')
    with pytest.raises(InvalidParameter, match="registered nodes"):
        NodeRegistry(lambda spec: None, file=file)  # type: ignore[arg-type,return-value]  # unused


def test_a_removed_node_is_unknown_and_a_name_stands_for_one_node(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        await federation.router()
        registry = federation.registry
        with pytest.raises(InvalidParameter, match="registered otherwise"):
            await registry.register(_spec("north", slots=2))
        await registry.remove("north")
        with pytest.raises(UnknownNode):
            registry.get("north")
        with pytest.raises(UnknownNode):
            registry.drain("north")

    run(main())


def test_a_node_that_fails_is_left_alone_and_comes_back_by_probes(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        await federation.router()
        registry = federation.registry
        coast = registry.get("coast")

        async def away() -> None:
            raise NodeUnavailable("coast", "away")

        healthy, coast.node._node = coast.node._node, _Away(away)  # type: ignore[assignment]
        for _ in range(6):
            await registry.probe()
        assert coast.state == "unreachable"
        assert [m.node_id for m in registry.participants("all", LOGITS)] == ["north"]
        coast.node._node = healthy
        federation.clock.advance(200.0)
        for _ in range(3):
            await registry.probe()
            federation.clock.advance(5.0)
        assert coast.state == "healthy"

    run(main())


class _Away:
    node_id = "coast"

    def __init__(self, call: object) -> None:
        self.card = call


def test_an_ejected_node_is_admitted_by_a_person_alone(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        await federation.router()
        registry = federation.registry
        registry.lost("coast", "protocol: sums that its slots cannot make")
        federation.clock.advance(10_000.0)
        await registry.probe()
        assert registry.get("coast").state == "ejected"
        assert registry.statistics()["coast"]["state"] == "ejected"
        await registry.register(_spec("coast"))
        assert registry.get("coast").state == "healthy"
        registry.lost("coast", "it cannot be reached")
        assert registry.get("coast").state == "healthy"

    run(main())


def test_coordinators_draft_first_and_hold_no_slots(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        await federation.router()
        registry = federation.registry
        await registry.probe()
        card = registry.get("north").card
        assert registry.drafters(card)[0].node_id == "coordinator"
        assert {m.node_id for m in registry.public_nodes()} == {"coordinator", "coast", "north"}
        assert all(m.node_id != "coordinator" for m in registry.participants("all", LOGITS))

    run(main())


def test_a_registry_closes_its_nodes(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        registry = NodeRegistry(
            lambda spec: federation.nodes[spec.node_id], entropy=SeededEntropy(1)
        )
        await registry.register(_spec("north"))
        await registry.aclose()
        ask = PublicAsk(prompt="x", released=(), draft=1, candidates=4, reach_logits=0.0)
        with pytest.raises(RuntimeError, match="shutdown"):
            await federation.nodes["north"].public(ask)

    run(main())
