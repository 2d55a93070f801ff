"""A node over a model made of hashes, and a router that asks it: for tests of either side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from federated_dp_llm.federation.masks import Masks
from federated_dp_llm.federation.messages import OpenSession, PublicDraft, Step, Terms
from federated_dp_llm.federation.port import Node
from federated_dp_llm.federation.signing import SignedTerms, prompt_digest, sign_terms
from federated_dp_llm.node.agent import NodeAgent, Parts
from federated_dp_llm.node.audit import Audit
from federated_dp_llm.node.backend import Continuation, FloatArray, IntArray
from federated_dp_llm.node.ledger import PatientLedger
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.records import Record, Records
from federated_dp_llm.node.retrieval import Retrieval
from privacy_runtime.allowances import MemoryHome, MemoryRows, Store
from privacy_runtime.journal import Entry, Journal
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.testing import ManualClock, MemoryJournal, SeededEntropy
from privacy_runtime.testing import MemoryRows as JournalRows

VOCABULARY = 16
END = 0
PROMPT = "which drug helps cough"
RECORDS = [
    Record(patient=f"p-{k:02}", text=f"patient {k} with cough was given drug {word}")
    for k, word in enumerate(["amber", "birch", "cedar", "dahlia"])
]
NANO_PROMISE = 10**9


class ToyModel:
    """Logits are hashes of what stands before; a record shifts them by less than 3 nats."""

    weights = "w" * 64
    tokenizer = "t" * 64
    vocabulary = VOCABULARY
    context_length = 256
    end_tokens = (END,)
    modes = ("logits", "votes", "public")
    candidates_most = 1024

    def __init__(self) -> None:
        self.scored: list[int] = []
        """How many slots each call computed."""
        self.poison: str | None = None
        """The text of a record for which the model gives NaN."""
        self.held = 0

    def logits(self, prompt: str, tokens: Sequence[int], record: str | None) -> FloatArray:
        """Of the whole vocabulary, after these tokens."""
        public = _numbers(f"{prompt}|{list(tokens)}") * 6
        if record is None:
            return public
        if record == self.poison:
            return np.full(VOCABULARY, np.nan, dtype=np.float32)
        return public + _numbers(f"{record}|{list(tokens)}") * 3

    def room(self, prompt: str) -> int:
        return self.context_length - len(prompt.split()) - 32

    def contexts(self, prompt: str, records: Sequence[str | None]) -> ToyContexts:
        self.held += 1
        return ToyContexts(self, prompt, records)

    def continuation(self, prompt: str, released: Sequence[int], draft: int) -> Continuation:
        tokens = list(released)
        rows = [self.logits(prompt, tokens, None)]
        while len(tokens) - len(released) < draft:
            tokens.append(int(rows[-1].argmax()))
            rows.append(self.logits(prompt, tokens, None))
            if tokens[-1] in self.end_tokens:
                break
        new = tuple(tokens[len(released) :])
        return Continuation(new, np.stack(rows), " ".join(map(str, new)))

    def choices(
        self, question: str, records: Sequence[str | None], options: Sequence[str]
    ) -> IntArray:
        self.scored.append(len(records))
        chosen = [
            next((k for k, option in enumerate(options) if record and option in record), 0)
            for record in records
        ]
        return np.array(chosen, dtype=np.int64)


class ToyContexts:
    """See `ToyModel`."""

    def __init__(self, model: ToyModel, prompt: str, records: Sequence[str | None]) -> None:
        self._model, self._prompt, self._records = model, prompt, records

    def score(
        self, released: Sequence[int], draft: Sequence[int], candidates: Sequence[Sequence[int]]
    ) -> list[FloatArray]:
        self._model.scored.append(len(self._records))
        return [
            np.stack(
                [
                    self._model.logits(self._prompt, [*released, *draft[:place]], record)[list(ids)]
                    for record in self._records
                ]
            )
            for place, ids in enumerate(candidates)
        ]

    def close(self) -> None:
        self._model.held -= 1


class Hospital:
    """One node with what it stands on; `restart` keeps the disk and forgets the process."""

    def __init__(
        self,
        folder: Path,
        records: Sequence[Record] = RECORDS,
        *,
        promise: int = NANO_PROMISE,
        masks: Masks | None = None,
        **policy: Any,
    ) -> None:
        self.clock = ManualClock()
        self.key = SigningKey.create(folder / "router.pem", SeededEntropy(1), now=self.clock.now())
        self.rows, self.entries = MemoryRows(), JournalRows()
        self.policy = NodePolicy(**{"node_id": "north", "slots": 8, **policy})
        self.records = Records.of(records)
        self.promise, self.masks = promise, masks
        self.model = ToyModel()
        self.restart()

    def restart(self) -> NodeAgent:
        self.store = Store(MemoryHome(self.rows), clock=self.clock)
        self.ledger = PatientLedger(self.store, promise=self.promise)
        self.journal: Journal = MemoryJournal(self.clock, self.entries)
        self.agent = NodeAgent(
            Parts(
                policy=self.policy,
                backend=self.model,
                ledger=self.ledger,
                audit=Audit(self.journal, node_id=self.policy.node_id),
                trusted=TrustedKeys([self.key.public]),
                clock=self.clock,
                entropy=SeededEntropy(2),
                masks=self.masks,
            ),
            Retrieval(self.records),
        )
        return self.agent

    def terms(self, request_id: str = "request-1", prompt: str = PROMPT, **changes: Any) -> Terms:
        at = self.clock.now()
        fields = {
            "protocol": 1,
            "request_id": request_id,
            "node_id": self.policy.node_id,
            "cohort": "all",
            "slots": 32,
            "slots_here": 8,
            "clip": 1.0,
            "temperature": 1.0,
            "max_tokens": 24,
            "candidates": 16,
            "adjacency": "replace",
            "vote_rho": 0.001,
            "weights": self.model.weights,
            "tokenizer": self.model.tokenizer,
            "prompt_digest": prompt_digest(prompt),
            "issued_at": at.timestamp(),
            "expires_at": (at + timedelta(seconds=120)).timestamp(),
        }
        return Terms(**{**fields, **changes})

    def signed(self, terms: Terms) -> SignedTerms:
        return sign_terms(terms, self.key)

    def ask(self, request_id: str = "request-1", prompt: str = PROMPT, **terms: Any) -> OpenSession:
        return self.signed(self.terms(request_id, prompt, **terms)).session(prompt)

    def draft(
        self, released: Sequence[int] = (), draft: int = 3, prompt: str = PROMPT
    ) -> PublicDraft:
        """What the coordinator proposes: everything may be drawn."""
        continued = self.model.continuation(prompt, released, draft)
        everything = tuple(range(VOCABULARY))
        return PublicDraft(
            draft=continued.draft,
            candidates=(everything,) * len(continued.logits),
            logits=tuple(row.astype("<f4").tobytes() for row in continued.logits),
        )

    def step(self, handle: str, released: Sequence[int] = (), draft: int = 3) -> Step:
        public = self.draft(released, draft)
        return Step(
            handle=handle,
            released=tuple(released),
            draft=public.draft,
            candidates=public.candidates,
            logits=public.logits,
        )

    def spent(self, patient: str = "p-00") -> tuple[int, int]:
        """What a patient has paid, and what is held of them."""
        balance = self.ledger.balance(patient)
        assert balance is not None
        return balance.spent, balance.reserved

    def audited(self) -> list[Entry]:
        """What stands in the node's audit."""
        journal = MemoryJournal(self.clock, self.entries)
        return list(journal.read(f"node/{self.policy.node_id}"))


async def opened(node: Node, ask: OpenSession) -> str:
    """Open a session; its handle."""
    return (await node.open(ask)).handle


def numbers(parts: Sequence[bytes]) -> list[list[int]]:
    """Sums, as they were sent."""
    return [np.frombuffer(part, dtype="<i4").tolist() for part in parts]


def _numbers(label: str) -> FloatArray:
    """So many numbers from -1 to 1 that follow from a label."""
    data = hashlib.shake_256(label.encode()).digest(2 * VOCABULARY)
    return (np.frombuffer(data, dtype="<u2") / 32767.5 - 1).astype(np.float32)
