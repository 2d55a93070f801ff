"""The nodes of the federation: who is registered, who is well, whose logits may be added."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from federated_dp_llm.config import NodeSpec
from federated_dp_llm.errors import FederatedError, NodeRefused, NodeUnavailable, UnknownNode
from federated_dp_llm.federation.messages import NodeCard
from federated_dp_llm.federation.port import Node
from federated_dp_llm.routing.load import Load
from federated_dp_llm.routing.members import Guarded, Member, NodeState
from privacy_core.errors import InvalidParameter
from privacy_runtime.files import write_atomic
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

_VERSION: Final = 1
_log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node as it is kept on disk."""

    node_id: str
    endpoint: str
    slots: int = 0
    compute_capacity: str = ""
    specializations: tuple[str, ...] = ()
    security_level: str = ""
    draining: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    nodes: tuple[_Kept, ...]


class NodeRegistry:
    """Registered nodes. A restart knows them from `file`; their cards come with the first probe.

    Logits of different weights or tokenizers cannot be added. The federation's are those of the
    first coordinator, or else of the first node that was registered for logits; a node with others
    is refused, by name, when it is registered and also later, when its card changes.

    Args:
        connect: makes the way to a node from what was registered.
        coordinators: nodes without records that make public drafts; asked before the others.
        file: keeps what was registered; None: nothing is kept.
        limit_s: for one call of one node.
        clock, entropy: the outside world.

    Raises:
        InvalidParameter: the file is not of this program.
        WriteFailed: of methods that change the file.
    """

    def __init__(
        self,
        connect: Callable[[NodeSpec], Node],
        *,
        coordinators: Sequence[Node] = (),
        file: Path | None = None,
        limit_s: float = 20.0,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self._connect, self._file, self._limit_s = connect, file, limit_s
        self._clock, self._entropy = clock or SystemClock(), entropy or SystemEntropy()
        self._members: dict[str, Member] = {}
        self._coordinators = [
            Member(NodeSpec(node_id=node.node_id, endpoint="https://coordinator"), self._held(node))
            for node in coordinators
        ]
        self._reference: NodeCard | None = None
        for kept in self._read():
            self._add(kept)

    @property
    def members(self) -> Sequence[Member]:
        """All registered nodes, by name."""
        return [self._members[name] for name in sorted(self._members)]

    @property
    def reference(self) -> NodeCard | None:
        """Whose weights and tokenizer the federation has; None: nobody answered yet."""
        return self._reference

    def get(self, node_id: str) -> Member:
        """One node.

        Raises:
            UnknownNode: it is not registered.
        """
        if node_id not in self._members:
            raise UnknownNode(node_id)
        return self._members[node_id]

    async def register(self, spec: NodeSpec) -> Member:
        """Ask a node for its card, and take it in.

        Raises:
            InvalidParameter: another node has this name.
            NodeUnavailable, NodeRefused: it does not answer, or has another model; it was not
                registered.
        """
        before = self._members.get(spec.node_id)
        if before is not None and before.spec != spec:
            raise InvalidParameter(
                "node_id", found=f"{spec.node_id}, registered otherwise", expected="a new name"
            )
        member = before or Member(spec, self._held(self._connect(spec)))
        ejected = member.state is NodeState.EJECTED
        if ejected:
            member.node.breaker.close()  # a person asks: its word is heard once more
        try:
            card = await self._checked(member)
        except BaseException:
            if ejected:
                member.eject(member.reason)
            if before is None:
                await member.node.aclose()
            raise
        member.card, member.mismatch = card, False
        member.admit()
        self._members[spec.node_id] = member
        self._write()
        return member

    def drain(self, node_id: str) -> Member:
        """Give a node nothing new; answers under way go on."""
        member = self.get(node_id)
        member.draining = True
        self._write()
        return member

    async def remove(self, node_id: str) -> None:
        """Forget a node. Answers under way lose its slots; drain it first."""
        member = self.get(node_id)
        del self._members[node_id]
        self._write()
        await member.node.aclose()

    def participants(self, cohort: str, modes: frozenset[str]) -> list[Member]:
        """All healthy nodes that answer for a cohort in these modes, by name.

        Raises:
            NodeUnavailable: there is none; says why, by name.
        """
        asked = [m for m in self.members if m.known is None or cohort in m.known.cohorts]
        fit = [m for m in asked if m.state is NodeState.HEALTHY and modes <= set(m.card.modes)]
        fit = [member for member in fit if member.slots > 0]
        if not fit:
            states = ", ".join(f"{m.node_id} is {m.state.value}" for m in asked)
            raise NodeUnavailable(
                "", f"no node answers for cohort {cohort!r} now ({states or 'none is registered'})"
            )
        return fit

    def drafters(self, like: NodeCard) -> list[Member]:
        """Who can make public drafts with these weights: coordinators first, then the quickest."""
        nodes = sorted(self.members, key=lambda member: member.load.cost)
        return [
            member
            for member in (*self._coordinators, *nodes)
            if member.state in (NodeState.HEALTHY, NodeState.DRAINING)
            and "public" in member.card.modes
            and (member.card.weights, member.card.tokenizer) == (like.weights, like.tokenizer)
        ]

    def public_nodes(self) -> list[Member]:
        """All healthy nodes that answer without records, coordinators among them."""
        return [
            member
            for member in (*self._coordinators, *self.members)
            if member.state is NodeState.HEALTHY and "public" in member.card.modes
        ]

    def lost(self, node_id: str, reason: str) -> None:
        """A node dropped out of an answer; one that broke the protocol is ejected."""
        _log.warning("node %s has empty slots for the rest of an answer: %s", node_id, reason)
        member = self._members.get(node_id)
        if member is not None and reason.startswith("protocol"):
            member.eject(reason)

    async def probe(self) -> None:
        """Ask every node for its card, once: off the way of any request."""
        everybody = (*self._coordinators, *self.members)
        await asyncio.gather(*(self._probe(member) for member in everybody))

    async def run(self, every_s: float = 5.0) -> None:
        """Probe for ever; cancel it to end."""
        while True:
            await self.probe()
            await asyncio.sleep(every_s)

    async def aclose(self) -> None:
        """Let go of all nodes."""
        for member in (*self._coordinators, *self.members):
            await member.node.aclose()

    def statistics(self) -> Mapping[str, Mapping[str, object]]:
        """What an operator may see of each node; nothing of it depends on a record's content."""
        return {
            member.node_id: {
                "state": member.state.value,
                "reason": member.reason,
                "slots": member.slots,
                "in_flight": member.load.in_flight,
                "served": member.load.served,
                "errors": member.load.errors,
                "latency_s": member.load.latency_s,
                "specializations": member.spec.specializations,
                "compute_capacity": member.spec.compute_capacity,
                "security_level": member.spec.security_level,
            }
            for member in self.members
        }

    async def _checked(self, member: Member) -> NodeCard:
        card = await member.node.card()
        if wrong := await self._differs(card):
            raise NodeRefused(member.node_id, wrong)
        return card

    async def _probe(self, member: Member) -> None:
        if member.state is NodeState.EJECTED:
            return
        try:
            card = await member.node.card()
        except FederatedError as error:
            member.misses += 1
            member.reason = str(error)
            return
        wrong = await self._differs(card, probing=member)
        if wrong and not member.mismatch:
            _log.warning("node %s is left out: %s", member.node_id, wrong)
        member.card, member.mismatch, member.reason = card, bool(wrong), wrong

    async def _differs(self, card: NodeCard, probing: Member | None = None) -> str:
        """How a card differs from the federation's; "": it does not."""
        if "logits" not in card.modes and probing not in self._coordinators:
            return ""  # votes are counted, not added: any model will do
        reference = await self._agreed(card, probing)
        if card.weights != reference.weights:
            return _other("weights", card.weights, reference.weights)
        if card.tokenizer != reference.tokenizer:
            return _other("tokenizer", card.tokenizer, reference.tokenizer)
        return ""

    async def _agreed(self, card: NodeCard, probing: Member | None) -> NodeCard:
        """The federation's card: the first coordinator's, or that of the first node with logits."""
        if self._reference is None and self._coordinators and probing is not self._coordinators[0]:
            first = self._coordinators[0]
            first.card = self._reference = await first.node.card()
        if self._reference is None:
            self._reference = card
        return self._reference

    def _held(self, node: Node) -> Guarded:
        return Guarded(
            node,
            limit_s=self._limit_s,
            clock=self._clock,
            entropy=self._entropy,
            load=Load(self._clock),
        )

    def _add(self, kept: _Kept) -> None:
        spec = NodeSpec(
            node_id=kept.node_id,
            endpoint=kept.endpoint,
            slots=kept.slots,
            compute_capacity=kept.compute_capacity,
            specializations=kept.specializations,
            security_level=kept.security_level,
        )
        held = self._held(self._connect(spec))
        self._members[kept.node_id] = Member(spec, held, draining=kept.draining)

    def _read(self) -> tuple[_Kept, ...]:
        if self._file is None or not self._file.exists():
            return ()
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=_File)
        except msgspec.MsgspecError as error:
            raise InvalidParameter("file", found=str(error), expected="registered nodes") from None
        if kept.version != _VERSION:
            raise InvalidParameter("version", found=kept.version, expected=str(_VERSION))
        return kept.nodes

    def _write(self) -> None:
        if self._file is None:
            return
        nodes = tuple(
            _Kept(
                node_id=member.node_id,
                endpoint=member.spec.endpoint,
                slots=member.spec.slots,
                compute_capacity=member.spec.compute_capacity,
                specializations=tuple(member.spec.specializations),
                security_level=member.spec.security_level,
                draining=member.draining,
            )
            for member in self.members
        )
        encoded = msgspec.json.encode(_File(_VERSION, nodes))
        write_atomic(self._file, msgspec.json.format(encoded, indent=2))


def _other(what: str, found: str, expected: str) -> str:
    return f"its {what} are {found[:12]}, the federation's {expected[:12]}: logits cannot be added"


__all__ = ["Member", "NodeRegistry", "NodeState"]
