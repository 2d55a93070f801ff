"""Answers without any record: one public model, cost 0, for requests that policy says are public.

Nothing private is spent, so a failed node is replaced before the first piece, and consensus is the
plain agreement of the nodes' own greedy answers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from federated_dp_llm.core.query import Answer, Piece, Query
from federated_dp_llm.errors import ConsensusUnavailable, NodeUnavailable
from federated_dp_llm.federation.messages import PublicAsk, PublicDraft
from federated_dp_llm.routing.drafting import Drafting, support
from federated_dp_llm.routing.load_balancer import LoadBalancer
from federated_dp_llm.routing.policy import AnswerPolicy
from federated_dp_llm.routing.registry import Member, NodeRegistry
from federated_dp_llm.routing.sessions import FAILURES
from federated_dp_llm.routing.vocabulary import Vocabulary, Writing
from privacy_core.decoding.drafts import release
from privacy_core.decoding.terms import DecodingTerms
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock, Entropy


@dataclass(slots=True)
class _Text:
    """A public answer while it grows."""

    tokens: list[int] = field(default_factory=list)
    ended: bool = False
    rounds: int = 0
    log_support: float = 0.0


class PublicAnswers:
    """Answers from public models alone.

    Guarantee: no record is looked at, whatever is asked; `privacy_cost` is 0.

    Args:
        registry: whose public nodes answer.
        vocabulary: of the federation's model; nodes with another tokenizer do not answer here.
        policy: drafts, time limits.
        remaining: a user's remaining epsilon, for the answer.
        balancer: chooses the node; None: by expected wait.
        clock, entropy: the outside world.
    """

    def __init__(
        self,
        registry: NodeRegistry,
        vocabulary: Vocabulary,
        policy: AnswerPolicy,
        *,
        remaining: Callable[[str], Awaitable[float]],
        clock: Clock,
        entropy: Entropy,
        balancer: LoadBalancer | None = None,
    ) -> None:
        self._registry, self._vocabulary, self._policy = registry, vocabulary, policy
        self._remaining, self._clock, self._entropy = remaining, clock, entropy
        self.balancer = balancer or LoadBalancer(entropy=entropy)

    async def stream(self, query: Query) -> AsyncGenerator[Piece | Answer, None]:
        """Pieces as they are made, and the whole answer at the end.

        Raises:
            NodeUnavailable: no public model answers.
            ConsensusUnavailable: it was asked for, and there is only one.
        """
        began_s = self._clock.monotonic_s()
        if query.labels:
            raise InvalidParameter(
                "labels", found="a public question", expected="context 'records': records vote"
            )
        members = self._fit()
        if query.require_consensus and len(members) < 2:
            raise ConsensusUnavailable(len(members), 1.0, None)
        first = self.balancer.choose(members, query)
        others = [member for member in members if member is not first]
        text, writing = _Text(), Writing(self._vocabulary)
        nodes = [member.node for member in (first, *others)]
        drafting = Drafting(nodes, self._policy.step_timeout_s, lost=self._registry.lost)
        async for _ in self._rounds(query, text, drafting):
            if piece := writing.more(text.tokens):
                yield piece
        whole = self._vocabulary.text(text.tokens)
        if piece := writing.rest(whole, len(text.tokens)):
            yield piece
        share = await self._agreement(query, members) if query.require_consensus else None
        asked = members if query.require_consensus else [first]
        grid = self._policy.time_grid_s
        yield Answer(
            request_id=query.request_id,
            response=whole,
            tokens=tuple(text.tokens),
            finish_reason="stop" if text.ended else "length",
            mechanism="public",
            privacy_cost=0.0,
            rho=0.0,
            remaining_budget=await self._remaining(query.user_id),
            node_id="+".join(member.node_id for member in asked),
            slots=0,
            processing_time=math.ceil((self._clock.monotonic_s() - began_s) / grid) * grid,
            prompt_tokens=self._vocabulary.count(query.prompt),
            consensus_reached=None if share is None else share >= self._policy.agreement,
            confidence_score=share,
            public_support=text.log_support / len(text.tokens) if text.tokens else None,
            public_from=0,
            round_trips=text.rounds,
        )

    def _fit(self) -> list[Member]:
        """Public nodes whose tokens this router can read."""
        digest = self._vocabulary.digest
        members = [
            member
            for member in self._registry.public_nodes()
            if not digest or member.card.tokenizer == digest
        ]
        if not members:
            raise NodeUnavailable("", "no public model with this router's tokenizer is well")
        return members

    async def _rounds(self, query: Query, text: _Text, drafting: Drafting) -> AsyncIterator[None]:
        candidates = 1 if query.temperature == 0 else self._policy.candidates
        # Of one slot that nobody fills: all sums are zero, and the public law remains.
        terms = DecodingTerms(
            slots=1,
            clip=1.0,
            temperature=query.temperature or 1.0,
            max_tokens=query.max_tokens,
            candidates=candidates,
        )
        ends = frozenset(self._fit()[0].card.end_tokens)
        end_s = self._clock.monotonic_s() + query.deadline_s
        while not text.ended and (left := query.max_tokens - len(text.tokens)) > 0:
            if self._clock.monotonic_s() >= end_s:
                return
            ask = PublicAsk(
                prompt=query.prompt,
                released=tuple(text.tokens),
                draft=min(self._policy.draft, left - 1),
                candidates=candidates,
                reach_logits=0.0,
            )
            draft, logits = await drafting.draft(ask)
            if candidates == 1:
                # Equal logits may all be candidates; the first of them is the greedy choice.
                logits = [row[:1] for row in logits]
                draft = _greedy(draft)
            nothing = [np.zeros(len(row), dtype=np.int64) for row in logits]
            drawn = release(
                draft.draft,
                draft.candidates,
                logits,
                nothing,
                terms,
                self._entropy,
                ends,
                left=left,
            )
            for place, token in enumerate(drawn.tokens):
                text.tokens.append(token)
                text.log_support += support(draft.candidates[place], logits[place], token)
            text.rounds, text.ended = text.rounds + 1, drawn.ended
            yield

    async def _agreement(self, query: Query, members: Sequence[Member]) -> float:
        """Share of nodes whose greedy answer is the most common one; a silent node disagrees."""

        async def one(member: Member) -> str:
            text = _Text()
            greedy = replace(query, temperature=0.0)
            drafting = Drafting(
                [member.node], self._policy.step_timeout_s, lost=self._registry.lost
            )
            async for _ in self._rounds(greedy, text, drafting):
                pass
            return " ".join(self._vocabulary.text(text.tokens).split()).casefold()

        told = await asyncio.gather(*(one(m) for m in members), return_exceptions=True)
        for result in told:
            if isinstance(result, BaseException) and not isinstance(result, FAILURES):
                raise result
        answers = [result for result in told if isinstance(result, str)]
        return max(map(answers.count, answers), default=0) / len(members)


def _greedy(draft: PublicDraft) -> PublicDraft:
    return msgspec.structs.replace(draft, candidates=tuple(ids[:1] for ids in draft.candidates))
