"""Poisson batches that are cut at a size: what the cut does to one unit.

With n units, inclusion probability q and cut B, let S be the other units that were drawn.

- |S| < B: nothing is cut, whether the unit was drawn or not. The unit adds a vector of norm at
  most 1 with probability q.
- |S| >= B: without the unit the batch is a uniform B-subset of the others, whatever |S| was. With
  it, the unit is in the batch with the probability below and then takes the place of another one,
  so that the sum moves by at most 2.

Which case holds does not depend on the unit. Treating it as public can only cost privacy, so the
mixture of the two pairs, with the case as part of the output, dominates.

Source: Chua et al. 2024 (arXiv:2411.04205); Ganesh 2025 (arXiv:2508.15089).
"""

from __future__ import annotations

from dataclasses import dataclass

import scipy

from privacy_core.dp_events import TruncatedPoissonSampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """The two cases: `probability` of a cut batch, and the unit's chance to be in a cut batch."""

    probability: float
    inclusion_probability: float


def truncation_of(event: TruncatedPoissonSampled) -> Truncation:
    """Price the cut. `dataset_size` is the larger one of two neighbouring data sets."""
    n, q, cut = event.dataset_size, event.sampling_probability, event.truncated_batch_size
    probability = _at_least(cut, n - 1, q)
    if probability == 0:
        return Truncation(probability=0.0, inclusion_probability=0.0)
    inclusion = _at_least(cut + 1, n, q) * cut / n / probability
    return Truncation(probability=probability, inclusion_probability=min(1.0, inclusion))


def _at_least(least: int, trials: int, probability: float) -> float:
    """P(Binomial(trials, probability) >= least), as an incomplete beta function."""
    if least > trials:
        return 0.0
    return float(scipy.special.betainc(least, trials - least + 1, probability))
