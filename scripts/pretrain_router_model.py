"""Train the small Llama-type model of the router's demo, from nothing, on invented public texts.

What it is to learn is to read: with a record before the question, the answer comes from the record;
without one, or about something else, from what is usual in the invented public world. Loads with
`AutoModelForCausalLM.from_pretrained` and no network. A run that was stopped goes on from its
checkpoint. About 15 minutes on one quiet core.

Example:
    OMP_NUM_THREADS=1 nice -n 5 python scripts/pretrain_router_model.py --steps 1900
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from router_records import (
    ASSETS,
    RECORD_SHARE,
    SENTENCES,
    Lesson,
    World,
    first_lesson,
    lesson,
    note,
    turn,
)
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# Tensor names: B texts, T tokens.
PAD, BOS, EOS = "<pad>", "<s>", "</s>"
CONTEXT = 256
_PIECES = r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
_ECHO_STEPS = 120
_ECHO_LENGTH = 20
_FIRST_STEPS = 900
_TOKENIZER_TEXTS = 6000
_READ_WEIGHT = 0.1  # of a token that is not part of an answer
_WARM_UP = 0.02
_INIT = 0.08
_BYTES_MAX = 3_100_000
_SAVE_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is trained, and for how long."""

    vocabulary: int
    steps: int
    batch: int
    learning_rate: float
    seed: int
    checkpoint: Path


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A lossless byte-level BPE; encoding starts with the BOS token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, BOS, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, bpe.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of about 750,000 weights; embeddings are tied."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=_INIT,  # at the usual 0.02, attention stays flat for too long
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def rows_of(texts: Sequence[Lesson], tokenizer: PreTrainedTokenizerFast) -> list[Tensor]:
    """One tensor a text: tokens, and the weight of each as a target, in thousandths."""
    pieces = [piece for text in texts for piece, _ in text.pieces]
    ids = iter(tokenizer(pieces, add_special_tokens=False)["input_ids"])
    found = []
    for text in texts:
        row, weights = [tokenizer.bos_token_id], [0]
        for _, is_answer in text.pieces:
            piece = next(ids)
            row += piece
            weights += [1000 if is_answer else round(1000 * _READ_WEIGHT)] * len(piece)
        found.append(torch.tensor([row[:CONTEXT], weights[:CONTEXT]]))
    return found


