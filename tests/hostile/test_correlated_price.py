"""Correlated noise against its price, by the likelihood of the whole release.

Every released number of a run (noisy gradients, noisy counts) is drawn from the algorithm as it is
written down, trial by trial. The adversary chooses the unit's gradient, everybody else's, and so
the clip norm, from what was released before. The likelihood of a transcript without the unit, and
averaged over the unit's secret group and coins with it, gives the privacy loss exactly; only the
mean over transcripts is a Monte-Carlo mean, of numbers in [0, 1].

False-alarm rate: six standard errors, below 1e-8 a comparison; fixed seeds.

Shapes: N trials, S steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from privacy_core.accounting import epsilon_of
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms.matrix_factorization import (
    BandedToeplitz,
    BufferedToeplitz,
    Correlation,
)
from privacy_finetuner.training.correlated_noise import CorrelatedNoise
from privacy_finetuner.training.plan import COUNT_SENSITIVITY, DPTrainingPlan

Floats = npt.NDArray[np.float64]
TRIALS = 30_000
ADD, REPLACE = NeighbouringRelation.ADD_OR_REMOVE_ONE, NeighbouringRelation.REPLACE_ONE


def plan_of(
    correlation: Correlation,
    *,
    steps: int,
    groups: int,
    batch: int = 3,
    examples: int = 10,
    noise: float = 0.9,
    count_noise: float = 1.5,
    relation: NeighbouringRelation = ADD,
) -> DPTrainingPlan:
    """A plan with little noise on the count: a mistake about side releases would show."""
    rounds = -(-steps // groups) if isinstance(correlation, BufferedToeplitz) else 1
    share = 1 - rounds * (noise / count_noise) ** 2
    return DPTrainingPlan(
        examples=examples,
        expected_batch_size=batch,
        steps=steps,
        steps_asked=steps,
        noise_multiplier=noise,
        gradient_noise_multiplier=noise / math.sqrt(share),
        count_noise_multiplier=count_noise,
        statistics_noise_multiplier=None,
        clip_norm=1.0,
        clip_rule="bound",
        delta=1e-2,
        accountant="pld",
        relation=relation,
        sampler="cyclic_poisson",
        groups=groups,
        correlation=correlation,
    )


@dataclass
class World:
    """What the unit does: +1 or -1 times the adversary's wish, or it is not there (0)."""

    plan: DPTrainingPlan
    sign: float
    lost: tuple[int, ...] = ()  # the memory is lost before these steps
    adaptive: bool = True
    group: int | None = None  # known to the adversary

    def patterns(self) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Steps in which the unit takes part, with their probability."""
        plan = self.plan
        q = plan.group_sampling_probability
        groups = range(plan.groups) if self.group is None else (self.group,)
        for group in groups:
            turns = range(group, plan.steps, plan.groups)
            for coins in itertools.product((0, 1), repeat=len(turns)):
                weight = math.prod(q if coin else 1 - q for coin in coins) / len(groups)
                if weight:
                    yield weight, tuple(t for t, coin in zip(turns, coins, strict=True) if coin)


def wishes(out_SN: list[Floats], plan: DPTrainingPlan, adaptive: bool) -> tuple[Floats, Floats]:
    """The unit's gradient and everybody else's, in clip norms, from what was released."""
    if not adaptive or not out_SN:
        return np.ones(1), np.zeros(1)
    return np.where(out_SN[-1] > 0.3, -1.0, 1.0), 3 * np.tanh(out_SN[-1])


def next_clip(clip_N: Floats, count_N: Floats, adaptive: bool) -> Floats:
    return clip_N * np.exp(-0.4 * np.clip(count_N, -2, 2)) if adaptive else clip_N


def run(
    world: World,
    joined_NS: npt.NDArray[np.bool_],
    rng: np.random.Generator,  # noqa: TID251 -- tests
) -> tuple[list[Floats], list[Floats]]:
    """Noisy gradients and counts, by the formulas of `training.correlated_noise`."""
    plan = world.plan
    column = plan.correlation.column(plan.steps) if plan.correlation else np.ones(1)
    n = len(joined_NS)
    out: list[Floats] = []
    counts: list[Floats] = []
    memory: list[Floats | None] = []
    clip_N = np.ones(n)
    for t in range(plan.steps):
        if t in world.lost:
            memory = [None] * t
        mine, others = wishes(out, plan, world.adaptive)
        joined = joined_NS[:, t]
        sums = clip_N * (others + world.sign * mine * joined)
        due = sum(
            (column[t - s] * past for s, past in enumerate(memory) if past is not None), np.zeros(n)
        )
        fresh = plan.fresh_noise_multiplier * rng.standard_normal(n)
        released = sums - clip_N * due + clip_N * fresh
        memory.append((released - sums) / clip_N)
        out.append(released)
        noise = (plan.count_noise_multiplier or 1.0) * COUNT_SENSITIVITY
        counts.append(world.sign * COUNT_SENSITIVITY * joined + noise * rng.standard_normal(n))
        clip_N = next_clip(clip_N, counts[-1], world.adaptive)
    return out, counts


def log_likelihood(world: World, out: list[Floats], counts: list[Floats]) -> Floats:
    """Of the transcript, averaged over the unit's group and coins. A constant is left out."""
    plan = world.plan
    column = plan.correlation.column(plan.steps) if plan.correlation else np.ones(1)
    terms = []
    cases = world.patterns() if world.sign else iter([(1.0, ())])
    for weight, steps in cases:
        log = np.full(len(out[0]), math.log(weight))
        memory: list[Floats | None] = []
        clip_N = np.ones(len(out[0]))
        for t in range(plan.steps):
            if t in world.lost:
                memory = [None] * t
            mine, others = wishes(out[:t], plan, world.adaptive)
            sums = clip_N * (others + world.sign * mine * (t in steps))
            memory.append((out[t] - sums) / clip_N)
            fresh = sum(
                (column[t - s] * past for s, past in enumerate(memory) if past is not None),
                np.zeros(len(log)),
            )
            log -= fresh**2 / (2 * plan.fresh_noise_multiplier**2)
            noise = (plan.count_noise_multiplier or 1.0) * COUNT_SENSITIVITY
            log -= (counts[t] - world.sign * COUNT_SENSITIVITY * (t in steps)) ** 2 / (2 * noise**2)
            clip_N = next_clip(clip_N, counts[t], world.adaptive)
        terms.append(log)
    stacked = np.stack(terms)
    top = stacked.max(axis=0)
    result: Floats = top + np.log(np.exp(stacked - top).sum(axis=0))
    return result


