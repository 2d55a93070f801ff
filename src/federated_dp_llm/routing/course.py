"""The course of one private answer: rounds of draft, sums and draw; votes; why it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

from federated_dp_llm.core.query import FinishReason, Query
from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.federation.amounts import price_of
from federated_dp_llm.federation.messages import PublicAsk, Terms
from federated_dp_llm.routing.drafting import Drafting, support
from federated_dp_llm.routing.policy import Plan
from federated_dp_llm.routing.quotas import Held
from federated_dp_llm.routing.sessions import Seat, Sessions
from privacy_core.decoding.drafts import release
from privacy_core.decoding.votes import VoteTerms, agreement, choose_label, noisy_counts
from privacy_runtime.world import Clock, Entropy

CONSENSUS_QUESTION = "Is this right: {answer}"
CONSENSUS_OPTIONS = ("yes", "no")
_SIGMAS = 1.96
"""Of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a noisy vote said. `interval`: 95 %, of the noise alone."""

    share: float | None = None
    interval: tuple[float, float] | None = None
    reached: bool | None = None


@dataclass(slots=True, kw_only=True)
class Course:
    """How far one private answer has come.

    Attributes:
        tokens: all that were drawn, shown or not: they are charged.
        opened: whether any node may have been asked.
        late: the deadline passed.
        public_from: the first token that no record had a part in.
    """

    query: Query
    plan: Plan
    seats: list[Seat]
    terms: list[Terms]
    sessions: Sessions
    drafting: Drafting
    draft_most: int
    clock: Clock
    entropy: Entropy
    began_s: float
    held: Held | None = None
    opened: bool = False
    tokens: list[int] = field(default_factory=list)
    log_support: float = 0.0
    rounds: int = 0
    ended: bool = False
    late: bool = False
    public_from: int | None = None

    @property
    def paid(self) -> int:
        """Tokens that records had a part in."""
        return len(self.tokens) if self.public_from is None else self.public_from

    @property
    def nano(self) -> int:
        """The price of what was released, in nano-rho, as each node counts it."""
        return price_of(self.terms[0], tokens=self.paid, voted=self.sessions.asked_votes)

    @property
    def nano_most(self) -> int:
        """The price if every token is drawn and the votes are held."""
        voted = self.plan.votes is not None
        return price_of(self.terms[0], tokens=self.plan.tokens, voted=voted)

    @property
    def finish_reason(self) -> FinishReason:
        """Why it is over."""
        if self.query.labels or (self.ended and self.public_from is None):
            return "stop"
        if self.public_from is not None:
            return "public_tail"
        if self.late or self.plan.tokens >= self.plan.terms.max_tokens:
            return "length"
        return "privacy_budget"

    async def draw(self) -> AsyncIterator[None]:
        """Draw the tokens of a text, round by round; then, if asked for, the public tail.

        Raises:
            NodeUnavailable: no public model answers, or the deadline passed before the first token.
        """
        if self.query.labels:
            return
        while not self.ended and self.paid < self.plan.tokens and not self._is_late():
            await self._round(self.plan.tokens - self.paid)
            yield
        most = self.plan.terms.max_tokens
        if not self.query.public_tail or self.ended or self.late or len(self.tokens) >= most:
            return
        self.public_from = len(self.tokens)
        while not self.ended and len(self.tokens) < most and not self._is_late():
            await self._round(most - len(self.tokens))
            yield

    async def consensus(self, text: str) -> Verdict:
        """The noisy share of slots that support what was released."""
        if self.plan.votes is None:
            return Verdict()
        question = CONSENSUS_QUESTION.format(answer=text.strip())
        counts = await self.sessions.vote(question, CONSENSUS_OPTIONS)
        seen = agreement(counts[0], self.plan.votes, self.entropy)
        return Verdict(seen.share, seen.interval, seen.reached)

    async def label(self, votes: VoteTerms, agreement_share: float) -> tuple[str, Verdict]:
        """One of the labels; with consensus also the share that chose it, from the same release."""
        labels = self.query.labels
        counts = await self.sessions.vote(self.query.prompt, labels)
        if not self.query.require_consensus:
            return labels[choose_label(counts, votes, self.entropy)], Verdict()
        noisy = noisy_counts(counts, votes, self.entropy)
        best = max(range(len(noisy)), key=noisy.__getitem__)
        half = _SIGMAS * votes.counts_sigma
        low, share, high = (
            min(1.0, max(0.0, count / votes.slots))
            for count in (noisy[best] - half, float(noisy[best]), noisy[best] + half)
        )
        reached = noisy[best] >= agreement_share * votes.slots
        return labels[best], Verdict(share, (low, high), reached)

    async def _round(self, left: int) -> None:
        terms = self.plan.terms
        ask = PublicAsk(
            prompt=self.query.prompt,
            released=tuple(self.tokens),
            draft=min(self.draft_most, left - 1),
            candidates=terms.candidates,
            reach_logits=2 * terms.clip / terms.slots,
        )
        draft, logits = await self.drafting.draft(ask)
        if self.public_from is None:
            sums = await self.sessions.step(self.tokens, draft)
        else:
            sums = [np.zeros(len(ids), dtype=np.int64) for ids in draft.candidates]
        ends = self.seats[0].card.end_tokens
        drawn = release(
            draft.draft, draft.candidates, logits, sums, terms, self.entropy, ends, left=left
        )
        self.rounds += 1
        self.ended = drawn.ended
        for place, token in enumerate(drawn.tokens):
            self.tokens.append(token)
            self.log_support += support(draft.candidates[place], logits[place], token)

    def _is_late(self) -> bool:
        """Whether the deadline passed; what was released until then is the answer."""
        self.late = self.clock.monotonic_s() - self.began_s >= self.query.deadline_s
        if self.late and not self.tokens:
            raise NodeUnavailable("", "no token before the deadline; nothing was released")
        return self.late
