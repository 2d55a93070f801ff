"""Quantiles of many numbers in a few: the merging t-digest.

A digest is a list of centroids (mean, weight) in order. It follows the numbers wherever they lie,
so that 34.2 plus or minus 0.1 is resolved as well as 0 plus or minus 1; buckets on a logarithmic
scale, which have a relative error, would put the first into one bucket. Its error is one of rank:
below one percentile, and less toward the ends (`test_digest.py` holds it to that, and a digest of
digests to two). It has at most half as many centroids as `COMPRESSION`, and one more.

Source: Dunning and Ertl 2019, "Computing Extremely Accurate Quantiles Using t-Digests"
(arXiv:1902.04023), section 2, scale function k1. Numbers are put together by the whole part of k1
at their middle rank, which lets numpy do all groups at once.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline_guard.metrics_store.moments import runs

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

COMPRESSION: Final = 100
_CENTROID: Final = np.dtype([("mean", "<f8"), ("weight", "<u4")])


def compressed(group: Integers, means: Floats, weights: Floats) -> tuple[Integers, Floats, Floats]:
    """Compress the centroids of several groups at once; single numbers have the weight 1.

    Returns:
        Groups, means and weights, ordered by group and mean.
    """
    order = np.lexsort((means, group))
    group, means, weights = group[order], means[order], weights[order]
    starts = runs(group)
    counts = np.diff(starts, append=len(group))
    total = np.repeat(np.add.reduceat(weights, starts), counts)
    before = np.cumsum(weights) - weights
    before -= np.repeat(before[starts], counts)
    middle = (before + weights / 2) / total
    scale = COMPRESSION / (2 * np.pi) * np.arcsin(np.clip(2 * middle - 1, -1, 1))
    clusters = runs(group, np.floor(scale).astype(np.int64))
    weight = np.add.reduceat(weights, clusters)
    share = weights / np.repeat(weight, np.diff(clusters, append=len(group)))
    return group[clusters], np.add.reduceat(means * share, clusters), weight


def quantiles(means: Floats, weights: Floats, ranks: Floats, *, low: float, high: float) -> Floats:
    """Return the values at `ranks` (0 to 1) of one digest whose extremes are `low` and `high`."""
    total = weights.sum()
    middles = (np.cumsum(weights) - weights / 2) / total
    at = np.concatenate(([0.0], middles, [1.0]))
    found: Floats = np.interp(ranks, at, np.concatenate(([low], means, [high])))
    return found


def to_bytes(means: Floats, weights: Floats) -> bytes:
    """Return one digest as bytes, twelve for each centroid."""
    rows = np.empty(len(means), _CENTROID)
    rows["mean"], rows["weight"] = means, weights
    return rows.tobytes()


def from_bytes(data: bytes) -> tuple[Floats, Floats]:
    """Return the means and weights of a digest, or of several behind each other."""
    rows = np.frombuffer(data, _CENTROID)
    return rows["mean"].astype(np.float64), rows["weight"].astype(np.float64)
