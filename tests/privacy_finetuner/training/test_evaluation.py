from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from privacy_core.accounting import epsilon_of
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.training.datasets import TokenizedDataset, tokenize
from privacy_finetuner.training.evaluation import (
    exact_evaluation,
    objective_of,
    released_evaluation,
    released_scores,
)
from privacy_finetuner.training.models import LoadedModel, adopt_model
from privacy_finetuner.training.noise import GaussianNoise
from privacy_finetuner.training.records import read_records
from privacy_runtime.testing import SeededEntropy


@pytest.fixture(scope="module")
def loaded(make_model: Any, byte_tokenizer: Any) -> LoadedModel:
    return adopt_model(make_model("llama", vocabulary=259), byte_tokenizer, device="cpu")


def data(loaded: LoadedModel, count: int = 12) -> TokenizedDataset:
    rows = [{"text": "ab" * (i % 5 + 1)} for i in range(count)]
    return tokenize(read_records(rows), loaded.tokenizer, max_length=32, task="causal_lm")


def test_the_exact_loss_is_that_of_all_tokens_together(loaded: LoadedModel) -> None:
    dataset = data(loaded)
    result = exact_evaluation(loaded, dataset, max_tokens=20)
    total, tokens = 0.0, 0
    with torch.no_grad():
        for i in range(len(dataset)):
            batch = dataset.batch([i])
            count = int((batch["labels"][:, 1:] != -100).sum())
            total += float(loaded.model(**batch).loss) * count
            tokens += count
    assert result.loss == pytest.approx(total / tokens, rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(total / tokens), rel=1e-5)
    assert result.outside_guarantee


@pytest.mark.parametrize("relation", list(NeighbouringRelation))
def test_a_released_score_costs_what_it_says(
    relation: NeighbouringRelation, loaded: LoadedModel
) -> None:
    result, event = released_evaluation(
        loaded, data(loaded), 0.5, 1e-5, entropy=SeededEntropy(0), max_tokens=64, relation=relation
    )
    assert epsilon_of(event, 1e-5, "pld", relation=relation) <= 0.5
    assert epsilon_of(event, 1e-5, "gdp", relation=relation) > 0.49
    assert not result.outside_guarantee
    assert result.privacy_spent.epsilon == 0.5


def test_the_released_scores_have_the_stated_spread(loaded: LoadedModel) -> None:
    """60 releases; two-sided chi-square, false alarm 1e-7."""
    from scipy import stats

    dataset = data(loaded, 100)
    objective = objective_of(loaded, dataset)
    noise = GaussianNoise.secure(SeededEntropy(1))
    scores = [
        released_scores(
            loaded, dataset, objective,
            noise=noise, noise_multiplier=2.0, max_tokens=8192,
        )
        for _ in range(60)
    ]  # fmt: skip
    losses = torch.tensor([s.loss for s in scores], dtype=torch.float64)
    low, high = stats.chi2.ppf([5e-8, 1 - 5e-8], df=len(scores) - 1)
    assert low < float((losses - losses.mean()).square().sum()) / scores[0].loss_std ** 2 < high


def test_one_example_moves_a_released_sum_by_at_most_one(loaded: LoadedModel) -> None:
    """Also one with a loss far above the cap: weights a thousand times too large."""
    dataset = data(loaded, 1)
    objective = objective_of(loaded, dataset)
    with torch.no_grad():
        loaded.model.lm_head.weight.mul_(1e4)
    try:
        scores = released_scores(
            loaded, dataset, objective, noise=GaussianNoise.secure(SeededEntropy(2)),
            noise_multiplier=1e-6, max_tokens=64,
        )  # fmt: skip
    finally:
        with torch.no_grad():
            loaded.model.lm_head.weight.div_(1e4)
    assert scores.loss <= objective.loss_cap * (1 + 1e-4)
    assert 0 <= scores.accuracy <= 1
