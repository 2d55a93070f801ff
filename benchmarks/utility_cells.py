"""One cell of `utility.py`: train once on real text, score what was held out.

Two tasks, both on banking77 (CC-BY-4.0; 10,003 training queries, 3,080 held out):

- `lm`: a pretrained Llama of 260 thousand weights learns the queries; held-out perplexity.
- `head`: a linear layer on the features of a frozen MiniLM encoder learns the 77 intents; held-out
  accuracy. Features are computed once and kept in the cache folder.

What is public and equal for both sides: model and its first weights, records, tokens, epochs,
expected batch size, delta, per-example loss. What is each side's own: accountant, clipping,
optimizer settings, schedule, averaging, noise generator.
"""

from __future__ import annotations

import csv
import logging
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training import evaluation, inputs, loop
from privacy_finetuner.training.dp_step import dp_step
from privacy_finetuner.training.engine import Clip, ClipRule, make_gradient
from privacy_finetuner.training.noise import GaussianNoise
from privacy_finetuner.training.plan import make_plan
from privacy_finetuner.training.sampling import make_sampler
from privacy_finetuner.training.update import make_update
from privacy_runtime.keystream import KeyStream
from privacy_runtime.testing import SeededEntropy

DELTA = 1e-5
CLASSES = 77
WIDTH = 384
MICRO_BATCH_TOKENS = 4096
MAX_LENGTH = 32
"""Tokens of a query that are read: 76 per cent of all, so that a cell takes a minute."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is public about a task, and equal for every method."""

    epochs: int
    batch_size: int
    score: str
    is_better_lower: bool


TASKS = {
    "lm": Task(epochs=1, batch_size=256, score="perplexity", is_better_lower=True),
    "head": Task(epochs=20, batch_size=2048, score="accuracy", is_better_lower=False),
}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the public inputs are, and where features are kept."""

    data: Path
    model: Path
    encoder: Path
    cache: Path


def run_cell(cell: Mapping[str, Any], sources: Sources) -> dict[str, Any]:
    """Train one model and score it: `{"score": ..., "noise_multiplier": ..., "seconds": ...}`."""
    warnings.filterwarnings("ignore", module="opacus")
    logging.getLogger("opacus").setLevel(logging.ERROR)
    act = {
        ("lm", "ours"): _lm_ours,
        ("lm", "opacus"): _lm_opacus,
        ("head", "ours"): _head_ours,
        ("head", "opacus"): _head_opacus,
    }[cell["task"], cell["method"]]
    started = time.process_time()
    found = act(sources, cell["epsilon"], cell["seed"], dict(cell["options"]))
    return {**found, "seconds": round(time.process_time() - started, 1)}


def texts(path: Path) -> tuple[list[str], list[str]]:
    """The queries of a banking77 file, and their intents."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def _records(path: Path) -> list[dict[str, str]]:
    return [{"text": text} for text in texts(path)[0]]


