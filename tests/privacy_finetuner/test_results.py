from __future__ import annotations

import json
from typing import Any

from privacy_core.guarantee import Guarantee
from privacy_finetuner.results import (
    EpochRecord,
    PrivacySpent,
    TrainingHistory,
    TrainingResult,
)

EPOCH = EpochRecord(
    epoch=1, step=4, epsilon=0.5, loss=1.0, loss_std=0.1, accuracy=0.25, accuracy_std=0.1,
    mean_gradient_norm=1.0, mean_gradient_norm_std=0.1, clipping_rate=None,
    clipping_rate_std=None, clip_norm=0.7,
)  # fmt: skip


def result() -> TrainingResult:
    return TrainingResult(
        final_model=None,  # type: ignore[arg-type]  # no model is needed to describe a run
        training_history=TrainingHistory([EPOCH]),
        privacy_spent=PrivacySpent(epsilon=0.5, delta=1e-5),
        checkpoints=["out/checkpoint-4"],
        output_dir="out",
        job_id="a",
        steps=4,
        sample_rate=0.25,
        noise_multiplier=1.0,
        clip_norm=0.7,
        guarantee=Guarantee(epsilon=0.5, delta=1e-5),
        duration_s=1.0,
        engine="loop",
        examples=16,
        truncated=3,
        dropped=2,
        unsupervised=1,
    )


def test_a_history_reads_as_lists() -> None:
    history = result().training_history
    assert (history.loss, history.accuracy, history.epsilon, history.clip_norm) == (
        [1.0],
        [0.25],
        [0.5],
        [0.7],
    )


def test_a_written_result_leaves_exact_counts_out_unless_they_are_asked_for() -> None:
    document: dict[str, Any] = json.loads(json.dumps(result().to_dict()))
    assert {"truncated", "dropped", "unsupervised", "outside_guarantee"}.isdisjoint(document)
    assert {
        "epsilon", "delta", "noise_multiplier", "steps", "sample_rate", "clip_norm", "output",
        "relation", "unit",
    } <= set(document)  # fmt: skip
    asked = result().to_dict(include_outside_guarantee=True)["outside_guarantee"]
    assert asked == {"truncated": 3, "dropped": 2, "unsupervised": 1}
