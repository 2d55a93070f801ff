"""Several tokens for one round trip: a public draft, checked position by position.

The public model proposes L tokens. The nodes sum their records' differences at all L + 1 positions
at once, each position after the draft so far; the router draws position by position and stops at
the first token that is not the draft's. That token is released too: it was drawn in its own right.

The law is that of drawing token by token: at each position that is reached, what was released is
the draft's beginning, so the sums are the ones that a round trip of its own would have brought, and
the randomness is fresh. So is the price: positions that are not reached release nothing. How many
round trips an answer takes is a function of prompt and answer, since the draft is.

Source: Leviathan, Kalman and Matias 2023 (arXiv:2211.17192) for speculative decoding; the draft is
verified here by exact match, which needs no private probability.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from privacy_core.decoding.sampling import draw
from privacy_core.decoding.terms import DecodingTerms
from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.mechanism import Entropy


@dataclass(frozen=True, slots=True)
class Released:
    """Tokens that were drawn, each paid with `terms.rho_per_token`.

    Attributes:
        tokens: at least one; an end token is among them, as the last.
        ended: the last token ends the answer.
    """

    tokens: tuple[int, ...]
    ended: bool


def release(
    draft: Sequence[int],
    candidates: Sequence[Sequence[int]],
    publics: Sequence[npt.NDArray[Any]],
    sums: Sequence[npt.NDArray[Any]],
    terms: DecodingTerms,
    entropy: Entropy,
    end_tokens: Collection[int],
    *,
    left: int | None = None,
) -> Released:
    """Draw tokens until one differs from the draft, ends the answer, or is the last allowed.

    Args:
        draft: L >= 0 token ids, a function of public data and of what was released before.
        candidates: L + 1 lists of token ids: position i follows the draft's first i tokens.
        publics: L + 1 vectors: the public logits at the candidates.
        sums: L + 1 vectors: the sums of all nodes at the candidates, in steps of C / GRID.
        terms: of the answer.
        entropy: where the draws come from.
        end_tokens: each of them ends the answer.
        left: how many tokens may still be drawn; `None`: all of `terms.max_tokens`.

    Raises:
        InvalidParameter: there are not L + 1 of each, no token may be drawn any more, or a position
            cannot be drawn from (`sampling.draw`). All positions that have a wrong length are
            found before the first draw.
    """
    positions = len(draft) + 1
    for name, given in (("candidates", candidates), ("publics", publics), ("sums", sums)):
        if len(given) != positions:
            raise InvalidParameter(
                name, found=len(given), expected=f"{positions}: one more than the draft has tokens"
            )
    lengths = zip(candidates, publics, sums, strict=True)
    if any(not len(c) == len(p) == len(s) > 0 for c, p, s in lengths):
        raise InvalidParameter(
            "candidates",
            found="a position whose candidates, logits and sums differ in number",
            expected="as many of each, at least one",
        )
    most = terms.max_tokens if left is None else left
    if most < 1:
        raise InvalidParameter("left", found=most, expected="at least 1; nothing was drawn")
    tokens: list[int] = []
    for position in range(min(positions, most)):
        place = draw(publics[position], sums[position], terms, entropy)
        token = int(candidates[position][place])
        tokens.append(token)
        if token in end_tokens:
            return Released(tuple(tokens), ended=True)
        if position == len(draft) or token != draft[position]:
            break
    return Released(tuple(tokens), ended=False)