def simulate(world: World, rng: np.random.Generator) -> tuple[list[Floats], list[Floats]]:  # noqa: TID251 -- tests
    joined_NS = np.zeros((TRIALS, world.plan.steps), dtype=bool)
    if world.sign:
        weights, patterns = zip(*world.patterns(), strict=True)
        for row, choice in enumerate(rng.choice(len(weights), TRIALS, p=weights)):
            joined_NS[row, list(patterns[choice])] = True
    return run(world, joined_NS, rng)


def hockey_stick(first: World, second: World, epsilon: float, seed: int) -> tuple[float, float]:
    """Delta of `first` against `second` at epsilon, and its standard error."""
    transcript = simulate(first, np.random.default_rng(seed))  # noqa: TID251 -- tests
    loss_N = log_likelihood(first, *transcript) - log_likelihood(second, *transcript)
    values_N = -np.expm1(np.minimum(epsilon - loss_N, 0.0))
    return float(values_N.mean()), float(values_N.std() / math.sqrt(TRIALS))


def neighbours(world: World) -> tuple[World, World]:
    if world.plan.relation is REPLACE:
        return world, replace(world, sign=-1.0)
    return world, replace(world, sign=0.0)


def exceeds(world: World, *, delta: float = 0.05, seed: int = 1) -> tuple[float, float]:
    """By how many standard errors the truth is above the price, and the larger truth."""
    epsilon = epsilon_of(world.plan.event(), delta, "pld", relation=world.plan.relation)
    here, there = neighbours(world)
    found = [hockey_stick(a, b, epsilon, seed) for a, b in ((here, there), (there, here))]
    return max((mean - delta) / max(error, 1e-9) for mean, error in found), max(
        mean for mean, _ in found
    )


