"""How good a model is on a data set: exactly, or released with noise.

Shapes: B examples of a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import EvalPrediction

from privacy_core.accounting import calibrate_noise_multiplier
from privacy_core.dp_events import DpEvent, Gaussian
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.options import ComputeMetrics, TrainOptions
from privacy_finetuner.results import EvaluationResult, PrivacySpent
from privacy_finetuner.training import inputs
from privacy_finetuner.training.datasets import TokenizedDataset
from privacy_finetuner.training.models import LoadedModel
from privacy_finetuner.training.noise import ROUNDING_MARGIN, GaussianNoise
from privacy_finetuner.training.objectives import IGNORED, Objective, causal_lm_scores
from privacy_runtime.world import Entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Means over a data set. `loss` is per token for language models, per example otherwise."""

    loss: float
    accuracy: float
    examples: int
    loss_std: float = 0.0
    accuracy_std: float = 0.0

    @property
    def perplexity(self) -> float:
        """exp(loss), infinite where it overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


@torch.no_grad()
def exact_scores(
    loaded: LoadedModel, dataset: TokenizedDataset, objective: Objective, *, max_tokens: int
) -> Scores:
    """Score a model exactly. The figures are about the records as they are: no guarantee.

    Language models: mean loss and accuracy over all supervised tokens of the set.
    """
    loss = accuracy = weight = 0.0
    for piece in _passes(loaded, dataset, max_tokens):
        if objective.task == "causal_lm":
            losses_B, hits_B, tokens_B = causal_lm_scores(loaded.model, piece)
        else:
            losses_B, hits_B = objective(loaded.model, piece)
            tokens_B = torch.ones_like(losses_B)
        loss += float((losses_B.double() * tokens_B).sum())
        accuracy += float((hits_B.double() * tokens_B).sum())
        weight += float(tokens_B.sum())
    if weight == 0:
        return Scores(loss=math.nan, accuracy=math.nan, examples=len(dataset))
    return Scores(loss=loss / weight, accuracy=accuracy / weight, examples=len(dataset))


@torch.no_grad()
def released_scores(
    loaded: LoadedModel,
    dataset: TokenizedDataset,
    objective: Objective,
    *,
    noise: GaussianNoise,
    noise_multiplier: float,
    max_tokens: int,
) -> Scores:
    """Score a model with noise: one Gaussian release of (mean loss, mean accuracy).

    Guarantee: one example changes the released vector by at most 1 in L2 before the noise: it
    enters as (min(loss, cap) / cap, accuracy) / sqrt(2). The number of examples is public. Each
    example's loss is the mean over its own tokens.
    """
    sums_2 = torch.zeros(2, dtype=torch.float64)
    for piece in _passes(loaded, dataset, max_tokens):
        losses_B, hits_B = objective(loaded.model, piece)
        capped_B = torch.nan_to_num(losses_B / objective.loss_cap, nan=1.0).clamp(0.0, 1.0)
        rows_B2 = torch.stack([capped_B, hits_B.clamp(0.0, 1.0)], dim=1).double()
        sums_2 += rows_B2.sum(dim=0).cpu() / math.sqrt(2)
    (noisy_2,) = noise.privatize([sums_2], sensitivity=1.0, noise_multiplier=noise_multiplier)
    count = len(dataset)
    loss, accuracy = (float(value) * math.sqrt(2) / count for value in noisy_2)
    std = noise_multiplier * (1 + ROUNDING_MARGIN) * math.sqrt(2) / count
    return Scores(
        loss=max(loss, 0.0) * objective.loss_cap,
        accuracy=min(max(accuracy, 0.0), 1.0),
        examples=count,
        loss_std=std * objective.loss_cap,
        accuracy_std=std,
    )


def exact_evaluation(
    loaded: LoadedModel,
    dataset: TokenizedDataset,
    *,
    max_tokens: int,
    compute_metrics: ComputeMetrics | None = None,
) -> EvaluationResult:
    """Exact metrics, marked as outside the guarantee, with those of a caller's function."""
    objective = objective_of(loaded, dataset)
    scores = exact_scores(loaded, dataset, objective, max_tokens=max_tokens)
    result = _result(scores, objective, PrivacySpent(epsilon=0.0, delta=0.0), outside=True)
    if compute_metrics is None:
        return result
    predictions = all_logits(loaded, dataset, max_tokens=max_tokens)
    return replace(result, metrics=dict(compute_metrics(predictions)))


