"""The next token: the exponential mechanism on the candidates, drawn exactly.

Source: McSherry and Talwar 2007; for its price Cesar and Rogers 2021 (arXiv:2004.07223), Lemma 3.2.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from privacy_core.decoding.softmax import Floats, draw_place
from privacy_core.decoding.terms import CANDIDATES_MAX, GRID, DecodingTerms
from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.deviates import Bits
from privacy_core.mechanisms.mechanism import Entropy

_ROUNDING: Final = 2.0**-50
"""Four roundings of 2^-53, doubled: of each score, relative to what it is the sum of."""


def scores(
    public: npt.NDArray[Any],  # float [K]
    sums: npt.NDArray[Any],  # int [K]
    terms: DecodingTerms,
) -> Floats:  # [K]
    """(public + sums C / (GRID s)) / temperature in float64, for showing and for tests.

    `draw` follows the exact numbers, of which these are the nearest floats but for a few units in
    the last place.

    Raises:
        InvalidParameter: as `draw`.
    """
    _require(public, sums, terms)
    return _scores(public, sums, terms)


def draw(
    public: npt.NDArray[Any],  # float [K]
    sums: npt.NDArray[Any],  # int [K]
    terms: DecodingTerms,
    entropy: Entropy,
) -> int:
    """The place, among the candidates, of the token that is drawn.

    Guarantee: place v has probability e^score(v) / sum_w e^score(w), exactly (`softmax`), where

        score(v) = (public(v) + sums(v) C / (GRID s)) / temperature

    is the rational number that the floats and whole numbers given say. `sums` moves by at most
    2 GRID a place when a record is exchanged (GRID when it becomes an empty slot), so a score by at
    most `terms.reach`, and the log ratio of two laws over an interval no longer than
    `terms.epsilon_per_token`: the draw is that `BoundedRange`, and `terms.rho_per_token` zCDP.

    Args:
        public: the public logits at the candidates, as all nodes were sent them.
        sums: of all nodes together, in steps of C / GRID.
        terms: of the answer.
        entropy: where the draw comes from.

    Raises:
        InvalidParameter: lengths differ, a logit is not finite, or a sum is larger than all slots
            together can make it. Nothing was drawn.
    """
    _require(public, sums, terms)
    size = float(np.maximum.reduce(np.abs(public))) + terms.clip

    def exact() -> list[Fraction]:
        step, warmth = Fraction(terms.clip) / (GRID * terms.slots), Fraction(terms.temperature)
        return [
            (Fraction(float(logit)) + int(steps) * step) / warmth
            for logit, steps in zip(public, sums, strict=True)
        ]

    with np.errstate(over="ignore", invalid="ignore"):
        approximate, error = _scores(public, sums, terms), _ROUNDING * size / terms.temperature
    return draw_place(approximate, error, exact, Bits(entropy))


def _scores(public: npt.NDArray[Any], sums: npt.NDArray[Any], terms: DecodingTerms) -> Floats:
    step = terms.clip / (GRID * terms.slots)
    result: Floats = (public.astype(np.float64) + sums * step) / terms.temperature
    return result


def _require(public: npt.NDArray[Any], sums: npt.NDArray[Any], terms: DecodingTerms) -> None:
    if public.ndim != 1 or public.shape != sums.shape or not 0 < len(public) <= CANDIDATES_MAX:
        raise InvalidParameter(
            "sums",
            found=f"shapes {public.shape} and {sums.shape}",
            expected=f"one logit and one sum for each of 1 to {CANDIDATES_MAX} candidates",
        )
    if public.dtype.kind != "f" or sums.dtype.kind != "i":
        raise InvalidParameter(
            "sums",
            found=f"{public.dtype} and {sums.dtype}",
            expected="floats and whole numbers",
        )
    if not np.logical_and.reduce(np.isfinite(public)):
        raise InvalidParameter("public", found="one that is not finite", expected="finite logits")
    most = terms.slots * GRID
    if np.maximum.reduce(sums) > most or np.minimum.reduce(sums) < -most:
        raise InvalidParameter(
            "sums",
            found="one beyond the bound",
            expected=f"at most {most} in size: {terms.slots} slots; nothing was drawn",
        )
