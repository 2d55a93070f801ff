"""A detector inside a run: what it refuses, and when it ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from privacy_finetuner import PrivacyConfig, PrivateTrainer, ThreatDetector
from privacy_finetuner.demo import ASSETS
from privacy_finetuner.operations.errors import SourceSetAside
from privacy_runtime.journal import Journal
from privacy_runtime.testing import ManualClock, MemoryHome


@pytest.fixture
def detector() -> Iterator[ThreatDetector]:
    journal = Journal(MemoryHome(), clock=ManualClock())
    yield ThreatDetector(journal=journal)
    journal.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.jsonl"
    path.write_text("".join(f'{{"text": "Visit {n}: knee."}}\n' for n in range(32)))
    return path


def test_a_release_that_fell_ends_the_run_in_order(
    detector: ThreatDetector, tmp_path: Path
) -> None:
    before = [{"accuracy": 0.9, "accuracy_std": 0.05}] * 2
    callback = detector.callback(context={"references": before, "run": "r-7"})
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[])

    def logged(accuracy: float) -> bool:
        control = TrainerControl()
        callback.on_log(arguments, TrainerState(), control, logs={"accuracy": accuracy})
        return bool(control.should_training_stop)

    assert not logged(0.89)
    assert logged(0.5)
    assert detector.is_halted("r-7")
    assert not detector.is_halted()


def test_a_run_on_records_that_changed_is_refused_before_its_first_step(
    detector: ThreatDetector, notes: Path, tmp_path: Path
) -> None:
    detector.watch_source(notes, "notes")
    lines = notes.read_text().splitlines()
    lines[3] = json.dumps({"text": "heliotrope"})
    notes.write_text("\n".join(lines) + "\n")
    callback = detector.callback(dataset=notes, context={"source": "notes"})
    trainer = PrivateTrainer(
        str(ASSETS / "model"), PrivacyConfig(epsilon=8.0, delta=1e-5), enable_context_guard=False
    )

    with pytest.raises(SourceSetAside):
        trainer.train(
            str(notes),
            epochs=1,
            batch_size=16,
            output_dir=str(tmp_path / "run"),
            callbacks=[callback],
        )
    assert trainer.get_privacy_report().privacy_spent.epsilon == 0
