"""Train the small Llama-type model of the router's demo, from nothing, on invented public texts.

It is to know and to read: without a record, the answer is what is usual in the invented public
world; with one before the question, the answer comes from the record. It also learns to judge
statements, about the public world alone (`assets/README.md` has the figures). A run that was
stopped goes on from its checkpoint. One thread and fixed seeds; that two runs give the same bytes
was not checked. About nine minutes of one core.

Example:
    nice -n 5 python scripts/pretrain_router_model.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from pretraining import (
    CONTEXT,
    EOS,
    Shape,
    begin,
    new_model,
    say,
    schedule,
    train_tokenizer,
    weights_of,
    write,
)
from router_records import (
    ASSETS,
    SENTENCES,
    STATED,
    Lesson,
    World,
    check,
    first_lesson,
    lesson,
    note,
    plain_lesson,
    turn,
)
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

# Tensor names: B texts, T tokens.
_SHAPE = Shape(hidden=128, intermediate=256, layers=4, init=0.08)
"""At the usual deviation of 0.02 attention stays flat for too long."""
_BYTES_MAX = 3_400_000
_ECHO_STEPS = 100
_ECHO_LENGTH = 20
_FIRST_STEPS = 500
_TOKENIZER_TEXTS = 6000
_READ_WEIGHT = 0.1  # of a token that is not part of an answer
_WARM_UP = 0.02
_SAVE_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is trained, and for how long."""

    vocabulary: int
    steps: int
    batch: int
    plain: int
    learning_rate: float
    seed: int
    checkpoint: Path


def rows_of(texts: Sequence[Lesson], tokenizer: PreTrainedTokenizerFast) -> list[Tensor]:
    """One tensor a text: tokens, and the weight of each as a target, in thousandths."""
    pieces = [piece for text in texts for piece, _ in text.pieces]
    ids = iter(tokenizer(pieces, add_special_tokens=False)["input_ids"])
    found = []
    for text in texts:
        row, weights = [tokenizer.bos_token_id], [0]
        for _, times in text.pieces:
            piece = next(ids)
            row += piece
            weights += [round(1000 * (times or _READ_WEIGHT))] * len(piece)
        found.append(torch.tensor([row[:CONTEXT], weights[:CONTEXT]]))
    return found


def batches(plan: Plan, tokenizer: PreTrainedTokenizerFast, step: int) -> Iterator[list[Tensor]]:
    """What each step learns, from `step` on: pairs (tokens, weights), each of shape (2, B, T).

    First to repeat rows of random tokens, which makes the heads that copy; then single questions on
    records of which nothing can be guessed, and single ones without a record; then three questions
    on a record of the public world, and single ones without. Rows with and without a record are
    batches of their own: the short ones are not padded to the long ones.
    """
    world = World()
    while True:
        rng = Random(f"batch {plan.seed} {step}")  # noqa: S311 - training text
        parts = []
        if step < _FIRST_STEPS:
            parts.append(_echo(rng, tokenizer, 2 * plan.batch))
        if step >= _ECHO_STEPS:
            read = first_lesson if step < _FIRST_STEPS else lesson
            for made, count in ((read, plan.batch), (plain_lesson, plan.plain)):
                texts = [made(rng, world) for _ in range(count)]
                parts.append(_padded(rows_of(texts, tokenizer)))
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


class Optimizers:
    """Muon for the matrices between the embeddings, AdamW for the rest, on one schedule."""

    def __init__(self, model: LlamaForCausalLM, rate: float) -> None:
        inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
        rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
        self._rate = rate
        self._both = (
            torch.optim.Muon(inner, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.02),
        )

    def step(self, done: float) -> None:
        """Move the weights, after the part `done` of the run."""
        for optimizer in self._both:
            for group in optimizer.param_groups:
                group["lr"] = self._rate * schedule(done, warm_up=_WARM_UP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, object]]:
        """What a checkpoint keeps."""
        return [optimizer.state_dict() for optimizer in self._both]

    def restore(self, states: Sequence[dict[str, object]]) -> None:
        """Go on from a checkpoint."""
        for optimizer, state in zip(self._both, states, strict=True):
            optimizer.load_state_dict(state)


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, plan: Plan) -> int:
    """Warm-up and cosine decay over `plan.steps`; returns the steps done here."""
    optimizers = Optimizers(model, plan.learning_rate)
    first = _resume(plan.checkpoint, model, optimizers)
    start = time.process_time()
    for step, parts in enumerate(batches(plan, tokenizer, first), first):
        if step >= plan.steps:
            break
        losses = torch.stack([loss_of(model, part) for part in parts])
        losses.sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step(step / plan.steps)
        if (step + 1) % 50 == 0:
            shown = "  ".join(f"{loss:.3f}" for loss in losses.tolist())
            say(f"step {step + 1:5d}  loss {shown}  {time.process_time() - start:.0f} s of CPU")
        if (step + 1) % _SAVE_STEPS == 0:
            _save(plan.checkpoint, model, optimizers, step + 1)
    return plan.steps - first


