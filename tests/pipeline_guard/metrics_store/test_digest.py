from __future__ import annotations

import numpy as np
import pytest

from pipeline_guard.metrics_store.digest import (
    COMPRESSION,
    compressed,
    from_bytes,
    quantiles,
    to_bytes,
)

RANKS = np.array([0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0])
NORMAL = np.random.default_rng(3).normal  # noqa: TID251 -- a fixed sample
"""Drawn from a fixed seed."""


def _digest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    _, means, weights = compressed(np.zeros(len(values), np.int64), values, np.ones(len(values)))
    return means, weights


@pytest.mark.parametrize(
    "values",
    [
        NORMAL(size=20_000),
        34.2 + 0.01 * NORMAL(size=5_000),
        np.exp(3 * NORMAL(size=5_000)),
        np.arange(720.0),
        np.repeat([0.0, 1.0], 500),
    ],
    ids=["normal", "offset", "heavy tail", "ramp", "two values"],
)
def test_a_quantile_is_off_by_less_than_a_percentile(values: np.ndarray) -> None:
    means, weights = _digest(values)

    found = quantiles(means, weights, RANKS, low=values.min(), high=values.max())

    below = np.searchsorted(np.sort(values), found, side="left") / len(values)
    above = np.searchsorted(np.sort(values), found, side="right") / len(values)
    assert len(means) <= COMPRESSION / 2 + 1
    assert weights.sum() == len(values)
    off = np.maximum(0, np.maximum(below - RANKS, RANKS - above))
    between_two_values = len(np.unique(values)) == 2
    assert between_two_values or off.max() <= 1 / COMPRESSION


def test_a_digest_of_digests_is_as_good() -> None:
    values = NORMAL(size=12_000)
    parts = [_digest(part) for part in np.split(values, 12)]
    means, weights = (np.concatenate(columns) for columns in zip(*parts, strict=True))

    _, means, weights = compressed(np.zeros(len(means), np.int64), means, weights)

    found = quantiles(means, weights, RANKS, low=values.min(), high=values.max())
    rank = np.searchsorted(np.sort(values), found) / len(values)
    assert np.abs(rank - RANKS).max() <= 2 / COMPRESSION


def test_groups_do_not_mix() -> None:
    values = np.concatenate((NORMAL(size=300), NORMAL(size=500) + 100))
    group = np.repeat([4, 9], [300, 500])

    groups, means, weights = compressed(group, values, np.ones(800))

    assert weights[groups == 4].sum() == 300
    assert weights[groups == 9].sum() == 500
    assert means[groups == 4].max() < 50 < means[groups == 9].min()
    alone = _digest(values[:300])
    assert means[groups == 4] == pytest.approx(alone[0])


def test_bytes_give_the_digest_back() -> None:
    means, weights = _digest(NORMAL(size=1_000))

    back = from_bytes(to_bytes(means, weights))

    assert (back[0] == means).all()
    assert (back[1] == weights).all()