TWO = BandedToeplitz((1.0, 0.8))
THREE = BandedToeplitz((1.0, 0.7, 0.6))
BUFFERS = BufferedToeplitz((0.9, 0.3), (0.4, 0.3))
CASES = {
    "bands are groups": World(plan_of(TWO, steps=4, groups=2), 1.0),
    "fewer bands than groups": World(plan_of(TWO, steps=6, groups=3), 1.0),
    "a partial last round": World(plan_of(THREE, steps=5, groups=3), 1.0),
    "an exchanged unit": World(plan_of(TWO, steps=4, groups=2, relation=REPLACE), 1.0),
    "the memory is lost": World(plan_of(TWO, steps=4, groups=2), 1.0, lost=(2,)),
    "lost within a round": World(plan_of(THREE, steps=6, groups=3), 1.0, lost=(1, 4)),
    "everyone joins": World(plan_of(TWO, steps=4, groups=2, batch=5), 1.0),
    "buffers": World(plan_of(BUFFERS, steps=5, groups=2, count_noise=2.5), 1.0),
    "buffers, exchanged": World(
        plan_of(BUFFERS, steps=5, groups=2, count_noise=2.5, relation=REPLACE), 1.0
    ),
    "buffers, memory lost": World(
        plan_of(BUFFERS, steps=5, groups=2, count_noise=2.5), 1.0, lost=(3,)
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("group", [0, None], ids=["group known", "group secret"])
def test_no_adaptive_adversary_sees_more_than_was_priced(name: str, group: int | None) -> None:
    above, _ = exceeds(replace(CASES[name], group=group))

    assert above < 6


def test_the_price_of_a_known_group_is_attained() -> None:
    world = replace(CASES["bands are groups"], group=0, adaptive=False)

    _, truth = exceeds(world)

    assert truth > 0.97 * 0.05  # so a price that is 3 % too small would be seen


def test_units_that_come_back_within_the_bands_would_be_seen() -> None:
    """The check can fail: one group, two bands, priced as if rows of a unit never overlapped."""
    honest = plan_of(TWO, steps=4, groups=2, batch=5)
    shifted = replace(honest, correlation=BandedToeplitz((1.0, 0.0)), groups=2)
    overlapping = World(honest, 1.0, group=0, adaptive=False)
    event_epsilon = epsilon_of(shifted.event(), 0.05, "pld")
    # Take part in steps 0 and 1 as well as 2 and 3: what two assignments in one run would allow.
    twice = replace(overlapping)
    twice.patterns = lambda: iter([(1.0, (0, 1, 2, 3))])  # type: ignore[method-assign]
    truth, error = hockey_stick(twice, replace(twice, sign=0.0), event_epsilon, seed=3)

    assert truth > 0.05 + 6 * error


class Recorded:
    """A noise source whose noise the test knows: adds `noise_multiplier * sensitivity * z`."""

    def __init__(self, z_SN: Floats) -> None:
        self._z = iter(z_SN)

    def privatize(
        self, sums: list[Tensor], *, sensitivity: float, noise_multiplier: float
    ) -> list[Tensor]:
        z_N = torch.from_numpy(next(self._z))
        return [sums[0] + noise_multiplier * sensitivity * z_N]


@pytest.mark.parametrize("correlation", [TWO, THREE, BUFFERS], ids=["two", "three", "buffers"])
def test_the_code_releases_what_was_analysed(correlation: Correlation) -> None:
    """C times (release / clip norm) is C G + Z, whatever the clip norms are; also after a loss."""
    rng = np.random.default_rng(5)  # noqa: TID251 -- tests
    steps, n, clips = 7, 11, [1.0, 0.3, 2.5, 2.5, 0.01, 40.0, 1.0]
    z_SN, sums_SN = rng.standard_normal((steps, n)), rng.standard_normal((steps, n))
    for lost in (None, 4):
        noise = Recorded(z_SN)
        code, released = CorrelatedNoise(correlation, 1.7), []
        for t, clip in enumerate(clips):
            if t == lost:
                code = CorrelatedNoise(correlation, 1.7)
            (out,) = code.privatize(
                noise,  # type: ignore[arg-type]
                [torch.from_numpy(sums_SN[t])],
                sensitivity=clip,
            )
            released.append(out.numpy() / clip)
        column = correlation.column(steps)
        for t in range(steps):
            first = lost if lost is not None and t >= lost else 0
            row = sum(column[t - s] * released[s] for s in range(first, t + 1))
            mean = sum(column[t - s] * sums_SN[s] / clips[s] for s in range(first, t + 1))
            np.testing.assert_allclose(row - mean, 1.7 * z_SN[t], rtol=1e-9, atol=1e-9)
