"""A step that is cut off in its middle must stay charged, and must not be taken again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_runtime.journal import JournalError

RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(24)]
STEPS = 6


class Counter(TrainerCallback):
    """Counts releases: every noisy gradient that a callback could have seen. Fails in one step."""

    def __init__(self, event: str, fail_at: int | None = None) -> None:
        self.releases = 0
        self._event, self._fail_at = event, fail_at

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.releases += 1
        self._fail("on_pre_optimizer_step")

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._fail("on_optimizer_step")

    def _fail(self, event: str) -> None:
        if event == self._event and self.releases == self._fail_at:
            raise JournalError("a callback's own ledger is away")


def train(model: Path, folder: Path, noise: str, counter: Counter, *, resume: bool) -> None:
    privacy = PrivacyConfig(epsilon=4.0, delta=1e-3, noise=noise)  # type: ignore[arg-type]
    PrivateTrainer(str(model), privacy, device="cpu").train(
        RECORDS,
        epochs=2,
        batch_size=8,
        learning_rate=1e-3,
        save_steps=100,
        output_dir=str(folder),
        callbacks=[counter],
        resume=resume,
    )


@pytest.mark.parametrize("noise", ["independent", "banded"])
@pytest.mark.parametrize("event", ["on_pre_optimizer_step", "on_optimizer_step"])
def test_a_step_that_failed_after_its_release_is_not_taken_again(
    event: str, noise: str, llama_folder: Path, tmp_path: Path
) -> None:
    first, second = Counter(event, fail_at=3), Counter(event)
    with pytest.raises(JournalError):
        train(llama_folder, tmp_path, noise, first, resume=False)
    train(llama_folder, tmp_path, noise, second, resume=True)

    assert first.releases == 3
    assert first.releases + second.releases <= STEPS
