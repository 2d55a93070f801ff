"""Habits from `transformers.Trainer`: a model object, callbacks, metrics, early stopping.

    python examples/callbacks.py --output runs/callbacks

A callback sees what is public or released: figures with noise, and scores on public records. It
never sees a batch, an unclipped gradient or an exact loss.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    EarlyStoppingCallback,
    TrainerCallback,
)

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.demo import ASSETS


class Shown(TrainerCallback):
    """Prints what it is told."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
        """Released figures, after each epoch."""
        print(f"step {state.global_step:3}  released loss {logs['loss']:.2f}")

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> None:
        """Exact scores on the public records."""
        print(
            f"step {state.global_step:3}  public loss {metrics['eval_loss']:.3f}, "
            f"certainty {metrics['eval_certainty']:.2f}"
        )


def certainty(prediction: Any) -> dict[str, float]:
    """A figure of one's own, from all logits of the public records at once."""
    logits = prediction.predictions
    return {"certainty": float((logits.max(-1) - logits.mean(-1)).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/callbacks"))
    asked = parser.parse_args()
    with (ASSETS / "records.jsonl").open() as lines:
        records = [json.loads(line) for line in islice(lines, 260)]
    private, public = records[:200], records[200:]  # the sample is invented: all of it is public

    trainer = PrivateTrainer(
        AutoModelForCausalLM.from_pretrained(ASSETS / "model"),
        PrivacyConfig(epsilon=8.0, delta=1e-4, accounting_mode="pld"),
        tokenizer=AutoTokenizer.from_pretrained(ASSETS / "model"),
        enable_context_guard=False,
    )
    # Two public evaluations in a row that gain less than 0.5: stop.
    enough = EarlyStoppingCallback(early_stopping_patience=2, early_stopping_threshold=0.5)
    result = trainer.train(
        private,
        epochs=6,
        batch_size=50,
        learning_rate="auto",
        max_length=64,
        eval_dataset=public,
        eval_steps=4,
        callbacks=[Shown, enough],
        compute_metrics=certainty,
        metric_for_best_model="loss",
        output_dir=str(asked.output),
    )
    print(
        f"{result.steps} of 24 steps; a stop that may follow from releases costs the whole plan: "
        f"epsilon {result.privacy_spent.epsilon:.3f}"
    )


if __name__ == "__main__":
    main()