def batches(plan: Plan, tokenizer: PreTrainedTokenizerFast, step: int) -> Iterator[list[Tensor]]:
    """What each step learns, from `step` on: pairs (tokens, weights), each of shape (2, B, T).

    First to repeat rows of random tokens, which makes the heads that copy; then single questions on
    records, with some repeating left; then the public world as it is.
    """
    world = World()
    while True:
        rng = Random(f"batch {plan.seed} {step}")  # noqa: S311 - training text
        parts = []
        if step < _FIRST_STEPS:
            size = 2 * plan.batch if step < _ECHO_STEPS else plan.batch
            parts.append(_echo(rng, tokenizer, size))
        if step >= _FIRST_STEPS:
            texts = [
                lesson(rng, world, with_record=rng.random() < RECORD_SHARE)
                for _ in range(plan.batch)
            ]
            parts.append(_padded(rows_of(texts, tokenizer)))
        elif step >= _ECHO_STEPS:
            parts.append(
                _padded(rows_of([first_lesson(rng, world) for _ in range(plan.batch)], tokenizer))
            )
        yield parts
        step += 1


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows as one batch; padding weighs nothing."""
    return torch.nn.utils.rnn.pad_sequence([row.T for row in rows], batch_first=True).permute(
        2, 0, 1
    )


def _echo(rng: Random, tokenizer: PreTrainedTokenizerFast, size: int) -> Tensor:
    """Random tokens, and the same again: only the second half weighs."""
    rows = []
    for _ in range(size):
        ids = [rng.randrange(3, len(tokenizer)) for _ in range(_ECHO_LENGTH)]
        weights = [0] * (1 + len(ids)) + [1000] * len(ids)
        rows.append([[tokenizer.bos_token_id, *ids, *ids], weights])
    return torch.tensor(rows).permute(1, 0, 2)


def loss_of(model: LlamaForCausalLM, batch: Tensor) -> Tensor:
    """Weighted mean of the negative log-likelihood. Padding is on the right: nothing sees it."""
    tokens_BT, weights_BT = batch[0], batch[1, :, 1:].float()
    logits = model(input_ids=tokens_BT[:, :-1]).logits
    losses = functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), tokens_BT[:, 1:].reshape(-1), reduction="none"
    )
    return (losses * weights_BT.reshape(-1)).sum() / weights_BT.sum()


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, plan: Plan) -> int:
    """AdamW with warm-up and cosine decay over `plan.steps`; returns the steps done here."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.02
    )
    first = _resume(plan.checkpoint, model, optimizer)
    start = time.monotonic()
    for step, parts in enumerate(batches(plan, tokenizer, first), first):
        if step >= plan.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * _schedule(step / plan.steps)
        loss = torch.stack([loss_of(model, part) for part in parts]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            _say(f"step {step + 1:5d}  loss {loss.item():.3f}  {time.monotonic() - start:.0f} s")
        if (step + 1) % _SAVE_STEPS == 0:
            _save(plan.checkpoint, model, optimizer, step + 1)
    return plan.steps - first


def figures(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> list[str]:
    """How often the answer is exactly right, by kind: greedy, over combinations never trained on.

    With a record, its condition and drug stand together in no training text. Without one, the
    answer is compared with another public patient's: nobody can be always right there.
    """
    world, rng = World(), Random("figures")  # noqa: S311 - test texts
    held_out = [(c, d) for c in world.conditions for d in world.drugs if world.held_out(c, d)]
    found = []
    for kind in (*SENTENCES, "word", "check"):
        with_record, without = [], []
        for _ in range(count):
            condition, drug = rng.choice(held_out)
            facts = world.any_facts(rng, condition)
            facts = type(facts)(**{**_fields(facts), "drug": drug})
            other = facts if rng.random() < 0.5 else world.any_facts(rng, condition)
            question, answer = turn(rng, kind, facts, other)
            text = note(rng, world, facts)
            with_record.append((f"record: {text}\nquestion: {question}\nanswer:", answer))
            usual = world.usual(rng, condition)
            question, answer = turn(rng, kind, usual, usual)
            without.append((f"question: {question}\nanswer:", answer))
        shares = [_share_right(model, tokenizer, asked) for asked in (with_record, without)]
        found.append(f"{kind:10s} with record {shares[0]:.3f}  without {shares[1]:.3f}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, train, write the folder and print its scores."""
    folder, plan = _options(arguments)
    torch.manual_seed(plan.seed)
    rng, world = Random(f"tokenizer {plan.seed}"), World()  # noqa: S311 - training text
    texts = [lesson(rng, world, with_record=True) for _ in range(_TOKENIZER_TEXTS)]
    plain = ["".join(piece.removesuffix(EOS) for piece, _ in text.pieces) for text in texts]
    # Names weigh more here than in the texts, so that most of them get a token of their own.
    names = [f" {name}" for name in (*world.conditions, *world.drugs)] * 400
    tokenizer = train_tokenizer([*plain, *names], plan.vocabulary)
    model = new_model(tokenizer)
    weights = sum(p.numel() for p in model.parameters())
    whole = sum(len(tokenizer.tokenize(f" {drug}")) == 1 for drug in world.drugs)
    _say(f"{weights} weights, {len(tokenizer)} tokens, {whole} of {len(world.drugs)} drugs are one")
    if 4 * weights > _BYTES_MAX:
        sys.exit(f"{4 * weights} bytes of weights, at most {_BYTES_MAX} wanted")
    steps = train(model, tokenizer, plan)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _say(f"{steps} steps; written to {folder}")
    for line in figures(model, tokenizer, 100):
        _say(line)


def _share_right(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    asked: Sequence[tuple[str, str]],
) -> float:
    """Share of prompts that are continued, greedily, with exactly the answer and the end."""
    right = 0
    for prompt, answer in asked:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        want = tokenizer(f" {answer}{EOS}", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=torch.cat([ids, torch.tensor([want[:-1]])], dim=1)).logits
        right += logits[0, ids.shape[1] - 1 :].argmax(-1).tolist() == want
    return right / len(asked)


def _fields(facts: Any) -> dict[str, Any]:
    """A facts value as a mapping."""
    return {name: getattr(facts, name) for name in facts.__dataclass_fields__}


def _resume(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer) -> int:
    """How many steps the run did that stopped here; 0 without one."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    _say(f"going on after step {state['step']}")
    return int(state["step"])


def _save(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the checkpoint beside its place, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"step": step}, new)
    new.replace(path)


def _schedule(done: float) -> float:
    """The learning-rate factor after the part `done` of the run."""
    if done < _WARM_UP:
        return (done + 0.001) / (_WARM_UP + 0.001)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))


def _options(arguments: Sequence[str] | None) -> tuple[Path, Plan]:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ASSETS / "model", help="folder to write")
    parser.add_argument("--vocabulary", type=int, default=1200, help="tokens")
    parser.add_argument("--steps", type=int, default=1900, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=12, help="texts a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=40510)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/router_model.pt"))
    fields = vars(parser.parse_args(arguments))
    return fields.pop("output"), Plan(**fields)


def _say(line: str) -> None:
    """Progress, one line at a time."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
