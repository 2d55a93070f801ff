"""The event of a DP-SGD run."""

from __future__ import annotations

import numpy as np
import scipy

from privacy_core.dp_events import (
    DpEvent,
    Gaussian,
    MixtureOfGaussians,
    PoissonSampled,
    SelfComposed,
)
from privacy_core.errors import InvalidParameter


def dp_sgd_event(
    *, noise_multiplier: float, sample_rate: float, steps: int, max_examples_per_user: int = 1
) -> DpEvent:
    """DP-SGD with Poisson batches: what `steps` noisy clipped sums do to one unit.

    With `max_examples_per_user` = 1 the unit is an example. With more it is a user who owns up to
    that many examples, each drawn by its own coin: the user then contributes a binomial number of
    clipped vectors, which is a mixture of Gaussians. That is exact, not group privacy.

    Args:
        noise_multiplier: standard deviation of the noise divided by the clipping norm, > 0.
        sample_rate: probability with which an example joins a batch, in [0, 1].
        steps: number of batches, >= 0.
        max_examples_per_user: cap on the examples of one user, >= 1.

    Raises:
        InvalidParameter: a number is outside its domain.

    Source: Abadi et al. 2016 (arXiv:1607.00133); for users, Charles et al. 2024
    (arXiv:2407.07737), example-level sampling.
    """
    if isinstance(max_examples_per_user, bool) or not isinstance(max_examples_per_user, int):
        max_examples = None
    else:
        max_examples = max_examples_per_user
    if max_examples is None or max_examples < 1:
        raise InvalidParameter(
            "max_examples_per_user", found=max_examples_per_user, expected="a whole number >= 1"
        )
    if max_examples == 1:
        return SelfComposed(PoissonSampled(sample_rate, Gaussian(noise_multiplier)), steps)
    # The event checks the domain of the rate; the binomial law needs it first.
    PoissonSampled(sample_rate, Gaussian(noise_multiplier))
    k = np.arange(max_examples + 1.0)
    ways = (
        scipy.special.gammaln(max_examples + 1)
        - scipy.special.gammaln(k + 1)
        - scipy.special.gammaln(max_examples - k + 1)
    )
    log_law = (
        ways
        + scipy.special.xlogy(k, sample_rate)
        + scipy.special.xlog1py(max_examples - k, -sample_rate)
    )
    law = np.exp(log_law)
    return SelfComposed(
        MixtureOfGaussians(noise_multiplier, tuple(k.tolist()), tuple((law / law.sum()).tolist())),
        steps,
    )
