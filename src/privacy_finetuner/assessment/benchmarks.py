"""`BenchmarkSuite`: utility beside privacy over models, budgets and repetitions, and attacks.

Benchmarks show exact figures, several of them, on the records they are given. So every result here
is **outside the guarantee**: for records that are public or that you may see, never for choosing a
model for others. To choose one under a guarantee there is
`NovelAlgorithms.privacy_utility_optimization`, which pays for what it looks at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from privacy_finetuner.assessment.attacks import MembershipInferenceResult, membership_inference
from privacy_finetuner.assessment.benchmark_results import (
    BenchmarkPoint,
    BenchmarkResult,
    Measured,
    PrivacyEvaluationResult,
    with_frontier,
)
from privacy_finetuner.assessment.benchmark_runs import Bench, texts_of, tokenizer_of
from privacy_finetuner.assessment.inversion import AttributeRecord
from privacy_finetuner.assessment.model_inversion import ModelInversionResult, model_inversion
from privacy_finetuner.assessment.validation import PrivacyValidator
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import Source
from privacy_finetuner.results import TrainingHistory
from privacy_finetuner.training.records import read_records
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

BENCHMARK_TYPES: Final = ("privacy_utility", "performance", "robustness")
EVALUATION_METRICS: Final = ("accuracy", "f1_score", "loss", "privacy_leakage", "training_time")
BASELINES: Final = ("standard_sgd", "dp_sgd")
UTILITY_METRICS: Final = ("accuracy", "f1_score", "loss")
_MEASURED_BY: Final = {"performance": "training_time", "robustness": "privacy_leakage"}


class BenchmarkSuite:
    """Runs benchmarks and attacks. Everything that it returns is outside the guarantee.

    Args:
        benchmark_types: of `BENCHMARK_TYPES`; `None`: `privacy_utility`. `performance` measures
            `training_time` too, `robustness` `privacy_leakage`.
        evaluation_metrics: of `EVALUATION_METRICS`, measured beside the utility metrics: leakage is
            the best AUC of membership inference on the training records against the test records.
        baseline_models: `standard_sgd` (without privacy) and `dp_sgd`; `None`: both.
        repetitions: trainings of each point, each with fresh batches and noise.
        clock: the outside world; only tests replace it.
        entropy: likewise.

    Raises:
        ConfigurationError: an unknown name.
    """

    def __init__(
        self,
        benchmark_types: Sequence[str] | None = None,
        evaluation_metrics: Sequence[str] | None = None,
        baseline_models: Sequence[str] | None = None,
        *,
        repetitions: int = 3,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.benchmark_types = _known("benchmark_types", benchmark_types, BENCHMARK_TYPES[:1],
                                      BENCHMARK_TYPES)  # fmt: skip
        asked = _known("evaluation_metrics", evaluation_metrics, (), EVALUATION_METRICS)
        implied = [_MEASURED_BY[kind] for kind in self.benchmark_types if kind in _MEASURED_BY]
        self.evaluation_metrics = tuple(dict.fromkeys((*asked, *implied)))
        self.baseline_models = _known("baseline_models", baseline_models, BASELINES, BASELINES)
        if repetitions < 1:
            raise ConfigurationError(f"repetitions is {repetitions}, expected at least 1")
        self.repetitions = repetitions
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()

    def run_privacy_utility_benchmark(
        self,
        models: Sequence[Any],
        datasets: Sequence[Source],
        privacy_budgets: Sequence[float],
        utility_metrics: Sequence[str] = ("accuracy", "f1_score"),
        *,
        tokenizer: Any = None,
        delta: float = 1e-5,
        device: str = "auto",
        on_point: Callable[[BenchmarkPoint], None] | None = None,
        **training: Any,
    ) -> BenchmarkResult:
        """Train every model at every budget, several times, and score on the test records.

        Args:
            models: names, folders, or model objects (each training gets a copy).
            datasets: two of them: training records, test records.
            privacy_budgets: epsilons.
            utility_metrics: of `accuracy`, `f1_score` (macro, classifiers only), `loss`. The first
                is the one of the frontier.
            tokenizer: of model objects; by default the one saved where the model came from.
            delta: of every budget.
            device: as of `PrivateTrainer`.
            on_point: called after each point.
            **training: keywords of `PrivateTrainer.train`.

        Raises:
            ConfigurationError: nothing was trained.
        """
        metrics = _known("utility_metrics", utility_metrics, (), UTILITY_METRICS)
        if len(datasets) != 2 or not models or not metrics:
            raise ConfigurationError(
                f"a benchmark takes models, utility metrics and two data sets (training, test); "
                f"found {len(models)}, {len(metrics)} and {len(datasets)}; nothing was trained"
            )
        bench = Bench(
            train=list(read_records(datasets[0]).rows),
            test=list(read_records(datasets[1]).rows),
            metrics=metrics,
            extras=self.evaluation_metrics,
            training=training,
            device=device,
            delta=delta,
            clock=self._clock,
            entropy=self._entropy,
        )
        points, notes = list[BenchmarkPoint](), dict[str, None]()
        for index, model in enumerate(models):
            name = model if isinstance(model, str) else f"model {index + 1}"
            reader = tokenizer_of(model, tokenizer)
            for baseline, epsilon in self._budgets(privacy_budgets):
                rows = [bench.run(model, reader, epsilon) for _ in range(self.repetitions)]
                kept = {key: [row[key] for row in rows] for key in rows[0]}
                notes |= dict.fromkeys(bench.notes)
                point = BenchmarkPoint(
                    model=str(name),
                    baseline=baseline,
                    epsilon=epsilon,
                    figures={key: Measured.of(values) for key, values in kept.items()},
                )
                points.append(point)
                if on_point is not None:
                    on_point(point)
        return BenchmarkResult(
            points=with_frontier(points, metrics[0]),
            utility_metric=metrics[0],
            notes=tuple(notes),
        )

    def evaluate_privacy_guarantees(
        self, trained_model: Any, training_history: TrainingHistory, privacy_config: PrivacyConfig
    ) -> PrivacyEvaluationResult:
        """Recompute what a run costs, and set an audit's lower bound beside it where there is one.

        Raises:
            ValidationImpossible: the history holds no finished run.
        """
        method = "mathematical_proof" if training_history.audit is None else "both"
        found = PrivacyValidator().validate_privacy_guarantees(
            trained_model, training_history, privacy_config, method
        )
        return PrivacyEvaluationResult(
            theoretical_epsilon=found.theoretical_epsilon,
            empirical_epsilon=found.empirical_epsilon_bound,
            delta=found.delta,
            verified=found.guarantee_verified,
            findings=tuple(found.findings),
            faults=tuple(found.faults),
        )

    def membership_inference_test(
        self,
        model: Any,
        member_data: Source,
        non_member_data: Source,
        *,
        tokenizer: Any = None,
        reference: Any = None,
        **options: Any,
    ) -> MembershipInferenceResult:
        """Every membership attack that the material allows; see `attacks.membership_inference`.

        Args:
            model: the attacked causal language model.
            member_data: records that it was trained on.
            non_member_data: records of the same source that it was not trained on.
            tokenizer: by default the one saved where the model came from.
            reference: the model before fine-tuning: the strongest cheap attack needs it.
            **options: `shadows`, `population`, `seed`, `confidence`, `progress`.
        """
        return membership_inference(
            model,
            tokenizer_of(model, tokenizer),
            texts_of(member_data),
            texts_of(non_member_data),
            reference=reference,
            **options,
        )

    def model_inversion_test(
        self,
        model: Any,
        target_samples: Sequence[Any],
        *,
        tokenizer: Any = None,
        base: Any = None,
        unseen: Source | Sequence[AttributeRecord] | None = None,
        **options: Any,
    ) -> ModelInversionResult:
        """What comes out of the model, above the base model and above unseen records.

        Args:
            model: the attacked causal language model; a classifier for attribute records.
            target_samples: training records, their texts, or `inversion.AttributeRecord`s.
            tokenizer: by default the one saved where the model came from.
            base: the model before fine-tuning.
            unseen: records of the same source that nobody trained on.
            **options: of `model_inversion.model_inversion`: `secrets`, `detector`, `values`,
                `prefix_tokens`, `suffix_tokens`, `sampling`, ...
        """
        return model_inversion(
            model,
            tokenizer_of(model, tokenizer),
            _samples(target_samples),
            base=base,
            unseen=() if unseen is None else _samples(unseen),
            **options,
        )

    def _budgets(self, epsilons: Sequence[float]) -> list[tuple[str, float]]:
        budgets: list[tuple[str, float]] = []
        if "dp_sgd" in self.baseline_models:
            budgets += [("dp_sgd", float(epsilon)) for epsilon in sorted(set(epsilons))]
        if "standard_sgd" in self.baseline_models:
            budgets.append(("standard_sgd", math.inf))
        if not budgets:
            raise ConfigurationError("privacy_budgets is empty; nothing was trained")
        return budgets


def _samples(source: Any) -> Any:
    """Attribute records as they are, everything else as texts."""
    if isinstance(source, list | tuple) and any(isinstance(x, AttributeRecord) for x in source):
        return source
    return texts_of(source)


def _known(
    name: str, given: Sequence[str] | None, usual: Sequence[str], known: Sequence[str]
) -> tuple[str, ...]:
    values = tuple(usual if given is None else given)
    for value in values:
        if value not in known:
            raise ConfigurationError(f"{name} has {value!r}, expected some of {', '.join(known)}")
    return values
