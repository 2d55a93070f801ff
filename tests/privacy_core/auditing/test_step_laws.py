"""The laws of scores are those of runs that are played step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from tests.privacy_core.auditing.played_runs import white_box_scores

from privacy_core.accounting.dominating_pairs import MixturePair
from privacy_core.accounting.gdp import gaussian_epsilon
from privacy_core.auditing import WhiteBox, ceiling, white_box_ceiling
from privacy_core.auditing.chance import Chance
from privacy_core.auditing.step_laws import ScoreLaws, SumLaws, score_laws
from privacy_core.errors import InvalidParameter

RUNS = [(0.01, 300, 0.6), (0.1, 100, 1.13), (0.333, 75, 1.7), (0.001, 5, 0.4)]


def a_run(rate: float, steps: int, noise: float, *, ratio: bool = True) -> WhiteBox:
    return WhiteBox(
        noise_multiplier=noise, sample_rate=rate, steps=steps, epsilon=8.0, likelihood_ratio=ratio
    )


@pytest.mark.parametrize(("rate", "steps", "noise"), RUNS)
@pytest.mark.parametrize("ratio", [True, False])
def test_drawn_scores_are_those_of_a_played_run(
    rate: float, steps: int, noise: float, *, ratio: bool
) -> None:
    """Kolmogorov and Smirnov on 6000 canaries; fixed seeds, so no false alarm by chance."""
    run = a_run(rate, steps, noise, ratio=ratio)
    chance = Chance(3, purpose="test")
    played, included = white_box_scores(6000, run, chance)
    beside = played.likelihood_ratio if ratio else played.dot_product
    drawn = score_laws(run).draw(included, chance)

    for side in (included, ~included):
        assert stats.ks_2samp(drawn[side], beside[side]).pvalue > 1e-3


@pytest.mark.parametrize(("rate", "steps", "noise"), RUNS)
def test_the_laws_have_the_moments_of_the_log_ratio(rate: float, steps: int, noise: float) -> None:
    """By quadrature; a shift that both laws share moves no rank."""
    laws = score_laws(a_run(rate, steps, noise))
    assert isinstance(laws, ScoreLaws)
    pair = MixturePair(noise, (1.0,), (rate,))
    x = np.linspace(-12, 14, 200_001) * noise
    losses, density = pair.loss(x), np.exp(pair.log_reference(x)) * (x[1] - x[0])
    out_mean, out_square = float(density @ losses), float(density @ losses**2)
    in_mean = float(density * np.exp(losses) @ losses)
    deviation = math.sqrt(steps * (out_square - out_mean**2))
    p, q = (np.diff(law, prepend=0.0) for law in (laws.inside, laws.outside))

    assert p @ laws.values - q @ laws.values == pytest.approx(
        steps * (in_mean - out_mean), abs=2e-3 * deviation
    )
    assert math.sqrt(q @ (laws.values - q @ laws.values) ** 2) == pytest.approx(deviation, rel=5e-3)
    assert abs(q @ laws.values - steps * out_mean) < 0.1 * deviation


def test_a_run_that_samples_everybody_has_the_ceiling_of_one_gaussian() -> None:
    """T full-batch releases of noise sigma are one of noise sigma / sqrt(T)."""
    epsilon = gaussian_epsilon(math.sqrt(16) / 3.0, 1e-5)
    run = WhiteBox(noise_multiplier=3.0, sample_rate=1.0, steps=16, epsilon=epsilon)
    watched = white_box_ceiling(run, 1e-5, 500, trials=60)
    ideal = ceiling(epsilon, 1e-5, 500, trials=60, seed=1)

    assert isinstance(score_laws(run), SumLaws)
    error = math.hypot(watched.standard_error, ideal.standard_error)
    assert abs(watched.expected - ideal.expected) < 4 * error


@pytest.mark.parametrize(
    "change",
    [{"noise_multiplier": 0.0}, {"noise_multiplier": math.nan}, {"sample_rate": 0.0},
     {"sample_rate": 1.5}, {"steps": 0}, {"steps": 10**12}],
)  # fmt: skip
def test_a_run_that_is_none_is_refused(change: dict[str, float]) -> None:
    given = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 10, "epsilon": 1.0} | change
    with pytest.raises(InvalidParameter):
        WhiteBox(**given)  # type: ignore[arg-type]  # of any kind


@pytest.mark.parametrize(("rate", "steps", "noise"), [(0.01, 10, 0.01), (0.01, 10**6, 0.3)])
def test_a_run_that_hides_nothing_has_no_law_here(rate: float, steps: int, noise: float) -> None:
    with pytest.raises(InvalidParameter, match="span too much"):
        score_laws(a_run(rate, steps, noise))
