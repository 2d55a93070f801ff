"""Noise. Tests that can fail by chance have a false-alarm rate of at most 1e-6 and a fixed seed."""

from __future__ import annotations

import copy
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstwo, norm

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.box_muller import box_muller
from privacy_finetuner.training.noise import (
    ROUNDING_MARGIN,
    GaussianNoise,
    lattice_step,
)
from privacy_runtime.keystream import KeyStreamReused
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import Entropy, SystemEntropy

FALSE_ALARM = 1e-6
SIGMAS = float(norm.isf(FALSE_ALARM / 2))  # 4.9
MAKERS = [GaussianNoise.secure, GaussianNoise.fast]

both_sources = pytest.mark.parametrize("make", MAKERS, ids=["secure", "fast"])
Maker = Callable[[Entropy], GaussianNoise]


def correlation_in_sigmas(x_N: torch.Tensor, y_N: torch.Tensor) -> float:
    """sqrt(N) times the correlation of two standard normal samples; N(0, 1) if independent."""
    return abs(float(torch.dot(x_N, y_N))) / math.sqrt(x_N.numel())


@both_sources
def test_the_samples_are_standard_normal(make: Maker) -> None:
    z_N = make(SeededEntropy(1)).standard_normal(1_000_001)
    n = z_N.numel()

    assert z_N.dtype == torch.float64
    assert abs(float(z_N.mean())) * math.sqrt(n) < SIGMAS
    assert abs(float(z_N.square().mean()) - 1) * math.sqrt(n / 2) < SIGMAS
    assert abs(float(z_N.pow(3).mean())) * math.sqrt(n / 15) < SIGMAS
    assert abs(float(z_N.pow(4).mean()) - 3) * math.sqrt(n / 96) < SIGMAS


@both_sources
def test_the_samples_have_the_normal_distribution_function(make: Maker) -> None:
    # Kolmogorov-Smirnov at a false-alarm rate of 1e-6, over sines and cosines alike.
    z_N = make(SeededEntropy(2)).standard_normal(400_000).sort().values
    n = z_N.numel()
    cdf_N = torch.special.ndtr(z_N)
    above_N = torch.arange(1, n + 1, dtype=torch.float64) / n

    distance = max(float((above_N - cdf_N).max()), float((cdf_N - above_N + 1 / n).max()))

    assert distance < kstwo.isf(FALSE_ALARM, n)


@pytest.mark.slow
def test_the_far_tail_has_its_mass() -> None:
    # 2e7 samples, P(|z| > 4.5) = 6.80e-6: Poisson, mean 135.9; the bounds are its 5e-7 quantiles.
    noise = GaussianNoise.secure(SeededEntropy(3))

    beyond = sum(int((noise.standard_normal(10**6).abs() > 4.5).sum()) for _ in range(20))

    assert 82 < beyond < 198


