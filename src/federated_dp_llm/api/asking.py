"""One question through the door: who asks, what leaves, what it cost, what is written down.

::

    authenticated -> department -> limits -> accounts open -> prompt redacted (and rewritten, if
        that is on) -> answered (and paid)
        -> audit trail -> values put back -> shown

What fails before `answered` cost nothing. An answer that the audit trail does not take is withheld;
it was paid. What was told under an idempotency key is told again in the place of `answered`.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection

from federated_dp_llm.api.errors import waits_said
from federated_dp_llm.api.rewriting import Rewritten
from federated_dp_llm.api.service import Service
from federated_dp_llm.api.shapes import InferenceAnswer, InferenceRequest, PromptRewriting
from federated_dp_llm.api.shield import Shielded
from federated_dp_llm.api.told import Slip
from federated_dp_llm.config import RouterConfig
from federated_dp_llm.core.query import Answer, Piece, Query
from federated_dp_llm.errors import Overloaded, PrivacyBudgetExceeded
from federated_dp_llm.security import InputValidator, PrivacyEvent
from privacy_runtime.http import Access, Fault, InvalidRequest
from privacy_runtime.identity import NotAllowed, Principal, Scope

GENERAL: Final = "general"
"""The department of users whom nobody put into one, where no departments are configured."""
_LOOKED_AT: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that may be asked: the query as it leaves, and how to read the answer.

    Attributes:
        rewritten: what became of the prompt; None: it leaves as it is, redacted.
        slip: where its answer is kept; None: it has no idempotency key.
        earlier: what was told under this key before.
    """

    query: Query
    shielded: Shielded
    rewritten: Rewritten | None = None
    slip: Slip | None = None
    earlier: Answer | None = None


