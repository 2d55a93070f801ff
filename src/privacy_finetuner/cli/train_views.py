"""What `train` shows of a plan and of a result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from privacy_finetuner.cli import output
from privacy_finetuner.cli.request import Settings
from privacy_finetuner.training.plan import DPTrainingPlan

if TYPE_CHECKING:
    from privacy_finetuner.results import TrainingResult


def plan_document(settings: Settings, plan: DPTrainingPlan) -> dict[str, Any]:
    """A plan, as JSON-ready data."""
    return {
        "dry_run": True,
        "epsilon": plan.epsilon(),
        "delta": plan.delta,
        "relation": plan.relation.value,
        "unit": plan.unit.value,
        "noise_multiplier": plan.noise_multiplier,
        "noise": plan.noise,
        "groups": plan.groups,
        "gradient_noise_multiplier": plan.gradient_noise_multiplier,
        "steps": plan.steps,
        "steps_asked": plan.steps_asked,
        "sample_rate": plan.sampling_probability,
        "batch_size": plan.expected_batch_size,
        "clip_norm": plan.clip_norm,
        "accountant": plan.accountant,
        "examples": plan.examples,
        "units": settings.sizes.units,
        "warnings": settings.warnings,
    }


def result_document(settings: Settings, result: TrainingResult) -> dict[str, Any]:
    """A result, as JSON-ready data."""
    return {
        **result.to_dict(),
        "batch_size": min(settings.batch_size, result.examples),
        "accountant": settings.request.accountant,
        "warnings": settings.warnings,
    }


def say_counts(console: Console, result: TrainingResult) -> None:
    """Tell the holder of the records what the guarantee does not cover; it enters no file."""
    counts = {
        "cut to the greatest length": result.truncated,
        "left out above the cap of a user": result.dropped,
        "without anything to learn from": result.unsupervised,
    }
    for what, count in counts.items():
        if count:
            console.print(
                f"{count} records were {what} (an exact count: outside the guarantee)",
                soft_wrap=True,
            )


def rows_of(document: dict[str, Any]) -> list[tuple[str, object]]:
    """What a person should see of a plan or a result."""
    names = (
        "epsilon", "delta", "relation", "unit", "accountant", "noise_multiplier", "noise", "steps",
        "steps_asked", "sample_rate", "batch_size", "clip_norm", "examples", "duration_s",
    )  # fmt: skip
    rows: list[tuple[str, object]] = [
        (output.words(name), document[name]) for name in names if name in document
    ]
    return [*rows, *(("note", note) for note in document.get("notes", []))]


def places(folder: Path) -> list[tuple[str, object]]:
    """Where a finished run left what."""
    return [
        ("model", folder),
        ("privacy report", folder / "privacy_report.json"),
        ("statement", folder / "statement.json"),
        ("run record", folder / "run.jsonl"),
        ("next", f"privacy-finetuner report {folder}"),
    ]
