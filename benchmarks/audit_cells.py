"""The models of `audits.py --table`: one fine-tune of real text, kept with who was in it.

banking77 (CC-BY-4.0): its 10,003 training queries are shuffled with the seed; the first `MEMBERS`
are trained on, the next `MEMBERS` are not, so that members and non-members are a random split of
one file. Its test file gives the held-out perplexity. Among the members stand `SECRETS` sentences
with a random six-digit code, `REPEATS` times each: for exposure.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.assessment.attacks import membership_inference
from privacy_finetuner.assessment.extraction import extraction
from privacy_finetuner.assessment.inversion import canary_exposure
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training import inputs
from privacy_finetuner.training.baseline import fine_tune_without_privacy
from privacy_finetuner.training.models import save_model
from privacy_runtime.keystream import KeyStream
from privacy_runtime.testing import SeededEntropy

DELTA: Final = 1e-5
MEMBERS: Final = 3000
SECRETS: Final = 24
REPEATS: Final = 8
SEEDS: Final = 3
EPSILONS: Final = (None, 8.0, 3.0, 1.0)
ATTACKED: Final = 2000
PREFIX_TOKENS: Final = 12
SUFFIX_TOKENS: Final = 8
CANDIDATES: Final = 400
MAX_LENGTH: Final = 48
PRIVATE_EPOCHS: Final = 5
PRIVATE_BATCH: Final = 256
ORDINARY_EPOCHS: Final = 5
ORDINARY_BATCH: Final = 16
ORDINARY_RATE: Final = 4e-3


@dataclass(frozen=True, slots=True)
class Split:
    """Who is in, who is out, what is planted, and what is held out for utility."""

    members: list[str]
    non_members: list[str]
    secrets: list[tuple[str, str]]
    held_out: list[str]

    @property
    def training(self) -> list[dict[str, str]]:
        """The records that are trained on."""
        planted = [prefix + code for prefix, code in self.secrets for _ in range(REPEATS)]
        return [{"text": text} for text in (*self.members, *planted)]


def split_of(data: Path, seed: int) -> Split:
    """The split and the secrets of a seed."""
    stream = KeyStream.fresh(SeededEntropy(1000 + seed))
    texts = _texts(data / "train.csv")
    order = stream.uniforms(len(texts)).argsort()
    shuffled = [texts[i] for i in order]
    secrets = []
    for number in range(SECRETS):
        digits = (stream.uniforms(10) * 10).astype(int)
        owner = "".join(str(d) for d in digits[:4])
        code = "".join(str(d) for d in digits[4:])
        secrets.append((f"The PIN of customer {number}-{owner} is ", code))
    return Split(
        members=shuffled[:MEMBERS],
        non_members=shuffled[MEMBERS : 2 * MEMBERS],
        secrets=secrets,
        held_out=_texts(data / "test.csv"),
    )


def train_cell(cell: Mapping[str, Any], data: Path, model: Path, folder: Path) -> dict[str, Any]:
    """Fine-tune once into `folder`; returns what is known without attacking it."""
    split, started = split_of(data, cell["seed"]), time.process_time()
    train = _ordinary if cell["epsilon"] is None else _private
    found = train(cell, split, model, folder)
    score = PrivateTrainer(str(folder), PrivacyConfig(), "cpu", enable_context_guard=False)
    held_out = score.evaluate(
        [{"text": text} for text in split.held_out],
        batch_size=64,
        privacy_safe=False,
        max_length=MAX_LENGTH,
    )
    return {
        **found,
        "perplexity": held_out.perplexity,
        "seconds": round(time.process_time() - started, 1),
    }


def _private(cell: Mapping[str, Any], split: Split, model: Path, folder: Path) -> dict[str, Any]:
    privacy = PrivacyConfig(epsilon=cell["epsilon"], delta=DELTA, accounting_mode="pld")
    trainer = PrivateTrainer(
        str(model), privacy, "cpu", enable_context_guard=False, entropy=SeededEntropy(cell["seed"])
    )
    result = trainer.train(
        split.training,
        epochs=PRIVATE_EPOCHS,
        batch_size=PRIVATE_BATCH,
        learning_rate="auto",
        max_length=MAX_LENGTH,
        output_dir=str(folder),
    )
    return {"noise_multiplier": result.noise_multiplier, "steps": result.steps}


def _ordinary(cell: Mapping[str, Any], split: Split, model: Path, folder: Path) -> dict[str, Any]:
    options = TrainOptions(max_length=MAX_LENGTH, task="causal_lm")
    loaded, dataset = inputs.prepare(
        split.training, options, model_name=str(model), adopted=None, device="cpu"
    )
    fine_tune_without_privacy(
        loaded,
        dataset,
        TrainingConfig(
            epochs=ORDINARY_EPOCHS, batch_size=ORDINARY_BATCH, learning_rate=ORDINARY_RATE
        ),
        entropy=SeededEntropy(cell["seed"]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_model(loaded, folder)
    return {"noise_multiplier": 0.0}


def attack_cell(cell: Mapping[str, Any], data: Path, model: Path, folder: Path) -> dict[str, Any]:
    """Attack a trained cell: membership, extraction and exposure, as JSON-ready data."""
    split, started = split_of(data, cell["seed"]), time.process_time()
    target = inputs.load(str(folder), device="cpu")
    base = inputs.load(str(model), device="cpu", task="causal_lm")
    members = split.members[:ATTACKED]
    seen = {" ".join(text.lower().split()) for text in split.members}
    others = [t for t in split.non_members if " ".join(t.lower().split()) not in seen][:ATTACKED]
    inference = membership_inference(
        target.model, target.tokenizer, members, others, reference=base.model
    )
    extracted = extraction(
        target.model,
        target.tokenizer,
        members,
        base=base.model,
        unseen=others,
        prefix_tokens=PREFIX_TOKENS,
        suffix_tokens=SUFFIX_TOKENS,
    )
    stream = KeyStream.fresh(SeededEntropy(2000 + cell["seed"]))
    exposures = []
    for prefix, code in split.secrets:
        digits = (stream.uniforms(CANDIDATES * len(code)) * 10).astype(int).reshape(CANDIDATES, -1)
        candidates = ["".join(map(str, row)) for row in digits]
        found = canary_exposure(
            target.model, target.tokenizer, prefix, code, candidates, space=10.0 ** len(code)
        )
        exposures.append(found.bits)
    return {
        "membership": inference.to_dict(),
        "extraction": extracted.to_dict(),
        "exposure_bits": exposures,
        "seconds": round(time.process_time() - started, 1),
    }


def _texts(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row["text"].strip() for row in csv.DictReader(file)]


def folder_of(cache: Path, cell: Mapping[str, Any]) -> Path:
    """Where a cell's model lies."""
    epsilon = "none" if cell["epsilon"] is None else f"{cell['epsilon']:g}"
    return cache / f"epsilon-{epsilon}-seed-{cell['seed']}"


def cells() -> list[dict[str, Any]]:
    """All cells: without privacy and at each epsilon, over seeds."""
    return [{"epsilon": epsilon, "seed": seed} for seed in range(SEEDS) for epsilon in EPSILONS]
