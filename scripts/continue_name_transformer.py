"""Train the transformer of `train_name_transformer.py` on, and average what comes of it.

    python scripts/continue_name_transformer.py --base FOLDER --start CHECKPOINT --out FOLDER

A warm restart on a new draw of the data, with fewer of our own templates; the weights that are kept
are a running average of the last steps' (Polyak & Juditsky 1992), mixed with those of the start:
averages of a model and its continuation lose less of what the continuation forgets (Wortsman et al.
2022, "Robust fine-tuning"). The shipped model: 355 steps, 0.6 of the continuation; its rate fell
with the clock, here it falls with the steps. Then `train_name_transformer.py export`.
"""

# ruff: noqa: S311 -- orders from a fixed seed

from __future__ import annotations

import argparse
import random
from pathlib import Path

import name_corpus
import torch
from tokenizers import Tokenizer
from torch import nn
from train_name_transformer import NameModel, _batches, _loss, sequences

from privacy_core.redaction import subwords

RATES = (1e-4, 5e-4)  # body and head, at their highest
WARM = 20
TEMPLATES = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/redaction"))
    parser.add_argument("--steps", type=int, default=355)
    parser.add_argument("--share", type=float, default=0.6, help="of the continuation, in the mix")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    chance = random.Random(arguments.seed)
    documents = [
        document
        for document in name_corpus.training(arguments.data, arguments.seed)
        if document.source != "templates" or chance.random() < TEMPLATES
    ]
    tokenizer = subwords.plain(Tokenizer.from_file(str(arguments.base / "tokenizer.json")))
    rows = sequences(documents, tokenizer)
    batches = _batches(rows, 1, arguments.seed)[: arguments.steps]
    model = NameModel(arguments.base)
    state = torch.load(arguments.start, weights_only=True)
    model.load_state_dict(state["model"], strict=False)
    average = _continued(model, state["optimizer"], rows, batches)
    share = arguments.share
    mixed = {
        name: share * average.get(name, value) + (1 - share) * value
        if value.is_floating_point()
        else value
        for name, value in state["model"].items()
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    step = state["step"] + len(batches)
    torch.save({"step": step, "model": mixed}, arguments.out / "checkpoint.pt")


def _continued(
    model: NameModel,
    optimizer_state: dict,
    rows: list[tuple[list[int], ...]],
    batches: list[list[int]],
) -> dict[str, torch.Tensor]:
    """Weights averaged over about the last thirty steps."""
    body = [p for p in model.body.parameters() if p.requires_grad]
    groups = [{"params": body}, {"params": model.head.parameters()}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    optimizer.load_state_dict(optimizer_state)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    average = {name: p.detach().clone() for name, p in trained.items()}
    model.train()
    for k, batch in enumerate(batches):
        factor = min((k + 1) / WARM, 1) * max(0.02, 1 - k / len(batches))
        for group, rate in zip(optimizer.param_groups, RATES, strict=True):
            group["lr"] = factor * rate
        loss = _loss(model, [rows[i] for i in batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, value in trained.items():
                average[name].lerp_(value, 1 - min(0.97, (k + 1) / (k + 11)))
        if (k + 1) % 20 == 0:
            print(k + 1, f"loss {loss.item():.4f}", flush=True)
    return average


if __name__ == "__main__":
    main()
