"""One open session: what was scored, what was released, and what may be asked next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from federated_dp_llm.federation.messages import (
    DRAFT_MAX,
    Step,
    StepSums,
    Terms,
    VoteAsk,
    VoteCounts,
)
from federated_dp_llm.node.backend import Contexts, FloatArray
from federated_dp_llm.node.refusals import Refused

OPTIONS_MAX: Final = 64
OPTION_MAX: Final = 200


@dataclass(eq=False, repr=False)
class Session:
    """An answer under way.

    Attributes:
        terms: as signed.
        texts: of the slots, None where one is empty. Private.
        patients: who was held, whether their record has a slot or not. Private.
        contexts: the slots, ready to be scored; None once the session is over.
        seen: tokens that the router said were released.
        last_step, last_vote: the latest of each with its answer, for repetitions.
        turn: one call at a time.
    """

    terms: Terms
    texts: tuple[str | None, ...]
    patients: frozenset[str]
    contexts: Contexts | None
    seen: tuple[int, ...] = ()
    last_step: tuple[Step, StepSums] | None = None
    last_vote: tuple[VoteAsk, VoteCounts] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __repr__(self) -> str:
        return f"Session(released={len(self.seen)})"

    def close(self) -> None:
        """Forget the records."""
        if self.contexts is not None:
            self.contexts.close()
        self.contexts, self.texts, self.last_step = None, (), None

    def require_next(self, step: Step, *, vocabulary: int) -> list[FloatArray]:
        """Check that a step follows what was seen; return its public logits, one array a position.

        A position is scored once: were it scored again with other candidates or other public
        logits, the router would learn more of it than its price says.

        Raises:
            Refused: malformed, discontinuous or over_limit.
        """
        positions = len(step.draft) + 1
        if positions > DRAFT_MAX + 1 or not (len(step.candidates) == len(step.logits) == positions):
            raise Refused("malformed", "expected candidates and logits for each position")
        publics = [
            _public(ids, data, most=self.terms.candidates, vocabulary=vocabulary)
            for ids, data in zip(step.candidates, step.logits, strict=True)
        ]
        require_tokens(step.draft, vocabulary)
        require_tokens(step.released, vocabulary)
        self._require_continuation(step.released)
        if len(step.released) + positions > self.terms.max_tokens:
            raise Refused("over_limit", f"the session holds {self.terms.max_tokens} tokens")
        return publics

    def charged_tokens(self, asked: int) -> int:
        """What an answer of so many tokens is charged: never less than was seen released."""
        return max(asked, len(self.seen))

    def _require_continuation(self, released: Sequence[int]) -> None:
        """New tokens come from the positions that were scored last, and at least one does."""
        new = released[len(self.seen) :]
        if tuple(released[: len(self.seen)]) != self.seen:
            raise Refused("discontinuous", "what was released before has changed")
        if self.last_step is None:
            if new:
                raise Refused("discontinuous", "tokens were released before any was scored")
            return
        last = self.last_step[0]
        if not 1 <= len(new) <= len(last.draft) + 1:
            raise Refused("discontinuous", f"{len(new)} new tokens, {len(last.draft) + 1} scored")
        if tuple(new[:-1]) != last.draft[: len(new) - 1]:
            raise Refused("discontinuous", "tokens go on after the draft was left")
        if any(token not in last.candidates[place] for place, token in enumerate(new)):
            raise Refused("discontinuous", "a token was not among the candidates")


def require_tokens(tokens: Sequence[int], vocabulary: int) -> None:
    """Check token ids.

    Raises:
        Refused: malformed.
    """
    if tokens and not (min(tokens) >= 0 and max(tokens) < vocabulary):
        raise Refused("malformed", f"a token id outside 0 to {vocabulary - 1}")


def require_ballot(ask: VoteAsk, prompt_max: int) -> None:
    """Check a vote.

    Raises:
        Refused: malformed.
    """
    if not 2 <= len(ask.options) <= OPTIONS_MAX or len(set(ask.options)) != len(ask.options):
        raise Refused("malformed", f"expected 2 to {OPTIONS_MAX} different options")
    if not all(1 <= len(option) <= OPTION_MAX for option in ask.options):
        raise Refused("malformed", f"expected options of 1 to {OPTION_MAX} characters")
    if not 1 <= len(ask.question) <= prompt_max:
        raise Refused("malformed", f"expected a question of 1 to {prompt_max} characters")


def _public(ids: Sequence[int], data: bytes, *, most: int, vocabulary: int) -> FloatArray:
    """The public logits of one position, checked."""
    if not 1 <= len(ids) <= most or len(set(ids)) != len(ids):
        raise Refused("malformed", f"{len(ids)} candidates, expected 1 to {most} different ones")
    require_tokens(ids, vocabulary)
    if len(data) != 4 * len(ids):
        raise Refused("malformed", f"{len(data)} bytes of logits for {len(ids)} candidates")
    logits = np.frombuffer(data, dtype="<f4").astype(np.float32)
    if not np.isfinite(logits).all():
        raise Refused("malformed", "a public logit is not finite")
    return logits
