"""What is asked, and what is answered: values that every room of the router shares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol

FinishReason = Literal["stop", "length", "privacy_budget", "public_tail"]
"""`privacy_budget`: the request's budget bought no further token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question, of an authenticated user.

    Args:
        request_id: fresh; the same one is answered and charged once.
        user_id: who asks; has an allowance of use.
        department: has one, too.
        context: `records`: private records are read, and charged, whatever is found. `none`: no
            record is read, by the request's own choice or by policy; costs nothing.
        privacy_budget: the most epsilon that this answer may add for any patient.
        labels: the answer is one of these; empty: it is text.
        public_tail: go on without records where the budget ends, and say where.
    """

    request_id: str
    user_id: str
    department: str
    prompt: str
    max_tokens: int = 512
    temperature: float = 0.7
    privacy_budget: float = 0.1
    require_consensus: bool = False
    priority: int = 3
    context: Literal["records", "none"] = "records"
    labels: tuple[str, ...] = ()
    public_tail: bool = False
    cohort: str = "all"
    deadline_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer; everything in it may be shown to the user.

    Attributes:
        privacy_cost: epsilon that this answer added for a patient whose record was in it, at the
            configured delta; 0 for public answers.
        rho: the same in zero-concentrated privacy, which adds up exactly.
        remaining_budget: of the user's allowance, in epsilon.
        node_id: "+".join of all nodes that were asked: it does not depend on any record.
        processing_time: seconds, rounded up to a public grid.
        confidence_score: noisy share of record slots that support the answer; None: not asked.
        confidence_interval: 95 %, of the noise alone.
        public_support: the public model's mean log-probability of the answer's tokens; free.
        public_from: the first token that no record had a part in; None: there is none.
    """

    request_id: str
    response: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    mechanism: Literal["private_decoding", "noisy_vote", "public"]
    privacy_cost: float
    rho: float
    remaining_budget: float
    node_id: str
    slots: int
    processing_time: float
    prompt_tokens: int = 0
    consensus_reached: bool | None = None
    confidence_score: float | None = None
    confidence_interval: tuple[float, float] | None = None
    public_support: float | None = None
    public_from: int | None = None
    round_trips: int = 0
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown now: its tokens are paid."""

    text: str
    tokens: int


class Answers(Protocol):
    """Whatever answers queries. Errors: the tree of `federated_dp_llm.errors`."""

    async def answer(self, query: Query) -> Answer:
        """Answer, or raise; what was released is charged before it is returned."""
        ...

    def stream(self, query: Query) -> AsyncIterator[Piece | Answer]:
        """Pieces as they are released, and the whole answer at the end."""
        ...
