"""Data collators of users: those that treat records one by one, and those that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    DataCollatorWithPadding,
)

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.collation import collate_with

RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]


def swaps_labels(features: list[dict[str, Any]]) -> dict[str, Any]:
    """Every record learns the labels of the next one."""
    width = max(len(f["input_ids"]) for f in features)
    rows = [f["input_ids"] + [0] * (width - len(f["input_ids"])) for f in features]
    mask = [[1] * len(f["input_ids"]) + [0] * (width - len(f["input_ids"])) for f in features]
    return {
        "input_ids": torch.tensor(rows),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(rows[1:] + rows[:1]),
    }


def test_padding_collators_of_transformers_are_admitted(byte_tokenizer: Any) -> None:
    collate_with(DataCollatorForSeq2Seq(byte_tokenizer), task="causal_lm", vocabulary=250)
    collate_with(
        DataCollatorWithPadding(byte_tokenizer), task="sequence_classification", vocabulary=250
    )
    collate_with(
        DataCollatorForSeq2Seq(byte_tokenizer, pad_to_multiple_of=8),
        task="causal_lm",
        vocabulary=250,
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: DataCollatorWithFlattening(), "gives no attention_mask|rows of"),
        (lambda t: DataCollatorForLanguageModeling(t, mlm=False), "cannot make a batch"),
        (lambda _: swaps_labels, "draws at random|beside other"),
        (lambda _: lambda features: {"input_ids": torch.zeros(1, 1)}, "gives no"),
    ],
)
def test_what_packs_mixes_or_draws_is_refused(make: Any, message: str, byte_tokenizer: Any) -> None:
    with pytest.raises(ConfigurationError, match=message):
        collate_with(make(byte_tokenizer), task="causal_lm", vocabulary=250)


def test_a_run_with_a_collator_is_the_run_without(
    llama_folder: Path, tmp_path: Path, byte_tokenizer: Any
) -> None:
    def train(name: str, **options: Any) -> Any:
        trainer = PrivateTrainer(str(llama_folder), PrivacyConfig(), device="cpu")
        return trainer.train(
            RECORDS, epochs=1, batch_size=8, output_dir=str(tmp_path / name), **options
        )

    plain = train("plain")
    given = train("given", data_collator=DataCollatorForSeq2Seq(byte_tokenizer))
    assert given.guarantee == plain.guarantee
    assert given.steps == plain.steps


def test_packing_is_refused_with_the_reason(llama_folder: Path, tmp_path: Path) -> None:
    trainer = PrivateTrainer(str(llama_folder), PrivacyConfig(), device="cpu")
    with pytest.raises(ConfigurationError, match="nothing was started"):
        trainer.train(RECORDS, data_collator=DataCollatorWithFlattening(), output_dir=str(tmp_path))
    assert not (tmp_path / "run.jsonl").exists()
