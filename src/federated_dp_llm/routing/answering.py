"""The private answer, from question to text: priced, debited, made by all nodes, settled.

::

    plan      what the budget buys with the nodes' public slots              nothing was spent
    reserve   user and department, worst case, on disk                       nothing was asked
    open      signed terms at every node; each holds its patients' price     nothing was released
    round     public draft -> sums of all nodes -> tokens are drawn          each one is paid
    votes     of the records, on what was released; noise                    paid as well
    settle    nodes and accounts, to what was released                       after the answer

What the user sees depends on records through the drawn tokens and noisy votes alone. Which nodes
are asked, how many rounds there are, what is an error and what a cache hit: functions of the
request, the configuration, the nodes' health and the tokens that were released.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from federated_dp_llm.caching import ReleasedAnswers
from federated_dp_llm.core.query import Answer, Piece, Query
from federated_dp_llm.errors import FederatedError, NodeRefused, NodeUnavailable
from federated_dp_llm.federation.amounts import rho_of_nano
from federated_dp_llm.federation.messages import PROTOCOL, Terms
from federated_dp_llm.federation.signing import prompt_digest
from federated_dp_llm.routing.course import Course
from federated_dp_llm.routing.drafting import Drafting
from federated_dp_llm.routing.policy import AnswerPolicy, Plan, check, plan
from federated_dp_llm.routing.publicly import PublicAnswers
from federated_dp_llm.routing.queue import LateBindingQueue
from federated_dp_llm.routing.quotas import Held, Quotas
from federated_dp_llm.routing.recent import Recent
from federated_dp_llm.routing.registry import NodeRegistry
from federated_dp_llm.routing.sessions import Seat, Sessions
from federated_dp_llm.routing.vocabulary import Vocabulary, Writing
from privacy_core.decoding.prices import epsilon_of
from privacy_runtime.allowances import AsyncAllowances
from privacy_runtime.resilience import Hedge
from privacy_runtime.signing import SigningKey
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

_FEDERATION: Final = "federation"
_log = logging.getLogger(__name__)


class RecordAnswers:
    """Answers from the records of all nodes, or from a public model where policy says so.

    Guarantees: whatever is released was debited, durably, from the user's and the department's
    account before any node was asked, and every node holds its patients' price before it computes
    a sum. Cancelled, late, failed or killed: what was drawn is paid, what was not is given back
    where somebody is left to do so. A request id of a user is answered once: repeated in this
    process, the same answer comes back; after a restart the nodes refuse it. An attempt that failed
    may be followed by one at other nodes; the accounts pay for the dearest, once (`Quotas`).

    Args:
        registry: the nodes, and the coordinators that make public drafts.
        allowances: accounts of users and departments, opened by whoever knows their caps.
        vocabulary: the nodes' tokenizer.
        key: signs the terms of each answer.
        policy: the operator's numbers.
        cache: of released answers; None: none is kept.
        clock, entropy: the outside world; tokens are drawn from `entropy`.
    """

    def __init__(
        self,
        registry: NodeRegistry,
        *,
        allowances: AsyncAllowances,
        vocabulary: Vocabulary,
        key: SigningKey,
        policy: AnswerPolicy | None = None,
        cache: ReleasedAnswers | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.policy = policy or AnswerPolicy()
        self.registry, self.cache = registry, cache
        self._vocabulary, self._key = vocabulary, key
        self._clock, self._entropy = clock or SystemClock(), entropy or SystemEntropy()
        self.quotas = Quotas(allowances, delta=self.policy.delta, entropy=self._entropy)
        self.publicly = PublicAnswers(
            registry,
            vocabulary,
            self.policy,
            remaining=self.quotas.remaining,
            clock=self._clock,
            entropy=self._entropy,
        )
        self.queue = LateBindingQueue(most=self.policy.queued, clock=self._clock)
        self.queue.set_credits(_FEDERATION, self.policy.concurrent)
        self._hedge = Hedge(name="public drafts", clock=self._clock)
        self._recent: Recent[Answer] = Recent(self._clock)
        self._settling: set[asyncio.Task[None]] = set()

    async def answer(self, query: Query) -> Answer:
        """Answer, or raise: see `stream`."""
        async with aclosing(self.stream(query)) as parts:
            async for part in parts:
                if isinstance(part, Answer):
                    return part
        raise AssertionError  # a stream ends with its answer

    async def stream(self, query: Query) -> AsyncGenerator[Piece | Answer, None]:
        """Pieces as they are released, and the whole answer at the end.

        Close it (`contextlib.aclosing`) when you stop early: that settles what was released.

        Raises:
            InvalidParameter: a number of the query, or its request id was used for another query.
            BudgetTooSmall, ConsensusUnavailable, PrivacyBudgetExceeded: nothing was spent.
            Overloaded: nothing was spent.
            NodeUnavailable, NodeRefused: no node can answer, or (after pieces) can go on; what was
                released stays paid, the rest is given back.
            UnknownAccount, AllowancesUnavailable: of the accounts; nothing was released.
        """
        check(query)
        with self._recent.claim((query.user_id, query.request_id), query) as claim:
            told = await claim.earlier() or await self._cached(query)
            if told is not None:
                claim.answered(told)
                yield Piece(told.response, len(told.tokens))
                yield told
                return
            public = query.context == "none"
            parts = self.publicly.stream(query) if public else self._privately(query)
            async with aclosing(parts):
                async for part in parts:
                    if isinstance(part, Answer):
                        claim.answered(part)
                        if self.cache is not None:
                            await self.cache.put(query, part)
                    yield part

    async def aclose(self) -> None:
        """Wait until everything that was released is settled."""
        while self._settling:
            await asyncio.gather(*self._settling, return_exceptions=True)
        await self.quotas.aclose()

    async def _cached(self, query: Query) -> Answer | None:
        """What was released to this tenant before costs nothing again: post-processing."""
        began_s = self._clock.monotonic_s()
        found = None if self.cache is None else await self.cache.get(query)
        if found is None:
            return None
        return replace(
            found,
            request_id=query.request_id,
            privacy_cost=0.0,
            rho=0.0,
            remaining_budget=await self.quotas.remaining(query.user_id),
            processing_time=self._taken(began_s),
            cached=True,
        )

    async def _privately(self, query: Query) -> AsyncGenerator[Piece | Answer, None]:
        began_s = self._clock.monotonic_s()
        lease = await self.queue.acquire(
            (_FEDERATION,),
            priority=query.priority,
            deadline_s=began_s + query.deadline_s,
            tenant=query.department,
        )
        with lease:
            async with aclosing(self._made(query, began_s)) as parts:
                async for part in parts:
                    yield part

    async def _made(self, query: Query, began_s: float) -> AsyncGenerator[Piece | Answer, None]:
        course = await self._opened(query, began_s)
        try:
            writing = Writing(self._vocabulary)
            async for _ in course.draw():
                if piece := writing.more(course.tokens):
                    yield piece
            answer = await self._told(course)
            if piece := writing.rest(answer.response, len(course.tokens)):
                yield piece
            yield answer
        finally:
            self._settle(course)

    async def _opened(self, query: Query, began_s: float) -> Course:
        """Debit, and open the sessions; with fewer tokens where the nodes have no room for all.

        Nodes refuse a prompt that is too long before they hold anything. How much room they have
        follows from the prompt and their configuration alone.
        """
        most = query.max_tokens
        while True:
            course = self._course(query, most, began_s)
            course.held = await self._reserve(course)
            try:
                course.opened = True
                stands = await course.sessions.open(course.terms, self._key, query.prompt)
            except BaseException:
                self._settle(course)
                raise
            if stands:
                return course
            self._settle(course)
            most = course.plan.tokens // 2
            if not course.sessions.too_long or most < 1:
                raise NodeUnavailable("", "no node opened a session; nothing was spent")

    def _course(self, query: Query, most: int, began_s: float) -> Course:
        """Choose the nodes and the terms; nothing is asked or spent."""
        modes = {"votes"} if query.labels else {"logits"}
        if query.require_consensus:
            modes.add("votes")
        members = self.registry.participants(query.cohort, frozenset(modes))
        seats = [Seat(member.node, member.card, member.slots) for member in members]
        self._require_readable(seats[0], query)
        # What is promised for the cohort, whoever is well today: empty slots count, too.
        slots = max(self.policy.cohort_slots.get(query.cohort, 0), sum(s.slots for s in seats))
        most = min(most, max(1, min(seat.card.context_length for seat in seats) // 2))
        chosen = plan(replace(query, max_tokens=most), slots, self.policy)
        drafters = [] if query.labels else self.registry.drafters(seats[0].card)
        return Course(
            query=query,
            plan=chosen,
            seats=seats,
            terms=[self._terms(query, chosen, seat) for seat in seats],
            sessions=Sessions(seats, self.policy.step_timeout_s, self.registry.lost),
            drafting=Drafting(
                [member.node for member in drafters],
                self.policy.step_timeout_s,
                self._hedge,
                lost=self.registry.lost,
            ),
            draft_most=self.policy.draft,
            clock=self._clock,
            entropy=self._entropy,
            began_s=began_s,
        )

    def _require_readable(self, seat: Seat, query: Query) -> None:
        """Refuse nodes whose tokens this router would turn into other words."""
        if not query.labels and self._vocabulary.digest not in ("", seat.card.tokenizer):
            raise NodeRefused(
                seat.card.node_id, "mismatch: its tokenizer is not this router's; nothing was spent"
            )

    def _terms(self, query: Query, chosen: Plan, seat: Seat) -> Terms:
        # Not the user's words: a node learns that it is the same request, and nothing else.
        name = hashlib.sha256(f"{query.user_id}\0{query.request_id}".encode()).hexdigest()
        now = self._clock.now().timestamp()
        return Terms(
            protocol=PROTOCOL,
            request_id=name,
            node_id=seat.card.node_id,
            cohort=query.cohort,
            slots=chosen.terms.slots,
            slots_here=seat.slots,
            clip=chosen.terms.clip,
            temperature=chosen.terms.temperature,
            max_tokens=chosen.tokens,
            candidates=chosen.terms.candidates,
            adjacency=chosen.terms.adjacency,
            vote_rho=chosen.vote_rho,
            weights=seat.card.weights,
            tokenizer=seat.card.tokenizer,
            prompt_digest=prompt_digest(query.prompt),
            issued_at=now,
            expires_at=now + self._lives_s(query),
        )

    def _lives_s(self, query: Query) -> float:
        return query.deadline_s + self.policy.session_margin_s

    async def _reserve(self, course: Course) -> Held:
        query = course.query
        return await self.quotas.reserve(
            query.request_id,
            query.user_id,
            query.department,
            course.nano_most,
            ttl_s=self._lives_s(query),
        )

    async def _told(self, course: Course) -> Answer:
        """Vote, and put together what may be shown."""
        query, votes = course.query, course.plan.votes
        if query.labels and votes is not None:
            text, verdict = await course.label(votes, self.policy.agreement)
        else:
            text = self._vocabulary.text(course.tokens)
            verdict = await course.consensus(text)
        rho = rho_of_nano(course.nano)
        returned = 0 if course.held is None else course.held.returned(course.nano)
        return Answer(
            request_id=query.request_id,
            response=text,
            tokens=tuple(course.tokens),
            finish_reason=course.finish_reason,
            mechanism="noisy_vote" if query.labels else "private_decoding",
            privacy_cost=epsilon_of(rho, self.policy.delta),
            rho=rho,
            remaining_budget=await self.quotas.remaining(query.user_id, returned=returned),
            node_id="+".join(seat.card.node_id for seat in course.seats),
            slots=course.plan.terms.slots,
            processing_time=self._taken(course.began_s),
            prompt_tokens=self._vocabulary.count(query.prompt),
            consensus_reached=verdict.reached,
            confidence_score=verdict.share,
            confidence_interval=verdict.interval,
            public_support=course.log_support / len(course.tokens) if course.tokens else None,
            public_from=course.public_from,
            round_trips=course.rounds,
        )

    def _taken(self, began_s: float) -> float:
        """Seconds since, rounded up to the public grid."""
        grid = self.policy.time_grid_s
        return math.ceil((self._clock.monotonic_s() - began_s) / grid) * grid

    def _settle(self, course: Course) -> None:
        """End what was reserved, beside the answer: the reservation is the worst case.

        The accounts wait for no node: whoever tries again waits for them.
        """
        if course.held is not None:
            self.quotas.settle_soon(course.held, course.nano)
        if not course.opened:
            return

        async def commit() -> None:
            try:
                await course.sessions.commit(course.paid)
            except FederatedError as error:
                # The sessions end at their deadline with all of it spent: never too little.
                _log.warning("sessions were not settled: %s", error.code)

        task = asyncio.get_running_loop().create_task(commit())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
