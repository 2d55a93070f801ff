"""What one answer may cost and under which terms it is made, decided before anything is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from federated_dp_llm.core.query import Query
from federated_dp_llm.errors import BudgetTooSmall, ConsensusUnavailable
from federated_dp_llm.federation.messages import DRAFT_MAX
from privacy_core.decoding.prices import (
    CLIP_LEAST,
    Shortfall,
    affordable_tokens,
    epsilon_of,
    least_epsilon,
    rho_of,
    terms_for,
)
from privacy_core.decoding.terms import Adjacency, DecodingTerms
from privacy_core.decoding.votes import (
    OPTIONS_MAX,
    VoteTerms,
    error_of_flag,
    error_of_label,
    least_flag_rho,
    least_label_rho,
)
from privacy_core.errors import InvalidParameter

_EPSILON_MOST: Final = 64.0
"""No larger epsilon is offered: it would promise nothing."""
_RHO_LEAST: Final = 1e-8
_RHO_MOST: Final = 100.0
"""Votes outside have noise that cannot be held, or none; a larger budget buys this much."""
_ROUNDING: Final = 1e-9
"""Ledgers round an answer's price up to a whole nano-rho: so much of a budget is kept for it."""
_UP: Final = 1 + 1e-6
"""So that the epsilon that is named as the least is enough, rounding included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPolicy:
    """The operator's numbers. None of them depends on a record.

    Attributes:
        delta: at which epsilon is shown; the currency is rho.
        clip: the most that one record may add to a logit, in nats: more than 2 to 4 does not help.
        candidates: tokens that are drawn from, at most.
        adjacency: `null` only where slots are filled without looking at records.
        least_tokens: a text budget that buys fewer (and fewer than were asked for) is refused.
        consensus_share: part of rho that pays for the votes of `require_consensus`.
        consensus_error: the largest chance of a wrong flag.
        label_error: the same for a label that is asked for.
        agreement: share of slots that is consensus.
        draft: tokens that are proposed in one round trip.
        step_timeout_s: a node that takes longer has empty slots for the rest of the answer.
        time_grid_s: `processing_time` is rounded up to a multiple of this.
        session_margin_s: that sessions and reservations outlive the deadline of a query.
        cohort_slots: of all nodes together, by cohort; one that is not named has the slots of the
            nodes that are well.
        concurrent: private answers that are made at once.
        queued: private answers that may wait for their turn.
    """

    delta: float = 1e-6
    clip: float = 3.0
    candidates: int = 128
    adjacency: Adjacency = "replace"
    least_tokens: int = 16
    consensus_share: float = 0.25
    consensus_error: float = 0.1
    label_error: float = 0.25
    agreement: float = 2 / 3
    draft: int = DRAFT_MAX
    step_timeout_s: float = 25.0
    time_grid_s: float = 0.25
    session_margin_s: float = 30.0
    cohort_slots: Mapping[str, int] = field(default_factory=dict)
    concurrent: int = 64
    queued: int = 1024

    def __post_init__(self) -> None:
        for name in ("delta", "consensus_share", "consensus_error", "label_error", "agreement"):
            if not 0 < (value := getattr(self, name)) < 1:
                raise InvalidParameter(name, found=value, expected="a number in (0, 1)")
        if not CLIP_LEAST <= self.clip < math.inf:
            raise InvalidParameter("clip", found=self.clip, expected=f"at least {CLIP_LEAST:g}")
        if not 0 <= self.draft <= DRAFT_MAX:
            raise InvalidParameter("draft", found=self.draft, expected=f"0 to {DRAFT_MAX}")
        for name in ("step_timeout_s", "time_grid_s", "session_margin_s"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise InvalidParameter(name, found=value, expected="seconds above 0")
        for name, least in (("least_tokens", 1), ("concurrent", 1), ("queued", 0)):
            if getattr(self, name) < least:
                raise InvalidParameter(name, found=getattr(self, name), expected=f">= {least}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one private answer is made.

    Attributes:
        terms: of the text; for a label only its slots and adjacency count.
        tokens: the most that are drawn; 0: the answer is a label.
        votes: of the consensus or the label; None: nobody votes.
    """

    terms: DecodingTerms
    tokens: int
    votes: VoteTerms | None

    @property
    def vote_rho(self) -> float:
        """Price of the votes."""
        return 0.0 if self.votes is None else self.votes.rho


def plan(query: Query, slots: int, policy: AnswerPolicy) -> Plan:
    """Decide what this query's budget buys with so many record slots.

    The clip is the largest, up to `policy.clip`, at which all of `max_tokens` can be paid; where it
    would be under `CLIP_LEAST`, it is that, and fewer tokens are bought.

    Raises:
        InvalidParameter: a number of the query is outside its domain.
        BudgetTooSmall: names the least epsilon that would do.
        ConsensusUnavailable: the flag would be wrong too often.
    """
    check(query)
    if query.labels:
        return _label_plan(query, slots, policy)
    votes = _consensus_terms(query, slots, policy) if query.require_consensus else None
    spent_rho = _ROUNDING + (0.0 if votes is None else votes.rho)
    terms = _terms(query, slots, policy, query.max_tokens, spent_rho)
    if isinstance(terms, DecodingTerms):
        return Plan(terms=terms, tokens=query.max_tokens, votes=votes)
    fewest = min(policy.least_tokens, query.max_tokens)
    one = _at_least_clip(query, slots, policy)
    tokens = affordable_tokens(query.privacy_budget, policy.delta, one, spent_rho)
    if tokens < fewest:
        words = f"{fewest} tokens of text from {slots} record slots"
        raise BudgetTooSmall(
            query.privacy_budget, _least_for_text(query, fewest, one, policy), words
        )
    return Plan(terms=one, tokens=min(tokens, query.max_tokens), votes=votes)