def _lm_ours(
    sources: Sources, epsilon: float, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """`PrivateTrainer`, seeded, at its defaults but for `options`."""
    task = TASKS["lm"]
    privacy = PrivacyConfig(
        epsilon=epsilon, delta=DELTA, accounting_mode="pld", **options.pop("privacy", {})
    )
    trainer = PrivateTrainer(
        str(sources.model),
        privacy,
        "cpu",
        enable_context_guard=False,
        entropy=SeededEntropy(seed),
    )
    arguments: dict[str, Any] = {
        "epochs": task.epochs,
        "batch_size": task.batch_size,
        "learning_rate": "auto",
        "micro_batch_tokens": MICRO_BATCH_TOKENS,
        "max_length": MAX_LENGTH,
        **options,
    }
    with tempfile.TemporaryDirectory() as folder:
        result = trainer.train(_records(sources.data / "train.csv"), output_dir=folder, **arguments)
    score = trainer.evaluate(
        _records(sources.data / "test.csv"),
        batch_size=64,
        privacy_safe=False,
        max_length=MAX_LENGTH,
    )
    return {
        "score": score.perplexity,
        "noise_multiplier": result.noise_multiplier,
        "epsilon_spent": result.privacy_spent.epsilon,
        "steps": result.steps,
    }


def _lm_opacus(
    sources: Sources, epsilon: float, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Opacus 1.6 as its tutorials use it: hooks, Poisson, PRV, max_grad_norm 1, AdamW.

    Its own micro-batching puts texts of any length together; here a drawn batch is split by length
    instead (the same sums, less padding), with its own `signal_skip_step`.
    """
    task = TASKS["lm"]
    torch.manual_seed(seed)
    prepared, data = inputs.prepare(
        _records(sources.data / "train.csv"),
        TrainOptions(max_length=MAX_LENGTH),
        model_name=str(sources.model),
        adopted=None,
        device="cpu",
    )
    objective = evaluation.objective_of(prepared, data)
    module, optimizer, loader = _made_private(prepared.model, len(data), task, epsilon, options)
    steps = 0
    for _ in range(task.epochs):
        for (drawn,) in loader:
            pieces = list(data.micro_batches(drawn.numpy(), max_tokens=MICRO_BATCH_TOKENS))
            for position, piece in enumerate(pieces):
                optimizer.signal_skip_step(do_skip=position < len(pieces) - 1)
                optimizer.zero_grad()
                batch = data.batch(piece)
                logits_BTV = module(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    position_ids=torch.arange(batch["input_ids"].shape[1]).expand_as(
                        batch["input_ids"]
                    ),
                    use_cache=False,
                ).logits
                _token_losses(logits_BTV, batch["labels"]).mean().backward()
                optimizer.step()
            steps += 1
    held_out = inputs.read_data(
        _records(sources.data / "test.csv"), TrainOptions(max_length=MAX_LENGTH), prepared
    )
    module.remove_hooks()
    score = evaluation.exact_scores(prepared, held_out, objective, max_tokens=MICRO_BATCH_TOKENS)
    return {
        "score": score.perplexity,
        "noise_multiplier": optimizer.noise_multiplier,
        "steps": steps,
    }


def _made_private(
    model: nn.Module, examples: int, task: Task, epsilon: float, options: dict[str, Any]
) -> tuple[Any, Any, Any]:
    from opacus import PrivacyEngine

    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.arange(examples)), batch_size=task.batch_size
    )
    made: tuple[Any, Any, Any] = PrivacyEngine(accountant="prv").make_private_with_epsilon(
        module=model.train(),
        optimizer=torch.optim.AdamW(model.parameters(), lr=options["learning_rate"]),
        data_loader=loader,
        target_epsilon=epsilon,
        target_delta=DELTA,
        epochs=task.epochs,
        max_grad_norm=1.0,
    )
    return made


def _token_losses(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """The same loss as ours: the mean over each example's own tokens."""
    targets_BT = functional.pad(labels_BT[:, 1:], (0, 1), value=-100)
    losses_BT = functional.cross_entropy(
        logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=-100, reduction="none"
    ).view_as(targets_BT)
    return losses_BT.sum(dim=1) / (targets_BT != -100).sum(dim=1).clamp(min=1)


def _features(sources: Sources) -> dict[str, Tensor]:
    """Mean-pooled, unit-length features of every query, from the cache or computed once."""
    path = sources.cache / "banking77_minilm.npz"
    if not path.is_file():
        _compute_features(sources, path)
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@torch.no_grad()
def _compute_features(sources: Sources, path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(sources.encoder))
    encoder = AutoModel.from_pretrained(str(sources.encoder)).eval()
    known = sorted(set(texts(sources.data / "train.csv")[1]))
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        queries, intents = texts(sources.data / f"{part}.csv")
        rows = np.empty((len(queries), WIDTH), dtype=np.float32)
        by_length = np.argsort([len(query) for query in queries])
        for start in range(0, len(queries), 64):
            chosen = by_length[start : start + 64]
            batch = tokenizer([queries[i] for i in chosen], padding=True, return_tensors="pt")
            hidden_BTD = encoder(**batch).last_hidden_state
            mask_BT1 = batch["attention_mask"].unsqueeze(-1)
            pooled_BD = (hidden_BTD * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1)
            rows[chosen] = functional.normalize(pooled_BD, dim=1).numpy()
        arrays[f"{part}_features"] = rows
        arrays[f"{part}_labels"] = np.array([known.index(intent) for intent in intents])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def _head(seed: int) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(WIDTH, CLASSES)


def _head_loss(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    logits_BV = model(batch["features"])
    losses_B = functional.cross_entropy(logits_BV, batch["labels"], reduction="none")
    return losses_B, (logits_BV.detach().argmax(dim=1) == batch["labels"]).float()


@torch.no_grad()
def _head_accuracy(model: nn.Module, found: Mapping[str, Tensor]) -> float:
    predicted = model(found["test_features"]).argmax(dim=1)
    return float((predicted == found["test_labels"]).double().mean())


def _head_ours(
    sources: Sources, epsilon: float, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """The trainer's own parts (plan, sampler, engine, step, schedule, average) on features."""
    task, found = TASKS["head"], _features(sources)
    inputs_ND, labels_N = found["train_features"], found["train_labels"]
    entropy, model = SeededEntropy(seed), _head(seed)
    privacy = PrivacyConfig(
        epsilon=epsilon, delta=DELTA, accounting_mode="pld", **options.pop("privacy", {})
    )
    rate = options.pop("learning_rate", "auto")
    training = TrainOptions(**options).training(
        epochs=task.epochs, batch_size=task.batch_size, learning_rate=rate
    )
    plan = make_plan(privacy, training, examples=len(labels_N))
    sampler = make_sampler(
        plan.sampler,
        dataset_size=plan.examples,
        sampling_probability=plan.sampling_probability,
        stream=KeyStream.fresh(entropy),
    )
    probe = {"features": torch.eye(3, WIDTH), "labels": torch.arange(3)}
    gradient, _ = make_gradient(model, _head_loss, probe)
    noise = GaussianNoise.secure(entropy)
    update = make_update(training, plan, gradient)
    clip_norm = plan.clip_norm
    for step in range(plan.steps):
        update.prepare(step, clip_norm)
        drawn = torch.from_numpy(sampler.draw())
        batch = {"features": inputs_ND[drawn], "labels": labels_N[drawn]}
        release = dp_step(
            gradient,
            [batch] if len(drawn) else [],
            clip=Clip(clip_norm, ClipRule(plan.clip_rule)),
            plan=plan,
            noise=noise,
            optimizer=update.optimizer,
            loss_cap=float(np.log(CLASSES)),
        )
        update.follow(step + 1)
        if release.below_bound is not None:
            clip_norm = loop.next_clip_norm(clip_norm, release.below_bound, plan)
    update.settle()
    return {
        "score": _head_accuracy(model, found),
        "noise_multiplier": plan.noise_multiplier,
        "epsilon_spent": plan.epsilon(),
        "steps": plan.steps,
    }


def _head_opacus(
    sources: Sources, epsilon: float, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    task, found = TASKS["head"], _features(sources)
    model = _head(seed)
    module, optimizer, loader = _made_private(
        model, len(found["train_labels"]), task, epsilon, options
    )
    steps = 0
    for _ in range(task.epochs):
        for (drawn,) in loader:
            optimizer.zero_grad()
            batch = {
                "features": found["train_features"][drawn],
                "labels": found["train_labels"][drawn],
            }
            _head_loss(module, batch)[0].mean().backward()
            optimizer.step()
            steps += 1
    return {
        "score": _head_accuracy(model, found),
        "noise_multiplier": optimizer.noise_multiplier,
        "steps": steps,
    }
