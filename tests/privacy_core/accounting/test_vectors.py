"""Published and independently computed figures; each file in `tests/vectors` names its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privacy_core.accounting import (
    SamplingScheme,
    Schedule,
    calibrate_noise_multiplier,
    dp_sgd_event,
    epsilon_of,
    scheme_event,
)
from privacy_core.dp_events import (
    Gaussian,
    SampledWithoutReplacement,
    SelfComposed,
    TruncatedPoissonSampled,
)
from privacy_core.guarantee import NeighbouringRelation

VECTORS = Path(__file__).parents[2] / "vectors"
REPLACE = NeighbouringRelation.REPLACE_ONE


def cases(name: str) -> list[Any]:
    document = json.loads((VECTORS / f"accounting_{name}.json").read_text(encoding="utf-8"))
    assert document["source"]
    assert document["tolerance"]
    return [
        pytest.param(case, id=str(case.get("name", place)))
        for place, case in enumerate(document["cases"])
    ]


def run_of(case: dict[str, Any]) -> Any:
    names = ("noise_multiplier", "sample_rate", "steps", "max_examples_per_user")
    return dp_sgd_event(**{name: case[name] for name in names if name in case})


@pytest.mark.parametrize("case", cases("epsilon"))
def test_epsilon_is_above_the_truth_and_tight(case: dict[str, Any]) -> None:
    epsilon = epsilon_of(run_of(case), case["delta"])

    assert epsilon >= case["certified_lower"]
    assert epsilon >= case["estimate"] - 2e-4
    assert epsilon <= case["estimate"] * 1.002 + 1e-4


@pytest.mark.parametrize("case", cases("epsilon"))
def test_the_renyi_bound_is_that_of_others(case: dict[str, Any]) -> None:
    epsilon = epsilon_of(run_of(case), case["delta"], "rdp")

    assert epsilon == pytest.approx(case["rdp"], rel=1e-4)


@pytest.mark.parametrize("case", cases("small_delta"))
def test_small_deltas_stay_inside_the_certified_interval(case: dict[str, Any]) -> None:
    epsilon = epsilon_of(run_of(case), case["delta"])

    assert case["lower"] <= epsilon <= case["upper"]


@pytest.mark.parametrize("case", cases("noise"))
def test_the_noise_multiplier_is_tight_and_certified(case: dict[str, Any]) -> None:
    target = {name: case[name] for name in ("epsilon", "delta", "sample_rate", "steps")}

    noise = calibrate_noise_multiplier(**target)

    run = dp_sgd_event(noise_multiplier=noise, sample_rate=case["sample_rate"], steps=case["steps"])
    assert epsilon_of(run, case["delta"]) <= case["epsilon"]
    reference = case.get("finer_reference", case["noise_multiplier"])
    assert reference * (1 - 1e-5) <= noise <= reference * 1.001


@pytest.mark.parametrize("case", cases("user"))
def test_user_level_prices(case: dict[str, Any]) -> None:
    epsilon = epsilon_of(run_of(case), case["delta"])

    assert case["epsilon"] * (1 - 1e-4) <= epsilon <= case["epsilon"] * 1.001
    assert epsilon < epsilon_of(run_of(case), case["delta"], "rdp")


@pytest.mark.parametrize("case", cases("sampling"))
def test_sampling_schemes(case: dict[str, Any]) -> None:
    n, b, steps, delta = (case[k] for k in ("dataset_size", "batch_size", "steps", "delta"))
    noise = case["noise_multiplier"]

    def cut_at(factor: float) -> float:
        event = TruncatedPoissonSampled(n, b / n, round(factor * b), Gaussian(noise))
        return epsilon_of(SelfComposed(event, steps), delta)

    poisson = dp_sgd_event(noise_multiplier=noise, sample_rate=b / n, steps=steps)
    schedule = Schedule(examples=n, batch_size=b, steps=steps)
    shuffled = scheme_event(SamplingScheme.SHUFFLE, schedule, noise_multiplier=noise)
    exchanged = epsilon_of(poisson, delta, relation=REPLACE)
    fixed = SelfComposed(SampledWithoutReplacement(n, b, Gaussian(2 * noise)), steps)

    assert epsilon_of(poisson, delta) == pytest.approx(case["poisson"], rel=2e-3)
    assert epsilon_of(shuffled, delta) == pytest.approx(case["shuffle"], rel=2e-3)
    assert exchanged == pytest.approx(case["replace_one"], rel=2e-3)
    assert epsilon_of(poisson, delta) < cut_at(1.1) <= case["truncated_at_1_1"] * 1.001
    assert cut_at(1.5) == pytest.approx(case["truncated_at_1_5"], rel=2e-3)
    tight = epsilon_of(fixed, delta, relation=REPLACE)
    assert tight < epsilon_of(fixed, delta, "rdp", relation=REPLACE) <= case["fixed_size_rdp"]
