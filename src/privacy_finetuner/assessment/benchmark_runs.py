"""One training of a benchmark: on a copy, with or without privacy, scored exactly."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from privacy_finetuner.assessment.attacks import membership_inference
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import Source, TrainOptions
from privacy_finetuner.trainer import PrivateTrainer
from privacy_finetuner.training import inputs
from privacy_finetuner.training.baseline import fine_tune_without_privacy
from privacy_finetuner.training.records import read_records
from privacy_runtime.world import Clock, Entropy


@dataclass(slots=True, kw_only=True)
class Bench:
    """One benchmark: what stays the same from training to training."""

    train: list[Any]
    test: list[Any]
    metrics: tuple[str, ...]
    extras: tuple[str, ...]
    training: Mapping[str, Any]
    device: str
    delta: float
    clock: Clock
    entropy: Entropy
    notes: list[str] = field(default_factory=list)

    def run(self, model: Any, tokenizer: Any, epsilon: float) -> dict[str, float]:
        """Train a copy and measure it."""
        private = math.isfinite(epsilon)
        trainer = PrivateTrainer(
            model if isinstance(model, str | Path) else copy.deepcopy(model),
            PrivacyConfig(epsilon=epsilon if private else 1.0, delta=self.delta),
            self.device,
            enable_context_guard=False,
            tokenizer=None if isinstance(model, str | Path) else tokenizer,
            clock=self.clock,
            entropy=self.entropy,
        )
        start = self.clock.monotonic_s()
        with tempfile.TemporaryDirectory() as place:
            if private:
                trainer.train(self.train, output_dir=place, **self.training)
            else:
                self._train_plainly(trainer)
        took = self.clock.monotonic_s() - start
        row = self._scores(trainer)
        if "training_time" in self.extras:
            row["training_time"] = took
        if "privacy_leakage" in self.extras:
            row["privacy_leakage"] = self._leakage(trainer, model, tokenizer)
        return row

    def _train_plainly(self, trainer: Any) -> None:
        known = {"epochs": 3, "batch_size": 8, "learning_rate": 5e-5}
        numbers = {name: self.training.get(name, usual) for name, usual in known.items()}
        if numbers["learning_rate"] == "auto":
            numbers["learning_rate"] = known["learning_rate"]
            self.notes.append(
                "learning_rate 'auto' follows the noise: without privacy 5e-05 is used"
            )
        rest = {n: v for n, v in self.training.items() if n in ("optimizer", "max_length")}
        options = TrainOptions(**rest)
        loaded, data = inputs.prepare(
            self.train,
            options,
            model_name=trainer.model_name,
            adopted=trainer._loaded,
            device=self.device,
        )
        training = TrainingConfig(**numbers, **rest)
        fine_tune_without_privacy(loaded, data, training, entropy=self.entropy)
        loaded.model.eval()
        trainer._loaded = loaded

    def _scores(self, trainer: Any) -> dict[str, float]:
        is_classifier = trainer._model(None).task == "sequence_classification"
        wants_f1 = "f1_score" in (*self.metrics, *self.extras)
        if wants_f1 and not is_classifier:
            self.notes.append("f1_score is of classes: left out for a language model")
        found = trainer.evaluate(
            self.test,
            privacy_safe=False,
            **({"compute_metrics": _macro_f1} if wants_f1 and is_classifier else {}),
        )
        row = {"accuracy": found.accuracy, "loss": found.loss}
        if wants_f1 and is_classifier:
            row["f1_score"] = found.metrics["f1_score"]
        asked = (*self.metrics, *self.extras)
        return {name: value for name, value in row.items() if name in asked}

    def _leakage(self, trainer: Any, model: Any, tokenizer: Any) -> float:
        """The AUC of the best attack; half where none beats a coin."""
        loaded = trainer._model(None)
        if loaded.task != "causal_lm":
            raise ConfigurationError("privacy_leakage attacks causal language models only")
        base = model
        if isinstance(model, str | Path):
            base = inputs.load(str(model), device=self.device, task="causal_lm").model
        found = membership_inference(
            loaded.model,
            tokenizer or loaded.tokenizer,
            texts_of(self.train),
            texts_of(self.test),
            reference=base,
        )
        self.notes += [f"privacy_leakage is void: {reason}" for reason in found.void_reasons]
        return max(0.5, *(attack.auc.estimate for attack in found.attacks))


def _macro_f1(predictions: Any) -> dict[str, float]:
    """The mean over classes of 2 TP / (2 TP + FP + FN); a class that never occurs has none."""
    chosen, true = predictions.predictions.argmax(axis=-1), predictions.label_ids
    scores = []
    for label in np.unique(np.concatenate([chosen, true])):
        hits = int(np.sum((chosen == label) & (true == label)))
        misses = int(np.sum((chosen == label) ^ (true == label)))
        scores.append(2 * hits / (2 * hits + misses))
    return {"f1_score": float(np.mean(scores))}


def tokenizer_of(model: Any, tokenizer: Any) -> Any:
    """The tokenizer given, or the one saved where the model came from."""
    if tokenizer is not None or isinstance(model, str | Path):
        return tokenizer
    place = getattr(model, "name_or_path", "")
    if not place:
        raise ConfigurationError(
            f"a {type(model).__name__} object that came from no folder needs tokenizer=..."
        )
    return AutoTokenizer.from_pretrained(place)


def texts_of(source: Source) -> list[str]:
    """The texts of records, or texts as they are."""
    if isinstance(source, list | tuple) and all(isinstance(item, str) for item in source):
        return list(source)
    return [str(row["text"]) for row in read_records(source).rows]
