"""Runs of DP-SGD played step by step, as a reference for the laws of their scores."""

from __future__ import annotations

import numpy as np

from privacy_core.auditing.canaries import StepScores
from privacy_core.auditing.chance import Chance
from privacy_core.auditing.step_laws import WhiteBox


def white_box_scores(canaries: int, run: WhiteBox, chance: Chance) -> tuple[StepScores, np.ndarray]:
    """Canaries with orthogonal gradients of full norm: the worst that DP-SGD admits.

    Each step, each canary that is in is sampled with probability q; the noisy sum's projection on
    its direction is 1 if it was sampled, else 0, plus N(0, sigma^2).
    """
    included = chance.uniforms(canaries) < 0.5
    scores = StepScores(
        canaries, noise_multiplier=run.noise_multiplier, sample_rate=run.sample_rate
    )
    for _ in range(run.steps):
        sampled = included & (chance.uniforms(canaries) < run.sample_rate)
        scores.add(sampled + run.noise_multiplier * chance.normals(canaries))
    return scores, included
