"""A run says how far it is, and how it ended; nothing of its records."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_guard.heartbeat import Ended, Pulse, read_pulse
from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.errors import NonFiniteWeights
from privacy_finetuner.training.heartbeats import FILE_NAME, are_finite, heart_of, tell_end
from privacy_finetuner.training.loop import StepRecord
from privacy_finetuner.training.run_record import RunRecord, read_state
from privacy_runtime.append_log import RunRecordLocked

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3)
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]


def train(model: Path, folder: Path, **options: Any) -> list[Pulse]:
    """What the file said after each step."""
    seen: list[Pulse] = []

    def look(_step: StepRecord) -> None:
        seen.append(read_pulse(folder / FILE_NAME))

    PrivateTrainer(str(model), PRIVACY, device="cpu").train(
        RECORDS,
        **{
            "epochs": 2,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "save_steps": 3,
            "eval_steps": 2,
            "eval_dataset": RECORDS[:4],
            "on_step": look,
            **options,
        },
        output_dir=str(folder),
    )
    return seen


def test_a_run_tells_steps_sections_and_checkpoints_then_that_it_is_done(
    llama_folder: Path, tmp_path: Path
) -> None:
    seen = train(llama_folder, tmp_path)

    last = read_pulse(tmp_path / FILE_NAME)
    assert {pulse.steps for pulse in seen} == {8}
    assert all(pulse.section == "step" and pulse.is_finite for pulse in seen)
    assert [p.step for p in seen] == sorted(p.step or 0 for p in seen)
    assert seen[-1].checkpoint == 6
    assert (last.ended, last.step, last.checkpoint) == (Ended.FINISHED, 8, 8)


def test_an_ended_run_leaves_no_durations_and_no_text(llama_folder: Path, tmp_path: Path) -> None:
    train(llama_folder, tmp_path)

    document = json.loads((tmp_path / FILE_NAME).read_text())

    def texts(value: Any) -> list[str]:
        if isinstance(value, Mapping):
            return [text for inner in value.values() for text in texts(inner)]
        return [value] if isinstance(value, str) else []

    assert document["spans"] == {}
    assert set(texts(document)) == {
        "step", "finished", "", document["at"],
        document["checksum"], document["process"]["boot"], document["process"]["namespace"],
    }  # fmt: skip
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0


def test_weights_that_break_are_told_and_end_the_run_after_the_very_step(
    llama_folder: Path, tmp_path: Path
) -> None:
    """Such a decay makes weights infinite at once, and an epoch has four steps."""
    whole: list[int] = []

    with pytest.raises(NonFiniteWeights, match="after step 1 of 12"):
        train(
            llama_folder,
            tmp_path,
            optimizer="sgd",
            learning_rate=1e30,
            weight_decay=1e30,
            save_steps=500,
            on_step=lambda step: whole.append(step.step),
            epochs=3,
        )

    last, record = read_pulse(tmp_path / FILE_NAME), read_state(tmp_path)
    assert record is not None
    assert record.charged_steps == last.step == 1
    assert whole == []
    assert not last.is_finite
    assert (last.ended, last.reason) == (Ended.FAILED, "NonFiniteWeights")


def test_a_run_that_may_not_have_the_folder_leaves_its_heartbeat_alone(
    llama_folder: Path, tmp_path: Path
) -> None:
    train(llama_folder, tmp_path, epochs=1)

    with RunRecord(tmp_path), pytest.raises(RunRecordLocked):
        train(llama_folder, tmp_path, epochs=1)

    assert read_pulse(tmp_path / FILE_NAME).ended is Ended.FINISHED


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_weight_that_is_no_number_is_seen(value: float) -> None:
    weights = [torch.nn.Parameter(torch.full((3,), 3e38)), torch.nn.Parameter(torch.ones(2, 2))]
    assert are_finite(weights)

    with torch.no_grad():
        weights[1][1, 0] = value

    assert not are_finite(weights)


def told(error: BaseException, tmp_path: Path) -> str:
    heart = heart_of(tmp_path)
    heart.beat(3, 10)
    tell_end(heart, error)
    return read_pulse(tmp_path / FILE_NAME).reason


def test_memory_that_ran_out_has_one_name_however_torch_says_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as asked:
        torch.empty(1 << 60, dtype=torch.uint8)

    assert told(asked.value, tmp_path) == "MemoryError"
    assert told(MemoryError(), tmp_path) == "MemoryError"
    assert told(torch.cuda.OutOfMemoryError("CUDA out of memory"), tmp_path) == "OutOfMemoryError"
    assert told(RuntimeError("a record about memory"), tmp_path) == "RuntimeError"
