"""The set that is drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privacy_core.decoding import DecodingTerms, candidate_set, top_k
from privacy_core.errors import InvalidParameter

LOGITS = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-8, 8, width=16))


def terms(*, candidates: int = 32, clip: float = 1.0, slots: int = 4) -> DecodingTerms:
    return DecodingTerms(
        slots=slots, clip=clip, temperature=1.0, max_tokens=8, candidates=candidates
    )


@settings(deadline=None, max_examples=40, derandomize=True)
@given(LOGITS, st.integers(1, 40), st.floats(0.01, 8), st.integers(1, 8))
def test_the_set_is_the_k_best_and_what_one_record_reaches(
    logits: np.ndarray, candidates: int, clip: float, slots: int
) -> None:
    """Against the definition, by sorting all tokens."""
    chosen = candidate_set(logits, terms(candidates=candidates, clip=clip, slots=slots))

    order = sorted(range(len(logits)), key=lambda v: (-logits[v], v))
    k = min(top_k(candidates), len(logits))
    floor = np.float32(logits[order[k - 1]] - 2 * clip / slots)
    expected = [v for v in order if logits[v] >= floor or order.index(v) < k][:candidates]
    assert chosen.tolist() == expected


def test_the_published_k_is_a_hundred_of_the_default_cut() -> None:
    assert top_k(128) == 100
    assert top_k(1) == 1


def test_a_wider_reach_lets_more_tokens_in_until_the_cut() -> None:
    logits = -np.arange(200, dtype=np.float32) / 10

    sizes = [len(candidate_set(logits, terms(candidates=64, clip=c, slots=1))) for c in (0.1, 0.6)]

    assert sizes == [50 + 2, 50 + 12]
    assert len(candidate_set(logits, terms(candidates=64, clip=4.0, slots=1))) == 64


def test_equal_logits_stay_in_the_order_of_their_ids() -> None:
    logits = np.zeros(100, dtype=np.float32)

    assert candidate_set(logits, terms(candidates=8)).tolist() == list(range(8))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_public_logit_that_is_not_finite_is_refused(bad: float) -> None:
    logits = np.zeros(100, dtype=np.float32)
    logits[3] = bad

    with pytest.raises(InvalidParameter, match="public_logits"):
        candidate_set(logits, terms())


@pytest.mark.parametrize(
    "logits", [np.zeros((2, 3), np.float32), np.zeros(0, np.float32), np.zeros(3, np.int64)]
)
def test_what_is_no_vector_of_floats_is_refused(logits: np.ndarray) -> None:
    with pytest.raises(InvalidParameter, match="public_logits"):
        candidate_set(logits, terms())
