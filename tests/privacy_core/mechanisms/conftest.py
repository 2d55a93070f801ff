"""Goodness of fit at a stated false-alarm rate: 1e-7 for each call."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

import pytest
import scipy

FALSE_ALARM = 1e-7


def chi_square_p(draws: Sequence[Hashable], law: Mapping[Hashable, float]) -> float:
    """The p-value of the draws under the law; cells expecting less than 8 are one cell."""
    found, size = Counter(draws), len(draws)
    if any(law.get(value, 0.0) == 0 for value in found):
        return 0.0
    large = [value for value, p in law.items() if p * size >= 8]
    observed = [found[value] for value in large]
    expected = [law[value] * size for value in large]
    if size - sum(expected) > 1e-6 * size:
        observed.append(size - sum(observed))
        expected.append(size - sum(expected))
    if len(expected) == 1:
        return float(observed[0] == size)
    statistic = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    return float(scipy.stats.chi2.sf(statistic, len(expected) - 1))


@pytest.fixture
def follows() -> Callable[[Sequence[Hashable], Mapping[Hashable, float]], bool]:
    """Whether draws follow a discrete law. False by chance: once in ten million calls."""
    return lambda draws, law: chi_square_p(draws, law) > FALSE_ALARM


@pytest.fixture
def epsilon_seen() -> Callable[[int, int, int], float]:
    """A lower bound on log(P / Q) of one event, from its counts among equally many draws.

    Clopper-Pearson; each side is wrong once in ten million calls.
    """

    def bound(under_p: int, under_q: int, draws: int) -> float:
        low = scipy.stats.beta.ppf(FALSE_ALARM, under_p, draws - under_p + 1)
        high = scipy.stats.beta.ppf(1 - FALSE_ALARM, under_q + 1, draws - under_q)
        return math.log(low / high)

    return bound
