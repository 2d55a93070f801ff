"""Groups that take turns. Tests that could fail by chance do so at most once in 1e6."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, chi2

from privacy_core.dp_events import Gaussian, PoissonSampled
from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.cyclic_sampling import CyclicPoissonSampler
from privacy_runtime.keystream import KeyStream
from privacy_runtime.testing import SeededEntropy

FALSE_ALARM = 1e-6


def sampler(n: int, groups: int, q: float, seed: int = 1) -> CyclicPoissonSampler:
    return CyclicPoissonSampler(n, groups, q, KeyStream.fresh(SeededEntropy(seed)))


def test_a_unit_joins_only_when_it_is_its_groups_turn() -> None:
    found = sampler(200, 5, 0.4)
    seen: list[set[int]] = [set() for _ in range(200)]
    for step in range(100):
        for unit in found.draw():
            seen[unit].add(step % 5)

    assert [turns for turns in seen if turns] == [
        {int(group)} for group, turns in zip(found.groups_of_units, seen, strict=True) if turns
    ]


def test_everyone_of_a_group_joins_with_probability_one() -> None:
    found = sampler(50, 4, 1.0)

    epoch = np.concatenate([found.draw() for _ in range(4)])

    assert sorted(epoch) == list(range(50))
    assert found.event(Gaussian(2.0)) == Gaussian(2.0)


def test_groups_are_independent_and_equally_likely() -> None:
    counts = np.bincount(sampler(30_000, 10, 0.5).groups_of_units, minlength=10)

    statistic = float(np.sum((counts - 3000.0) ** 2 / 3000.0))

    assert chi2.ppf(FALSE_ALARM / 2, 9) < statistic < chi2.isf(FALSE_ALARM / 2, 9)
    assert len(set(counts)) > 1  # groups of equal size would not be independent


def test_a_unit_joins_its_turns_as_often_as_the_probability_says() -> None:
    n, groups, q, rounds = 300, 3, 0.2, 1000
    found = sampler(n, groups, q)
    joined = np.zeros(n)
    for _ in range(groups * rounds):
        joined[found.draw()] += 1

    statistic = float(np.sum((joined - rounds * q) ** 2 / (rounds * q * (1 - q))))

    assert chi2.ppf(FALSE_ALARM / 2, n) < statistic < chi2.isf(FALSE_ALARM / 2, n)
    sizes = np.array([found.draw().size for _ in range(3)])
    assert np.all(sizes <= binom.isf(FALSE_ALARM / 3, n, q))


def test_the_mean_batch_is_as_large_as_without_groups() -> None:
    found = sampler(1000, 8, 0.4)
    sizes = [found.draw().size for _ in range(800)]

    assert found.expected_batch_size == 50.0
    # 100 whole rounds: the assignment averages out; deviation of the mean 0.2.
    assert np.mean(sizes) == pytest.approx(50.0, abs=1.2)
    assert found.event(Gaussian(2.0)) == PoissonSampled(0.4, Gaussian(2.0))


def test_a_group_without_units_has_an_empty_turn() -> None:
    found = sampler(1, 3, 1.0)

    sizes = sorted(found.draw().size for _ in range(3))

    assert sizes == [0, 0, 1]


def test_a_resumed_run_keeps_groups_and_turns_but_not_coins() -> None:
    first, second = sampler(100, 4, 0.5), sampler(100, 4, 0.5, seed=2)
    for _ in range(6):
        first.draw()

    second.continue_from(first.groups_of_units, draws=6)

    mine, theirs = first.draw(), second.draw()
    assert set(first.groups_of_units[np.concatenate([mine, theirs])]) == {2}
    assert not np.array_equal(mine, theirs)


@pytest.mark.parametrize(
    "groups_of_units", [np.zeros(4, dtype=np.int64), np.array([0, 1, 2]), np.array([0, -1, 1])]
)
def test_another_assignment_is_refused(groups_of_units: np.ndarray) -> None:
    with pytest.raises(InvalidParameter, match="groups_of_units"):
        sampler(3, 2, 0.5).continue_from(groups_of_units, draws=0)


@pytest.mark.parametrize(
    ("n", "groups", "q", "name"),
    [(0, 2, 0.5, "dataset_size"), (5, 0, 0.5, "groups"), (5, 2, 1.5, "sampling_probability")],
)
def test_numbers_outside_their_domain_are_refused(n: int, groups: int, q: float, name: str) -> None:
    with pytest.raises(InvalidParameter, match=name):
        sampler(n, groups, q)
