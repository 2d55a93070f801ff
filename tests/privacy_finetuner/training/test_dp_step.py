"""The private step: what leaves it, with which noise, divided by what.

Statistical tests are seeded and state their false-alarm rate, at most 1e-6 each.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.training.dp_step import StepRelease, dp_step
from privacy_finetuner.training.engine import Clip, ClippedGradient
from privacy_finetuner.training.engine.clipped_gradient import BatchRecord, BoundedSum
from privacy_finetuner.training.loop import next_clip_norm
from privacy_finetuner.training.noise import ROUNDING_MARGIN, GaussianNoise
from privacy_finetuner.training.plan import COUNT_SENSITIVITY, DPTrainingPlan, make_plan
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemEntropy

CLIP = Clip(2.0)
PLAN = make_plan(
    PrivacyConfig(epsilon=3.0, max_grad_norm=2.0),
    TrainingConfig(epochs=1, batch_size=32),
    examples=640,
)


class Still:
    """A gradient source whose examples all have the gradient and figures it is told."""

    def __init__(self, sizes: tuple[int, ...] = (20_000, 5_001)) -> None:
        self.parameters = [nn.Parameter(torch.zeros(n)) for n in sizes]
        self.records: BatchRecord | None = None
        self.gradient = 0.0

    def add(self, batch: Any, clip: Clip) -> BatchRecord:
        count = len(batch["x"])
        ones_B = torch.ones(count)
        return self.records or BatchRecord(0.5 * ones_B, ones_B, 0.1 * ones_B)

    def take(self, clip: Clip) -> BoundedSum:
        return BoundedSum([torch.full_like(p, self.gradient) for p in self.parameters], 2.0)

    def close(self) -> None: ...


def step(
    source: Any,
    *,
    batches: list[dict[str, Tensor]] | None = None,
    noise: GaussianNoise | None = None,
    plan: DPTrainingPlan = PLAN,
    clip: Clip = CLIP,
    loss_cap: float = 1.0,
) -> StepRelease:
    return dp_step(
        source,
        batches if batches is not None else [],
        clip=clip,
        plan=plan,
        noise=noise or GaussianNoise.secure(SeededEntropy(1)),
        optimizer=torch.optim.SGD(source.parameters, lr=1.0),
        loss_cap=loss_cap,
    )


def noise_std() -> float:
    return PLAN.gradient_noise_multiplier * 2.0 * (1 + ROUNDING_MARGIN) / 32


def test_an_empty_batch_is_a_step_of_noise_with_the_planned_spread() -> None:
    source = Still()
    step(source)
    found = torch.cat([p.detach().double() for p in source.parameters]) / noise_std()
    # sum of squares of n standard normals; two-sided, false alarm 1e-7
    square = float(found.square().sum())
    low, high = stats.chi2.ppf([5e-8, 1 - 5e-8], df=len(found))
    assert low < square < high
    # the mean of n standard normals, false alarm 1e-7
    assert abs(float(found.mean())) < 5.4 / math.sqrt(len(found))


def test_noise_is_independent_between_steps_and_parameters() -> None:
    noise = GaussianNoise.secure(SeededEntropy(2))
    first, second = Still((20_000, 20_000)), Still((20_000, 20_000))
    step(first, noise=noise)
    step(second, noise=noise)
    parts = [p.detach().double() / noise_std() for s in (first, second) for p in s.parameters]
    for i in range(4):
        for j in range(i):
            # n products of independent normals: N(0, n); six pairs, false alarm 6e-8
            correlation = float((parts[i] * parts[j]).mean())
            assert abs(correlation) < 5.8 / math.sqrt(20_000)


def test_the_sum_is_divided_by_the_expected_batch_size_whoever_was_drawn() -> None:
    for drawn in (0, 1, 64):
        source = Still((50_000,))
        source.gradient = -320.0
        step(source, batches=[{"x": torch.zeros(drawn)}] if drawn else [])
        # the mean of 50,000 normals of this spread, false alarm 1e-7
        mean = float(source.parameters[0].detach().double().mean())
        assert abs(mean - 10.0) < 5.4 * noise_std() / math.sqrt(50_000)


def test_no_gradient_is_left_behind() -> None:
    source = Still()
    step(source)
    assert all(p.grad is None for p in source.parameters)


def test_a_seed_for_torch_changes_nothing_and_repeats_nothing() -> None:
    ends = []
    for _ in range(2):
        torch.manual_seed(0)  # noqa: TID251 -- that it is ignored is what is tested
        state = torch.random.get_rng_state()
        source = Still((100,))
        step(source, noise=GaussianNoise.secure(SystemEntropy()))
        assert torch.equal(torch.random.get_rng_state(), state)
        ends.append(source.parameters[0].detach().clone())
    assert not torch.equal(*ends)


def test_seeded_entropy_repeats_a_step_for_tests() -> None:
    ends = []
    for _ in range(2):
        source = Still((100,))
        step(source, noise=GaussianNoise.secure(SeededEntropy(5)))
        ends.append(source.parameters[0].detach().clone())
    assert torch.equal(*ends)


@pytest.mark.parametrize("value", [0.3, math.inf, math.nan, -1e30, 1e30])
def test_no_figure_of_an_example_moves_the_releases_by_more_than_their_sensitivity(
    value: float,
) -> None:
    def released(losses: list[float], norms: list[float]) -> StepRelease:
        source = Still((1,))
        finite = [0.0 if math.isnan(x) else x for x in losses]
        ones_B = torch.ones(len(losses))
        source.records = BatchRecord(torch.tensor(finite), ones_B * 7, torch.tensor(norms))
        batch = [{"x": ones_B}] if losses else []
        return step(source, batches=batch, noise=GaussianNoise.secure(SeededEntropy(3)))

    with_it, without = released([value], [value]), released([], [])
    difference = [
        with_it.loss - without.loss,
        with_it.accuracy - without.accuracy,
        with_it.norm - without.norm,
    ]
    assert math.hypot(*difference) <= math.sqrt(3) * (1 + 1e-3)
    assert with_it.below_bound is not None
    assert without.below_bound is not None
    assert abs(with_it.below_bound - without.below_bound) <= COUNT_SENSITIVITY * (1 + 1e-2)


def test_the_released_figures_have_the_planned_spread() -> None:
    noise = GaussianNoise.secure(SeededEntropy(4))
    source = Still((1,))
    releases = [step(source, noise=noise) for _ in range(1500)]
    assert PLAN.count_noise_multiplier is not None
    assert PLAN.statistics_noise_multiplier is not None
    spreads = {
        "below_bound": PLAN.count_noise_multiplier * COUNT_SENSITIVITY,
        "loss": PLAN.statistics_noise_multiplier * math.sqrt(3),
        "accuracy": PLAN.statistics_noise_multiplier * math.sqrt(3),
        "norm": PLAN.statistics_noise_multiplier * math.sqrt(3),
    }
    low, high = stats.chi2.ppf([5e-8, 1 - 5e-8], df=len(releases))  # false alarm 4e-7 in all
    for name, std in spreads.items():
        scaled = [getattr(r, name) / (std * (1 + ROUNDING_MARGIN)) for r in releases]
        assert low < sum(x * x for x in scaled) < high, name


def test_without_adaptive_clipping_no_count_is_released() -> None:
    fixed = make_plan(
        PrivacyConfig(epsilon=3.0, adaptive_clipping=False),
        TrainingConfig(epochs=1, batch_size=32),
        examples=640,
    )
    assert step(Still((3,)), plan=fixed).below_bound is None


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)


def line_loss(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    output_B = model.layer(batch["x"]).squeeze(-1)
    return output_B, torch.zeros(len(output_B))


def test_a_nan_loss_changes_nothing_but_the_figures_and_they_stay_bounded() -> None:
    """One bad example beside two good ones: the same step as without it, to the bit."""
    good, bad = {"x": torch.ones(2, 3)}, {"x": torch.full((1, 3), math.nan)}
    ends, releases = [], []
    for batches in ([good, bad], [good]):
        torch.nn.init.ones_((model := Line()).layer.weight)
        torch.nn.init.zeros_(model.layer.bias)
        releases.append(step(ClippedGradient(model, line_loss), batches=batches))
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    with_it, without = releases
    assert with_it.loss - without.loss == pytest.approx(1.0, abs=0.01)
    assert with_it.norm - without.norm == pytest.approx(1.0, abs=0.01)
    assert with_it.accuracy == pytest.approx(without.accuracy, abs=0.01)


def test_the_adaptive_bound_moves_to_the_median_gradient_norm() -> None:
    """100 gradients with norms 0.1 .. 10; the bound starts 100 times too high."""
    plan = replace(PLAN, expected_batch_size=100, count_noise_multiplier=10.0, clip_norm=500.0)
    norms_B = torch.arange(1, 101) / 10
    noise = GaussianNoise.secure(SeededEntropy(6))
    bound = plan.clip_norm
    for _ in range(150):
        source = Still((1,))
        source.records = BatchRecord(norms_B * 0, norms_B * 0, norms_B)
        release = step(source, batches=[{"x": norms_B}], plan=plan, clip=Clip(bound), noise=noise)
        assert release.below_bound is not None
        bound = next_clip_norm(bound, release.below_bound, plan)
    # at the median the noisy count moves the logarithm by 0.2 * 0.05 a step: far inside these
    assert 4.0 < bound < 6.5


def test_no_count_however_noisy_makes_the_bound_run_away() -> None:
    bound = PLAN.clip_norm
    for _ in range(2000):
        bound = next_clip_norm(bound, 1e9, PLAN)
    assert bound == pytest.approx(PLAN.clip_norm / 1e4)
    for _ in range(2000):
        bound = next_clip_norm(bound, -1e9, PLAN)
    assert bound == pytest.approx(PLAN.clip_norm * 1e4)
