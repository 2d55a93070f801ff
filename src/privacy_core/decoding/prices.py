"""What an answer costs, and which terms a budget buys: zero-concentrated privacy and epsilon.

`rho` adds up exactly over tokens, votes and answers, also when later ones are chosen by looking at
earlier ones; epsilon at a delta is what people read. The conversion is the tightest known one:

    epsilon(rho, delta) = min over a > 1 of  a rho + log(1 - 1/a) - (log delta + log a) / (a - 1)

The minimum is where (a - 1)^2 rho + log a = log(1 / delta), which increases in a. Every a gives a
valid epsilon, so a search that stops early, or rounds, is never below the truth; what rounding of
the formula itself can do is added on top (2^-50 of the terms' sizes).

Sources: Bun and Steinke 2016 (arXiv:1605.02065) (zCDP); Canonne, Kamath and Steinke 2020
(arXiv:2004.00010), Corollary 13 (conversion); Cesar and Rogers 2021 (arXiv:2004.07223) (rho of a
bounded range).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from privacy_core.decoding.terms import TOKENS_MAX, Adjacency, DecodingTerms
from privacy_core.errors import InvalidParameter

CLIP_LEAST: Final = 0.5
"""Below it private text is nearly the public one: 0.5 nats recovered 28 to 30 % of the perplexity
between public and non-private text, 0.1 nats 6 % (`benchmarks/private_decoding.py`, 8 to 128 slots,
made-up notes)."""
CLIP_MOST: Final = 4.0
"""More is not worth its price, which grows with the square: 4 nats recovered 98 to 99 % there, 3
nats 94 to 97 %, 2 nats 84 to 88 %."""

_STEPS: Final = 60
_NEAR: Final = 1e-9
_UP: Final = 2.0**-50
_SPARE: Final = 2.0**-44
"""`rho_of` rounds down by more than `epsilon_of` rounds up, so that they agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """The budget does not buy what was asked; nothing was spent.

    Attributes:
        least_epsilon: buys it, at the same delta.
        clip: the bound that the budget would have bought; below `CLIP_LEAST`.
    """

    least_epsilon: float
    clip: float


def epsilon_of(rho: float, delta: float) -> float:
    """The epsilon at `delta` of anything that is `rho` zCDP.

    Guarantee: never below the true one. Microseconds: it is asked for each answer.

    ===========  ==========
    rho          epsilon
    ===========  ==========
    0            0
    infinity     infinity
    ===========  ==========

    Raises:
        InvalidParameter: `rho` is negative or NaN, or `delta` is outside (0, 1).
    """
    _require_delta(delta)
    if not rho >= 0:
        raise InvalidParameter("rho", found=rho, expected="a number >= 0")
    if rho in (0, math.inf):
        return float(rho)
    log_delta = math.log(delta)
    reach = -log_delta  # log(1 / delta)
    # Above the root, b = a - 1; Newton from there, kept inside the bracket.
    low, high = 0.0, min(math.sqrt(reach / rho), 1 / delta)
    b = high
    for _ in range(_STEPS):
        excess = b * b * rho + math.log1p(b) - reach
        low, high = (low, b) if excess > 0 else (b, high)
        step = excess / (2 * b * rho + 1 / (1 + b))
        new = b - step
        if not low < new < high:
            new = (low + high) / 2
        if abs(new - b) <= _NEAR * b:
            break
        b = new
    terms = ((1 + b) * rho, -math.log1p(1 / b), -(log_delta + math.log1p(b)) / b)
    size = terms[0] - terms[1] + (reach + math.log1p(b)) / b
    return max(0.0, math.fsum(terms) + _UP * size)


def rho_of(epsilon: float, delta: float) -> float:
    """The largest rho that costs at most `epsilon` at `delta`, rounded down.

    Guarantee: `epsilon_of(rho_of(epsilon, delta), delta) <= epsilon`.

    Raises:
        InvalidParameter: `epsilon` is negative or NaN, or `delta` is outside (0, 1).
    """
    _require_delta(delta)
    if not epsilon >= 0:
        raise InvalidParameter("epsilon", found=epsilon, expected="a number >= 0")
    if epsilon == math.inf:
        return math.inf
    log_delta = math.log(delta)
    reach = -log_delta

    # At the best a: epsilon = (reach - log a) (2 a - 1) / (a - 1)^2 + log(1 - 1/a), falling in a.
    def surplus(x: float) -> float:
        b = math.exp(x)
        return (reach - math.log1p(b)) * (2 * b + 1) / (b * b) - math.log1p(1 / b) - epsilon

    low, high = -40.0, reach
    x = min(high, math.log(max(2 * reach / max(epsilon, 1e-300), 1e-3)))
    for _ in range(_STEPS):
        over = surplus(x)
        low, high = (x, high) if over > 0 else (low, x)
        b = math.exp(x)
        # d/dx of the surplus, with a - 1 = b = e^x
        left = reach - math.log1p(b)
        slope = -(2 * b + 1) / (b * (1 + b)) - left * (2 * b + 2) / (b * b) + 1 / (1 + b)
        new = x - over / slope if slope < 0 else low
        if not low < new < high:
            new = (low + high) / 2
        if abs(new - x) <= _NEAR:
            break
        x = new
    b = math.exp(x)
    terms = (epsilon, math.log1p(1 / b), (log_delta + math.log1p(b)) / b)
    size = terms[0] + terms[1] + (reach + math.log1p(b)) / b
    return max(0.0, (math.fsum(terms) - _SPARE * size) / (1 + b))


