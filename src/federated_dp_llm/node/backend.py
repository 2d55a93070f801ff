"""What a node wants of a language model: logits with and without a record, of the same positions.

B is the number of slots, V the vocabulary, K the candidates of one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

UNKNOWN = np.float32(-1e30)
"""The logit of a token of which a backend knows nothing; it is no candidate."""
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Continuation:
    """A greedy continuation: `draft` of L tokens, `logits` float32 [L + 1, V], and its text."""

    draft: tuple[int, ...]
    logits: FloatArray
    text: str


class Contexts(Protocol):
    """One prompt with the records of B slots, made ready. Used by one thread at a time."""

    def score(
        self, released: Sequence[int], draft: Sequence[int], candidates: Sequence[Sequence[int]]
    ) -> list[FloatArray]:
        """Logits of the candidates after `released` and after each token of the draft.

        Returns L + 1 arrays [B, K]. A row depends on nothing but its own slot's record, the prompt
        and the tokens; the time taken depends on no record. Numbers may be NaN where the model
        made them so.
        """
        ...

    def close(self) -> None:
        """Free what was kept."""
        ...


class Backend(Protocol):
    """A language model. Used by one thread at a time.

    Attributes:
        weights, tokenizer: SHA-256 of what makes logits comparable.
        vocabulary: V, how many logits there are.
        context_length: positions, record and prompt and answer together.
        end_tokens: that end an answer.
        modes: of `NodeCard.modes`.
        candidates_most: that it can tell the logits of at one position.
    """

    candidates_most: int
    weights: str
    tokenizer: str
    vocabulary: int
    context_length: int
    end_tokens: tuple[int, ...]
    modes: tuple[str, ...]

    def room(self, prompt: str) -> int:
        """How many tokens may follow the prompt beside the longest record; may be negative.

        Depends on the prompt alone: every record is given the same width.
        """
        ...

    def contexts(self, prompt: str, records: Sequence[str | None]) -> Contexts:
        """Make B slots ready; a slot of None is computed like any other, on the public prompt."""
        ...

    def continuation(self, prompt: str, released: Sequence[int], draft: int) -> Continuation:
        """Continue without a record, greedily, up to `draft` tokens or an end token."""
        ...

    def choices(
        self, question: str, records: Sequence[str | None], options: Sequence[str]
    ) -> IntArray:
        """The option [B] that each slot finds likeliest; of empty slots, what the public does."""
        ...