def figures(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int) -> list[str]:
    """How often the answer is exactly right, by kind, greedily.

    With a record: its condition and drug stand together in no training text. Without one: right is
    what is usual in the public world. Checks: half of the statements are wrong.
    """
    world, rng = World(), Random("figures")  # noqa: S311 - test texts
    held_out = [(c, d) for c in world.conditions for d in world.drugs if world.held_out(c, d)]
    found = []
    for kind in (*SENTENCES, "word", *(f"check {kind}" for kind in STATED)):
        with_record, without = [], []
        for _ in range(count):
            condition, drug = rng.choice(held_out)
            facts = replace(world.any_facts(rng, condition), drug=drug)
            typical = world.typical(condition)
            for those, asked, record in (
                (facts, with_record, f"record: {note(rng, world, facts)}\n"),
                (typical, without, ""),
            ):
                name = kind.removeprefix("check ")
                is_check = name != kind
                pair = check(rng, world, those, name) if is_check else turn(rng, kind, those)
                asked.append((f"{record}question: {pair[0]}\nanswer:", pair[1]))
        shares = [_share_right(model, tokenizer, asked) for asked in (with_record, without)]
        found.append(f"{kind:16s} with record {shares[0]:.2f}  without {shares[1]:.2f}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, train, write the folder and print its scores."""
    folder, plan = _options(arguments)
    begin(plan.seed, threads=1)
    rng, world = Random(f"tokenizer {plan.seed}"), World()  # noqa: S311 - training text
    texts = [lesson(rng, world) for _ in range(_TOKENIZER_TEXTS)]
    plain = ["".join(piece.removesuffix(EOS) for piece, _ in text.pieces) for text in texts]
    # Names weigh more here than in the texts, so that most of them get a token of their own.
    names = [f" {name}" for name in (*world.conditions, *world.drugs)] * 400
    tokenizer = train_tokenizer([*plain, *names], plan.vocabulary, digits=3)
    model = new_model(tokenizer, _SHAPE, bytes_max=_BYTES_MAX)
    whole = sum(len(tokenizer.tokenize(f" {drug}")) == 1 for drug in world.drugs)
    say(
        f"{weights_of(model)} weights, {len(tokenizer)} tokens, "
        f"{whole} of {len(world.drugs)} drugs are one"
    )
    steps = train(model, tokenizer, plan)
    write(model, tokenizer, folder)
    say(f"{steps} steps; written to {folder}")
    for line in figures(model, tokenizer, 100):
        say(line)


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


def _resume(path: Path, model: LlamaForCausalLM, optimizers: Optimizers) -> int:
    """How many steps the run did that stopped here; 0 without one."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizers.restore(state["optimizers"])
    say(f"going on after step {state['step']}")
    return int(state["step"])


def _save(path: Path, model: LlamaForCausalLM, optimizers: Optimizers, step: int) -> None:
    """Write the checkpoint beside its place, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    state = {"model": model.state_dict(), "optimizers": optimizers.state()}
    torch.save(state | {"step": step}, new)
    new.replace(path)


def _options(arguments: Sequence[str] | None) -> tuple[Path, Plan]:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ASSETS / "model", help="folder to write")
    parser.add_argument("--vocabulary", type=int, default=1100, help="tokens")
    parser.add_argument("--steps", type=int, default=1500, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=8, help="texts with a record a step")
    parser.add_argument("--plain", type=int, default=24, help="texts without one a step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=40510)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/router_model.pt"))
    fields = vars(parser.parse_args(arguments))
    return fields.pop("output"), Plan(**fields)


if __name__ == "__main__":
    main()
