"""A detector inside a training run: `transformers.TrainerCallback`, loaded where torch is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from privacy_finetuner.operations.run_context import RUN

if TYPE_CHECKING:
    from privacy_finetuner.operations.threats import ThreatDetector


class RunCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Asks the detector about everything that a run releases, and ends the run where it says so.

    The run ends in order, with a model and a report; its whole plan counts as spent, for a halt may
    follow from what was released (docs/decisions/0006).

    Args:
        detector: is asked.
        context: see `ThreatDetector.detect_threat`.
    """

    def __init__(self, detector: ThreatDetector, context: Mapping[str, Any]) -> None:
        self._detector, self._context = detector, dict(context)
        self._run = str(context.get("run", RUN))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Refuse records that are set aside, and look at the digest of the others."""
        dataset = self._context.get("dataset")
        if dataset is not None:
            self._detector.detect_threat({}, self._context)
            self._detector.require_free(Path(dataset))
        return self._obeyed(control)

    def on_log(  # the signature is transformers'
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> TrainerControl:
        """Judge what was released."""
        self._detector.detect_threat(dict(logs or {}), self._context)
        return self._obeyed(control)

    def _obeyed(self, control: TrainerControl) -> TrainerControl:
        if self._detector.is_halted(self._run):
            control.should_training_stop = True
        return control