class Asking:
    """Takes questions of authenticated users.

    Args:
        service: what answers.
        access: runs what waits in threads.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._service, self._access = service, access

    async def question(
        self, request: InferenceRequest, principal: Principal, connection: HTTPConnection
    ) -> Question:
        """Check a request, and make of it what leaves.

        Raises:
            InvalidRequest: a value is beyond this deployment's limits.
            NotAllowed: somebody else's name, or a department that is not the user's.
        """
        return await self._access.run(self._question, request, principal, connection)

    async def answered(self, question: Question) -> tuple[InferenceAnswer, Answer]:
        """Answer, and write it down."""
        if question.earlier is not None:
            return self._again(question, question.earlier)
        with self._in_flight(), waits_said():
            try:
                answer = await self._service.answers.answer(question.query)
            except PrivacyBudgetExceeded as error:
                await self._refused(question, error)
                raise
        return await self._shown(question, answer)

    async def pieces(
        self, question: Question
    ) -> AsyncIterator[str | tuple[InferenceAnswer, Answer]]:
        """Text as it is released, with values put back, and the whole answer at the end."""
        if question.earlier is not None:
            told = self._again(question, question.earlier)
            yield told[0].response
            yield told
            return
        revealer = question.shielded.revealer()
        with self._in_flight(), waits_said():
            async with aclosing(_closable(self._service.answers.stream(question.query))) as source:
                async for item in source:
                    if isinstance(item, Piece):
                        text = item.text if revealer is None else revealer.feed(item.text)
                        if text:
                            yield text
                        continue
                    rest = "" if revealer is None else revealer.close()
                    if rest:
                        yield rest
                    yield await self._shown(question, item)

    def _question(
        self, request: InferenceRequest, principal: Principal, connection: HTTPConnection
    ) -> Question:
        config = self._service.config
        user = self._user(request, principal)
        department = self._department(request, user, principal)
        _require_limits(request, config)
        if not config.may_ask_about(request.cohort, department):
            message = "should be a cohort that this department may ask about"
            raise InvalidRequest([Fault("body.cohort", message)])
        of_department = config.department(department)
        context = request.context or config.privacy.context
        if of_department is not None and of_department.context == "none":
            if request.context == "records":
                raise InvalidRequest(
                    [Fault("body.context", "should be none: this department reads no records")]
                )
            context = "none"
        self._service.standings.ensure(user, department)
        self._service.monitor.suspicious_input(
            user, InputValidator.signs(request.prompt[:_LOOKED_AT])
        )
        shielded = self._service.shield.shielded(request.prompt, user)
        request_id, is_keyed = self._request_id(connection, user)
        slip = Slip.of(request_id, request, department) if is_keyed else None
        now = self._service.clock.now()
        prompt, rewritten = shielded.prompt, None
        if self._service.rewriter is not None:
            rewritten = self._service.rewriter.rewritten(prompt, f"{user}\0{request_id}")
            prompt = rewritten.text
        query = Query(
            request_id=request_id,
            user_id=user,
            department=department,
            prompt=prompt,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            privacy_budget=request.privacy_budget or config.privacy.epsilon_per_query,
            require_consensus=request.require_consensus,
            priority=request.priority,
            context="none" if context == "none" else "records",
            labels=tuple(request.labels),
            public_tail=request.public_tail,
            cohort=request.cohort,
            deadline_s=config.performance.deadline_s,
        )
        if query.context == "records" and query.temperature == 0:
            raise InvalidRequest(
                [Fault("body.temperature", "should be above 0: the draw is what keeps it private")]
            )
        earlier = None if slip is None else self._service.told.earlier(slip, now=now)
        return Question(
            query=query, shielded=shielded, rewritten=rewritten, slip=slip, earlier=earlier
        )

    def _user(self, request: InferenceRequest, principal: Principal) -> str:
        if self._service.config.security.authentication == "none":
            return request.user_id or "anonymous"
        user = self._service.name_of(principal.subject)
        if request.user_id is not None and request.user_id != user:
            raise NotAllowed(principal.subject, scope=Scope.MODELS_QUERY)
        return user

    def _department(self, request: InferenceRequest, user: str, principal: Principal) -> str:
        service, asked = self._service, request.department
        if asked is not None and service.config.department(asked) is None:
            raise InvalidRequest(
                [Fault("body.department", "should be a department of this router")]
            )
        if service.config.security.authentication == "none":
            return asked or next(iter(service.config.departments), GENERAL)
        own = service.records.departments_of(user)
        if not own and not service.config.departments:
            own = (GENERAL,)
        if not own or (asked is not None and asked not in own):
            raise NotAllowed(principal.subject, scope=Scope.MODELS_QUERY)
        return asked or own[0]

    def _request_id(self, connection: HTTPConnection, user: str) -> tuple[str, bool]:
        """A fresh one; under an `Idempotency-Key` the same for the same user and key, and True."""
        key = connection.headers.get("idempotency-key")
        if key is None:
            return "q_" + self._service.entropy.token_bytes(16).hex(), False
        if not 8 <= len(key) <= 128 or not key.isascii() or not key.isprintable():
            raise InvalidRequest([Fault("header.idempotency-key", "should be 8 to 128 signs")])
        return "q_" + hashlib.sha256(f"{user}\0{key}".encode()).hexdigest()[:32], True

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        figures, most = self._service.figures, self._service.config.performance
        with waits_said():
            if figures.in_flight >= most.max_concurrent_requests:
                raise Overloaded("as many answers as may be made at once are being made", 1.0)
        figures.in_flight += 1
        try:
            yield
        finally:
            figures.in_flight -= 1

    async def _shown(self, question: Question, answer: Answer) -> tuple[InferenceAnswer, Answer]:
        return await self._access.run(self._write_down, question, answer)

    def _write_down(self, question: Question, answer: Answer) -> tuple[InferenceAnswer, Answer]:
        service, query, now = self._service, question.query, self._service.clock.now()
        kept = None
        if question.slip is not None:
            kept = service.told.document(question.slip, answer, now=now)
        use = service.records.answered(query, answer, kept=kept)
        if use is not None:
            today = now.date().isoformat()
            spent, average = use.days.get(today, 0.0), use.daily_average(today)
            service.monitor.monitor_privacy_access(
                PrivacyEvent(query.user_id, spent, average), day=today
            )
            of_all = service.records.days_of(query.department)
            service.monitor.monitor_department(
                query.department,
                of_all.days.get(today, 0.0),
                of_all.daily_average(today),
                day=today,
            )
            service.figures.answered(answer, question.shielded.found)
        return self._again(question, answer)

    def _again(self, question: Question, answer: Answer) -> tuple[InferenceAnswer, Answer]:
        """An answer that was written down, as it is shown."""
        answer = question.shielded.answer(answer)
        return _document(answer, question, self._service.config.privacy.delta), answer

    async def _refused(self, question: Question, error: PrivacyBudgetExceeded) -> None:
        """A budget that ended is an event of the audit trail."""
        query = question.query
        await self._access.run(
            self._service.audit.log_privacy_event, query.user_id, "refused", error.requested
        )


def _document(answer: Answer, question: Question, delta: float) -> InferenceAnswer:
    return InferenceAnswer(
        response=answer.response,
        privacy_cost=answer.privacy_cost,
        remaining_budget=answer.remaining_budget,
        node_id=answer.node_id,
        processing_time=answer.processing_time,
        consensus_reached=answer.consensus_reached,
        confidence_score=answer.confidence_score,
        confidence_interval=list(answer.confidence_interval or ()) or None,
        request_id=answer.request_id,
        finish_reason=answer.finish_reason,
        mechanism=answer.mechanism,
        slots=answer.slots,
        rho=answer.rho,
        delta=delta,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=len(answer.tokens),
        public_support=answer.public_support,
        public_from=answer.public_from,
        round_trips=answer.round_trips,
        cached=answer.cached,
        redacted=dict(question.shielded.found),
        rewriting=_rewriting(question.rewritten),
    )


def _rewriting(rewritten: Rewritten | None) -> PromptRewriting | None:
    if rewritten is None:
        return None
    return PromptRewriting(
        epsilon=rewritten.epsilon,
        epsilon_per_token=rewritten.epsilon_per_token,
        tokens=rewritten.tokens,
    )


def _require_limits(request: InferenceRequest, config: RouterConfig) -> None:
    limits, faults = config.performance, []
    if len(request.prompt) > limits.max_prompt_characters:
        most = limits.max_prompt_characters
        faults.append(Fault("body.prompt", f"should have at most {most:,} characters", "too_long"))
    if request.max_tokens > limits.max_tokens:
        faults.append(Fault("body.max_tokens", f"should be at most {limits.max_tokens}"))
    most_epsilon = config.privacy.max_epsilon_per_query
    if request.privacy_budget is not None and request.privacy_budget > most_epsilon:
        faults.append(Fault("body.privacy_budget", f"should be at most {most_epsilon:g}"))
    if len(set(request.labels)) != len(request.labels) or len(request.labels) == 1:
        faults.append(Fault("body.labels", "should be two or more different ones, or none"))
    if faults:
        raise InvalidRequest(faults)


async def _closable(
    source: AsyncIterator[Piece | Answer],
) -> AsyncGenerator[Piece | Answer, None]:
    """A generator over a stream, so that leaving it closes the stream."""
    try:
        async for item in source:
            yield item
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
