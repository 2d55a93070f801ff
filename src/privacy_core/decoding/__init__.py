"""Private answers as text: the next token over many records, at a price.

>>> terms = terms_for(epsilon=3.0, delta=1e-6, tokens=64, slots=64, temperature=1.0)
>>> round(terms.clip, 2)
2.43
>>> affordable_tokens(3.0, 1e-6, terms)
64
"""

from __future__ import annotations

from privacy_core.decoding.candidates import candidate_set, top_k
from privacy_core.decoding.checks import bounded, read_sums, write_sums
from privacy_core.decoding.differences import clipped_sum
from privacy_core.decoding.drafts import Released, release
from privacy_core.decoding.prices import (
    CLIP_LEAST,
    CLIP_MOST,
    Shortfall,
    affordable_tokens,
    epsilon_of,
    least_epsilon,
    rho_of,
    terms_for,
    token_rho,
    total_rho,
)
from privacy_core.decoding.sampling import draw, scores
from privacy_core.decoding.terms import Adjacency, DecodingTerms
from privacy_core.decoding.votes import (
    Agreement,
    VoteTerms,
    agreement,
    choose_label,
    error_of_flag,
    error_of_label,
    least_flag_epsilon,
    least_flag_rho,
    least_label_rho,
    noisy_counts,
    votes_needed,
)

__all__ = [
    "CLIP_LEAST",
    "CLIP_MOST",
    "Adjacency",
    "Agreement",
    "DecodingTerms",
    "Released",
    "Shortfall",
    "VoteTerms",
    "affordable_tokens",
    "agreement",
    "bounded",
    "candidate_set",
    "choose_label",
    "clipped_sum",
    "draw",
    "epsilon_of",
    "error_of_flag",
    "error_of_label",
    "least_epsilon",
    "least_flag_epsilon",
    "least_flag_rho",
    "least_label_rho",
    "noisy_counts",
    "read_sums",
    "release",
    "rho_of",
    "scores",
    "terms_for",
    "token_rho",
    "top_k",
    "total_rho",
    "votes_needed",
    "write_sums",
]
