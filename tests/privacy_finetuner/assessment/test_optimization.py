"""A comparison costs what all of its trainings cost, and says which model it recommends and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privacy_core.accounting import epsilon_of
from privacy_finetuner.assessment.algorithms import NovelAlgorithms
from privacy_finetuner.assessment.optimization import (
    Comparison,
    OptimizationResult,
    PrivacyConstraints,
    Tradeoff,
    _divided,
    _recommended,
    _with_frontier,
)
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.testing import ManualClock, SeededEntropy

RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(60)]
PUBLIC = [{"text": f"word {i}: " + "cd" * (i % 3)} for i in range(12)]
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 12, "device": "cpu"}


def compared(model: Path, folder: Path, **options: Any) -> OptimizationResult:
    algorithms = NovelAlgorithms(entropy=SeededEntropy(1), clock=ManualClock())
    return algorithms.privacy_utility_optimization(
        str(model),
        RECORDS,
        PrivacyConstraints(max_epsilon=6.0, delta=1e-3, levels=(0.5, 1.0)),
        output_dir=folder,
        **QUICK,
        **options,
    )


def test_all_trainings_together_cost_what_was_allowed(llama_folder: Path, tmp_path: Path) -> None:
    seen: list[Tradeoff] = []
    result = compared(llama_folder, tmp_path, public_dataset=PUBLIC, on_point=seen.append)

    price = epsilon_of(result.event, 1e-3, "pld")
    assert 0.99 * 6.0 < price <= 6.0
    assert result.guarantee.epsilon == 6.0
    low, high = result.points
    assert low.epsilon < high.epsilon < 6.0 < 2 * (low.epsilon + high.epsilon)
    assert result.scores_are_public
    assert len(seen) == 2
    assert all((Path(p.folder) / "model.safetensors").is_file() for p in result.points)
    assert all(p.low <= p.utility <= p.high for p in result.points)
    assert result.best in result.points


def test_without_public_records_a_part_is_held_out_and_scored_with_noise(
    llama_folder: Path, tmp_path: Path
) -> None:
    result = compared(llama_folder, tmp_path)

    assert not result.scores_are_public
    assert all(p.high - p.low > 0.1 for p in result.points)  # a dozen people at a small epsilon


def test_the_division_is_by_coins_and_loses_nobody() -> None:
    trained, scored = _divided(RECORDS, 0.3, SeededEntropy(4))

    assert len(trained) + len(scored) == len(RECORDS)
    assert not {r["text"] for r in trained} & {r["text"] for r in scored}
    assert _divided(RECORDS, 0.3, SeededEntropy(5))[1] != scored


def points(*utilities: float) -> tuple[Tradeoff, ...]:
    return _with_frontier(
        [
            Tradeoff(
                epsilon=float(i + 1),
                noise_multiplier=1.0,
                utility=u,
                low=u - 0.05,
                high=u + 0.05,
                folder="",
            )
            for i, u in enumerate(utilities)
        ]
    )


def test_a_point_that_another_beats_in_both_is_not_on_the_frontier() -> None:
    assert [p.is_on_frontier for p in points(0.5, 0.4, 0.6, 0.6)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("least", "target", "chosen"),
    [
        (None, "utility", 4.0),
        (None, "privacy", 1.0),
        (None, "privacy_utility_tradeoff", 3.0),
        (0.55, "utility", 2.0),
        (0.95, "privacy", None),
    ],
)
def test_the_recommendation_is_the_least_epsilon_that_will_do(
    least: float | None, target: str, chosen: float | None
) -> None:
    found = _recommended(points(0.3, 0.6, 0.71, 0.8), least, target)

    assert (None if found is None else found.epsilon) == chosen


@pytest.mark.parametrize(
    "numbers",
    [
        {"max_epsilon": 0.0},
        {"max_epsilon": 1.0, "delta": 1.0},
        {"max_epsilon": 1.0, "levels": ()},
        {"max_epsilon": 1.0, "levels": (0.5, 0.5)},
        {"max_epsilon": 1.0, "held_out": 0.9},
    ],
)
def test_constraints_outside_their_domain_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="nothing was spent"):
        PrivacyConstraints(**numbers)


def test_what_the_comparison_solves_cannot_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="noise_multiplier"):
        Comparison(
            model="m",
            dataset=RECORDS,
            constraints=PrivacyConstraints(max_epsilon=1.0),
            folder=tmp_path,
            training={"noise_multiplier": 1.0},
        )


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="algorithm_type"):
        NovelAlgorithms("quantum")
    with pytest.raises(ConfigurationError, match="optimization_target"):
        NovelAlgorithms(optimization_target="fame")
    with pytest.raises(ConfigurationError, match="scores_are"):
        NovelAlgorithms().adaptive_privacy_budget_allocation([0.5], 1.0, scores_are="private")  # type: ignore[arg-type]


def test_silos_have_disjoint_people_and_each_may_have_the_whole() -> None:
    shares = NovelAlgorithms("federated_dp").adaptive_privacy_budget_allocation([0.5, 0.5], 2.0)

    assert shares == [2.0, 2.0]
