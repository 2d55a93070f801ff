"""A small federation in one process: real nodes over a model of hashes, a router, its accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tests.federated_dp_llm.node.toy import ToyModel

from federated_dp_llm.caching import ReleasedAnswers
from federated_dp_llm.config import NodeSpec
from federated_dp_llm.core.query import Answer, Piece, Query
from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.federation.masks import Masks
from federated_dp_llm.federation.messages import (
    Commit,
    Committed,
    NodeCard,
    OpenSession,
    PublicAsk,
    PublicDraft,
    SessionOpened,
    Step,
    StepSums,
    VoteAsk,
    VoteCounts,
)
from federated_dp_llm.federation.port import Node
from federated_dp_llm.node.agent import NodeAgent, Parts
from federated_dp_llm.node.audit import Audit
from federated_dp_llm.node.ledger import PatientLedger
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.records import Record, Records
from federated_dp_llm.node.retrieval import Retrieval
from federated_dp_llm.routing.answering import RecordAnswers
from federated_dp_llm.routing.policy import AnswerPolicy
from federated_dp_llm.routing.quotas import department_account, user_account
from federated_dp_llm.routing.registry import NodeRegistry
from privacy_runtime.allowances import AsyncAllowances, Balance, MemoryHome, MemoryRows, Store
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.testing import ManualClock, MemoryJournal, SeededEntropy

T = TypeVar("T")
R = TypeVar("R")

NANO = 10**9
WORDS = ("amber", "birch", "cedar", "dahlia", "elder", "fennel")
RECORDS = [
    Record(patient=f"p-{k:02}", text=f"patient {k} with cough was given drug {word}")
    for k, word in enumerate(WORDS)
]
PROMPT = "what drug helps the cough of a patient"
CAP = 50 * NANO


class Words:
    """Text of the toy's tokens: their numbers."""

    digest = "t" * 64

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(str(token) for token in tokens if token != 0)

    def count(self, text: str) -> int:
        return len(text.split())


class Fault(StrEnum):
    """What a node does in the place of an answer."""

    NONE = "answers"
    AWAY = "cannot be reached"
    LOST = "does it, and the answer is lost"
    HANGS = "never answers"
    WILD = "sums that its slots cannot make"
    SHORT = "another number of sums"


class Faulty:
    """A node whose calls fail by a schedule; its card is given unless it `is_gone`."""

    def __init__(self, node: Node, faults: Iterable[Fault] = ()) -> None:
        self.node, self._faults = node, iter(faults)
        self.is_gone = False
        self.calls: list[str] = []
        self.said: list[bytes] = []

    @property
    def node_id(self) -> str:
        return self.node.node_id

    async def card(self) -> NodeCard:
        if self.is_gone:
            raise NodeUnavailable(self.node_id, "gone")
        return await self.node.card()

    async def public(self, ask: PublicAsk) -> PublicDraft:
        return await self.node.public(ask)

    async def open(self, ask: OpenSession) -> SessionOpened:
        self.said.append(ask.terms)
        return await self._call("open", self.node.open, ask)

    async def step(self, ask: Step) -> StepSums:
        return await self._call("step", self.node.step, ask)

    async def vote(self, ask: VoteAsk) -> VoteCounts:
        return await self._call("vote", self.node.vote, ask)

    async def commit(self, ask: Commit) -> Committed:
        return await self._call("commit", self.node.commit, ask)

    async def aclose(self) -> None:
        await self.node.aclose()

    async def _call(self, name: str, call: Callable[[T], Awaitable[R]], ask: T) -> R:
        self.calls.append(name)
        fault = next(self._faults, Fault.NONE)
        if fault is Fault.AWAY:
            raise NodeUnavailable(self.node_id, "away")
        if fault is Fault.HANGS:
            await asyncio.Event().wait()
        answer = await call(ask)
        if fault is Fault.LOST:
            raise NodeUnavailable(self.node_id, "the answer was lost")
        return _spoilt(answer, fault)


class Coordinator:
    """A public model without records."""

    def __init__(self, node: Node) -> None:
        self._node, self.node_id = node, "coordinator"
        self.asks: list[PublicAsk] = []

    async def card(self) -> NodeCard:
        card = await self._node.card()
        return msgspec.structs.replace(card, node_id=self.node_id, modes=("public",), cohorts=())

    async def public(self, ask: PublicAsk) -> PublicDraft:
        self.asks.append(ask)
        return await self._node.public(ask)

    async def aclose(self) -> None:
        """Nothing to let go of."""


