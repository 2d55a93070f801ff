"""Continuing a prompt without any record: what drafts come from, and public answers."""

from __future__ import annotations

import math

import numpy as np

from federated_dp_llm.federation.messages import DRAFT_MAX, PublicAsk, PublicDraft
from federated_dp_llm.node.backend import UNKNOWN, Backend, Continuation, FloatArray
from federated_dp_llm.node.refusals import Refused
from federated_dp_llm.node.sessions import require_tokens
from privacy_core.decoding.candidates import Places, candidate_set
from privacy_core.decoding.terms import CANDIDATES_MAX, TOKENS_MAX, DecodingTerms
from privacy_core.errors import InvalidParameter

_LEAST_CLIP = 1e-300


def require_ask(ask: PublicAsk, *, vocabulary: int, prompt_max: int) -> None:
    """Check a request for a public continuation.

    Raises:
        Refused: malformed or prompt_too_long.
    """
    if len(ask.prompt) > prompt_max:
        raise Refused("prompt_too_long", f"{len(ask.prompt)} characters, at most {prompt_max}")
    if not 0 <= ask.draft <= DRAFT_MAX or len(ask.released) > TOKENS_MAX:
        raise Refused("malformed", f"draft is {ask.draft}, expected 0 to {DRAFT_MAX}")
    if not 1 <= ask.candidates <= CANDIDATES_MAX or not 0 <= ask.reach_logits < math.inf:
        raise Refused("malformed", f"expected 1 to {CANDIDATES_MAX} candidates, a finite reach")
    require_tokens(ask.released, vocabulary)


def public_draft(ask: PublicAsk, backend: Backend) -> PublicDraft:
    """Continue greedily, and say which tokens could be drawn at each position.

    Raises:
        Refused: prompt_too_long, or malformed: the model gave a logit that is not finite.
    """
    continued = backend.continuation(ask.prompt, ask.released, ask.draft)
    return _draft(ask, continued, min(ask.candidates, backend.candidates_most))


def _draft(ask: PublicAsk, continued: Continuation, most: int) -> PublicDraft:
    try:
        places = [_places(row, ask, most) for row in continued.logits]
    except InvalidParameter:
        raise Refused("malformed", "the model's public logits are not finite") from None
    return PublicDraft(
        draft=continued.draft,
        candidates=tuple(tuple(chosen.tolist()) for chosen in places),
        logits=tuple(
            row[chosen].astype("<f4").tobytes()
            for row, chosen in zip(continued.logits, places, strict=True)
        ),
        text=continued.text,
    )


def _places(row: FloatArray, ask: PublicAsk, most: int) -> Places:
    """The candidates of a position, among those that the backend knows."""
    known = int(np.count_nonzero(row != UNKNOWN))
    # With one slot, 2 C / s is the reach that was asked for.
    terms = DecodingTerms(
        slots=1,
        clip=max(ask.reach_logits / 2, _LEAST_CLIP),
        temperature=1.0,
        max_tokens=1,
        candidates=max(1, min(most, known)),
    )
    return candidate_set(row, terms)
