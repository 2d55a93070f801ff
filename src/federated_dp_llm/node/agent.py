"""The node: opens sessions on its own terms, scores drafts, and charges its patients.

    open    signature, freshness, policy -> noted for ever -> who matches -> their price is held, on
            disk -> one context a slot, empty slots included
    step    continues what was seen? -> every slot is scored -> clipped, summed (and masked)
    commit  what was released is charged, the rest of what was held is free again

What somebody pays is on disk before anything is computed from their record. Whoever has no room is
an empty slot, and nobody is told. A session that is not settled by its end is charged in full, and
so is one that the process forgot when it died: the deadline lies in the ledger.

What the node believes: that the router draws tokens as the terms say, and releases nothing else.
The sums are exact numbers about records; masks (`federation.masks`) hide all but their total.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.federation.amounts import price_of
from federated_dp_llm.federation.masks import Masks
from federated_dp_llm.federation.messages import (
    PROTOCOL,
    Commit,
    Committed,
    NodeCard,
    OpenSession,
    PublicAsk,
    PublicDraft,
    SessionOpened,
    Step,
    StepSums,
    Terms,
    VoteAsk,
    VoteCounts,
)
from federated_dp_llm.federation.signing import prompt_digest, verify_terms
from federated_dp_llm.node.audit import Audit
from federated_dp_llm.node.backend import Backend, Contexts
from federated_dp_llm.node.ledger import PatientLedger
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.public import public_draft, require_ask
from federated_dp_llm.node.refusals import Refused
from federated_dp_llm.node.retrieval import Retrieval
from federated_dp_llm.node.sessions import Session, require_ballot
from privacy_core.decoding.differences import clipped_sum
from privacy_runtime import logs
from privacy_runtime.allowances import AllowancesUnavailable, KeyReused, UnknownReservation
from privacy_runtime.journal import JournalError
from privacy_runtime.signing import SigningError, TrustedKeys
from privacy_runtime.world import Clock, Entropy

T = TypeVar("T")
GRACE_S: Final = 60.0
"""How much longer than its session a price is held, so that the session ends it."""
_log = logs.logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a node is made of. `masks` is None where the router may see this node's own sums."""

    policy: NodePolicy
    backend: Backend
    ledger: PatientLedger
    audit: Audit
    trusted: TrustedKeys
    clock: Clock
    entropy: Entropy
    masks: Masks | None = None