class Federation:
    """Nodes `north`, `coast`, ... each with records; the router's accounts; one clock."""

    def __init__(
        self,
        folder: Path,
        records: Sequence[Sequence[Record]] = (RECORDS[:3], RECORDS[3:]),
        *,
        slots: int = 8,
        promise: int = 100 * NANO,
        faults: Sequence[Iterable[Fault]] = (),
        masked: bool = False,
        seed: int = 5,
        **policy: Any,
    ) -> None:
        self.clock = ManualClock()
        self.key = SigningKey.create(folder / "router.pem", SeededEntropy(1), now=self.clock.now())
        self.rows = MemoryRows()
        self.store = Store(MemoryHome(self.rows), clock=self.clock)
        self.seed = seed
        self.policy = AnswerPolicy(**{"step_timeout_s": 5.0, **policy})
        self.ledgers: dict[str, PatientLedger] = {}
        self.nodes: dict[str, Faulty] = {}
        self.models: dict[str, ToyModel] = {}
        names = ("north", "coast", "valley", "delta")[: len(records)]
        masks = _masks(names) if masked else dict.fromkeys(names)
        schedules = [*faults, *[()] * len(names)]
        for name, some, schedule in zip(names, records, schedules, strict=False):
            self.nodes[name] = Faulty(self._node(name, some, slots, promise, masks[name]), schedule)
        self.coordinator = Coordinator(self.nodes[names[0]])
        self.store.open_accounts({user_account("ada"): CAP, department_account("er"): CAP})

    async def router(self, *, cache: ReleasedAnswers | None = None, **more: Any) -> RecordAnswers:
        """A router that knows the nodes; another one is a restart."""
        self.registry = NodeRegistry(
            lambda spec: self.nodes[spec.node_id],
            coordinators=[self.coordinator],
            clock=self.clock,
            entropy=SeededEntropy(3),
            limit_s=more.pop("limit_s", 2.0),
        )
        for name in self.nodes:
            await self.registry.register(NodeSpec(node_id=name, endpoint="http://node"))
        return RecordAnswers(
            self.registry,
            allowances=AsyncAllowances(self.store),
            vocabulary=Words(),
            key=self.key,
            policy=self.policy,
            cache=cache,
            clock=self.clock,
            entropy=SeededEntropy(more.pop("seed", self.seed)),
        )

    def reopen(self) -> None:
        """Another process opens the accounts."""
        self.store = Store(MemoryHome(self.rows), clock=self.clock)

    def balance(self, account: str | None = None) -> Balance:
        name = account or user_account("ada")
        return self.store.balances([name])[name]

    def patients(self) -> dict[str, tuple[int, int]]:
        """What each patient has paid, and what is held of them."""
        found = {}
        for name, ledger in self.ledgers.items():
            for record in RECORDS:
                if (balance := ledger.balance(record.patient)) is not None:
                    found[f"{name}/{record.patient}"] = (balance.spent, balance.reserved)
        return found

    def _node(
        self, name: str, records: Sequence[Record], slots: int, promise: int, masks: Masks | None
    ) -> NodeAgent:
        ledger = PatientLedger(Store(MemoryHome(MemoryRows()), clock=self.clock), promise=promise)
        model = ToyModel()
        self.ledgers[name], self.models[name] = ledger, model
        return NodeAgent(
            Parts(
                policy=NodePolicy(node_id=name, slots=slots, rho_max=1000.0),
                backend=model,
                ledger=ledger,
                audit=Audit(MemoryJournal(self.clock), node_id=name),
                trusted=TrustedKeys([self.key.public]),
                clock=self.clock,
                entropy=SeededEntropy(2),
                masks=masks,
            ),
            Retrieval(Records.of(records)),
        )


def question(**changes: Any) -> Query:
    """A question that the budget can buy."""
    fields: dict[str, Any] = {
        "request_id": "r-1",
        "user_id": "ada",
        "department": "er",
        "prompt": PROMPT,
        "max_tokens": 12,
        "temperature": 1.0,
        "privacy_budget": 8.0,
    }
    return Query(**{**fields, **changes})


async def parts_of(router: RecordAnswers, query: Query) -> tuple[list[Piece], Answer]:
    """Everything that a stream said."""
    pieces: list[Piece] = []
    async with aclosing(router.stream(query)) as stream:
        async for part in stream:
            if isinstance(part, Answer):
                return pieces, part
            pieces.append(part)
    raise AssertionError("a stream ends with its answer")


def run(work: Awaitable[T]) -> T:
    async def main() -> T:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(main())


def _spoilt(answer: Any, fault: Fault) -> Any:
    if isinstance(answer, StepSums):
        if fault is Fault.WILD:
            wild = b"\xff\xff\xff\x7f" * (len(answer.sums[0]) // 4)
            return StepSums(sums=(wild, *answer.sums[1:]))
        if fault is Fault.SHORT:
            return StepSums(sums=(*answer.sums[:-1], answer.sums[-1][:-4]))
    if isinstance(answer, VoteCounts) and fault in (Fault.WILD, Fault.SHORT):
        return VoteCounts(counts=(10**6,) * len(answer.counts))
    return answer


def _masks(names: Sequence[str]) -> dict[str, Masks]:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    secrets = {name: bytes([k + 1]) * 32 for k, name in enumerate(names)}
    publics = {
        name: X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
        for name, secret in secrets.items()
    }
    return {
        name: Masks(name, secrets[name], {n: key for n, key in publics.items() if n != name})
        for name in names
    }


def schedule(*faults: Fault) -> Iterator[Fault]:
    return iter(faults)
