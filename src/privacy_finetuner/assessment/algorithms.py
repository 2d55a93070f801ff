"""`NovelAlgorithms`: the documented face of budget shares, hybrid techniques, and trade-offs.

Each method stands on a room of its own: `privacy_core.accounting.shares`, `hybrid`, `optimization`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from privacy_core.accounting.shares import Composition, epsilon_shares
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import Source
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

if TYPE_CHECKING:
    from torch import Tensor

    from privacy_finetuner.assessment.hybrid import HybridPrivacyResult
    from privacy_finetuner.assessment.optimization import (
        OptimizationResult,
        PrivacyConstraints,
        Tradeoff,
    )

ALGORITHM_TYPES: Final = ("adaptive_dp", "hybrid", "federated_dp")
TARGETS: Final = ("privacy_utility_tradeoff", "privacy", "utility")


class NovelAlgorithms:
    """Budgets divided by sensitivity, techniques combined, utility weighed against privacy.

    Args:
        algorithm_type: `federated_dp` divides budgets among silos, whose people are disjoint
            (parallel composition); `adaptive_dp` and `hybrid` among batches that anybody may be in.
        optimization_target: which model `privacy_utility_optimization` recommends where no least
            utility is asked for: `utility` the most useful, `privacy` the one of least epsilon,
            `privacy_utility_tradeoff` the one of least epsilon whose interval reaches that of the
            most useful.
        clock: the outside world; only tests replace it.
        entropy: likewise.

    Raises:
        ConfigurationError: an unknown name.
    """

    def __init__(
        self,
        algorithm_type: str = "adaptive_dp",
        optimization_target: str = "privacy_utility_tradeoff",
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        for name, value, known in (
            ("algorithm_type", algorithm_type, ALGORITHM_TYPES),
            ("optimization_target", optimization_target, TARGETS),
        ):
            if value not in known:
                raise ConfigurationError(f"{name} is {value!r}, expected one of {', '.join(known)}")
        self.algorithm_type = algorithm_type
        self.optimization_target = optimization_target
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()

    def adaptive_privacy_budget_allocation(
        self,
        data_sensitivity_scores: Sequence[float],
        total_epsilon: float,
        allocation_strategy: str = "sensitivity_aware",
        *,
        scores_are: Literal["public", "released"] = "public",
        composition: str | None = None,
        delta: float | None = None,
    ) -> list[float]:
        """Divide an epsilon among batches: the more sensitive, the less.

        Guarantee: the shares compose to `total_epsilon`; see `epsilon_shares`. With the default
        composition they add up to it exactly.

        Args:
            data_sensitivity_scores: one for each batch, in [0, 1].
            total_epsilon: > 0.
            allocation_strategy: see `privacy_core.accounting.shares.Allocation`.
            scores_are: `public`, or `released` by a mechanism that was paid for. Scores that were
                computed from private data and paid for by nobody would tell about it through the
                shares.
            composition: `basic`, `gaussian` or `parallel`; `None` follows `algorithm_type`.
            delta: of `gaussian`.

        Raises:
            ConfigurationError: the scores are neither.
            InvalidParameter: a number is outside its domain.
        """
        if scores_are not in ("public", "released"):
            raise ConfigurationError(
                f"scores_are is {scores_are!r}, expected 'public' or 'released': release private "
                "scores first, for example with privacy_core.mechanisms.BoundedMean"
            )
        if composition is None:
            is_federated = self.algorithm_type == "federated_dp"
            composition = Composition.PARALLEL if is_federated else Composition.BASIC
        return list(
            epsilon_shares(
                data_sensitivity_scores,
                total_epsilon,
                allocation=allocation_strategy,
                composition=composition,
                delta=delta,
            )
        )

    def hybrid_privacy_mechanism(
        self,
        data: Tensor,
        privacy_techniques: Sequence[str] = ("dp", "k_anonymity", "homomorphic"),
        technique_weights: Sequence[float] | None = None,
        **numbers: Any,
    ) -> HybridPrivacyResult:
        """Protect a tensor of one row a contributor by several techniques, each stated apart.

        Args:
            data: [contributors, numbers].
            privacy_techniques: of `dp`, `k_anonymity`, `homomorphic`.
            technique_weights: how the budget is divided among those that spend it.
            **numbers: see `hybrid.HybridSettings`: `epsilon`, `delta`, `kind`, `clip_norm`,
                `minimum_contributors`, `bounds`.

        Raises:
            ConfigurationError: the request contradicts itself; nothing was released.
            TooFewContributors: nothing of the sum was released.
            TypeError: an unknown keyword.
        """
        from privacy_finetuner.assessment.hybrid import HybridSettings, apply_techniques

        settings = HybridSettings(**numbers)
        return apply_techniques(
            data, privacy_techniques, technique_weights, settings, self._entropy
        )

    def privacy_utility_optimization(  # noqa: PLR0913 -- the documented four, and keywords
        self,
        model: Any,
        dataset: Source,
        privacy_constraints: PrivacyConstraints,
        utility_metric: str = "accuracy",
        *,
        tokenizer: Any = None,
        public_dataset: Source | None = None,
        output_dir: str | Path = "./privacy_utility",
        device: str = "auto",
        on_point: Callable[[Tradeoff], None] | None = None,
        **training: Any,
    ) -> OptimizationResult:
        """Train at several budgets, score, and recommend one; the whole costs `max_epsilon`.

        Args:
            model: a name, a folder, or a model object with its `tokenizer`.
            dataset: private records.
            privacy_constraints: what may be spent, and the least utility.
            utility_metric: `accuracy`; a loss would have no interval.
            tokenizer: of a model object; by default the one saved where it came from.
            public_dataset: score on these for nothing, instead of on private records held out.
            output_dir: a folder for each model.
            device: as of `PrivateTrainer`.
            on_point: called after each training.
            **training: keywords of `PrivateTrainer.train`.

        Raises:
            ConfigurationError, DatasetError: nothing was spent.
        """
        from privacy_finetuner.assessment.benchmark_runs import tokenizer_of
        from privacy_finetuner.assessment.optimization import Comparison, compare

        comparison = Comparison(
            model=model,
            tokenizer=tokenizer_of(model, tokenizer),
            dataset=dataset,
            constraints=privacy_constraints,
            metric=utility_metric,
            public_dataset=public_dataset,
            training=training,
            folder=Path(output_dir),
            device=device,
            target=self.optimization_target,
        )
        return compare(comparison, entropy=self._entropy, clock=self._clock, on_point=on_point)
