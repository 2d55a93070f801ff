"""A prompt under local differential privacy: every token drawn anew, near the one that stood there.

The exponential mechanism on a public list of tokens, with the cosine of public embeddings as its
score. It is honest and seldom useful: to keep a token with probability 1/2 among K others, one
epsilon a token of about 4 ln K / (1 - mean cosine) is needed, and the epsilons of tokens add up.

Sources: McSherry and Talwar 2007 (exponential mechanism); Utpala et al. 2023 (arXiv:2310.16111) for
what such rewriting costs; Cesar and Rogers 2021 (arXiv:2004.07223), Lemma 3.2, for `BoundedRange`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from privacy_core.decoding.softmax import Floats, draw_place
from privacy_core.decoding.terms import CANDIDATES_MAX
from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.deviates import Bits
from privacy_core.mechanisms.mechanism import Entropy

REACH: Final = 2
"""How far a score can move when one token is exchanged for another: from -1 to 1."""
_GRID: Final = 2**20
_ROUNDING: Final = 2.0**-50
_NORM_LEAST: Final = 1e-12


class Rewriting:
    """Draws tokens near given ones, from a list that does not depend on them.

    Guarantee: for any two prompts of as many tokens, and any text, the probabilities that it is
    what comes out differ by a factor of at most e^(tokens x `epsilon_per_token`): pure local
    differential privacy of the whole prompt, but for its length. Draws are exact (`softmax`).

    Args:
        embeddings_VD: public, one row a token of the vocabulary; any float dtype.
        candidates: what may come out: 1 to 1,024 different tokens of the vocabulary.
        epsilon_per_token: of each token, finite and above 0.

    Raises:
        InvalidParameter: one of these is something else.
    """

    def __init__(
        self,
        embeddings_VD: npt.NDArray[Any],
        candidates: Sequence[int],
        *,
        epsilon_per_token: float,
    ) -> None:
        if not 0 < epsilon_per_token < float("inf"):
            raise InvalidParameter(
                "epsilon_per_token", found=epsilon_per_token, expected="a finite number > 0"
            )
        rows = embeddings_VD.astype(np.float64)
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise InvalidParameter(
                "embeddings", found=f"shape {rows.shape}", expected="finite rows of one length"
            )
        few = len(set(candidates)) != len(candidates) or not 0 < len(candidates) <= CANDIDATES_MAX
        if few or not all(0 <= token < len(rows) for token in candidates):
            raise InvalidParameter(
                "candidates",
                found=f"{len(candidates)} of them",
                expected=f"1 to {CANDIDATES_MAX} different tokens of the vocabulary",
            )
        self.candidates = tuple(candidates)
        self.epsilon_per_token = epsilon_per_token
        norms = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _NORM_LEAST)
        self._rows = rows / norms
        self._kept = self._rows[list(self.candidates)]

    def epsilon(self, tokens: int) -> float:
        """What so many tokens cost: the sum."""
        return tokens * self.epsilon_per_token

    def draw(self, token: int, entropy: Entropy) -> int:
        """One of the candidates, in the place of a token.

        Raises:
            InvalidParameter: the token is not of the vocabulary; nothing was drawn.
        """
        steps = self.steps(token)
        warmth = Fraction(self.epsilon_per_token) / (2 * REACH * _GRID)
        approximate: Floats = steps.astype(np.float64) * np.float64(float(warmth))
        error = _ROUNDING * self.epsilon_per_token
        place = draw_place(
            approximate, error, lambda: [int(step) * warmth for step in steps], Bits(entropy)
        )
        return self.candidates[place]

    def steps(self, token: int) -> npt.NDArray[np.int64]:
        """Scores of the candidates, in steps of 2^-20: cosines, at most 1 in size.

        Raises:
            InvalidParameter: the token is not of the vocabulary.
        """
        if not 0 <= token < len(self._rows):
            raise InvalidParameter("token", found=token, expected=f"0 to {len(self._rows) - 1}")
        cosines = self._kept @ self._rows[token]
        steps: npt.NDArray[np.int64] = np.rint(np.clip(cosines, -1.0, 1.0) * _GRID).astype(np.int64)
        return steps
