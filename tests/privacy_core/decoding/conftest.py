"""Instances of private decoding, the law they have on paper, and goodness of fit at 1e-7."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy

from privacy_core.decoding import DecodingTerms, clipped_sum
from privacy_core.decoding.terms import GRID

FALSE_ALARM = 1e-7

Array = npt.NDArray[np.float64]


@pytest.fixture
def follows() -> Callable[[Sequence[int], Sequence[float]], bool]:
    """Whether draws of places follow a law. False by chance: once in ten million calls."""

    def fits(draws: Sequence[int], law: Sequence[float]) -> bool:
        found, size = Counter(draws), len(draws)
        expected = np.array(law) * size
        observed = np.array([found[place] for place in range(len(law))], dtype=float)
        if observed.sum() != size or np.any(observed[expected == 0]):
            return False
        rare = expected < 8
        expected = np.append(expected[~rare], expected[rare].sum())
        observed = np.append(observed[~rare], observed[rare].sum())
        if expected[-1] < 1e-9:
            expected, observed = expected[:-1], observed[:-1]
        if len(expected) == 1:
            return True
        statistic = float(((observed - expected) ** 2 / expected).sum())
        return float(scipy.stats.chi2.sf(statistic, len(expected) - 1)) > FALSE_ALARM

    return fits


def paper_law(public: Array, sums: npt.NDArray[np.int32], terms: DecodingTerms) -> Array:
    """The softmax of the formula in `terms`, written anew."""
    mean = sums.astype(np.float64) * terms.clip / GRID / terms.slots
    exponents = (public.astype(np.float64) + mean) / terms.temperature
    weights = np.exp(exponents - exponents.max())
    return weights / weights.sum()


@dataclass(frozen=True)
class Neighbours:
    """Two instances that differ in the record of one slot, and their common terms."""

    terms: DecodingTerms
    public: npt.NDArray[np.float32]
    sums: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]

    def laws(self) -> tuple[Array, Array]:
        one, other = (paper_law(self.public, sums, self.terms) for sums in self.sums)
        return one, other


def some_neighbours(rng: Any) -> Neighbours:
    """A random or adversarial pair: small and large gaps, records that shout, broken ones."""
    slots, size = int(rng.integers(1, 9)), int(rng.integers(2, 25))
    terms = DecodingTerms(
        slots=slots,
        clip=float(10 ** rng.uniform(-1.5, 0.8)),
        temperature=float(10 ** rng.uniform(-0.5, 0.4)),
        max_tokens=1,
        adjacency="replace" if rng.random() < 0.5 else "null",
    )
    public = (rng.normal(size=size) * 10 ** rng.uniform(-1.5, 1.3)).astype(np.float32)
    rows = (public + rng.normal(size=(slots, size)) * 10 ** rng.uniform(-1, 1.5)).astype(np.float32)
    match rng.integers(4):
        case 0:  # as far as it goes, against the rest
            rows[0] = np.where(rng.random(size) < 0.5, np.inf, -np.inf)
        case 1:
            rows[0, rng.integers(size)] = np.nan
        case 2:  # one token against all others
            rows[0] = -np.inf
            rows[0, rng.integers(size)] = np.inf
    exchanged = rows.copy()
    if terms.adjacency == "null":
        exchanged[0] = np.nan
    elif rng.random() < 0.5:
        exchanged[0] = 2 * public - rows[0]  # the opposite of everything
    else:
        exchanged[0] = rng.normal(size=size) * 20
    sums = tuple(clipped_sum(r, public, terms.clip) for r in (rows, exchanged))
    return Neighbours(terms, public, (sums[0], sums[1]))


def renyi(p: Array, q: Array, order: float) -> float:
    """D_order(p || q), for q > 0."""
    inside = p > 0
    logs = order * np.log(p[inside]) + (1 - order) * np.log(q[inside])
    top = float(logs.max())
    return (top + math.log(float(np.exp(logs - top).sum()))) / (order - 1)


@pytest.fixture
def neighbours() -> Callable[[Any], Neighbours]:
    """Makes pairs of neighbouring instances."""
    return some_neighbours


@pytest.fixture
def divergence() -> Callable[[Array, Array, float], float]:
    """The Renyi divergence of two laws."""
    return renyi


@pytest.fixture
def law() -> Callable[[Array, npt.NDArray[np.int32], DecodingTerms], Array]:
    """The law on paper."""
    return paper_law
