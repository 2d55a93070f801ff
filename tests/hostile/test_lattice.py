"""The lattice and the noise on it: rounding at its worst, and no number drawn twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.lattice_release import LatticeRelease, lattice_step
from privacy_finetuner.training.noise import GaussianNoise
from privacy_runtime.testing import SeededEntropy

CHUNK = 2**17


def rounded(sums: torch.Tensor, sensitivity: float) -> torch.Tensor:
    """The lattice points of sums, without noise."""
    held = sums.clone()
    release = LatticeRelease([held], sensitivity=sensitivity, noise_multiplier=1.0)
    count = held.numel()
    release.replace([(0, 0, count)], np.zeros(count), np.zeros(count))
    return held


@pytest.mark.parametrize("size", [1.0, 2.0**20, 2.0**49])
@pytest.mark.parametrize("coordinates", [1, 7, 1000])
@pytest.mark.parametrize("sensitivity", [1e-9, 0.3, 1e9])
def test_neighbouring_sums_are_rounded_no_further_apart_than_the_margin_covers(
    sensitivity: float, coordinates: int, size: float
) -> None:
    """Sums `size` lattice steps large, just beside the middle between two points."""
    step = lattice_step(sensitivity, coordinates=coordinates)
    rng = np.random.default_rng(3)  # noqa: TID251 -- tests
    for _ in range(20):
        points = np.rint(rng.uniform(-size, size, coordinates))
        here = torch.from_numpy((points + rng.choice([-0.5, 0.5], coordinates)) * step)
        way = rng.standard_normal(coordinates)
        way *= sensitivity / np.linalg.norm(way)
        if rng.random() < 0.5:  # coordinates that move by half a step and a little
            way = np.full(coordinates, sensitivity / np.sqrt(coordinates))
        there = here + torch.from_numpy(way)

        moved = float((rounded(there, sensitivity) - rounded(here, sensitivity)).norm())

        assert moved <= float((there - here).norm()) + 1.25e-3 * sensitivity


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_no_sample_occurs_twice_across_chunks_threads_and_calls(count: int, threads: int) -> None:
    """Half a million doubles of which two are equal would be chance below 1e-4, by seed: never."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        noise = GaussianNoise.secure(SeededEntropy(5))
        drawn = torch.cat([noise.standard_normal(count).abs() for _ in range(2)])
    finally:
        torch.set_num_threads(before)

    assert len(set(drawn.tolist())) == 2 * count


def test_the_values_do_not_depend_on_threads() -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            noise = GaussianNoise.secure(SeededEntropy(9))
            sums = [torch.zeros(CHUNK + 5), torch.zeros(3, 7, dtype=torch.float64)]
            noise.privatize_(sums, sensitivity=1.0, noise_multiplier=2.0, divisor=3.0)
            found.append(sums)
    finally:
        torch.set_num_threads(before)

    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, 3 * CHUNK - 1])
def test_a_sum_without_a_lattice_point_releases_nothing_of_any_chunk(
    place: int, bad: float
) -> None:
    noise = GaussianNoise.secure(SeededEntropy(1))
    sums = [torch.ones(3 * CHUNK), torch.ones(5)]
    sums[0][place] = bad

    with pytest.raises(InvalidParameter) as error:
        noise.privatize_(sums, sensitivity=1e-3, noise_multiplier=1.0)

    assert not any(bool(part.any()) for part in sums)
    assert "nan" not in str(error.value).lower().replace("finite", "")


@pytest.mark.parametrize("layout", ["transposed", "strided"])
def test_sums_that_do_not_lie_in_one_piece_get_their_noise(layout: str) -> None:
    base = torch.zeros(40, 30)
    part = base.T if layout == "transposed" else base[::2, ::3]
    GaussianNoise.secure(SeededEntropy(2)).privatize_([part], sensitivity=1.0, noise_multiplier=1.0)

    assert int((part == 0).sum()) == 0
    assert 0.8 < float(part.std()) < 1.2
