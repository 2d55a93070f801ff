"""Experiments share one budget, and data is handed over after the charge and never before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privacy_core.accounting import epsilon_of
from privacy_core.dp_events import Gaussian, NonPrivate, SelfComposed
from privacy_core.mechanisms import GaussianMechanism
from privacy_finetuner.assessment.research import (
    Constraints,
    Environment,
    ExperimentConfig,
    ExperimentResult,
    Outcome,
    ResearchLayer,
)
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.plugins import InvalidPluginError, PluginMetadata
from privacy_runtime.testing import ManualClock, SeededEntropy

PEOPLE = list(range(100))


class NoisyCount:
    """Counts its people with Gaussian noise, several times."""

    def __init__(self, sigma: float = 10.0, times: int = 1) -> None:
        self.sigma, self.times = sigma, times

    def run_experiment(self, environment: Environment, constraints: Constraints) -> Outcome:
        people = environment.data(SelfComposed(Gaussian(self.sigma), self.times))
        return Outcome(figures={"count": float(len(people)), "left": constraints.epsilon_left})


class Greedy:
    def run_experiment(self, environment: Environment, constraints: Constraints) -> Outcome:
        return Outcome(figures={"count": float(len(environment.data(NonPrivate())))})


def said(name: str) -> PluginMetadata:
    return PluginMetadata(name=name, version="1.0", requires=">=0.1")


def experiment(
    folder: Path, configuration: dict[str, Any] | None = None, **algorithms: Any
) -> ExperimentResult:
    layer = ResearchLayer(clock=ManualClock(), entropy=SeededEntropy(1))
    for name, algorithm in algorithms.items():
        layer.register_algorithm(algorithm, said(name))
    return layer.run_research_experiment(
        ExperimentConfig(
            dataset=PEOPLE,
            max_epsilon=2.0,
            delta=1e-6,
            folder=folder,
            configuration=configuration or {},
        )
    )


def test_algorithms_share_one_budget_and_each_sees_what_is_left(tmp_path: Path) -> None:
    result = experiment(tmp_path, first=NoisyCount, second=NoisyCount)

    first, second = result.results
    assert first.figures["left"] == 2.0
    assert second.figures["left"] == pytest.approx(2.0 - first.epsilon)
    # The odometer of the filter is above the tight price, and both acts together below the sum.
    assert epsilon_of(Gaussian(10.0), 1e-6, "pld") <= first.epsilon
    assert first.epsilon < result.epsilon_spent < first.epsilon + second.epsilon <= 2.0
    assert result.ranking("count")[0].figures["count"] == 100
    assert json.dumps(result.to_dict())
    assert "tests" in first.distribution or first.distribution != "privacy-finetuner"


def test_an_act_that_does_not_fit_gets_no_data_and_costs_nothing(tmp_path: Path) -> None:
    result = experiment(tmp_path, {"big": {"sigma": 0.1}}, big=NoisyCount, small=NoisyCount)

    big, small = result.results
    assert big.figures == {}
    assert "does not fit" in big.refused
    assert big.epsilon == 0
    assert small.figures["left"] == 2.0


def test_an_act_that_nobody_can_price_is_refused(tmp_path: Path) -> None:
    (greedy,) = experiment(tmp_path, greedy=Greedy).results

    assert greedy.figures == {}
    assert "does not fit" in greedy.refused


def test_an_experiment_without_algorithms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no algorithm"):
        experiment(tmp_path)


def test_an_algorithm_must_be_able_to_run() -> None:
    with pytest.raises(InvalidPluginError, match="run_experiment"):
        ResearchLayer().register_algorithm(dict, said("no"))


def test_a_mechanism_is_a_plugin_like_any_other() -> None:
    layer = ResearchLayer()
    layer.register_privacy_plugin(GaussianMechanism, said("gaussian"))

    made = layer.load_plugin("gaussian", {"sigma": 2.0, "sensitivity": 1.0})

    assert made.event == Gaussian(2.0)