@torch.no_grad()
def all_logits(
    loaded: LoadedModel, dataset: TokenizedDataset, *, max_tokens: int
) -> EvalPrediction:
    """Logits and labels of all examples, in order, as `transformers.Trainer` hands them over.

    Language models: (N, T, V) logits and (N, T) labels, padded with `IGNORED` to the longest
    example; position t predicts token t + 1. That is N T V numbers at once: use few records.
    """
    order = np.concatenate(list(dataset.micro_batches(range(len(dataset)), max_tokens=max_tokens)))
    longest = int(dataset.lengths.max())
    logits: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    for piece in _passes(loaded, dataset, max_tokens):
        output = loaded.model(input_ids=piece["input_ids"], attention_mask=piece["attention_mask"])
        logits_B, labels_B = output.logits.float(), piece["labels"]
        if dataset.task == "causal_lm":
            missing = longest - labels_B.shape[1]
            logits_B = functional.pad(logits_B, (0, 0, 0, missing), value=IGNORED)
            labels_B = functional.pad(labels_B, (0, missing), value=IGNORED)
        logits.append(logits_B)
        labels.append(labels_B)
    back = np.argsort(order)
    return EvalPrediction(
        predictions=torch.cat(logits).cpu().numpy()[back],
        label_ids=torch.cat(labels).cpu().numpy()[back],
    )


def released_evaluation(  # noqa: PLR0913 -- keyword-only but for what is scored and its price
    loaded: LoadedModel,
    dataset: TokenizedDataset,
    epsilon: float,
    delta: float,
    *,
    entropy: Entropy,
    max_tokens: int,
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
    examples_per_unit: int = 1,
    charged: Callable[[DpEvent], AbstractContextManager[None]] | None = None,
) -> tuple[EvaluationResult, DpEvent]:
    """Metrics released with the noise that `epsilon` and `delta` ask for, and the event.

    `charged(event)` is entered before a record is looked at, and left before anybody sees a figure.
    """
    multiplier = calibrate_noise_multiplier(
        epsilon=epsilon,
        delta=delta,
        sample_rate=1.0,
        steps=1,
        accountant="gdp",
        relation=relation,
    )
    event = Gaussian(multiplier)
    objective = objective_of(loaded, dataset)
    with nullcontext() if charged is None else charged(event):
        scores = released_scores(
            loaded,
            dataset,
            objective,
            noise=GaussianNoise.secure(entropy),
            noise_multiplier=multiplier * examples_per_unit,
            max_tokens=max_tokens,
        )
    spent = PrivacySpent(epsilon=epsilon, delta=delta)
    return _result(scores, objective, spent, outside=False), event


def public_evaluation(
    options: TrainOptions, loaded: LoadedModel
) -> Callable[[], dict[str, Any]] | None:
    """A function that scores the *public* records of `eval_dataset`, or `None` without them."""
    if options.eval_dataset is None:
        return None
    dataset = inputs.read_data(options.eval_dataset, options, loaded)

    def evaluate() -> dict[str, Any]:
        result = exact_evaluation(
            loaded,
            dataset,
            max_tokens=options.micro_batch_tokens,
            compute_metrics=options.compute_metrics,
        )
        loaded.model.train()
        scores = result.to_dict()
        return {**scores.pop("metrics"), **scores}

    return evaluate


@torch.no_grad()
def example_losses(
    loaded: LoadedModel, dataset: TokenizedDataset, *, max_tokens: int
) -> NDArray[np.float64]:
    """The loss of each example, in the order of the data set. Outside any guarantee.

    This is what an attacker who can query the model's probabilities sees.
    """
    objective = objective_of(loaded, dataset)
    loaded.model.eval()
    losses = np.empty(len(dataset))
    for piece in dataset.micro_batches(range(len(dataset)), max_tokens=max_tokens):
        batch = {name: t.to(loaded.device) for name, t in dataset.batch(piece).items()}
        losses[piece] = objective(loaded.model, batch)[0].double().cpu().numpy()
    return losses


def objective_of(loaded: LoadedModel, dataset: TokenizedDataset) -> Objective:
    """The per-example loss of a task on a model."""
    if dataset.task == "causal_lm":
        return Objective("causal_lm", loaded.model.config.vocab_size)
    return Objective("sequence_classification", len(dataset.label_names))


def _result(
    scores: Scores, objective: Objective, spent: PrivacySpent, *, outside: bool
) -> EvaluationResult:
    return EvaluationResult(
        accuracy=scores.accuracy,
        loss=scores.loss,
        perplexity=scores.perplexity if objective.task == "causal_lm" else None,
        examples=scores.examples,
        outside_guarantee=outside,
        privacy_spent=spent,
        accuracy_std=scores.accuracy_std,
        loss_std=scores.loss_std,
    )


def _passes(
    loaded: LoadedModel, dataset: TokenizedDataset, max_tokens: int
) -> list[dict[str, torch.Tensor]]:
    loaded.model.eval()
    everyone = range(len(dataset))
    return [
        {name: t.to(loaded.device) for name, t in dataset.batch(piece).items()}
        for piece in dataset.micro_batches(everyone, max_tokens=max_tokens)
    ]
