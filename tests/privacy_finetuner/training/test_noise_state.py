"""Runs with correlated noise that are stopped, killed, resumed; what may stay on the disk."""

from __future__ import annotations

import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from privacy_core.mechanisms.matrix_factorization import BandedToeplitz
from privacy_finetuner import PrivacyConfig, PrivateTrainer, TrainingResult
from privacy_finetuner.errors import CheckpointError, ModelTrainingException
from privacy_finetuner.training import loop, noise_state, run_record, session
from privacy_finetuner.training.correlated_noise import CorrelatedNoise
from privacy_finetuner.training.cyclic_sampling import CyclicPoissonSampler
from privacy_runtime.keystream import KeyStream
from privacy_runtime.testing import SeededEntropy

RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]


class Stopped(Exception):
    """What a test raises to end a run in the middle."""


def train(
    model: Path,
    folder: Path,
    noise: str = "banded",
    *,
    stop_at: int | None = None,
    interrupt_at: int | None = None,
    resume: bool = False,
    save_steps: int = 5,
) -> TrainingResult:
    def stop(step: loop.StepRecord) -> None:
        if step.step == stop_at:
            raise Stopped
        if step.step == interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)

    privacy = PrivacyConfig(epsilon=4.0, delta=1e-3, noise=noise)  # type: ignore[arg-type]
    trainer = PrivateTrainer(str(model), privacy, device="cpu")
    return trainer.train(
        RECORDS,
        epochs=5,
        batch_size=8,
        learning_rate=1e-3,
        save_steps=save_steps,
        output_dir=str(folder),
        resume=resume,
        on_step=stop,
    )


@dataclass
class Seen:
    """A run as it was when its first step was about to be taken."""

    run: Any
    groups: list[int]
    draws: int
    memory: dict[str, torch.Tensor]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """Every run that `session.drive` was given."""
    runs: list[Seen] = []
    drive = session.drive

    def watched(opened: Any, *rest: Any) -> None:
        run = opened.run
        groups, draws = run.sampler.groups_of_units.tolist(), run.sampler.draws
        runs.append(Seen(run, groups, draws, run.correlated.memory()))
        drive(opened, *rest)

    monkeypatch.setattr(session, "drive", watched)
    return runs


@pytest.mark.parametrize("noise", ["banded", "blt", "lambda_cgd"])
def test_a_run_with_correlated_noise_keeps_its_epsilon_and_leaves_no_secret(
    noise: str, llama_folder: Path, tmp_path: Path
) -> None:
    result = train(llama_folder, tmp_path, noise)

    assert result.steps == 20
    assert 0 < result.privacy_spent.epsilon <= 4.0
    assert not list(tmp_path.rglob(noise_state.FILE_NAME))
    assert train(llama_folder, tmp_path, noise, resume=True).steps == 20


@pytest.mark.parametrize("noise", ["banded", "blt"])
def test_a_run_resumed_from_its_last_step_goes_on_with_its_noise_and_groups(
    noise: str, llama_folder: Path, tmp_path: Path, opened: list[Seen]
) -> None:
    """Ctrl-C saves; the memory comes back bit for bit. That it is used: test_correlated_noise."""
    with pytest.raises(ModelTrainingException, match="continue with resume"):
        train(llama_folder, tmp_path, noise, interrupt_at=7)
    first = opened[0].run
    memory = {name: part.clone() for name, part in first.correlated.memory().items()}

    result = train(llama_folder, tmp_path, noise, resume=True)

    again = opened[1]
    assert "resumed from step 7" in result.notes
    assert not any("afresh" in note for note in result.notes)
    assert again.draws == 7
    assert again.groups == opened[0].groups
    assert len(memory) > 0
    assert memory.keys() == again.memory.keys()
    assert all(torch.equal(memory[name], again.memory[name]) for name in memory)


def test_lost_steps_are_not_taken_back_and_their_noise_is_not_used_again(
    llama_folder: Path, tmp_path: Path, opened: list[Seen]
) -> None:
    with pytest.raises(Stopped):
        train(llama_folder, tmp_path, stop_at=8)
    state = run_record.read_state(tmp_path)
    assert state is not None
    assert (state.checkpoint, state.charged_steps) == ("checkpoint-5", 13)

    result = train(llama_folder, tmp_path, resume=True)

    assert any("correlated noise begins afresh" in note for note in result.notes)
    assert opened[1].groups == opened[0].groups
    assert (opened[1].draws, list(opened[1].memory)) == (13, ["newest"])
    assert result.privacy_spent.epsilon <= 4.0


def test_without_its_groups_a_run_is_not_resumed(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(llama_folder, tmp_path, stop_at=8)
    path = tmp_path / noise_state.FILE_NAME
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    for damaged in (bytes(content), b"", None):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="missing or damaged"):
            train(llama_folder, tmp_path, resume=True)


def test_no_checkpoint_holds_noise_or_groups_and_the_file_is_its_owners(
    llama_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        train(llama_folder, tmp_path, stop_at=12)
    path = tmp_path / noise_state.FILE_NAME

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.rglob("*") if "noise" in p.name] == [noise_state.FILE_NAME]


def test_a_file_of_another_run_is_refused(tmp_path: Path) -> None:
    def sampler(size: int) -> CyclicPoissonSampler:
        return CyclicPoissonSampler(size, 2, 0.5, KeyStream.fresh(SeededEntropy(size)))

    noise = CorrelatedNoise(BandedToeplitz((1.0, 0.5)), 1.0)
    noise_state.write(tmp_path, 3, sampler(10), noise)

    assert noise_state.read(tmp_path, 3, sampler(10), noise)
    assert not noise_state.read(tmp_path, 4, sampler(10), noise)
    with pytest.raises(CheckpointError, match="not of this run"):
        noise_state.read(tmp_path, 3, sampler(11), noise)
