"""Which tokens may be drawn: a set that public data decides alone.

Source: Vinod, Pillutla and Thakurta 2025 (arXiv:2507.02974), "Top-k+". There the set is not cut;
here it is, so that one message has a known size.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from privacy_core.decoding.terms import DecodingTerms
from privacy_core.errors import InvalidParameter

Places = npt.NDArray[np.int64]

_TOP: Final = (25, 32)
"""k is so much of `terms.candidates`: 100 of 128, the source's k; the rest is for the reach."""


def top_k(candidates: int) -> int:
    """How many of the candidates are there whatever the clip is: k, at least 1."""
    part, whole = _TOP
    return max(1, candidates * part // whole)


def candidate_set(
    public_logits: npt.NDArray[Any],  # float [V]
    terms: DecodingTerms,
) -> Places:
    """The token ids that may be drawn at this position, by falling logit, ties by rising id.

    They are {v : public(v) >= (k-th largest) - 2 C / s}, of which the first `terms.candidates`
    stay. One record lifts a token by at most C / s against the mean and lowers another by as much,
    so no *single* record brings a token from outside this set into the k best.

    Guarantee: a function of public logits and public terms; it costs nothing. What is drawn is the
    exponential mechanism *on this set*: the price of a token does not depend on which set it is,
    nor on the cut, because neighbouring instances have the same one. A token outside has
    probability 0, whatever the records say.

    ====================================  ==================================
    public logits                         set
    ====================================  ==================================
    fewer than k                          all of them
    many equal ones at the cut            those with the lower ids
    NaN or an infinity among them         refused: nothing bounds a score
    ====================================  ==================================

    Raises:
        InvalidParameter: the logits are no vector of at least one finite number.
    """
    logits = np.asarray(public_logits)
    if logits.ndim != 1 or not len(logits) or logits.dtype.kind != "f":
        raise InvalidParameter(
            "public_logits",
            found=f"shape {logits.shape} of {logits.dtype}",
            expected="a vector of at least one float",
        )
    if not np.isfinite(logits).all():
        raise InvalidParameter(
            "public_logits",
            found="one that is not finite",
            expected="finite numbers: mask tokens by leaving them out; nothing was drawn",
        )
    k = top_k(terms.candidates)
    if len(logits) > k:
        kth = float(np.partition(logits, len(logits) - k)[len(logits) - k])
        inside = np.flatnonzero(logits >= kth - 2 * terms.clip / terms.slots)
    else:
        inside = np.arange(len(logits))
    # Stable: equal logits stay in the order of their ids.
    order = np.argsort(-logits[inside], kind="stable")
    chosen: Places = inside[order[: terms.candidates]]
    return chosen