def transformed(words: list[int]) -> list[float]:
    """Box-Muller of these words: radii first, then angles."""
    out_N = np.empty(len(words))
    box_muller(np.array(words, dtype=np.uint64), out_N, np.empty(len(words) // 2))
    return out_N.tolist()


def test_the_tail_reaches_nine_sigma_by_construction() -> None:
    # Smallest radius word at angle 0; the same with the bit that turns the pair by pi.
    first_cos, second_cos, first_sin, second_sin = transformed([0, 2**63, 0, 0])

    edge = math.sqrt(2 * 64 * math.log(2))
    assert edge > 9.4
    assert first_cos == pytest.approx(edge, rel=1e-15)
    assert second_cos == pytest.approx(-edge, rel=1e-15)
    assert abs(first_sin) == abs(second_sin) == 0


def test_words_of_probability_two_to_the_minus_25_give_more_than_float32_randn_can() -> None:
    sample, _ = transformed([2**38, 0])  # u = 2^-25

    assert sample == pytest.approx(math.sqrt(50 * math.log(2)), rel=1e-9)
    assert sample > 5.8


def test_every_extreme_word_gives_a_finite_sample() -> None:
    extremes = [0, 1, 2, 2**62, 2**63 - 2, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]
    extremes += [2**63 - 1 - 2**k for k in range(5, 30)]  # u just below 1, where ln u is tiny
    radii = [radius for radius in extremes for _ in extremes]

    samples = transformed(radii + extremes * len(extremes))

    assert all(math.isfinite(sample) for sample in samples)
    assert max(map(abs, samples)) <= 9.42


def test_directions_are_those_of_sine_and_cosine_to_the_last_bits() -> None:
    angle_words = [k * (2**64 // 3989) for k in range(3989)] + [2**63 - 1, 2**63, 2**64 - 1]
    edge = transformed([0, 0])[0]

    for turned in (0, 2**63):
        samples = transformed([turned] * len(angle_words) + angle_words)
        for at, word in enumerate(angle_words):
            signed = word - (2**64 if word >= 2**63 else 0)
            angle = signed * math.pi / 2**64
            radius = -edge if turned else edge
            assert abs(samples[at] - radius * math.cos(angle)) <= 8 * 2.0**-53 * edge
            assert (
                abs(samples[len(angle_words) + at] - radius * math.sin(angle))
                <= 8 * 2.0**-53 * edge
            )


def test_the_scale_is_the_standard_deviation_of_the_same_samples() -> None:
    words = np.arange(1, 2001, dtype=np.uint64) * np.uint64(2**53 + 12345)
    plain, scaled = np.empty(2000), np.empty(2000)

    box_muller(words.copy(), plain, np.empty(1000))
    box_muller(words.copy(), scaled, np.empty(1000), scale=2.0**24 * 1.7)

    np.testing.assert_allclose(scaled / (2.0**24 * 1.7), plain, rtol=1e-14, atol=1e-14)


def test_directions_are_uniform_over_the_circle() -> None:
    # Chi-square over 360 equal sectors; false alarm 1e-6.
    z_N = GaussianNoise.secure(SeededEntropy(20)).standard_normal(2**16)
    angle_P = torch.atan2(z_N[2**15 :], z_N[: 2**15])

    counts = torch.histc(angle_P, bins=360, min=-math.pi, max=math.pi)

    expected = 2**15 / 360
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert chi2.ppf(FALSE_ALARM / 2, 359) < statistic < chi2.isf(FALSE_ALARM / 2, 359)


def test_an_odd_number_of_samples_is_the_even_number_without_the_last() -> None:
    odd, even = (GaussianNoise.secure(SeededEntropy(21)).standard_normal(n) for n in (5, 6))

    assert torch.equal(odd, even[:5])


@both_sources
def test_calls_are_independent_of_each_other(make: Maker) -> None:
    noise = make(SeededEntropy(4))

    calls = [noise.standard_normal(200_000) for _ in range(4)]

    pairs = [(x, y) for i, x in enumerate(calls) for y in calls[i + 1 :]]
    assert max(correlation_in_sigmas(x, y) for x, y in pairs) < norm.isf(FALSE_ALARM / 2 / 6)


@both_sources
def test_coordinates_and_chunks_of_one_call_are_independent(make: Maker) -> None:
    z_N = make(SeededEntropy(5)).standard_normal(2**19)
    lags = [1, 2, 3, 2**15, 2**16, 2**17, 2**18]  # neighbours, pairs of one radius, chunks

    for lag in lags:
        for power_N in (z_N, (z_N.square() - 1) / math.sqrt(2)):
            sigmas = correlation_in_sigmas(power_N[lag:], power_N[:-lag])
            assert sigmas < norm.isf(FALSE_ALARM / 4 / len(lags)), lag


@both_sources
def test_two_objects_under_the_same_manual_seed_draw_different_noise(make: Maker) -> None:
    torch.manual_seed(42)  # noqa: TID251  the case under test
    first = make(SystemEntropy()).standard_normal(100_000)
    torch.manual_seed(42)  # noqa: TID251
    second = make(SystemEntropy()).standard_normal(100_000)

    assert correlation_in_sigmas(first, second) < SIGMAS
    assert not bool((first == second).any())


@both_sources
def test_manual_seed_changes_nothing_and_a_draw_leaves_torchs_state_alone(make: Maker) -> None:
    first, second = make(SeededEntropy(6)), make(SeededEntropy(6))
    torch.manual_seed(1)  # noqa: TID251  the case under test
    before = torch.get_rng_state()
    sums = [torch.zeros(1000)]

    released = first.privatize(sums, sensitivity=1.0, noise_multiplier=1.0)
    unchanged = torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)  # noqa: TID251
    again = second.privatize(sums, sensitivity=1.0, noise_multiplier=1.0)

    assert unchanged
    assert torch.equal(released[0], again[0])


@both_sources
def test_seeded_entropy_makes_a_run_reproducible_and_another_seed_another_run(make: Maker) -> None:
    drawn = [make(SeededEntropy(seed)).standard_normal(100) for seed in (7, 7, 8)]

    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@both_sources
def test_two_processes_draw_different_noise(make: Maker) -> None:
    code = (
        "import torch; torch.manual_seed(42)\n"
        "from privacy_finetuner.training.noise import GaussianNoise\n"
        "from privacy_runtime.world import SystemEntropy\n"
        f"print(GaussianNoise.{make.__name__}(SystemEntropy()).standard_normal(8).tolist())"
    )

    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, timeout=120
        ).stdout
        for _ in range(2)
    }

    assert len(said) == 2


@both_sources
def test_a_forked_child_draws_other_noise_than_its_parent(make: Maker) -> None:
    noise = make(SystemEntropy())
    noise.standard_normal(8)
    read_end, write_end = os.pipe()

    child = os.fork()
    if child == 0:
        try:
            os.write(write_end, noise.standard_normal(8).numpy().tobytes())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        childs = pipe.read()
    os.waitpid(child, 0)
    parents = noise.standard_normal(8).numpy().tobytes()

    assert len(childs) == len(parents) == 64
    assert childs != parents


@both_sources
def test_a_noise_source_cannot_be_copied(make: Maker) -> None:
    noise = make(SystemEntropy())

    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(KeyStreamReused):
            duplicate(noise)


def test_the_source_says_what_it_is_and_not_its_state() -> None:
    assert repr(GaussianNoise.secure(SystemEntropy())) == "GaussianNoise(AES-256-CTR)"
    assert repr(GaussianNoise.fast(SystemEntropy())) == "GaussianNoise(torch.Generator)"
    assert GaussianNoise.secure(SystemEntropy()).is_secure
    assert not GaussianNoise.fast(SystemEntropy()).is_secure


@pytest.mark.parametrize("d", [1, 2, 7, 1000, 10**6, 10**8])
@pytest.mark.parametrize("sensitivity", [1.0, 0.1, 3.7, 1e-6])
def test_rounding_costs_at_most_half_of_the_margin(d: int, sensitivity: float) -> None:
    step = lattice_step(sensitivity, coordinates=d)

    assert step * math.sqrt(d) <= 0.5 * ROUNDING_MARGIN * sensitivity * (1 + 1e-12)
    assert 2 * step * math.sqrt(d) > 0.5 * ROUNDING_MARGIN * sensitivity * (1 - 1e-12)
    assert math.log2(sensitivity / step) == pytest.approx(round(math.log2(sensitivity / step)))


@both_sources
def test_every_release_is_a_lattice_point_whatever_the_low_bits_of_the_sum(make: Maker) -> None:
    noise = make(SeededEntropy(9))
    sums = [
        torch.linspace(-3, 3, 4001, dtype=torch.float64) * math.pi,
        torch.full((50, 20), 1 / 3, dtype=torch.float64),
    ]
    step = lattice_step(0.7, coordinates=5001)

    released = noise.privatize(sums, sensitivity=0.7, noise_multiplier=1.1)

    for part in released:
        points = (part / step).round()
        assert torch.equal(points * step, part)
    assert len(set(released[1].flatten().tolist())) > 900


def test_sums_that_differ_below_the_lattice_give_the_same_release() -> None:
    step = lattice_step(1.0, coordinates=1000)
    base = (torch.arange(1000, dtype=torch.float64) - 500) * step * 7
    nudge = torch.linspace(-0.49, 0.49, 1000, dtype=torch.float64) * step

    releases = [
        GaussianNoise.secure(SeededEntropy(10)).privatize(
            [sums], sensitivity=1.0, noise_multiplier=1.0
        )[0]
        for sums in (base, base + nudge)
    ]

    assert torch.equal(*releases)


def test_the_noise_is_the_same_whatever_the_sum_so_that_it_never_leaks_through_rounding() -> None:
    step = lattice_step(1.0, coordinates=1000)
    sums = torch.arange(1000, dtype=torch.float64) * step * 12345

    alone, added = (
        GaussianNoise.secure(SeededEntropy(11)).privatize(
            [base], sensitivity=1.0, noise_multiplier=1.0
        )[0]
        for base in (torch.zeros(1000, dtype=torch.float64), sums)
    )

    assert torch.equal(added - sums, alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_noise_has_the_charged_deviation_times_the_margin(dtype: torch.dtype) -> None:
    n, sensitivity, multiplier = 300_000, 0.8, 1.25
    sums = [torch.full((n // 2, 2), 0.25, dtype=dtype)]

    (released,) = GaussianNoise.secure(SeededEntropy(12)).privatize(
        sums, sensitivity=sensitivity, noise_multiplier=multiplier
    )

    noise_N = released.double().flatten() - 0.25
    variance = (multiplier * sensitivity * (1 + ROUNDING_MARGIN)) ** 2
    assert released.dtype == dtype
    assert released.shape == sums[0].shape
    assert abs(float(noise_N.square().mean()) / variance - 1) * math.sqrt(n / 2) < SIGMAS
    assert abs(float(noise_N.mean())) * math.sqrt(n / variance) < SIGMAS


def test_the_margin_is_part_of_the_noise() -> None:
    # The margin is 0.2 %, five times the deviation of this estimate: the release of the same words
    # is compared with them, not with chance.
    z_N = GaussianNoise.secure(SeededEntropy(13)).standard_normal(10_000)
    (released,) = GaussianNoise.secure(SeededEntropy(13)).privatize(
        [torch.zeros(10_000, dtype=torch.float64)], sensitivity=2.0, noise_multiplier=3.0
    )

    step = lattice_step(2.0, coordinates=10_000)
    assert float((released - 6.0 * 1.002 * z_N).abs().max()) <= 0.5 * step * (1 + 1e-9)


def test_the_release_does_not_depend_on_how_many_threads_torch_uses() -> None:
    before = torch.get_num_threads()
    sums = [torch.zeros(300_001)]
    released = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            noise = GaussianNoise.secure(SeededEntropy(14))
            released += noise.privatize(sums, sensitivity=1.0, noise_multiplier=1.0)
    finally:
        torch.set_num_threads(before)

    assert torch.equal(released[0], released[1])
    assert torch.equal(released[0], released[2])


def test_small_and_large_tensors_are_released_in_their_places() -> None:
    sums = [
        torch.full(shape, float(i))
        for i, shape in enumerate([(), (3,), (0, 4), (500, 600), (2, 2)])
    ]
    sums.append(torch.arange(6.0).reshape(2, 3).T)
    originals = [part.clone() for part in sums]

    released = GaussianNoise.secure(SeededEntropy(15)).privatize(
        sums, sensitivity=1e-6, noise_multiplier=1.0
    )

    for part, out, original in zip(sums, released, originals, strict=True):
        assert torch.equal(part, original)
        assert out.shape == part.shape
        torch.testing.assert_close(out, part, atol=1e-4, rtol=0)


def test_tensors_of_one_call_get_different_noise() -> None:
    released = GaussianNoise.secure(SeededEntropy(16)).privatize(
        [torch.zeros(100_000)] * 2, sensitivity=1.0, noise_multiplier=1.0
    )

    assert correlation_in_sigmas(released[0].double(), released[1].double()) < SIGMAS * 1.01


def test_nothing_to_release_draws_nothing() -> None:
    noise, untouched = (GaussianNoise.secure(SeededEntropy(17)) for _ in range(2))

    assert noise.privatize([], sensitivity=1.0, noise_multiplier=1.0) == []
    (empty,) = noise.privatize([torch.empty(0, 3)], sensitivity=1.0, noise_multiplier=1.0)

    assert empty.shape == (0, 3)
    assert torch.equal(noise.standard_normal(4), untouched.standard_normal(4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("divisor", [1.0, 12.0])
def test_in_place_is_the_same_release_over_the_divisor(dtype: torch.dtype, divisor: float) -> None:
    shapes = [(3,), (300, 500), (), (0, 2), (7, 11)]
    sums = [torch.full(shape, float(i), dtype=dtype) for i, shape in enumerate(shapes)]
    sums.append(torch.arange(6, dtype=dtype).reshape(2, 3).T)
    released = GaussianNoise.secure(SeededEntropy(22)).privatize(
        sums, sensitivity=0.3, noise_multiplier=2.0
    )

    GaussianNoise.secure(SeededEntropy(22)).privatize_(
        sums, sensitivity=0.3, noise_multiplier=2.0, divisor=divisor
    )

    for found, expected in zip(sums, released, strict=True):
        rounding = 2 * torch.finfo(dtype).eps
        torch.testing.assert_close(found, expected / divisor, rtol=rounding, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_what_is_refused_in_place_leaves_nothing_of_the_sums(bad: float) -> None:
    sums = [torch.ones(300_000), torch.ones(5)]
    sums[1][3] = bad

    with pytest.raises(InvalidParameter, match=r"in tensors \[1\].*nothing is released"):
        GaussianNoise.secure(SystemEntropy()).privatize_(
            sums, sensitivity=1.0, noise_multiplier=1.0
        )

    assert not any(part.any() for part in sums)


@pytest.mark.parametrize("divisor", [0.0, -1.0, math.inf, math.nan])
def test_a_divisor_outside_its_domain_is_refused(divisor: float) -> None:
    with pytest.raises(InvalidParameter, match="divisor"):
        GaussianNoise.secure(SystemEntropy()).privatize_(
            [torch.ones(2)], sensitivity=1.0, noise_multiplier=1.0, divisor=divisor
        )


def test_a_release_in_place_makes_no_second_copy() -> None:
    sums = [torch.zeros(4_000_000)]
    noise = GaussianNoise.secure(SeededEntropy(23))
    tracemalloc.start()  # sees numpy's buffers
    try:
        noise.privatize_(sums, sensitivity=1.0, noise_multiplier=1.0)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 3 * 2**20 * torch.get_num_threads() + 2**20


def test_a_sum_that_needs_a_gradient_is_released_without_one() -> None:
    weight = torch.ones(3, requires_grad=True)

    (released,) = GaussianNoise.secure(SystemEntropy()).privatize(
        [weight * 2], sensitivity=1.0, noise_multiplier=1.0
    )

    assert not released.requires_grad


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("size", [10, 300_000])
def test_a_sum_without_a_lattice_point_is_refused_by_place_and_not_by_value(bad, size) -> None:
    sums = [torch.zeros(size), torch.zeros(size)]
    sums[1][size - 3] = bad

    with pytest.raises(InvalidParameter, match=r"in tensors \[1\].*nothing is released"):
        GaussianNoise.secure(SystemEntropy()).privatize(sums, sensitivity=1.0, noise_multiplier=1.0)


@pytest.mark.parametrize(
    ("sensitivity", "noise_multiplier", "parameter"),
    [
        (0.0, 1.0, "sensitivity"),
        (-1.0, 1.0, "sensitivity"),
        (math.inf, 1.0, "sensitivity"),
        (math.nan, 1.0, "sensitivity"),
        (1e-320, 1.0, "sensitivity"),
        (1.0, 0.0, "noise_multiplier"),
        (1.0, -1.0, "noise_multiplier"),
        (1.0, math.inf, "noise_multiplier"),
        (1.0, math.nan, "noise_multiplier"),
        (1.0, 1e300, "noise_multiplier"),
    ],
)
def test_parameters_outside_their_domain_are_refused(
    sensitivity: float, noise_multiplier: float, parameter: str
) -> None:
    noise, untouched = (GaussianNoise.secure(SeededEntropy(18)) for _ in range(2))

    with pytest.raises(InvalidParameter, match=parameter):
        noise.privatize(
            [torch.zeros(3)], sensitivity=sensitivity, noise_multiplier=noise_multiplier
        )

    assert torch.equal(noise.standard_normal(4), untouched.standard_normal(4))


def test_tensors_that_are_not_floating_point_are_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"sums\[1\] is torch.int64"):
        GaussianNoise.secure(SystemEntropy()).privatize(
            [torch.zeros(1), torch.zeros(3, dtype=torch.int64)],
            sensitivity=1.0,
            noise_multiplier=1.0,
        )


def test_a_negative_count_is_refused_and_zero_is_empty() -> None:
    noise = GaussianNoise.secure(SystemEntropy())

    with pytest.raises(InvalidParameter, match="count"):
        noise.standard_normal(-1)
    assert noise.standard_normal(0).shape == (0,)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_sum_on_a_gpu_gets_the_noise_the_cpu_would_give() -> None:
    sums = torch.linspace(-1, 1, 1000)

    on_cpu, on_gpu = (
        GaussianNoise.secure(SeededEntropy(19)).privatize(
            [sums.to(device)], sensitivity=1.0, noise_multiplier=1.0
        )[0]
        for device in ("cpu", "cuda")
    )

    assert on_gpu.device.type == "cuda"
    assert torch.equal(on_gpu.cpu(), on_cpu)
