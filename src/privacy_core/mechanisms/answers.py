"""One noisy answer to one numeric question: what `PrivacyAccountant.add_noise` stands on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from privacy_core.dp_events import DpEvent
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import Guarantee, NeighbouringRelation
from privacy_core.mechanisms.additive import (
    ADD_OR_REMOVE,
    GaussianMechanism,
    LaplaceMechanism,
    Noise,
    Vector,
    exact_numbers,
)
from privacy_core.mechanisms.mechanism import Entropy, guarantee_of


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyAnswer:
    """An answer that may leave, with what was paid for it."""

    value: float | Vector
    event: DpEvent
    guarantee: Guarantee


def noise_mechanism(
    noise: str,
    *,
    epsilon: float,
    delta: float,
    sensitivity: float,
    dimension: int = 1,
    relation: NeighbouringRelation = ADD_OR_REMOVE,
) -> GaussianMechanism | LaplaceMechanism:
    """The mechanism of least noise for a numeric answer: `gaussian` or `laplace`.

    `sensitivity` is in L2 for Gaussian noise and in L1 for Laplace noise, which uses no delta.

    Raises:
        InvalidParameter: a number is outside its domain, or the noise is of another kind. In
            particular the exponential mechanism chooses, it adds nothing: see `selection`.
    """
    if noise == Noise.GAUSSIAN:
        return GaussianMechanism.meeting(
            epsilon=epsilon, delta=delta, sensitivity=sensitivity, relation=relation
        )
    if noise == Noise.LAPLACE:
        return LaplaceMechanism.meeting(
            epsilon=epsilon, sensitivity=sensitivity, dimension=dimension, relation=relation
        )
    raise InvalidParameter(
        "mechanism",
        found=noise,
        expected="'gaussian' or 'laplace' for numbers; the exponential mechanism chooses among "
        "candidates, it adds no noise",
    )


def add_noise(
    query_result: float | Vector,
    sensitivity: float,
    *,
    epsilon: float,
    entropy: Entropy,
    delta: float = 0.0,
    mechanism: str = Noise.GAUSSIAN,
    relation: NeighbouringRelation = ADD_OR_REMOVE,
) -> NoisyAnswer:
    """A number, or a vector of numbers, with the least noise that meets (epsilon, delta).

    Guarantee: the answer is (epsilon, delta)-private for `relation`, if `sensitivity` bounds how
    far the result moves between neighbours (L2 for Gaussian noise, L1 for Laplace noise). Charge
    `event` before calling; nothing is charged here.

    Raises:
        InvalidParameter: a parameter is outside its domain, or the result is not made of finite
            numbers: text and embeddings are not protected by adding noise to them.

    Source: Balle & Wang 2018 (arXiv:1805.06530) for Gaussian noise at every epsilon.
    """
    vector = np.atleast_1d(np.asarray(query_result))
    dimension = len(exact_numbers(vector))
    chosen = noise_mechanism(
        mechanism,
        epsilon=epsilon,
        delta=delta,
        sensitivity=sensitivity,
        dimension=max(1, dimension),
        relation=relation,
    )
    noisy = chosen.release(vector, entropy)
    return NoisyAnswer(
        value=float(noisy[0]) if np.ndim(query_result) == 0 else noisy,
        event=chosen.event,
        guarantee=guarantee_of(chosen, delta if isinstance(chosen, GaussianMechanism) else 0.0),
    )