def check(query: Query) -> None:
    """Refuse numbers outside their domain.

    Raises:
        InvalidParameter: which one; nothing was spent.
    """
    private = query.context == "records"
    if private and not 0 < query.privacy_budget < math.inf:
        raise InvalidParameter(
            "privacy_budget", found=query.privacy_budget, expected="a finite number > 0"
        )
    if query.max_tokens < 1:
        raise InvalidParameter("max_tokens", found=query.max_tokens, expected="at least 1")
    if not 0 <= query.temperature < math.inf or (private and query.temperature == 0):
        expected = "above 0: with records the next token is drawn" if private else "0 or more"
        raise InvalidParameter("temperature", found=query.temperature, expected=expected)
    if not 0 < query.deadline_s < math.inf:
        raise InvalidParameter("deadline_s", found=query.deadline_s, expected="seconds above 0")
    labels = len(query.labels)
    if labels and not 2 <= labels == len(set(query.labels)) <= OPTIONS_MAX:
        raise InvalidParameter(
            "labels", found=f"{labels} labels", expected=f"2 to {OPTIONS_MAX} different ones"
        )
    if not query.prompt.strip():
        raise InvalidParameter("prompt", found="nothing", expected="a question")


def _terms(
    query: Query, slots: int, policy: AnswerPolicy, tokens: int, spent_rho: float
) -> DecodingTerms | Shortfall:
    terms = terms_for(
        epsilon=query.privacy_budget,
        delta=policy.delta,
        tokens=tokens,
        slots=slots,
        temperature=query.temperature,
        adjacency=policy.adjacency,
        clip_most=policy.clip,
        spent_rho=spent_rho,
    )
    if isinstance(terms, Shortfall):
        return terms
    return replace(terms, candidates=policy.candidates)


def _at_least_clip(query: Query, slots: int, policy: AnswerPolicy) -> DecodingTerms:
    return DecodingTerms(
        slots=slots,
        clip=CLIP_LEAST,
        temperature=query.temperature or 1.0,
        max_tokens=query.max_tokens,
        candidates=policy.candidates,
        adjacency=policy.adjacency,
    )


def _least_for_text(query: Query, tokens: int, one: DecodingTerms, policy: AnswerPolicy) -> float:
    """The least epsilon for so many tokens, and for the votes where they are asked for."""
    if not query.require_consensus:
        return least_epsilon(tokens, policy.delta, one, _ROUNDING)
    text_rho = rho_of(least_epsilon(tokens, policy.delta, one, _ROUNDING), policy.delta)
    return epsilon_of(text_rho / (1 - policy.consensus_share) * _UP, policy.delta) * _UP


def _consensus_terms(query: Query, slots: int, policy: AnswerPolicy) -> VoteTerms:
    share = policy.consensus_share
    rho = rho_of(query.privacy_budget, policy.delta) * share
    _require_worth(slots, rho, share, policy)
    return VoteTerms(slots=slots, rho=min(rho, _RHO_MOST), adjacency=policy.adjacency)


def _require_worth(slots: int, rho: float, share: float, policy: AnswerPolicy) -> None:
    """Refuse a flag that would be a coin flip."""
    error = error_of_flag(slots, min(rho, _RHO_MOST)) if rho >= _RHO_LEAST else 0.5
    if error > policy.consensus_error:
        needed = least_flag_rho(slots, error=policy.consensus_error) / share
        raise ConsensusUnavailable(slots, error, _shown(needed, policy))


def _label_plan(query: Query, slots: int, policy: AnswerPolicy) -> Plan:
    """All of the budget pays the one vote; consensus is read from the same noisy counts, free.

    What a refusal names is enough for both.
    """
    rho = min(rho_of(query.privacy_budget, policy.delta) - _ROUNDING, _RHO_MOST)
    options = len(query.labels)
    # Of the noise on several counts; a flag has one count, and may have it at a lower price.
    moved = 2 if policy.adjacency == "replace" else 1
    error = (
        error_of_label(slots, rho, options=options, adjacency=policy.adjacency)
        if rho >= _RHO_LEAST
        else 1.0
    )
    if error > policy.label_error:
        needed = least_label_rho(
            slots, options=options, adjacency=policy.adjacency, error=policy.label_error
        )
        if query.require_consensus:
            needed = max(needed, moved * least_flag_rho(slots, error=policy.consensus_error))
        least = _shown(needed, policy)
        words = f"one of {options} labels from {slots} record slots"
        raise BudgetTooSmall(query.privacy_budget, math.inf if least is None else least, words)
    if query.require_consensus:
        _require_worth(slots, rho / moved, 1 / moved, policy)
    votes = VoteTerms(slots=slots, rho=rho, adjacency=policy.adjacency)
    return Plan(terms=_at_least_clip(query, slots, policy), tokens=0, votes=votes)


def _shown(rho: float, policy: AnswerPolicy) -> float | None:
    """As epsilon; None where it is so large that it promises nothing."""
    epsilon = epsilon_of(rho * _UP + _ROUNDING, policy.delta) * _UP
    return epsilon if epsilon <= _EPSILON_MOST else None
