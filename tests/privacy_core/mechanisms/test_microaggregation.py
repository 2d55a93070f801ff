"""Groups of k, and how far one exchanged row moves all of their centroids together."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.accounting import epsilon_of
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms.microaggregation import Microaggregation
from privacy_runtime.testing import SeededEntropy

BOUNDS: dict[str, Any] = {"lower": (0.0, -5.0), "upper": (10.0, 5.0)}


def table_of(rows: int, seed: int, levels: int = 2**31) -> Any:
    words = np.frombuffer(SeededEntropy(seed).token_bytes(8 * rows), dtype=np.uint32)
    return (words % levels).reshape(rows, 2) / (levels - 1) * 10 - [0, 5]


def made(**changes: Any) -> Microaggregation:
    return Microaggregation(**({**BOUNDS, "rows": 9, "group_size": 3, "sigma": 0.1} | changes))


@given(
    rows=st.integers(2, 40),
    seed=st.integers(0, 2**31),
    place=st.integers(0, 10**6),
    corner=st.sampled_from([(0.0, -5.0), (10.0, 5.0), (10.0, -5.0), (math.nan, math.inf)]),
    levels=st.sampled_from([2, 3, 1000]),
)
def test_one_exchanged_row_moves_the_centroids_by_at_most_the_sensitivity(
    rows: int, seed: int, place: int, corner: tuple[float, float], levels: int
) -> None:
    """With few levels there are many ties, and an exchange to a corner moves every group."""
    table = table_of(rows, seed, levels)
    other = table.copy()
    other[place % rows] = corner
    mechanism = made(rows=rows, group_size=math.isqrt(rows - 1) + 1)

    moved = np.linalg.norm(mechanism.centroids(table) - mechanism.centroids(other))

    assert moved <= mechanism.sensitivity


def test_the_sensitivity_is_reached_where_every_group_gives_a_row_away() -> None:
    """Rows at alternating ends of one column: all exchanges of a 4-row table, tried one by one."""
    values = (0.0, 0.25, 0.5, 0.75, 1.0)
    mechanism = Microaggregation(lower=(0.0,), upper=(1.0,), rows=4, group_size=2, sigma=1.0)
    worst = 0.0
    for table in itertools.product(values, repeat=4):
        exact = mechanism.centroids(np.array(table)[:, None])
        for place, value in itertools.product(range(4), values):
            other = list(table)
            other[place] = value
            moved = mechanism.centroids(np.array(other)[:, None]) - exact
            worst = max(worst, float(np.linalg.norm(moved)))

    # The claim covers sqrt(2) / 2; one column is a line, where the moves add up to one half.
    assert worst == pytest.approx(0.5)
    assert worst <= mechanism.sensitivity == pytest.approx(math.sqrt(2) / 2)


def test_every_group_has_at_least_k_equal_rows_within_the_bounds() -> None:
    mechanism = made(rows=11, group_size=4)
    table = 4 * table_of(11, 3) - 15

    released = mechanism.release(table, SeededEntropy(1))

    _, sizes = np.unique(released, axis=0, return_counts=True)
    assert sorted(sizes) == [4, 7]
    assert released.shape == (11, 2)
    assert np.all(released >= [0, -5])
    assert np.all(released <= [10, 5])


def test_the_order_of_the_rows_does_not_show() -> None:
    mechanism, table = made(), table_of(9, 4)

    one = mechanism.release(table, SeededEntropy(5))
    other = mechanism.release(table[::-1], SeededEntropy(5))

    assert np.array_equal(one, other)


def test_the_least_noise_costs_what_was_asked_for() -> None:
    mechanism = Microaggregation.meeting(epsilon=1.0, delta=1e-6, rows=400, group_size=20, **BOUNDS)

    price = epsilon_of(mechanism.event, 1e-6, "gdp", relation=NeighbouringRelation.REPLACE_ONE)
    assert price == pytest.approx(1.0, rel=1e-6)
    assert price <= 1.0
    # sqrt(20 * 2) / 20: a third of the noise that rows released one by one would need.
    assert mechanism.sensitivity == pytest.approx(math.sqrt(40) / 20)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"lower": (0.0,)}, "bounds"),
        ({"upper": (0.0, 5.0)}, "bounds"),
        ({"lower": (-math.inf, 0.0)}, "bounds"),
        ({"rows": 0}, "rows"),
        ({"group_size": 2}, "group_size"),
        ({"group_size": 10}, "group_size"),
        ({"sigma": 0.0}, "sigma"),
    ],
)
def test_numbers_outside_their_domain_are_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidParameter, match=name):
        made(**changes)


def test_a_table_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="9 rows"):
        made().release(np.zeros((8, 2)), SeededEntropy(0))
