"""Pre-train the small Llama-type model the demo fine-tunes, on this project's general texts.

Writes config, weights (float32 safetensors) and tokenizer to a folder that
`AutoModelForCausalLM.from_pretrained` loads without a network. The tokenizer is byte-level, so any
text survives a round trip, and splits digits one by one. About 10 minutes on 2 cores.

Example:
    OMP_NUM_THREADS=2 python scripts/pretrain_sample_model.py --steps 3000
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pretraining import (
    CONTEXT,
    Shape,
    begin,
    new_model,
    say,
    schedule,
    train_tokenizer,
    weights_of,
    write,
)
from sample_records import ASSETS, public_texts
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

# Tensor names: B sequences, T tokens.
_SHAPE = Shape(hidden=96, intermediate=224, layers=3)
_LIST_TEXTS, _PLAIN_TEXTS = 5000, 5000
_WARM_UP = 0.05
_WEIGHT_LIMIT_BYTES = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is trained on what, and for how long."""

    texts: int
    vocabulary: int
    steps: int
    minutes: float
    batch: int
    learning_rate: float
    seed: int


def blocks_of(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Rows of `CONTEXT` tokens, each starting where a text starts; the last text is cut."""
    rows: list[list[int]] = []
    row: list[int] = []
    for ids in tokenizer(list(texts))["input_ids"]:
        row += [*ids, tokenizer.eos_token_id]
        if len(row) >= CONTEXT:
            rows.append(row[:CONTEXT])
            row = []
    return torch.tensor(rows)


def perplexity(model: LlamaForCausalLM, tokens_BT: Tensor) -> float:
    """Perplexity per token over full rows."""
    model.eval()
    with torch.no_grad():
        losses = [model(input_ids=part, labels=part).loss for part in torch.split(tokens_BT, 16)]
    model.train()
    return math.exp(float(torch.stack(losses).mean()))


def train(model: LlamaForCausalLM, rows_BT: Tensor, plan: Plan) -> None:
    """AdamW with warm-up and cosine decay, over `plan.steps` or `plan.minutes`, the earlier."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=0.05
    )
    start = time.monotonic()
    for step, tokens_BT in enumerate(_batches(rows_BT, plan)):
        elapsed_min = (time.monotonic() - start) / 60
        done = max(step / plan.steps, elapsed_min / plan.minutes)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * schedule(done, warm_up=_WARM_UP)
        loss = model(input_ids=tokens_BT, labels=tokens_BT).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            say(f"step {step:5d}  loss {loss.item():.3f}  {elapsed_min:.1f} min")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, train, write the folder and print its scores."""
    folder, plan = _options(arguments)
    begin(plan.seed)
    texts = list(public_texts(count=plan.texts, seed=plan.seed))
    held_out = list(public_texts(count=600, seed=plan.seed + 1))
    # Word lists weigh more here than in training, so that rare words get tokens of their own too.
    words = list(public_texts(count=_LIST_TEXTS, seed=plan.seed, kind="gloss"))
    tokenizer = train_tokenizer([*texts[:_PLAIN_TEXTS], *words], plan.vocabulary)
    rows_BT, held_out_BT = blocks_of(texts, tokenizer), blocks_of(held_out, tokenizer)
    model = new_model(tokenizer, _SHAPE, bytes_max=_WEIGHT_LIMIT_BYTES)
    size_mb = sum(map(len, texts)) / 1e6
    weights, tokens = weights_of(model), rows_BT.numel()
    say(f"{weights} weights, {size_mb:.1f} MB of text, {tokens} tokens, seed {plan.seed}")
    train(model, rows_BT, plan)
    say(f"public held-out perplexity per token {perplexity(model, held_out_BT):.2f}")
    write(model, tokenizer, folder)
    say(f"written to {folder}")


def _batches(rows_BT: Tensor, plan: Plan) -> Iterator[Tensor]:
    """Seeded epochs over the rows, without end."""
    generator = torch.Generator().manual_seed(plan.seed)
    while True:
        order = torch.randperm(len(rows_BT), generator=generator)
        for part in torch.split(order, plan.batch):
            if len(part) == plan.batch:
                yield rows_BT[part]


def _options(arguments: Sequence[str] | None) -> tuple[Path, Plan]:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ASSETS / "model", help="folder to write")
    parser.add_argument("--texts", type=int, default=40_000, help="general texts to generate")
    parser.add_argument("--vocabulary", type=int, default=2048, help="tokens")
    parser.add_argument("--steps", type=int, default=1300, help="optimizer steps at most")
    parser.add_argument("--minutes", type=float, default=30.0, help="minutes at most")
    parser.add_argument("--batch", type=int, default=16, help="rows of 256 tokens per step")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=20260)
    fields = vars(parser.parse_args(arguments))
    return fields.pop("output"), Plan(**fields)


if __name__ == "__main__":
    main()
