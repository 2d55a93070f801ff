"""What router and nodes agree upon before the first token: the public terms of private decoding.

Each record fills one slot. A node sums, over its slots, the clipped differences between the logits
with the record and the public logits; the router adds the sums of all nodes, divides by the public
number of slots, and draws the next token with the exponential mechanism:

    scores(v) = (public(v) + sum_i clip(private_i(v) - public(v), -C, C) / s) / temperature

An exchanged record moves a score by at most 2 C / (s temperature); a record that is replaced by an
empty slot, by at most half of it. The number of slots is public and never changes while an answer
is made: an empty slot adds nothing, and counts.

Source: Vinod, Pillutla and Thakurta 2025 (arXiv:2507.02974), there with the mean over one party's
records. Here the sum comes from several parties, in whole steps of C / GRID, so that it is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from privacy_core.dp_events import BoundedRange, DpEvent, SelfComposed
from privacy_core.errors import InvalidParameter

GRID: Final = 4096
"""Steps between 0 and the clipping bound: what a node sends is a whole number of them."""
SLOTS_MAX: Final = 1 << 16
TOKENS_MAX: Final = 1 << 14
CANDIDATES_MAX: Final = 1 << 10

Adjacency = Literal["replace", "null"]
"""`replace`: a record is exchanged for any other: whatever chose the records may have looked at
them. `null`: a record becomes an empty slot and the others stay: only where the slots are filled by
a list that does not depend on any record's content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingTerms:
    """The terms of one answer.

    Args:
        slots: of all nodes together, empty ones included: public, at least 1.
        clip: bound C on what one record adds to a logit, in nats.
        temperature: of the sampling, > 0.
        max_tokens: the most tokens that are drawn.
        candidates: at most so many tokens are drawn from: the top k of the public logits and those
            within the reach of the records.
        adjacency: what neighbours are.

    Raises:
        InvalidParameter: a number is outside its domain.
    """

    slots: int
    clip: float
    temperature: float
    max_tokens: int
    candidates: int = 128
    adjacency: Adjacency = "replace"

    def __post_init__(self) -> None:
        for name, most in (
            ("slots", SLOTS_MAX),
            ("max_tokens", TOKENS_MAX),
            ("candidates", CANDIDATES_MAX),
        ):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise InvalidParameter(name, found=value, expected=f"a whole number, 1 to {most}")
        for name in ("clip", "temperature"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InvalidParameter(name, found=value, expected="a finite number > 0")
        if self.adjacency not in ("replace", "null"):
            raise InvalidParameter(
                "adjacency", found=self.adjacency, expected="'replace' or 'null'"
            )

    @property
    def reach(self) -> float:
        """How far one record moves a score, in nats: half the range of the log ratios."""
        moves = 2 if self.adjacency == "replace" else 1
        return moves * self.clip / (self.slots * self.temperature)

    @property
    def epsilon_per_token(self) -> float:
        """Pure epsilon, and bounded range, of one token."""
        return 2 * self.reach

    @property
    def rho_per_token(self) -> float:
        """Zero-concentrated price of one token: range^2 / 8 (Cesar and Rogers 2021, Lemma 3.2)."""
        return self.reach**2 / 2

    def event(self, tokens: int) -> DpEvent:
        """What was done to the records when so many tokens were drawn."""
        return SelfComposed(BoundedRange(self.epsilon_per_token), tokens)
