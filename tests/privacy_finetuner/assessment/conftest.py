"""A small real model, and the same one after it has learned some real texts by heart."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

seeded = np.random.default_rng  # noqa: TID251 -- which texts, the same every time

Learn = Callable[..., None]


@dataclass(frozen=True)
class Memorised:
    """A base model, the same model trained on `members` without privacy, and fresh texts."""

    base: Any
    model: Any
    tokenizer: Any
    members: list[str]
    nonmembers: list[str]


@pytest.fixture(scope="session")
def bank_queries(shared_data: Path) -> list[str]:
    """Real bank queries, shuffled."""
    with (shared_data / "banking77" / "train.csv").open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    texts = list(dict.fromkeys(text for text in texts if 40 < len(text) < 90))
    return [texts[k] for k in seeded(7).permutation(len(texts))]


@pytest.fixture(scope="session")
def memorised(shared_data: Path, bank_queries: list[str]) -> Memorised:
    """Non-private training on 60 queries until they are known by heart."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = shared_data / "models" / "stories260k" / "hf"
    if not folder.is_dir():
        pytest.skip(f"no small model at {folder}")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder)
    members, nonmembers = bank_queries[:60], bank_queries[60:120]
    model = copy.deepcopy(base)
    _learn(model, tokenizer, members, passes=8)
    return Memorised(base, model, tokenizer, members, nonmembers)


@pytest.fixture(scope="session")
def learn() -> Learn:
    """Plain training on texts, without privacy: `learn(model, tokenizer, texts, passes=8)`."""
    return _learn


def _learn(
    model: Any, tokenizer: Any, texts: list[str], *, passes: int, rate: float = 6e-3
) -> None:
    import torch

    from privacy_finetuner.training.encoding import Encoder

    encoder = Encoder(tokenizer)
    rows = [encoder.prompt(text) for text in texts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for _ in range(passes):
        for start in range(0, len(rows), 20):
            batch = rows[start : start + 20]
            width = max(len(row) for row in batch)
            ids = torch.tensor([row + [encoder.pad_id] * (width - len(row)) for row in batch])
            seen = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
            loss = model(
                input_ids=ids, attention_mask=seen, labels=ids.masked_fill(seen == 0, -100)
            ).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
