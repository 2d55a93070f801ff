"""Private releases of numbers: each carries its sensitivity and the event that prices it.

>>> count = Count(scale=2.0)
>>> count.event
DiscreteLaplace(scale=2.0, sensitivity=1.0)
>>> guarantee_of(count).epsilon <= 0.5 * (1 + 1e-9)
True
"""

from __future__ import annotations

from privacy_core.mechanisms.additive import (
    DiscreteGaussianMechanism,
    DiscreteLaplaceMechanism,
    GaussianMechanism,
    LaplaceMechanism,
    Noise,
    gaussian_sigma,
    laplace_scale,
)
from privacy_core.mechanisms.aggregates import BoundedMean, BoundedSum, Count, Histogram, Quantile
from privacy_core.mechanisms.answers import NoisyAnswer, add_noise, noise_mechanism
from privacy_core.mechanisms.mechanism import Entropy, Mechanism, event_under, guarantee_of
from privacy_core.mechanisms.opendp_noise import OPENDP, OpenDp
from privacy_core.mechanisms.selection import ExponentialMechanism, PermuteAndFlip, ReportNoisyMax
from privacy_core.mechanisms.sparse_vector import SparseVector, Stream, StreamClosed, Verdict

__all__ = [
    "OPENDP",
    "BoundedMean",
    "BoundedSum",
    "Count",
    "DiscreteGaussianMechanism",
    "DiscreteLaplaceMechanism",
    "Entropy",
    "ExponentialMechanism",
    "GaussianMechanism",
    "Histogram",
    "LaplaceMechanism",
    "Mechanism",
    "Noise",
    "NoisyAnswer",
    "OpenDp",
    "PermuteAndFlip",
    "Quantile",
    "ReportNoisyMax",
    "SparseVector",
    "Stream",
    "StreamClosed",
    "Verdict",
    "add_noise",
    "event_under",
    "gaussian_sigma",
    "guarantee_of",
    "laplace_scale",
    "noise_mechanism",
]
