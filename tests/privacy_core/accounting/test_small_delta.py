"""Deltas that no other accountant reaches, against simulation of rare events."""

from __future__ import annotations

import math

import numpy as np
import pytest

from privacy_core.accounting import dp_sgd_event, epsilon_of

PATHS, BATCH = 6000, 500


def simulated_delta(
    q: float, sigma: float, steps: int, epsilon: float, seed: int
) -> tuple[float, float]:
    """E[(1 - e^(epsilon - S))_+] in the remove direction, and its standard error.

    Importance sampling: outputs come from (nearly) the law that is tilted by e^(theta loss), cell
    by cell and uniform inside a cell, and are weighted by the exact ratio of densities. So the mean
    is exact whatever the cells are; only the spread depends on them.
    """
    edges = np.linspace(-9 * sigma, 12 + 9 * sigma, 12_001)
    width = edges[1] - edges[0]

    def log_p_and_loss(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loss = np.log1p(q * np.expm1((2 * x - 1) / (2 * sigma**2)))
        log_q = -0.5 * (x / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))
        return log_q + loss, loss

    log_p, loss = log_p_and_loss((edges[:-1] + edges[1:]) / 2)
    low, high = 0.0, 100.0
    while high - low > 1e-3:  # the tilt whose mean is the epsilon in question
        theta = (low + high) / 2
        weights = np.exp(log_p + theta * loss - (log_p + theta * loss).max())
        weights /= weights.sum()
        low, high = (theta, high) if steps * (weights @ loss) < epsilon else (low, theta)
    heights = np.cumsum(weights)
    log_density = np.log(weights / width)
    generator = np.random.default_rng(seed)  # noqa: TID251  # a fixed seed
    values = []
    for _ in range(PATHS // BATCH):
        shape = (BATCH, steps)
        cells = np.minimum(np.searchsorted(heights, generator.random(shape)), len(weights) - 1)
        log_p, loss = log_p_and_loss(edges[cells] + width * generator.random(shape))
        total = loss.sum(axis=1)
        ratio = np.exp((log_p - log_density[cells]).sum(axis=1))
        values.append(ratio * np.maximum(-np.expm1(epsilon - total), 0.0))
    sample = np.concatenate(values)
    return float(sample.mean()), float(sample.std() / math.sqrt(len(sample)))


@pytest.mark.parametrize(
    ("sigma", "q", "steps", "delta"),
    [(1.0, 0.01, 1000, 1e-14), (1.0, 0.01, 1000, 1e-11), (0.8, 0.05, 100, 1e-14)],
)
def test_epsilon_is_above_the_truth_and_within_half_a_percent(
    sigma: float, q: float, steps: int, delta: float
) -> None:
    """False alarm: a normal mean more than 5 standard errors off, 3e-7 a side; fixed seed."""
    epsilon = epsilon_of(dp_sgd_event(noise_multiplier=sigma, sample_rate=q, steps=steps), delta)

    at, at_error = simulated_delta(q, sigma, steps, epsilon, seed=1)
    below, below_error = simulated_delta(q, sigma, steps, epsilon * 0.995, seed=2)

    assert at_error < 0.2 * at
    assert at - 5 * at_error <= delta
    assert below + 5 * below_error > delta
