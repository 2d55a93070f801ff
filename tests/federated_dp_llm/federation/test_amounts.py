"""Amounts are exact, rounded up where they are spent and down where they are promised."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federated_dp_llm.node.toy import Hospital

from federated_dp_llm.federation.amounts import (
    NANO,
    nano_cap,
    nano_rho,
    price_of,
    rho_of,
    rho_of_nano,
)
from privacy_core.decoding.terms import DecodingTerms
from privacy_core.errors import InvalidParameter

RHO = st.floats(0, 1e6, allow_nan=False)


@given(rho=RHO)
def test_spent_is_never_less_and_promised_never_more(rho: float) -> None:
    assert 0 <= Fraction(nano_rho(rho), NANO) - Fraction(rho) < Fraction(1, NANO)
    assert 0 <= Fraction(rho) - Fraction(nano_cap(rho), NANO) < Fraction(1, NANO)


@pytest.mark.parametrize("rho", [-1e-12, math.inf, math.nan])
def test_what_is_no_price_is_refused(rho: float) -> None:
    for function in (nano_rho, nano_cap):
        with pytest.raises(InvalidParameter):
            function(rho)


def test_a_smallest_price_is_one_and_none_is_none() -> None:
    assert (nano_rho(5e-324), nano_rho(0.0), rho_of_nano(NANO)) == (1, 0, 1.0)


@given(
    clip=st.floats(1e-3, 50),
    temperature=st.floats(0.1, 4),
    slots=st.integers(8, 2000),
    tokens=st.integers(0, 500),
    adjacency=st.sampled_from(["replace", "null"]),
)
@settings(max_examples=50, deadline=None)
def test_the_price_is_that_of_the_mechanism(
    tmp_path_factory: pytest.TempPathFactory, tokens: int, **fields: Any
) -> None:
    terms = _terms(tmp_path_factory, fields)
    mechanism = DecodingTerms(max_tokens=1, **fields)

    rho = rho_of(terms, tokens=tokens, voted=False)

    assert float(rho) == pytest.approx(tokens * mechanism.rho_per_token, rel=1e-12)
    with_votes = rho_of(terms, tokens=tokens, voted=True)
    assert with_votes - rho == Fraction(terms.vote_rho)
    assert price_of(terms, tokens=tokens, voted=False) == nano_rho(rho)


_kept: list[Hospital] = []


def _terms(factory: pytest.TempPathFactory, fields: dict[str, Any]) -> Any:
    if not _kept:
        _kept.append(Hospital(factory.mktemp("h")))
    return _kept[0].terms(**fields)
