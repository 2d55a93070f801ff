"""The memory of correlated noise is as secret as the records, from its first byte on the disk."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training import noise_state
from privacy_runtime import files

RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(24)]


class Stopped(Exception):
    """What a test raises to end a run in the middle."""


def train(model: Path, folder: Path, noise: str, *, stop_at: int | None = None) -> None:
    def stop(step: object) -> None:
        if getattr(step, "step", None) == stop_at:
            raise Stopped

    privacy = PrivacyConfig(epsilon=4.0, delta=1e-3, noise=noise)  # type: ignore[arg-type]
    PrivateTrainer(str(model), privacy, device="cpu").train(
        RECORDS,
        epochs=2,
        batch_size=8,
        save_steps=2,
        learning_rate=1e-3,
        output_dir=str(folder),
        on_step=stop,
    )


def test_nobody_else_can_read_the_memory_while_it_is_written(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process leaves the temporary file behind as it was created."""
    seen: list[tuple[str, int]] = []

    class Watched(io.BufferedWriter):
        def write(self, data: Any) -> int:
            name = os.path.basename(os.readlink(f"/proc/self/fd/{self.fileno()}"))
            seen.append((name, os.fstat(self.fileno()).st_mode & 0o077))
            return super().write(data)

    def opened(descriptor: int, mode: str, buffering: int = -1) -> Any:
        return Watched(io.FileIO(descriptor, mode), max(buffering, 1))

    monkeypatch.setattr(files.os, "fdopen", opened)
    old = os.umask(0o022)
    try:
        train(llama_folder, tmp_path, "banded")
    finally:
        os.umask(old)

    mine = [others for name, others in seen if noise_state.FILE_NAME in name]
    assert mine
    assert not any(mine)


def test_a_new_run_leaves_no_memory_of_the_one_before(llama_folder: Path, tmp_path: Path) -> None:
    """A run that was killed between its last entry and its tidying up leaves its memory."""
    train(llama_folder, tmp_path, "banded")
    (tmp_path / noise_state.FILE_NAME).write_bytes(b"what the finished run did not get to remove")

    with pytest.raises(Stopped):
        train(llama_folder, tmp_path, "independent", stop_at=2)

    assert not (tmp_path / noise_state.FILE_NAME).exists()


def test_a_plan_that_no_code_path_keeps_is_refused() -> None:
    """Buffered noise in one group: priced as one mechanism, run as independent noise."""
    from privacy_core.mechanisms.matrix_factorization import BufferedToeplitz
    from privacy_finetuner.training.plan import DPTrainingPlan

    with pytest.raises(ConfigurationError):
        DPTrainingPlan(
            examples=100,
            expected_batch_size=10,
            steps=50,
            steps_asked=50,
            noise_multiplier=1.0,
            gradient_noise_multiplier=1.1,
            count_noise_multiplier=None,
            statistics_noise_multiplier=20.0,
            clip_norm=1.0,
            clip_rule="bound",
            delta=1e-5,
            accountant="pld",
            correlation=BufferedToeplitz((0.9,), (0.5,)),
        )
