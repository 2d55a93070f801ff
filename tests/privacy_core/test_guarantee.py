from __future__ import annotations

import math

import pytest

from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit


@pytest.mark.parametrize("epsilon", [-1.0, math.nan, -math.inf])
def test_an_epsilon_outside_its_domain_is_refused(epsilon: float) -> None:
    with pytest.raises(InvalidParameter, match="epsilon"):
        Guarantee(epsilon=epsilon, delta=1e-5)


@pytest.mark.parametrize("delta", [-1e-9, 1.5, math.nan])
def test_a_delta_outside_its_domain_is_refused(delta: float) -> None:
    with pytest.raises(InvalidParameter, match="delta"):
        Guarantee(epsilon=1.0, delta=delta)


def test_an_infinite_epsilon_promises_nothing_and_is_allowed() -> None:
    assert Guarantee(epsilon=math.inf, delta=0.0).epsilon == math.inf


def test_the_text_names_unit_and_relation() -> None:
    guarantee = Guarantee(
        epsilon=1.25,
        delta=1e-5,
        relation=NeighbouringRelation.REPLACE_ONE,
        unit=PrivacyUnit.USER,
    )

    assert str(guarantee) == "(1.25, 1e-05)-DP per user, replace one"
