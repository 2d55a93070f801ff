"""A benchmark trains copies, repeats itself, and marks what no other point beats."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.assessment.benchmark_results import (
    BenchmarkPoint,
    BenchmarkResult,
    Measured,
    with_frontier,
)
from privacy_finetuner.assessment.benchmark_runs import _macro_f1
from privacy_finetuner.assessment.benchmarks import BenchmarkSuite
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.testing import SeededEntropy

TRAIN = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]
TEST = [{"text": f"word {i}: " + "cd" * (i % 3)} for i in range(24)]
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 8, "device": "cpu"}


def test_every_model_is_trained_at_every_budget_and_without_privacy(
    llama_folder: Path, tmp_path: Path
) -> None:
    suite = BenchmarkSuite(
        evaluation_metrics=["privacy_leakage", "training_time"],
        repetitions=2,
        entropy=SeededEntropy(1),
    )
    seen: list[BenchmarkPoint] = []
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    before = [p.detach().clone() for p in model.parameters()]

    result = suite.run_privacy_utility_benchmark(
        [model],
        [TRAIN, TEST],
        [8.0, 2.0],
        tokenizer=AutoTokenizer.from_pretrained(llama_folder),
        delta=1e-3,
        on_point=seen.append,
        **QUICK,
    )

    assert [p.epsilon for p in result.points] == [2.0, 8.0, math.inf]
    assert [p.baseline for p in result.points] == ["dp_sgd", "dp_sgd", "standard_sgd"]
    assert len(seen) == 3
    for point in result.points:
        assert set(point.figures) == {"accuracy", "privacy_leakage", "training_time"}
        assert point.figures["training_time"].mean > 0
        assert 0.5 <= point.figures["privacy_leakage"].mean <= 1
        assert all(f.repetitions == 2 for f in point.figures.values())
    assert all(bool((a == b).all()) for a, b in zip(before, model.parameters(), strict=True))
    assert result.outside_guarantee
    assert any("f1_score" in note for note in result.notes)
    assert any("void" in note for note in result.notes)  # other templates: not one pool
    result.plot_pareto_frontier(tmp_path / "frontier.svg")
    assert (tmp_path / "frontier.svg").stat().st_size > 1000
    assert json.loads(json.dumps(result.to_dict()))["points"][2]["epsilon"] is None


def test_f1_of_classes_is_the_mean_over_classes() -> None:
    logits = np.eye(3)[[0, 0, 1, 1, 2]]
    found = _macro_f1(SimpleNamespace(predictions=logits, label_ids=np.array([0, 1, 1, 1, 0])))

    # class 0: 2/4, class 1: 4/5, class 2: 0
    assert found["f1_score"] == pytest.approx((0.5 + 0.8 + 0.0) / 3)


def test_a_mean_has_the_interval_of_student() -> None:
    found = Measured.of([1.0, 2.0, 3.0])

    assert found.mean == 2.0
    assert found.high - found.mean == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert Measured.of([1.0]).high == math.inf


def points(*pairs: tuple[float, float]) -> tuple[BenchmarkPoint, ...]:
    return tuple(
        BenchmarkPoint(
            model="m", baseline="dp_sgd", epsilon=e, figures={"accuracy": Measured.of([u])}
        )
        for e, u in pairs
    )


def test_the_frontier_is_what_no_other_point_beats() -> None:
    marked = with_frontier(
        points((1, 0.5), (2, 0.4), (2, 0.6), (8, 0.6), (math.inf, 0.7)), "accuracy"
    )

    assert [p.is_on_frontier for p in marked] == [True, False, True, False, True]
    result = BenchmarkResult(points=marked, utility_metric="accuracy", notes=())
    assert len(result.pareto_frontier) == 3


def test_a_loss_is_better_when_it_is_smaller() -> None:
    pair = tuple(
        BenchmarkPoint(model="m", baseline="dp_sgd", epsilon=e, figures={"loss": Measured.of([u])})
        for e, u in ((1.0, 2.0), (2.0, 3.0))
    )

    assert [p.is_on_frontier for p in with_frontier(pair, "loss")] == [True, False]


def test_theory_and_evidence_stand_side_by_side(llama_folder: Path, tmp_path: Path) -> None:
    privacy = PrivacyConfig(epsilon=4.0, delta=1e-3)
    trainer = PrivateTrainer(str(llama_folder), privacy, "cpu", enable_context_guard=False)
    result = trainer.train(TRAIN, epochs=1, batch_size=8, output_dir=str(tmp_path))

    found = BenchmarkSuite().evaluate_privacy_guarantees(
        result.final_model, result.training_history, privacy
    )

    assert found.verified
    assert found.faults == ()
    assert 0 < found.theoretical_epsilon <= 4.0
    assert found.empirical_epsilon is None


def test_attacks_take_records_or_texts_and_find_the_tokenizer(llama_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    suite = BenchmarkSuite()

    found = suite.membership_inference_test(model, TRAIN, [row["text"] for row in TEST])
    assert found.members == 32
    drawn = suite.model_inversion_test(
        model, [row["text"] for row in TRAIN], prefix_tokens=4, suffix_tokens=4
    )
    assert drawn.outside_guarantee
    assert drawn.extraction is not None
    assert set(drawn.not_run) == {"attributes", "slot_filling", "exposure"}


def test_other_benchmark_types_measure_what_they_are_named_for() -> None:
    suite = BenchmarkSuite(
        benchmark_types=["privacy_utility", "performance", "robustness"],
        evaluation_metrics=["accuracy", "privacy_leakage"],
    )

    assert suite.evaluation_metrics == ("accuracy", "privacy_leakage", "training_time")
    assert BenchmarkSuite().evaluation_metrics == ()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: BenchmarkSuite(["beauty"]), "benchmark_types"),
        (lambda: BenchmarkSuite(evaluation_metrics=["fame"]), "evaluation_metrics"),
        (lambda: BenchmarkSuite(baseline_models=["magic"]), "baseline_models"),
        (lambda: BenchmarkSuite(repetitions=0), "repetitions"),
        (
            lambda: BenchmarkSuite().run_privacy_utility_benchmark(["m"], [TRAIN], [1.0]),
            "two data sets",
        ),
        (
            lambda: BenchmarkSuite(baseline_models=["dp_sgd"]).run_privacy_utility_benchmark(
                ["m"], [TRAIN, TEST], []
            ),
            "privacy_budgets",
        ),
    ],
)
def test_what_cannot_be_benchmarked_is_refused(call: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        call()
