"""Samplers. Tests that could fail by chance do so at most once in 1e6, and have a fixed seed."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom, chi2, norm

from privacy_core.dp_events import (
    Gaussian,
    PoissonSampled,
    SampledWithoutReplacement,
    TruncatedPoissonSampled,
)
from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.sampling import (
    FixedSizeSampler,
    FullBatchSampler,
    PoissonSampler,
    Sampler,
    TruncatedPoissonSampler,
    make_sampler,
)
from privacy_runtime.keystream import KeyStream
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemEntropy

FALSE_ALARM = 1e-6


def seeded(seed: int = 1) -> KeyStream:
    return KeyStream.fresh(SeededEntropy(seed))


class ScriptedWords:
    """Stands in for a key stream where a test must choose the words."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers = list(answers)

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        answer = np.array(self.answers.pop(0), dtype=np.uint64)
        assert answer.size == count
        return answer


def membership(sampler: Sampler, draws: int) -> npt.NDArray[np.float64]:
    """One row a draw, one column a unit, 1 where the unit was drawn."""
    rows = np.zeros((draws, sampler.dataset_size))
    for row in rows:
        row[sampler.draw()] = 1
    return rows


def assert_exchangeable(rows: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> None:
    """Every unit is drawn equally often, given the probabilities of the batch sizes 0 .. n.

    For exchangeable membership, sum (c_i - mean c)^2 / (T (p - p2)) is chi-square with n - 1
    degrees of freedom, p and p2 being the probabilities that one and that two given units join.
    """
    draws, n = rows.shape
    k = np.arange(n + 1)
    p = float(np.sum(sizes * k)) / n
    p2 = float(np.sum(sizes * k * (k - 1))) / (n * (n - 1))
    counts = rows.sum(axis=0)

    statistic = float(np.sum((counts - counts.mean()) ** 2)) / (draws * (p - p2))

    assert chi2.ppf(FALSE_ALARM / 2, n - 1) < statistic < chi2.isf(FALSE_ALARM / 2, n - 1)


def assert_follows(observed: npt.NDArray[np.float64], expected: npt.NDArray[np.float64]) -> None:
    """Chi-square test of counts against expected counts, cells below 20 pooled."""
    rare = expected < 20
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    assert observed[~keep].sum() == 0
    statistic = float(np.sum((observed[keep] - expected[keep]) ** 2 / expected[keep]))
    assert statistic < chi2.isf(FALSE_ALARM, int(keep.sum()) - 1)


def test_poisson_includes_every_unit_with_its_probability() -> None:
    n, q, draws = 200, 0.1, 5000
    counts = membership(PoissonSampler(n, q, seeded()), draws).sum(axis=0)

    statistic = float(np.sum((counts - draws * q) ** 2 / (draws * q * (1 - q))))

    assert chi2.ppf(FALSE_ALARM / 2, n) < statistic < chi2.isf(FALSE_ALARM / 2, n)


def test_poisson_units_join_independently_in_pairs_and_across_steps() -> None:
    n, q, draws = 100, 0.2, 5000
    rows = membership(PoissonSampler(n, q, seeded(2)), draws)
    both = (rows.T @ rows)[np.triu_indices(n, 1)]
    next_step = np.sum(rows[1:] * rows[:-1], axis=0)
    # Union bound over all pairs; 10 % more than the normal quantile for the binomial's skew.
    limit = 1.1 * norm.isf(FALSE_ALARM / (2 * (both.size + n)))

    for counts, trials in ((both, draws), (next_step, draws - 1)):
        z = (counts - trials * q**2) / np.sqrt(trials * q**2 * (1 - q**2))
        assert np.abs(z).max() < limit


def test_poisson_batch_sizes_are_binomial_and_empty_batches_occur() -> None:
    n, q, draws = 40, 0.05, 20_000
    sampler = PoissonSampler(n, q, seeded(3))

    sizes = np.array([sampler.draw().size for _ in range(draws)])

    assert_follows(
        np.bincount(sizes, minlength=n + 1).astype(float), draws * binom.pmf(np.arange(n + 1), n, q)
    )
    assert np.sum(sizes == 0) > 2000  # P = 0.1285 a draw


def test_an_empty_batch_is_an_empty_array_of_indices() -> None:
    sampler = PoissonSampler(3, 0.5, ScriptedWords([2**64 - 1] * 3))  # type: ignore[arg-type]

    batch = sampler.draw()

    assert batch.shape == (0,)
    assert batch.dtype == np.int64


@pytest.mark.parametrize("q", [0.1, 1e-4, 1 / 3, 0.5, 2.0**-64, 1 - 2.0**-53])
def test_poisson_uses_the_largest_multiple_of_two_to_the_minus_64_below_the_probability(
    q: float,
) -> None:
    threshold = int(Fraction(q) * 2**64)
    stream = ScriptedWords([threshold - 1, threshold, 0, 2**64 - 1])

    batch = PoissonSampler(4, q, stream).draw()  # type: ignore[arg-type]

    assert Fraction(threshold, 2**64) <= Fraction(q) < Fraction(threshold + 1, 2**64)
    assert batch.tolist() == [0, 2]


def test_probability_one_takes_everyone() -> None:
    sampler = PoissonSampler(5, 1.0, seeded())

    assert sampler.draw().tolist() == [0, 1, 2, 3, 4]


def test_poisson_over_more_units_than_one_chunk_reaches_all_of_them() -> None:
    n, q = 10**6, 1e-3
    sampler = PoissonSampler(n, q, seeded(4))

    batch = np.concatenate([sampler.draw() for _ in range(20)])

    assert (
        binom.ppf(FALSE_ALARM / 2, 20 * n, q) < batch.size < binom.isf(FALSE_ALARM / 2, 20 * n, q)
    )
    assert_follows(
        np.bincount(batch // 50_000, minlength=20).astype(float), np.full(20, batch.size / 20)
    )


def test_draws_are_sorted_and_distinct_and_differ_from_step_to_step() -> None:
    for sampler in (
        PoissonSampler(1000, 0.1, seeded()),
        TruncatedPoissonSampler(1000, 0.1, 90, seeded()),
        FixedSizeSampler(1000, 100, seeded()),
    ):
        first, second = sampler.draw(), sampler.draw()

        assert first.dtype == second.dtype == np.int64
        assert np.all(np.diff(first) > 0)
        assert first.tolist() != second.tolist()


def test_truncated_is_never_above_its_cap_and_poisson_below_it() -> None:
    n, q, cap, draws = 30, 0.3, 10, 20_000
    sampler = TruncatedPoissonSampler(n, q, cap, seeded(5))
    rows = membership(sampler, draws)
    sizes = rows.sum(axis=1).astype(int)
    pmf = binom.pmf(np.arange(n + 1), n, q)
    cut = np.where(np.arange(n + 1) < cap, pmf, 0.0)
    cut[cap] = pmf[cap:].sum()

    assert sizes.max() == cap
    assert_follows(np.bincount(sizes, minlength=n + 1).astype(float), draws * cut)
    assert_exchangeable(rows, cut)
    assert sampler.expected_batch_size == pytest.approx(np.sum(cut * np.arange(n + 1)), rel=1e-12)


def test_truncated_cuts_to_a_uniformly_random_subset() -> None:
    # Everyone joins, so each draw is the cut alone: 2 of 5, ten equally likely pairs.
    sampler = TruncatedPoissonSampler(5, 1.0, 2, seeded(6))
    pairs = list(combinations(range(5), 2))

    drawn = [pairs.index(tuple(sampler.draw().tolist())) for _ in range(10_000)]

    assert_follows(np.bincount(drawn, minlength=10).astype(float), np.full(10, 1000.0))


def test_fixed_size_draws_every_subset_equally_often() -> None:
    sampler = FixedSizeSampler(6, 3, seeded(7))
    subsets = list(combinations(range(6), 3))

    drawn = [subsets.index(tuple(sampler.draw().tolist())) for _ in range(20_000)]

    assert_follows(np.bincount(drawn, minlength=20).astype(float), np.full(20, 1000.0))


def test_fixed_size_is_exact_and_uniform_over_units() -> None:
    n, size, draws = 100, 37, 5000
    rows = membership(FixedSizeSampler(n, size, seeded(8)), draws)

    assert set(rows.sum(axis=1)) == {size}
    assert_exchangeable(rows, (np.arange(n + 1) == size).astype(float))
    assert FixedSizeSampler(4, 4, seeded()).draw().tolist() == [0, 1, 2, 3]


def test_a_tie_at_the_edge_of_a_subset_is_drawn_again() -> None:
    stream = ScriptedWords([5, 5, 9], [7, 3, 9])

    batch = FixedSizeSampler(3, 1, stream).draw()  # type: ignore[arg-type]

    assert batch.tolist() == [1]
    assert stream.answers == []


def test_full_batch_is_everyone_every_time() -> None:
    sampler = FullBatchSampler(4)

    assert sampler.draw().tolist() == sampler.draw().tolist() == [0, 1, 2, 3]
    assert sampler.expected_batch_size == 4


def test_each_sampler_states_the_event_it_is_priced_by() -> None:
    noise = Gaussian(1.5)
    stream = seeded()

    assert PoissonSampler(100, 0.1, stream).event(noise) == PoissonSampled(0.1, noise)
    assert TruncatedPoissonSampler(100, 0.1, 20, stream).event(noise) == TruncatedPoissonSampled(
        100, 0.1, 20, noise
    )
    assert FixedSizeSampler(100, 10, stream).event(noise) == SampledWithoutReplacement(
        100, 10, noise
    )
    assert FullBatchSampler(100).event(noise) == noise


@pytest.mark.parametrize(
    ("kind", "q", "cap", "expected"),
    [
        ("poisson", 0.1, None, 10.0),
        ("truncated_poisson", 0.1, 100, 10.0),
        ("fixed_size", 0.1, None, 10.0),
        ("full_batch", 1.0, None, 100.0),
    ],
)
def test_make_sampler_builds_the_kind_it_is_asked_for(kind, q, cap, expected) -> None:
    sampler = make_sampler(
        kind,
        dataset_size=100,
        sampling_probability=q,
        stream=seeded(),
        truncated_batch_size=cap,
    )

    assert sampler.kind == kind
    assert sampler.dataset_size == 100
    assert sampler.expected_batch_size == pytest.approx(expected)


@pytest.mark.parametrize("sample_size", range(1, 60))
def test_a_probability_made_from_a_sample_size_gives_that_size_back(sample_size: int) -> None:
    sampler = make_sampler(
        "fixed_size", dataset_size=59, sampling_probability=sample_size / 59, stream=seeded()
    )

    assert sampler.draw().size == sample_size


@pytest.mark.parametrize(
    ("kind", "n", "q", "cap", "complaint"),
    [
        ("shuffle", 10, 0.5, None, "fixed_size, full_batch, poisson, truncated_poisson"),
        ("poisson", 10, 0.5, 5, "truncated_batch_size"),
        ("truncated_poisson", 10, 0.5, None, "truncated_batch_size"),
        ("truncated_poisson", 10, 0.5, 0, "truncated_batch_size"),
        ("truncated_poisson", 10, 0.5, 11, "truncated_batch_size"),
        ("fixed_size", 10, 0.55, None, r"0\.5 \(5 of 10\) or 0\.6 \(6 of 10\)"),
        ("fixed_size", 10, 0.001, None, r"0\.1 \(1 of 10\)"),
        ("full_batch", 10, 0.5, None, "sampling_probability"),
        ("poisson", 10, 0.0, None, "sampling_probability"),
        ("poisson", 10, 1.1, None, "sampling_probability"),
        ("poisson", 10, float("nan"), None, "sampling_probability"),
        ("fixed_size", 10, float("nan"), None, "sampling_probability"),
        ("poisson", 10, 2.0**-65, None, "at least 2"),
        ("poisson", 0, 0.5, None, "dataset_size"),
        ("fixed_size", -3, 0.5, None, "dataset_size"),
        ("full_batch", 0, 1.0, None, "dataset_size"),
    ],
)
def test_make_sampler_refuses_what_it_cannot_draw(kind, n, q, cap, complaint) -> None:
    with pytest.raises(InvalidParameter, match=complaint):
        make_sampler(
            kind,
            dataset_size=n,
            sampling_probability=q,
            stream=seeded(),
            truncated_batch_size=cap,
        )


def test_the_same_seeded_entropy_draws_the_same_batches_and_the_system_does_not() -> None:
    def batches(stream: KeyStream) -> list[list[int]]:
        sampler = PoissonSampler(100, 0.3, stream)
        return [sampler.draw().tolist() for _ in range(5)]

    assert batches(seeded(9)) == batches(seeded(9)) != batches(seeded(10))
    system = SystemEntropy()
    assert batches(KeyStream.fresh(system)) != batches(KeyStream.fresh(system))


def test_sampling_needs_no_torch() -> None:
    code = "import sys, privacy_finetuner.training.sampling; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
