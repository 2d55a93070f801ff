"""A caller's function over logits and labels, as `transformers.Trainer` has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import EvalPrediction

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.errors import ConfigurationError

RECORDS = [{"text": "ab" * (i % 7 + 1)} for i in range(20)]


def token_accuracy(predicted: EvalPrediction) -> dict[str, float]:
    guesses, labels = predicted.predictions.argmax(-1)[:, :-1], predicted.label_ids[:, 1:]
    learned = labels != -100
    return {"token_accuracy": float((guesses == labels)[learned].mean())}


@pytest.fixture
def trainer(llama_folder: Path) -> PrivateTrainer:
    return PrivateTrainer(str(llama_folder), PrivacyConfig(), device="cpu")


@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_it_sees_every_record_once_in_order(trainer: PrivateTrainer, batch_size: int) -> None:
    seen: list[EvalPrediction] = []

    def count(predicted: EvalPrediction) -> dict[str, int]:
        seen.append(predicted)
        return {"records": len(predicted.label_ids)}

    result = trainer.evaluate(
        RECORDS, batch_size=batch_size, privacy_safe=False, compute_metrics=count
    )
    assert result.metrics == {"records": 20}
    lengths = (seen[0].label_ids != -100).sum(axis=1)
    assert np.array_equal(np.argsort(lengths[:7]), np.arange(7))
    assert seen[0].predictions.shape[:2] == seen[0].label_ids.shape


def test_its_accuracy_is_ours(trainer: PrivateTrainer) -> None:
    result = trainer.evaluate(RECORDS, privacy_safe=False, compute_metrics=token_accuracy)
    assert result.metrics["token_accuracy"] == pytest.approx(result.accuracy, abs=1e-12)
    assert result.outside_guarantee


def test_private_records_have_no_price_for_it(trainer: PrivateTrainer) -> None:
    with pytest.raises(ConfigurationError, match=r"no price.*nothing was computed"):
        trainer.evaluate(RECORDS, compute_metrics=token_accuracy)


def test_scores_of_public_records_are_in_the_history(
    trainer: PrivateTrainer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"eval_dataset": RECORDS[:3], "compute_metrics": token_accuracy}
    result = trainer.train(
        RECORDS, epochs=1, batch_size=10, eval_steps=2, output_dir=str(tmp_path), **options
    )
    (scores,) = result.training_history.evaluations
    assert 0 <= scores["token_accuracy"] <= 1
