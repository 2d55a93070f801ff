"""What holds for every mechanism. One suite, run over all of them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from privacy_core.accounting import epsilon_of
from privacy_core.dp_events import NonPrivate, NoOp, from_json, to_json
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import (
    BoundedMean,
    BoundedSum,
    Count,
    DiscreteGaussianMechanism,
    DiscreteLaplaceMechanism,
    ExponentialMechanism,
    GaussianMechanism,
    Histogram,
    LaplaceMechanism,
    Noise,
    PermuteAndFlip,
    Quantile,
    ReportNoisyMax,
    SparseVector,
    event_under,
    guarantee_of,
)
from privacy_runtime.testing import SeededEntropy

ADD, REPLACE = NeighbouringRelation.ADD_OR_REMOVE_ONE, NeighbouringRelation.REPLACE_ONE
COLUMN = np.array([0.2, 1.4, 0.9])
CASES: list[tuple[type, dict[str, Any], Any]] = [
    (GaussianMechanism, {"sigma": 1.0, "sensitivity": 1.0}, COLUMN),
    (LaplaceMechanism, {"scale": 1.0, "sensitivity": 1.0, "dimension": 3}, COLUMN),
    (DiscreteGaussianMechanism, {"sigma": 2.0, "sensitivity": 2}, 5),
    (DiscreteLaplaceMechanism, {"scale": 2.0, "sensitivity": 2}, 5),
    (ExponentialMechanism, {"epsilon": 1.0, "sensitivity": 1.0}, [0.0, 1.0]),
    (PermuteAndFlip, {"epsilon": 1.0, "sensitivity": 1.0}, [0.0, 1.0]),
    (ReportNoisyMax, {"epsilon": 1.0, "sensitivity": 1.0}, [0.0, 1.0]),
    (SparseVector, {"epsilon": 1.0, "sensitivity": 1.0}, [0.0, 1.0]),
    (Count, {"scale": 2.0}, COLUMN),
    (Histogram, {"edges": (0.0, 1.0, 2.0), "scale": 2.0, "noise": Noise.GAUSSIAN}, COLUMN),
    (BoundedSum, {"lower": 0.0, "upper": 1.0, "scale": 2.0}, COLUMN),
    (BoundedMean, {"lower": 0.0, "upper": 1.0, "scale": 2.0, "count_scale": 1.0}, COLUMN),
    (Quantile, {"quantile": 0.5, "candidates": (0.0, 1.0), "epsilon": 1.0}, COLUMN),
]
EVERY = pytest.mark.parametrize(
    ("kind", "fields", "data"), CASES, ids=[c[0].__name__ for c in CASES]
)


@EVERY
@pytest.mark.parametrize("relation", [ADD, REPLACE])
def test_its_event_has_a_finite_price_under_every_accountant_that_knows_it(
    kind: type, fields: dict[str, Any], data: Any, relation: NeighbouringRelation
) -> None:
    mechanism = kind(**fields, relation=relation)

    for accountant in ("pld", "rdp"):
        assert 0 < guarantee_of(mechanism, 1e-6, accountant).epsilon < math.inf
    assert guarantee_of(mechanism, 1e-6).relation is relation
    assert not isinstance(mechanism.event, NoOp | NonPrivate)
    assert from_json(to_json(mechanism.event)) == mechanism.event


@EVERY
def test_it_is_a_value_that_holds_no_data(kind: type, fields: dict[str, Any], data: Any) -> None:
    mechanism = kind(**fields)
    before = hash(mechanism), repr(mechanism)

    mechanism.release(data, SeededEntropy(1))

    assert mechanism == kind(**fields)
    assert (hash(mechanism), repr(mechanism)) == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        mechanism.relation = REPLACE


@EVERY
def test_equal_entropy_repeats_a_release_and_fresh_entropy_does_not(
    kind: type, fields: dict[str, Any], data: Any
) -> None:
    mechanism = kind(**fields)

    def many(seed: int) -> list[str]:
        entropy = SeededEntropy(seed)
        return [str(mechanism.release(data, entropy)) for _ in range(30)]

    assert many(1) == many(1)
    assert many(1) != many(2)
    assert len(set(many(1))) > 1


@EVERY
def test_an_account_of_the_other_relation_is_refused(
    kind: type, fields: dict[str, Any], data: Any
) -> None:
    mechanism = kind(**fields, relation=REPLACE)

    assert event_under(mechanism, REPLACE) == mechanism.event
    with pytest.raises(InvalidParameter, match="for the relation of the account"):
        event_under(mechanism, ADD)


@EVERY
def test_its_sensitivity_is_public_and_positive(
    kind: type, fields: dict[str, Any], data: Any
) -> None:
    assert 0 < kind(**fields).sensitivity < math.inf


def test_twice_the_noise_costs_less() -> None:
    """For whatever has a scale; the grid of exact prices is in the tests of each."""
    for kind, fields, _ in CASES:
        for name in {"scale", "sigma"} & set(fields):
            less = kind(**{**fields, name: 2 * fields[name]})
            assert epsilon_of(less.event, 1e-6) < epsilon_of(kind(**fields).event, 1e-6)
