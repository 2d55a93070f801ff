"""Private runs on the shipped sample: `python -m privacy_finetuner.operations.drills.tiny_run`.

Reads lines of `{"seed", "flipped"}` and answers each with what the run released last. A run
fine-tunes the shipped model to tell conversations from notes: 512 records, two epochs, epsilon 8.
torch is loaded here, in a process of its own; it ends when its standard input does.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.operations.drills.sandbox import SAMPLE
from privacy_finetuner.trainer import PrivateTrainer
from privacy_runtime.keystream import KeyStream
from privacy_runtime.world import Clock, SystemClock

_RECORDS: Final = 512
_LETTERS: Final = 120
_KINDS: Final = ("note", "conversation")


def main() -> int:
    """Run what standard input asks for; returns the exit code."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        wish = json.loads(line)
        answers.write(json.dumps(_released(wish["seed"], wish["flipped"], SystemClock())) + "\n")
        answers.flush()
    return 0


def labelled(seed: int, flipped: float) -> list[dict[str, str]]:
    """Sample records with their kind as a label; each label is wrong with probability `flipped`."""
    chance = KeyStream(hashlib.sha256(f"tiny run {seed}".encode()).digest())
    with (SAMPLE / "records.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    rows = []
    taken = chance.uniforms(len(texts)).argsort()[:_RECORDS]
    for place, coin in zip(taken, chance.uniforms(_RECORDS), strict=True):
        text = texts[place]
        is_conversation = text.startswith("DR:") != bool(coin < flipped)
        rows.append({"text": text[:_LETTERS], "label": _KINDS[is_conversation]})
    return rows


def _released(seed: int, flipped: float, clock: Clock) -> dict[str, Any]:
    """Train once, and return the last released figures."""
    begun_s = clock.monotonic_s()
    config = PrivacyConfig(epsilon=8.0, delta=1e-5)
    trainer = PrivateTrainer(str(SAMPLE / "model"), config, enable_context_guard=False)
    with TemporaryDirectory() as folder:
        trainer.train(
            labelled(seed, flipped),
            epochs=2,
            batch_size=128,
            learning_rate=8e-3,
            output_dir=str(Path(folder) / "run"),
            task="sequence_classification",
            max_length=32,
        )
        last = trainer.history.epochs[-1]
    return {
        "accuracy": last.accuracy,
        "accuracy_std": last.accuracy_std,
        "mean_gradient_norm": last.mean_gradient_norm,
        "mean_gradient_norm_std": last.mean_gradient_norm_std,
        "clip_norm": last.clip_norm,
        "epsilon": last.epsilon,
        "duration_s": clock.monotonic_s() - begun_s,
    }


if __name__ == "__main__":
    sys.exit(main())