class NodeAgent:
    """A node in this process. Implements `federation.port.Node`; used by one event loop.

    The patients of `retrieval` get their accounts here.

    Args:
        parts: what it is made of; the agent owns ledger and audit.
        retrieval: over its records; `reload` exchanges it.
    """

    def __init__(self, parts: Parts, retrieval: Retrieval) -> None:
        self._parts = parts
        self._policy = parts.policy
        self._retrieval = retrieval
        self._sessions: dict[str, Session] = {}
        self._settled: dict[str, tuple[float, Commit]] = {}
        self._opening = 0
        self._model = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        parts.ledger.admit(retrieval.patients)

    @property
    def node_id(self) -> str:
        """Its name in the federation."""
        return self._policy.node_id

    @property
    def backend(self) -> Backend:
        """Its model."""
        return self._parts.backend

    @property
    def audit(self) -> Audit:
        """Its audit."""
        return self._parts.audit

    def reload(self, retrieval: Retrieval) -> None:
        """Answer from other records from now on; sessions that stand keep theirs."""
        self._parts.ledger.admit(retrieval.patients)
        self._retrieval = retrieval

    async def card(self) -> NodeCard:
        """What it says of itself: configuration only, nothing that a record decides."""
        backend, policy = self._parts.backend, self._policy
        masked = ("masked",) if self._parts.masks else ()
        return NodeCard(
            protocol=PROTOCOL,
            node_id=policy.node_id,
            slots=policy.slots,
            weights=backend.weights,
            tokenizer=backend.tokenizer,
            vocabulary=backend.vocabulary,
            context_length=backend.context_length,
            modes=(*backend.modes, *masked),
            cohorts=policy.cohorts,
            specializations=policy.specializations,
            end_tokens=backend.end_tokens,
        )

    async def public(self, ask: PublicAsk) -> PublicDraft:
        """Continue a prompt; no record is looked at.

        Raises:
            NodeRefused: malformed or prompt_too_long.
        """
        return await self._answered(self._public(ask))

    async def open(self, ask: OpenSession) -> SessionOpened:
        """Open a session; see the module for the order of things.

        Raises:
            NodeRefused: unsigned, stale, terms, mismatch, malformed, prompt_too_long: nothing was
                held. replayed: there was a session of this request.
            NodeUnavailable: busy: nothing was held. unavailable: whether something was held is not
                known; it is charged at the deadline if so.
        """
        return await self._answered(self._open(ask))

    async def step(self, ask: Step) -> StepSums:
        """Score a draft with the records. A repetition of the latest step gets the same answer.

        Raises:
            NodeRefused: unknown_session, malformed, discontinuous or over_limit; the session goes
                on as it was.
        """
        return await self._answered(self._step(ask))

    async def vote(self, ask: VoteAsk) -> VoteCounts:
        """Let every record choose one option; once a session.

        Raises:
            NodeRefused: unknown_session, malformed, prompt_too_long or over_limit.
        """
        return await self._answered(self._vote(ask))

    async def commit(self, ask: Commit) -> Committed:
        """Charge what was released, and end the session. May be repeated until its end.

        Raises:
            NodeRefused: unknown_session: it was charged in full at its end. over_limit: more tokens
                than it holds; the session goes on.
            NodeUnavailable: the ledger; the session goes on, repeat it.
        """
        return await self._answered(self._commit(ask))

    async def expire(self) -> None:
        """End sessions whose time is over, charged in full."""
        now = self._parts.clock.now().timestamp()
        for handle, session in list(self._sessions.items()):
            over = session.terms.expires_at <= now and not session.turn.locked()
            # Somebody else may have ended it while this one waited for the disk.
            if over and self._sessions.pop(handle, None) is not None:
                await self._forfeit(session)
        for handle, (ends, _) in list(itertools.islice(self._settled.items(), 100)):
            if ends > now:
                break  # the rest was settled later
            del self._settled[handle]

    async def keep(self) -> None:
        """End what is over, here and in the ledger. To be called now and then.

        Raises:
            NodeUnavailable: the ledger.
        """
        await self._answered(self._keep())

    async def aclose(self) -> None:
        """Stop, and close ledger and audit. Sessions that stand are charged in full."""
        try:
            while self._sessions:
                await self._answered(self._forfeit(self._sessions.popitem()[1]))
        finally:
            self._model.shutdown(wait=True)
            self._parts.ledger.close()
            self._parts.audit.close()

    async def _answered(self, work: Coroutine[Any, Any, T]) -> T:
        """Turn refusals and a lost ledger into the errors of the port."""
        try:
            return await work
        except Refused as refused:
            _log.info("refused", code=refused.code)
            raise refused.as_error(self.node_id) from refused
        except (AllowancesUnavailable, JournalError) as error:
            _log.error("ledger unavailable", code=error.code)
            raise NodeUnavailable(self.node_id, "unavailable") from None

    async def _keep(self) -> None:
        await self.expire()
        await asyncio.to_thread(self._parts.ledger.expire)
        await asyncio.to_thread(self._parts.audit.keep)

    async def _in_model(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._model, work)

    async def _public(self, ask: PublicAsk) -> PublicDraft:
        backend = self._parts.backend
        require_ask(ask, vocabulary=backend.vocabulary, prompt_max=self._policy.prompt_max)
        return await self._in_model(lambda: public_draft(ask, backend))

    async def _open(self, ask: OpenSession) -> SessionOpened:
        await self.expire()
        terms, stands_s = self._verified(ask)
        backend = self._parts.backend
        await self._in_model(lambda: _require_room(backend, ask.prompt, terms.max_tokens))
        if len(self._sessions) + self._opening >= self._policy.sessions_max:
            raise Refused("busy", f"{self._policy.sessions_max} sessions are open")
        self._opening += 1
        try:
            texts, held = await asyncio.to_thread(self._charge, ask, terms, stands_s)
            contexts = await self._in_model(lambda: backend.contexts(ask.prompt, texts))
            handle = self._parts.entropy.token_bytes(16).hex()
            self._sessions[handle] = Session(
                terms=terms, texts=texts, patients=held, contexts=contexts
            )
        finally:
            self._opening -= 1
        return SessionOpened(handle=handle)

    def _verified(self, ask: OpenSession) -> tuple[Terms, float]:
        """Terms that were signed, for this node, for now, and within its limits."""
        now = self._parts.clock.now()
        try:
            terms = verify_terms(ask, self._parts.trusted, now=now)
        except SigningError as error:
            raise Refused("unsigned", error.code) from None
        stands_s = self._policy.require_fresh(terms, now)
        self._policy.require_allowed(terms)
        backend = self._parts.backend
        if (terms.weights, terms.tokenizer) != (backend.weights, backend.tokenizer):
            raise Refused("mismatch", "the terms are for other weights or another tokenizer")
        if len(ask.prompt) > self._policy.prompt_max:
            raise Refused("prompt_too_long", f"at most {self._policy.prompt_max} characters")
        if terms.prompt_digest != prompt_digest(ask.prompt):
            raise Refused("mismatch", "the prompt is not the one that the terms were signed for")
        return terms, stands_s

    def _charge(
        self, ask: OpenSession, terms: Terms, stands_s: float
    ) -> tuple[tuple[str | None, ...], frozenset[str]]:
        """Note the session, hold its price for whoever matches, and fill the slots. Waits."""
        price = price_of(terms, tokens=terms.max_tokens, voted=True)
        noted = self._parts.audit.opened(
            terms.request_id, key_id=ask.key_id, price=price, cohort=terms.cohort
        )
        if not noted:
            raise Refused("replayed", "this request has opened a session before")
        if self._policy.selection == "listed":
            found = self._retrieval.listed(terms.cohort, most=terms.slots_here)
        else:
            found = self._retrieval.matching(ask.prompt, terms.cohort)
        try:
            held = self._parts.ledger.hold(
                terms.request_id, found.patients, price, ttl_s=stands_s + GRACE_S
            )
        except KeyReused:  # the ledger remembers what a lost audit forgot
            raise Refused("replayed", "this request has held a price before") from None
        return found.slots(held, terms.slots_here), held

    async def _step(self, ask: Step) -> StepSums:
        session = await self._session(ask.handle)
        async with session.turn:
            contexts = self._standing(session)
            if session.last_step is not None and session.last_step[0] == ask:
                return session.last_step[1]
            publics = session.require_next(ask, vocabulary=self._parts.backend.vocabulary)
            scored = await self._in_model(
                lambda: contexts.score(ask.released, ask.draft, ask.candidates)
            )
            # An empty slot was computed, and is left out here: it adds nothing.
            filled = [place for place, text in enumerate(session.texts) if text is not None]
            sums = [
                clipped_sum(private[filled], public, session.terms.clip)
                for private, public in zip(scored, publics, strict=True)
            ]
            if self._parts.masks is not None:
                sums = self._parts.masks.masked(sums, session.terms, ask)
            answer = StepSums(sums=tuple(part.astype("<i4").tobytes() for part in sums))
            session.seen, session.last_step = tuple(ask.released), (ask, answer)
            return answer

    async def _vote(self, ask: VoteAsk) -> VoteCounts:
        session = await self._session(ask.handle)
        async with session.turn:
            self._standing(session)
            if session.last_vote is not None and session.last_vote[0] == ask:
                return session.last_vote[1]
            if session.terms.vote_rho == 0 or session.last_vote is not None:
                raise Refused("over_limit", "the terms pay for no vote, or it was held")
            require_ballot(ask, self._policy.prompt_max)
            texts, backend = session.texts, self._parts.backend
            chosen = await self._in_model(lambda: backend.choices(ask.question, texts, ask.options))
            filled = np.array([text is not None for text in texts])
            counts = np.bincount(chosen[filled], minlength=len(ask.options)).astype(np.int32)
            if self._parts.masks is not None:
                (counts,) = self._parts.masks.masked([counts], session.terms, ask)
            answer = VoteCounts(counts=tuple(counts.tolist()))
            session.last_vote = (ask, answer)
            return answer

    async def _commit(self, ask: Commit) -> Committed:
        if ask.handle in self._settled:
            if self._settled[ask.handle][1] != ask:
                raise Refused("over_limit", "the session was settled otherwise")
            return Committed()
        session = await self._session(ask.handle)
        async with session.turn:
            self._standing(session)
            if not 0 <= ask.tokens <= session.terms.max_tokens:
                raise Refused("over_limit", f"the session holds {session.terms.max_tokens} tokens")
            amount = price_of(
                session.terms,
                tokens=session.charged_tokens(ask.tokens),
                voted=ask.voted or session.last_vote is not None,
            )
            try:
                await asyncio.to_thread(self._settle, session, amount, "settled")
            except UnknownReservation:
                raise Refused("unknown_session", "it was over, and is charged in full") from None
            self._settled[ask.handle] = (session.terms.expires_at, ask)
            self._sessions.pop(ask.handle, None)
            session.close()
            return Committed()

    async def _session(self, handle: str) -> Session:
        await self.expire()
        session = self._sessions.get(handle)
        if session is None:
            raise Refused("unknown_session", "it is over, or never was")
        return session

    def _standing(self, session: Session) -> Contexts:
        """The slots of a session that is neither settled nor past its end."""
        now = self._parts.clock.now().timestamp()
        if session.contexts is None or session.terms.expires_at <= now:
            raise Refused("unknown_session", "it is over")
        return session.contexts

    def _settle(self, session: Session, amount: int, how: str) -> None:
        self._parts.ledger.settle(session.terms.request_id, session.patients, amount)
        self._parts.audit.ended(session.terms.request_id, charged=amount, how=how)

    async def _forfeit(self, session: Session) -> None:
        """Charge a session that was not settled: all of it."""
        session.close()
        amount = price_of(session.terms, tokens=session.terms.max_tokens, voted=True)
        with suppress(UnknownReservation):  # the ledger's own deadline was faster: it is charged
            await asyncio.to_thread(self._settle, session, amount, "expired")


def _require_room(backend: Backend, prompt: str, max_tokens: int) -> None:
    room = backend.room(prompt)
    if room < max_tokens:
        room = max(room, 0)
        detail = f"{room} tokens may follow, {max_tokens} are asked"
        raise Refused("prompt_too_long", detail, room=room)
