"""Runs whose sums would round by more than the noise covers are refused before they begin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from privacy_finetuner import ConfigurationError, PrivacyConfig, PrivateTrainer

RECORDS = [{"text": f"note {i}: rest and water"} for i in range(8)]


@pytest.fixture
def reduced_precision() -> Iterator[None]:
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("reduced_precision")
def test_reduced_precision_products_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    trainer = PrivateTrainer(str(llama_folder), PrivacyConfig(epsilon=8.0, delta=1e-2))

    with pytest.raises(ConfigurationError, match="nothing was started"):
        trainer.train(RECORDS, epochs=1, batch_size=4, output_dir=str(tmp_path / "out"))

    assert trainer.get_privacy_report().privacy_spent.epsilon == 0
