"""Streaming noise against the dense product; what one unit moves against the sensitivity.

Statistical tests are seeded and state their false-alarm rate, at most 1e-6 each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.linalg import toeplitz
from scipy.stats import norm
from torch import Tensor, nn

from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.matrix_factorization import (
    BandedToeplitz,
    BufferedToeplitz,
    Correlation,
    one_step_correlation,
    optimise_banded,
    optimise_buffered,
)
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.training.correlated_noise import CorrelatedNoise
from privacy_finetuner.training.dp_step import dp_step
from privacy_finetuner.training.engine import Clip
from privacy_finetuner.training.engine.clipped_gradient import BoundedSum
from privacy_finetuner.training.noise import ROUNDING_MARGIN, GaussianNoise
from privacy_finetuner.training.plan import make_plan
from privacy_runtime.testing import SeededEntropy

CORRELATIONS: dict[str, Correlation] = {
    "one band": BandedToeplitz((1.0,)),
    "two bands": BandedToeplitz((1.0, 0.9)),
    "eight bands": optimise_banded(40, 8),
    "more bands than steps": optimise_banded(100, 60),
    "buffers": optimise_buffered(40, separation=10),
    "one buffer": one_step_correlation(40, separation=10),
}
STEPS, SHAPES = 25, ((3, 2), (5,), (0,))


class Known:
    """A source whose fresh noise the test keeps; no lattice."""

    def __init__(self, seed: int = 0) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self.fresh: list[Tensor] = []
        self.rows: list[Tensor] = []

    def privatize(
        self, sums: Sequence[Tensor], *, sensitivity: float, noise_multiplier: float
    ) -> list[Tensor]:
        noise = [
            noise_multiplier * torch.empty_like(p).normal_(generator=self._random) for p in sums
        ]
        self.fresh.append(flat(noise))
        self.rows.append(flat(sums) / sensitivity)
        return [p + sensitivity * z for p, z in zip(sums, noise, strict=True)]


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.double().flatten() for part in parts])


def dense(correlation: Correlation, steps: int) -> npt.NDArray[np.float64]:
    return np.tril(toeplitz(correlation.column(steps)))


def sums_of(seed: int, steps: int = STEPS) -> list[list[Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [
        [torch.empty(s, dtype=torch.float64).normal_(generator=random) for s in SHAPES]
        for _ in range(steps)
    ]


@pytest.mark.parametrize("name", CORRELATIONS)
def test_the_streamed_noise_is_the_dense_product(name: str) -> None:
    correlation, source = CORRELATIONS[name], Known()
    noise = CorrelatedNoise(correlation, 3.0)
    outputs = [
        flat(noise.privatize(source, sums, sensitivity=1.0)) - flat(sums)  # type: ignore[arg-type]
        for sums in sums_of(1)
    ]

    expected = np.linalg.solve(dense(correlation, STEPS), torch.stack(source.fresh).numpy())

    assert torch.stack(outputs).numpy() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_the_lattices_noise_is_the_dense_product_too(name: str) -> None:
    """The real source, twice with one seed: bare, and through the correlation."""
    correlation = CORRELATIONS[name]
    bare, used = (GaussianNoise.secure(SeededEntropy(5)) for _ in range(2))
    noise = CorrelatedNoise(correlation, 3.0)
    fresh, outputs = [], []
    for sums in sums_of(2):
        zeros = [torch.zeros_like(part) for part in sums]
        fresh.append(flat(bare.privatize(zeros, sensitivity=2.0, noise_multiplier=3.0)))
        outputs.append(flat(noise.privatize(used, sums, sensitivity=2.0)) - flat(sums))

    expected = np.linalg.solve(dense(correlation, STEPS), torch.stack(fresh).numpy())

    # Each row is rounded to the lattice: 2 * 2^-12 / 2 a row, carried on by C^-1.
    assert torch.stack(outputs).numpy() == pytest.approx(expected, abs=5e-3)


def test_one_band_is_independent_noise_to_the_last_bit() -> None:
    bare, used = (GaussianNoise.secure(SeededEntropy(6)) for _ in range(2))
    noise = CorrelatedNoise(BandedToeplitz((1.0,)), 1.5)
    for sums_64 in sums_of(3):
        for dtype in (torch.float32, torch.float64):
            sums = [part.to(dtype) for part in sums_64]
            plain = bare.privatize(sums, sensitivity=0.7, noise_multiplier=1.5)
            found = noise.privatize(used, sums, sensitivity=0.7)

            assert all(torch.equal(a, b.to(dtype)) for a, b in zip(plain, found, strict=True))
            assert {part.dtype for part in found} == {torch.float64}
    assert list(noise.memory()) == ["newest"]


class Replayed:
    """A source that always releases what it is told, as the adversary of the proof does."""

    def __init__(self, outputs: list[list[Tensor]]) -> None:
        self._outputs = iter(outputs)
        self.rows: list[Tensor] = []

    def privatize(
        self, sums: Sequence[Tensor], *, sensitivity: float, noise_multiplier: float
    ) -> list[Tensor]:
        self.rows.append(flat(sums) / (sensitivity * noise_multiplier))
        return next(self._outputs)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_unit_moves_the_rows_by_no_more_than_is_priced_whatever_the_clip_norm_does(
    name: str,
) -> None:
    """Same releases, neighbouring sums: the distance of the rows is what the price is about."""
    correlation = CORRELATIONS[name]
    clip_norms = [10.0 ** math.sin(step) for step in range(STEPS)]
    ones = sums_of(4)
    direction = [torch.full_like(part, 1 / math.sqrt(11)) for part in ones[0]]
    joined = range(2, STEPS, 10)
    others = [
        [p + clip_norms[t] * d for p, d in zip(ones[t], direction, strict=True)]
        if t in joined
        else ones[t]
        for t in range(STEPS)
    ]
    rows = []
    for data in (ones, others):
        source = Replayed(sums_of(99))
        noise = CorrelatedNoise(correlation, 1.0)
        for clip_norm, sums in zip(clip_norms, data, strict=True):
            noise.privatize(source, sums, sensitivity=clip_norm)  # type: ignore[arg-type]
        rows.append(torch.stack(source.rows))

    moved = float((rows[0] - rows[1]).norm())

    expected = np.linalg.norm(dense(correlation, STEPS)[:, list(joined)].sum(axis=1))
    assert moved == pytest.approx(expected, rel=1e-9)
    if name == "eight bands":
        norm_of_one = BandedToeplitz.column_norm.__get__(correlation)
        assert moved <= math.sqrt(len(joined)) * norm_of_one * (1 + 1e-12)


def test_the_noise_of_neighbouring_steps_cancels() -> None:
    """Lag 1 is negative, and the sum of all steps carries what the factorisation says."""
    correlation = optimise_banded(64, 16)
    noise = CorrelatedNoise(correlation, correlation.column_norm)
    source = GaussianNoise.secure(SeededEntropy(7))
    zeros = [torch.zeros(4000)]
    found_TP = torch.stack(
        [noise.privatize(source, zeros, sensitivity=1.0)[0] for _ in range(64)]
    ).double()

    lag = float((found_TP[1:] * found_TP[:-1]).mean() / found_TP.square().mean())
    error2 = float(found_TP.cumsum(dim=0).square().mean())

    assert lag < -0.2
    expected = (correlation.error(64) * (1 + ROUNDING_MARGIN)) ** 2
    # 4000 coordinates, whose mean squares have a relative deviation of at most sqrt(2 / 4000).
    assert error2 == pytest.approx(expected, rel=norm.isf(5e-7) * math.sqrt(2 / 4000))
    assert error2 < 0.2 * (64 + 1) / 2


class Still:
    """A gradient source without gradients: what a step adds is noise."""

    def __init__(self, size: int) -> None:
        self.parameters = [nn.Parameter(torch.zeros(size, dtype=torch.float64))]

    def take(self, clip: Clip) -> BoundedSum:
        return BoundedSum([torch.zeros_like(self.parameters[0])], clip.clip_norm)


@pytest.mark.parametrize("noise", ["banded", "blt"])
def test_the_steps_of_a_plan_leave_the_noise_that_it_was_chosen_for(noise: str) -> None:
    """Through `dp_step`, with a clip norm that changes: weights after all steps, and one update."""
    plan = make_plan(
        PrivacyConfig(epsilon=4.0, accounting_mode="pld", noise=noise),  # type: ignore[arg-type]
        TrainingConfig(epochs=3, batch_size=50),
        examples=1000,
    )
    assert plan.correlation is not None
    still, source = Still(4000), GaussianNoise.secure(SeededEntropy(9))
    correlated = CorrelatedNoise(plan.correlation, plan.fresh_noise_multiplier)
    optimizer = torch.optim.SGD(still.parameters, lr=1.0)
    moves = []
    for _ in range(plan.steps):
        before = still.parameters[0].detach().clone()
        dp_step(
            still,  # type: ignore[arg-type]
            [],
            clip=Clip(2.0),
            plan=plan,
            noise=source,
            optimizer=optimizer,
            loss_cap=1.0,
            correlated=correlated,
        )
        moves.append((still.parameters[0].detach() - before) * (50 / 2.0))
    moves_TP = torch.stack(moves)

    expected = plan.fresh_noise_multiplier * (1 + ROUNDING_MARGIN)
    inverse = np.linalg.inv(dense(plan.correlation, plan.steps))
    tolerance = norm.isf(2e-7) * math.sqrt(2 / 4000)  # four times, 8e-7 in all
    last = float(moves_TP[-1].square().mean().sqrt())
    assert last == pytest.approx(expected * np.linalg.norm(inverse[-1]), rel=tolerance)
    assert last == pytest.approx(plan.step_noise_multiplier * (1 + ROUNDING_MARGIN), rel=tolerance)
    whole = float(moves_TP.sum(dim=0).square().mean().sqrt())
    assert whole == pytest.approx(expected * np.linalg.norm(inverse.sum(axis=0)), rel=tolerance)
    independent = math.sqrt(plan.steps) * last
    assert whole < 0.5 * independent


@pytest.mark.parametrize("name", CORRELATIONS)
def test_a_run_continued_elsewhere_is_the_run_that_was_not_interrupted(name: str) -> None:
    """Bit for bit, given the same fresh noise; and that noise is drawn once."""
    correlation = CORRELATIONS[name]
    source, whole = Known(3), CorrelatedNoise(correlation, 2.0)
    data = sums_of(5)
    expected = [flat(whole.privatize(source, s, sensitivity=1.0)) for s in data]  # type: ignore[arg-type]

    source, first = Known(3), CorrelatedNoise(correlation, 2.0)
    found = [flat(first.privatize(source, s, sensitivity=1.0)) for s in data[:10]]  # type: ignore[arg-type]
    second = CorrelatedNoise(correlation, 2.0)
    second.restore(first.memory())
    found += [flat(second.privatize(source, s, sensitivity=1.0)) for s in data[10:]]  # type: ignore[arg-type]

    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert len({tuple(z.tolist()) for z in source.fresh}) == STEPS


@pytest.mark.parametrize("name", ["eight bands", "buffers"])
def test_a_refused_step_is_forgotten(name: str) -> None:
    noise = CorrelatedNoise(CORRELATIONS[name], 2.0)
    source = GaussianNoise.secure(SeededEntropy(8))
    first, second = sums_of(6, steps=2)
    noise.privatize(source, first, sensitivity=1.0)
    before = {key: part.clone() for key, part in noise.memory().items()}

    poisoned: Any = [torch.full_like(part, math.nan) for part in second]
    with pytest.raises(InvalidParameter, match="not finite"):
        noise.privatize(source, poisoned, sensitivity=1.0)
    with pytest.raises(InvalidParameter, match="shapes"):
        noise.privatize(source, second[:1], sensitivity=1.0)

    after = noise.memory()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_memory_is_as_long_as_the_bands_and_no_longer() -> None:
    noise = CorrelatedNoise(optimise_banded(40, 8), 2.0)
    for sums in sums_of(7):
        noise.privatize(Known(), sums, sensitivity=1.0)  # type: ignore[arg-type]

    memory = noise.memory()
    assert memory.pop("newest").shape == (1,)
    assert [tuple(part.shape) for part in memory.values()] == [(7, *shape) for shape in SHAPES]
    assert {part.dtype for part in memory.values()} == {torch.float64}
    assert noise.copies == 7


@pytest.mark.parametrize(
    "correlation", [BandedToeplitz((1.0, 0.5)), BufferedToeplitz((0.5,), (0.5,))]
)
def test_the_memory_of_another_correlation_is_refused(correlation: Correlation) -> None:
    noise = CorrelatedNoise(optimise_banded(40, 8), 2.0)
    for sums in sums_of(8, steps=5):
        noise.privatize(Known(), sums, sensitivity=1.0)  # type: ignore[arg-type]

    with pytest.raises(InvalidParameter, match="memory"):
        CorrelatedNoise(correlation, 2.0).restore(noise.memory())
