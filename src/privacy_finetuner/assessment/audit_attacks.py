"""Membership inference against a run's model on records that the auditor names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privacy_finetuner.assessment.attacks import MembershipInferenceResult, membership_inference
from privacy_finetuner.errors import ConfigurationError, ModelLoadError
from privacy_finetuner.training import inputs
from privacy_finetuner.training.records import read_records


def attacks_on_text(
    folder: Path, *, base: str, members: Path, non_members: Path, device: str = "auto"
) -> MembershipInferenceResult:
    """Attack the model in a folder with every score for which the material is there.

    Args:
        folder: of a run that learned text.
        base: the model that training started from: the reference; a folder or a name.
        members: records that were trained on.
        non_members: records that were not, from the same source.
        device: where the models run.

    Raises:
        DatasetError: the records cannot be read.
        ModelLoadError: the reference is not there.
        ConfigurationError: the groups are too small, or the model is a classifier.
    """
    inside, outside = (_texts(path) for path in (members, non_members))
    target = inputs.load(str(folder), device=device)
    if target.task != "causal_lm":
        raise ConfigurationError(
            "the run's model is a classifier: these attacks score texts; nothing was attacked"
        )
    if not base:
        raise ModelLoadError(
            "the run does not name the model that it started from (it was handed in as an object): "
            "name it with --base; nothing was attacked"
        )
    reference = inputs.load(base, device=device, task="causal_lm")
    return membership_inference(
        target.model, target.tokenizer, inside, outside, reference=reference.model
    )


def _texts(path: Path) -> list[str]:
    return [_text(row) for row in read_records(path).rows]


def _text(row: Mapping[str, Any]) -> str:
    """A record of any shape as one text."""
    if "messages" in row:
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["messages"])
    if "prompt" in row:
        return f"{row['prompt']}{row['completion']}"
    return str(row["text"])
