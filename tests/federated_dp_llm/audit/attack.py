"""An attacker who knows everything but whether each canary patient is there, and asks.

One federation holds many canaries, each in a cohort of its own, so that each is a trial of its own:
other records, other answers, other randomness. The attacker knows the model, all other records and
the canary's own text, sends so many queries a canary, and adds up the log-likelihood ratios of what
comes back: by Neyman and Pearson no other test of these answers is better. Whether a canary is
there was decided by a coin; `score >= 0` guesses it.

Everything is the product's own: router, terms, signatures, node, retrieval, ledger, accounts. Only
the model is a table (or the demo's model, remembered), and nothing is on disk.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from federated_dp_llm.config import NodeSpec
from federated_dp_llm.core.query import Query
from federated_dp_llm.federation.amounts import nano_cap
from federated_dp_llm.node.agent import NodeAgent, Parts
from federated_dp_llm.node.audit import Audit
from federated_dp_llm.node.backend import Continuation, FloatArray, IntArray
from federated_dp_llm.node.ledger import PatientLedger
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.records import Record, Records
from federated_dp_llm.node.retrieval import Retrieval
from federated_dp_llm.routing.answering import RecordAnswers
from federated_dp_llm.routing.policy import AnswerPolicy
from federated_dp_llm.routing.quotas import department_account, user_account
from federated_dp_llm.routing.registry import NodeRegistry
from privacy_core.auditing.bounds import clopper_pearson_epsilon
from privacy_core.decoding.prices import rho_of
from privacy_runtime.allowances import AMOUNT_MAX, AsyncAllowances, MemoryHome, Store
from privacy_runtime.keystream import KeyStream
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.testing import ManualClock, MemoryJournal, SeededEntropy

DELTA = 1e-6
SLOTS = 8
END, YES, NO = 0, 1, 2
QUESTION = "is it so"
SAYS = {"": 0.0, "yes": 3.0, "no": -3.0, "YES": 9.0}
"""Nats by which a record lifts yes, and lowers no."""
OTHERS = ("yes", "no", "yes", "no", "yes", "no", "no")
CANARY = "YES"


class TableModel:
    """One token: yes or no, as likely without a record; a record says one of them, more or less."""

    weights, tokenizer = "w" * 64, "t" * 64
    vocabulary, context_length, end_tokens = 3, 256, (END,)
    modes = ("logits", "votes", "public")
    candidates_most = 1024

    def row(self, record: str | None) -> FloatArray:
        """Logits of the first token; nothing is likelier to be the end."""
        says = SAYS[record or ""]
        return np.array([-30.0, says, -says], dtype=np.float32)

    def room(self, prompt: str) -> int:
        return self.context_length - len(prompt)

    def contexts(self, prompt: str, records: Sequence[str | None]) -> TableContexts:
        return TableContexts(self, records)

    def continuation(self, prompt: str, released: Sequence[int], draft: int) -> Continuation:
        return Continuation((), self.row(None)[None], "")

    def choices(
        self, question: str, records: Sequence[str | None], options: Sequence[str]
    ) -> IntArray:
        return np.array([int(SAYS[record or ""] <= 0) for record in records], dtype=np.int64)


class TableContexts:
    """See `TableModel`."""

    def __init__(self, model: TableModel, records: Sequence[str | None]) -> None:
        self._rows = np.stack([model.row(record) for record in records])

    def score(
        self, released: Sequence[int], draft: Sequence[int], candidates: Sequence[Sequence[int]]
    ) -> list[FloatArray]:
        return [self._rows[:, list(ids)] for ids in candidates]

    def close(self) -> None:
        """Nothing is kept."""


class TableWords:
    """The vocabulary of the table."""

    digest = TableModel.tokenizer

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(("", "yes", "no")[token] for token in tokens)

    def count(self, text: str) -> int:
        return len(text.split())


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the federation promises, and how much of it one answer may take.

    `private` False: the same federation with its limits taken away: no clip that binds, hardly any
    temperature, no ledger that ends. `ledger` False: only the patients' ledger does not end.
    """

    epsilon: float
    answers_paid: int
    private: bool = True
    ledger: bool = True

    @property
    def promise(self) -> int:
        """What every patient may pay, in nano-rho."""
        if not (self.private and self.ledger):
            return AMOUNT_MAX
        return nano_cap(rho_of(self.epsilon, DELTA))

    @property
    def clip(self) -> float:
        """Of one answer of one token: so that the promise pays `answers_paid` of them."""
        if not self.private:
            return 12.0
        rho = rho_of(self.epsilon, DELTA) / self.answers_paid
        return SLOTS * math.sqrt(2 * rho) * (1 - 1e-6)

    @property
    def temperature(self) -> float:
        """Of the draw."""
        return 1.0 if self.private else 0.02


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the attacker found, and what the patients paid.

    Attributes:
        scores: sums of log-likelihood ratios, one a canary.
        coins: who was there.
        bound: at 95 %, epsilon is larger than this.
        spent: nano-rho of each canary that was there.
        answers: how many came back.
    """

    scores: npt.NDArray[np.float64]
    coins: npt.NDArray[np.bool_]
    bound: float
    spent: list[int]
    answers: int

    @property
    def accuracy(self) -> float:
        """Share of right guesses."""
        return float(((self.scores >= 0) == self.coins).mean())


class Federation:
    """Router and one node in this process, with a canary in each cohort, or an empty line."""

    def __init__(self, folder: Path, coins: Sequence[bool], rules: Rules, seed: int) -> None:
        self.rules = rules
        self.clock = ManualClock()
        key = SigningKey.create(folder / "router.pem", SeededEntropy(seed), now=self.clock.now())
        cohorts = [f"c{number}" for number in range(len(coins))]
        records = [
            Record(patient=f"{cohort}-{place}", text=text, cohort=cohort)
            for cohort, coin in zip(cohorts, coins, strict=True)
            for place, text in enumerate([CANARY if coin else "", *OTHERS])
        ]
        self.ledger = PatientLedger(Store(MemoryHome(), clock=self.clock), promise=rules.promise)
        agent = NodeAgent(
            Parts(
                policy=NodePolicy(
                    node_id="north",
                    slots=SLOTS,
                    cohorts=tuple(cohorts),
                    selection="listed",
                    rho_max=1e9,
                ),
                backend=TableModel(),
                ledger=self.ledger,
                audit=Audit(MemoryJournal(self.clock), node_id="north"),
                trusted=TrustedKeys([key.public]),
                clock=self.clock,
                entropy=SeededEntropy(seed + 1),
            ),
            Retrieval(Records.of(records)),
        )
        accounts = Store(MemoryHome(), clock=self.clock)
        accounts.open_accounts(
            {user_account("attacker"): AMOUNT_MAX, department_account("none"): AMOUNT_MAX}
        )
        self.registry = NodeRegistry(lambda _: agent, clock=self.clock)
        self.router = RecordAnswers(
            self.registry,
            allowances=AsyncAllowances(accounts),
            vocabulary=TableWords(),
            key=key,
            policy=AnswerPolicy(delta=DELTA, clip=rules.clip, adjacency="null"),
            clock=self.clock,
            entropy=SeededEntropy(seed + 2),
        )

    async def tokens(self, queries: int, canaries: int) -> list[list[int]]:
        """What comes back, by canary."""
        await self.registry.register(NodeSpec(node_id="north", endpoint="https://north.test"))
        found = [
            [await self._asked(number, q) for q in range(queries)] for number in range(canaries)
        ]
        await self.router.aclose()
        return found

    async def _asked(self, number: int, query: int) -> int:
        answer = await self.router.answer(
            Query(
                request_id=f"{number}-{query}",
                user_id="attacker",
                department="none",
                prompt=QUESTION,
                max_tokens=1,
                temperature=self.rules.temperature,
                privacy_budget=1e6,
                cohort=f"c{number}",
            )
        )
        return answer.tokens[0]


def attack(folder: Path, rules: Rules, *, canaries: int, queries: int, seed: int) -> Finding:
    """Plant, ask, guess."""
    coins = KeyStream.fresh(SeededEntropy(seed)).uniforms(canaries) < 0.5
    federation = Federation(folder, coins.tolist(), rules, seed)
    tokens = asyncio.run(federation.tokens(queries, canaries))
    ratios = log_ratios(rules)
    # Whoever knows the promise stops listening when it is used up.
    heard = rules.answers_paid if rules.private and rules.ledger else queries
    scores = np.array([sum(ratios[token] for token in row[:heard]) for row in tokens])
    bound = clopper_pearson_epsilon(scores, coins, delta=DELTA, choice=0.0, independent=True)
    spent = [federation.ledger.balance(f"c{k}-0") for k in np.flatnonzero(coins)]
    return Finding(
        scores=scores,
        coins=coins,
        bound=bound.epsilon,
        spent=[balance.spent for balance in spent if balance is not None],
        answers=sum(map(len, tokens)),
    )


def log_ratios(rules: Rules) -> Mapping[int, float]:
    """log P(token | the canary is there) - log P(token | it is not)."""
    laws = []
    for records in ((CANARY, *OTHERS), OTHERS):
        clipped = [max(-rules.clip, min(rules.clip, SAYS[record])) for record in records]
        lift = sum(clipped) / SLOTS / rules.temperature
        laws.append({YES: -np.logaddexp(0, -2 * lift), NO: -np.logaddexp(0, 2 * lift)})
    return {token: laws[0][token] - laws[1][token] for token in (YES, NO)} | {END: 0.0}