def token_rho(terms: DecodingTerms) -> float:
    """`terms.rho_per_token`, rounded up."""
    return terms.rho_per_token * (1 + _UP)


def affordable_tokens(
    epsilon: float, delta: float, terms: DecodingTerms, spent_rho: float = 0.0
) -> int:
    """How many tokens may be drawn before the answer costs more than `epsilon`.

    Args:
        epsilon: for the whole answer.
        delta: at which epsilon is read.
        terms: on which tokens are drawn.
        spent_rho: what else the answer does (votes), or did.

    Returns:
        At most `TOKENS_MAX`, whatever `terms.max_tokens` is; 0 where nothing is left.

    Raises:
        InvalidParameter: a number is outside its domain.
    """
    _require_spent(spent_rho)
    one = token_rho(terms)
    left = rho_of(epsilon, delta) - spent_rho
    if left < one:
        return 0
    tokens = int(min(left / one, TOKENS_MAX))
    return tokens if total_rho(tokens, terms, spent_rho) <= left + spent_rho else tokens - 1


def total_rho(tokens: int, terms: DecodingTerms, spent_rho: float = 0.0) -> float:
    """What `tokens` tokens and `spent_rho` cost together, rounded up."""
    return (tokens * token_rho(terms) + spent_rho) * (1 + _UP)


def least_epsilon(tokens: int, delta: float, terms: DecodingTerms, spent_rho: float = 0.0) -> float:
    """The epsilon that pays for so many tokens on these terms, votes included.

    Guarantee: `affordable_tokens` at this epsilon gives at least `tokens`.

    Raises:
        InvalidParameter: a number is outside its domain, or `tokens` above `TOKENS_MAX`.
    """
    _require_spent(spent_rho)
    if not 0 <= tokens <= TOKENS_MAX:
        raise InvalidParameter("tokens", found=tokens, expected=f"0 to {TOKENS_MAX}")
    epsilon, step = epsilon_of(total_rho(tokens, terms, spent_rho), delta), _SPARE
    # Upwards until the other direction, which rounds down, agrees. Near 0 a step is absolute.
    while affordable_tokens(epsilon, delta, terms, spent_rho) < tokens:
        epsilon, step = epsilon * (1 + step) + step * delta, 2 * step
    return epsilon


def terms_for(
    *,
    epsilon: float,
    delta: float,
    tokens: int,
    slots: int,
    temperature: float,
    adjacency: Adjacency = "replace",
    clip_most: float = CLIP_MOST,
    spent_rho: float = 0.0,
) -> DecodingTerms | Shortfall:
    """The terms on which `epsilon` buys `tokens` tokens: the largest clip up to `clip_most`.

    Where `epsilon` buys more than `clip_most`, the answer costs less than `epsilon`. Candidates are
    at their default; `dataclasses.replace` changes them, at no price.

    Args:
        epsilon: for the whole answer, votes included.
        delta: at which epsilon is read.
        tokens: that may be drawn, at most.
        slots: of all nodes together.
        temperature: of the sampling, > 0.
        adjacency: what neighbours are.
        clip_most: in nats; more buys little text and costs with its square.
        spent_rho: of the votes.

    Returns:
        A `Shortfall` where the clip would be below `CLIP_LEAST`: the answer would be the public
        one, at a price.

    Raises:
        InvalidParameter: a number is outside its domain.
    """

    def terms_at(clip: float) -> DecodingTerms:
        return DecodingTerms(
            slots=slots,
            clip=clip,
            temperature=temperature,
            max_tokens=tokens,
            adjacency=adjacency,
        )

    _require_spent(spent_rho)
    if not CLIP_LEAST <= clip_most < math.inf:
        raise InvalidParameter(
            "clip_most", found=clip_most, expected=f"a finite number >= {CLIP_LEAST}"
        )
    least = terms_at(CLIP_LEAST)
    left = max(0.0, rho_of(epsilon, delta) - spent_rho)
    # rho grows with the square of the clip.
    clip = CLIP_LEAST * math.sqrt(left / (tokens * token_rho(least))) * (1 - _SPARE)
    if clip >= clip_most:
        return terms_at(clip_most)
    if clip >= CLIP_LEAST:
        return terms_at(clip)
    if affordable_tokens(epsilon, delta, least, spent_rho) >= tokens:
        return least
    return Shortfall(
        least_epsilon=least_epsilon(tokens, delta, least, spent_rho), clip=max(clip, 0.0)
    )


def _require_spent(spent_rho: float) -> None:
    if not 0 <= spent_rho < math.inf:
        raise InvalidParameter("spent_rho", found=spent_rho, expected="a finite number >= 0")


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InvalidParameter("delta", found=delta, expected="a number above 0 and below 1")
