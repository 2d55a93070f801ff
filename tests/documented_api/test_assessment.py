"""Research and quality interfaces of the documents: names, parameters, defaults, examples."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch

import privacy_finetuner
from privacy_finetuner import (
    BenchmarkSuite,
    NovelAlgorithms,
    PrivacyConstraints,
    TestConfiguration,
    TestOrchestrator,
)
from privacy_finetuner.assessment.quality import SUITES

NEEDED = inspect.Parameter.empty


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (
            NovelAlgorithms.__init__,
            {
                "algorithm_type": "adaptive_dp",
                "optimization_target": "privacy_utility_tradeoff",
            },
        ),
        (
            NovelAlgorithms.adaptive_privacy_budget_allocation,
            {
                "data_sensitivity_scores": NEEDED,
                "total_epsilon": NEEDED,
                "allocation_strategy": "sensitivity_aware",
            },
        ),
        (
            NovelAlgorithms.hybrid_privacy_mechanism,
            {
                "data": NEEDED,
                "privacy_techniques": ("dp", "k_anonymity", "homomorphic"),
                "technique_weights": None,
            },
        ),
        (
            NovelAlgorithms.privacy_utility_optimization,
            {
                "model": NEEDED,
                "dataset": NEEDED,
                "privacy_constraints": NEEDED,
                "utility_metric": "accuracy",
            },
        ),
        (
            BenchmarkSuite.__init__,
            {"benchmark_types": None, "evaluation_metrics": None, "baseline_models": None},
        ),
        (
            BenchmarkSuite.run_privacy_utility_benchmark,
            {
                "models": NEEDED,
                "datasets": NEEDED,
                "privacy_budgets": NEEDED,
                "utility_metrics": ("accuracy", "f1_score"),
            },
        ),
        (
            BenchmarkSuite.evaluate_privacy_guarantees,
            {"trained_model": NEEDED, "training_history": NEEDED, "privacy_config": NEEDED},
        ),
        (
            BenchmarkSuite.membership_inference_test,
            {"model": NEEDED, "member_data": NEEDED, "non_member_data": NEEDED},
        ),
        (BenchmarkSuite.model_inversion_test, {"model": NEEDED, "target_samples": NEEDED}),
        (
            TestOrchestrator.__init__,
            {"test_suites": None, "execution_mode": "parallel", "quality_threshold": 0.85},
        ),
        (TestOrchestrator.run_all_tests, {"target_system": NEEDED, "test_config": None}),
        (TestOrchestrator.generate_quality_report, {"results": NEEDED}),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_documented_parameters_come_first_with_their_defaults(
    function: Any, parameters: dict[str, Any]
) -> None:
    found = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    first = {p.name: p.default for p in found[: len(parameters)]}

    assert first == parameters
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in found[len(parameters) :])


def test_the_documented_allocation_is_of_the_total() -> None:
    algorithms = NovelAlgorithms(
        algorithm_type="adaptive_dp", optimization_target="privacy_utility_tradeoff"
    )
    epsilons = algorithms.adaptive_privacy_budget_allocation(
        [0.2, 0.8, 0.5, 0.9, 0.3], total_epsilon=2.0, allocation_strategy="sensitivity_aware"
    )

    assert len(epsilons) == 5
    assert math.fsum(epsilons) == 2.0


def test_the_documented_hybrid_call_protects_a_batch() -> None:
    result = NovelAlgorithms().hybrid_privacy_mechanism(
        data=torch.zeros(200, 4), privacy_techniques=["dp", "k_anonymity"],
        technique_weights=[0.7, 0.3],
    )  # fmt: skip

    assert result.protected_data.shape == (4,)
    assert [g.technique for g in result.guarantees] == ["k_anonymity", "dp"]


def test_the_documented_suites_and_numbers_are_known() -> None:
    suites = ["privacy_tests", "security_tests", "performance_tests", "integration_tests"]
    assert list(SUITES) == suites
    TestOrchestrator(test_suites=suites, execution_mode="parallel", quality_threshold=0.90)
    TestConfiguration(privacy_budget=1.0, test_duration=300, sample_size=1000)
    PrivacyConstraints(max_epsilon=2.0, min_utility=0.85)
    BenchmarkSuite(
        benchmark_types=["privacy_utility", "performance", "robustness"],
        evaluation_metrics=["accuracy", "privacy_leakage", "training_time"],
        baseline_models=["standard_sgd", "dp_sgd"],
    )


def test_every_public_name_is_there() -> None:
    for name in privacy_finetuner.__all__:
        assert getattr(privacy_finetuner, name) is not None
