"""The process of a watched training: `python -m privacy_finetuner.recovery.watched_run FOLDER`.

It recovers from nothing by itself: that is the guard's part. `--injury not_finite` sets a trained
weight to NaN, `--injury out_of_memory` ends its address space, both at a step on the way.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback

from pipeline_guard.model import Fault
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.demo import ASSETS
from privacy_finetuner.recovery.injuries import break_weights, exhaust_memory
from privacy_finetuner.recovery.rehearsal import ACCOUNT, DELTA, EPSILON
from privacy_finetuner.trainer import PrivateTrainer

_STEP: Final = 12
_EPOCHS: Final = 15
_RECORDS: Final = 64
_BATCH: Final = 16
_SAVE_STEPS: Final = 5
_INJURIES: Final = (Fault.NOT_FINITE, Fault.OUT_OF_MEMORY)


class Injury(TrainerCallback):  # type: ignore[misc]  # transformers is not checked
    """Hurts the training once, at a step.

    Args:
        fault: how.
    """

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> Any:
        """Do it when it is time."""
        if state.global_step == _STEP:
            if self._fault is Fault.NOT_FINITE:
                break_weights(model)
            else:
                exhaust_memory()
        return control


def main(arguments: list[str] | None = None) -> int:
    """Train; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--injury", type=Fault, choices=_INJURIES)
    parser.add_argument("--micro-batch-tokens", type=int, default=512)
    asked = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    trainer = PrivateTrainer(
        ASSETS / "model",
        PrivacyConfig(epsilon=EPSILON, delta=DELTA),
        device="cpu",
        use_mcp_gateway=False,
        enable_context_guard=False,
        ledger=asked.folder / "books" / "ledger.db",
        account="/".join(ACCOUNT),
    )
    with (ASSETS / "records.jsonl").open() as lines:
        records = [json.loads(line) for _, line in zip(range(_RECORDS), lines, strict=False)]
    trainer.train(
        records,
        epochs=_EPOCHS,
        batch_size=_BATCH,
        learning_rate=1e-3,
        save_steps=_SAVE_STEPS,
        max_length=16,
        output_dir=str(asked.folder / "run"),
        callbacks=[] if asked.injury is None else [Injury(asked.injury)],
        resume=asked.resume,
        micro_batch_tokens=asked.micro_batch_tokens,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
