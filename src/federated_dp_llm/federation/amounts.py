"""What answers cost the ledgers, in whole nano-rho.

A ledger holds whole numbers of 1e-9 of zero-concentrated privacy. Whatever is spent is rounded up
and a promise is rounded down, once an answer: a ledger never says less than the mechanism did.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

from federated_dp_llm.federation.messages import Terms
from privacy_core.errors import InvalidParameter

NANO: Final = 10**9


def nano_rho(rho: float | Fraction) -> int:
    """A price in whole nano-rho, rounded up: never less than `rho`.

    Raises:
        InvalidParameter: it is negative or not finite.
    """
    if not 0 <= rho < math.inf:
        raise InvalidParameter("rho", found=rho, expected="a finite number >= 0")
    return math.ceil(Fraction(rho) * NANO)


def nano_cap(rho: float) -> int:
    """A promise in whole nano-rho, rounded down: never more than `rho`.

    Raises:
        InvalidParameter: it is negative or not finite.
    """
    if not 0 <= rho < math.inf:
        raise InvalidParameter("rho", found=rho, expected="a finite number >= 0")
    return math.floor(Fraction(rho) * NANO)


def rho_of_nano(amount: int) -> float:
    """What a ledger's amount is in rho."""
    return amount / NANO


def rho_of(terms: Terms, *, tokens: int, voted: bool) -> Fraction:
    """The exact price, in rho, of so many tokens under signed terms, and of the votes.

    reach^2 / 2 a token, with reach = (2 or 1) clip / (slots temperature): a bounded range of
    2 reach costs (2 reach)^2 / 8 (Cesar and Rogers 2021, Lemma 3.2). Exact, because a float that
    is rounded down would understate it.
    """
    moves = 1 if terms.adjacency == "null" else 2
    reach = moves * Fraction(terms.clip) / (terms.slots * Fraction(terms.temperature))
    votes = Fraction(terms.vote_rho) if voted else Fraction(0)
    return tokens * reach**2 / 2 + votes


def price_of(terms: Terms, *, tokens: int, voted: bool) -> int:
    """What an answer costs each patient whose record was in it, in nano-rho, rounded up once."""
    return nano_rho(rho_of(terms, tokens=tokens, voted=voted))
