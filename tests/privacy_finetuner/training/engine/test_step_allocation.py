"""What a step allocates, against the bound that the engine's docstring states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers.pytorch_utils import Conv1D

from privacy_finetuner.training.engine import Clip, ClippedGradient, rules
from privacy_finetuner.training.objectives import Objective, public_probe

CLIP = Clip(0.5)
FLOAT_BYTES = 4
WIDE_BYTES = 8
# Masks, factors and norms: numbers of the size of a batch, not of a layer.
SMALL_BYTES = 2**18


def peak_bytes(act: Callable[[], object]) -> int:
    """The most that was allocated at once while `act` ran, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        act()
    events = recorded.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most


@contextmanager
def counted(model: nn.Module) -> Iterator[dict[str, int]]:
    """Count the numbers of inputs, outputs and per-example vectors of the trained layers."""
    found = {"inputs": 0, "outputs": 0, "vectors": 0}

    def note(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(module, nn.Linear | Conv1D | nn.Embedding):
            found["outputs"] += output.numel()
        if isinstance(module, nn.Linear | Conv1D):
            found["inputs"] += args[0].numel()
        sizes = [p.numel() for p in module.parameters(recurse=False) if p.ndim == 1]
        found["vectors"] += len(args[0]) * sum(sizes)

    leaves = [m for m in model.modules() if not list(m.children()) and list(m.parameters())]
    handles = [m.register_forward_hook(note) for m in leaves]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def bound_and_peak(model: Any, micro_batches: int = 1, length: int = 96) -> tuple[int, int]:
    """The stated bound on the bytes of a step of some equal micro-batches, and what it took."""
    objective = Objective("causal_lm", int(model.config.vocab_size))
    batch = public_probe(
        objective, vocabulary=40, device=torch.device("cpu"), examples=4, length=length
    )

    def plain() -> None:
        losses_B, _ = objective(model, batch)
        losses_B.sum().backward()
        model.zero_grad(set_to_none=True)

    with counted(model) as found:
        objective(model, batch)
    plain()  # buffers made at first use
    plain_peak = peak_bytes(plain)
    engine = ClippedGradient(model, objective)
    engine.add(batch, CLIP)
    engine.take(CLIP)

    def ours() -> None:
        for _ in range(micro_batches):
            engine.add(batch, CLIP)
        engine.take(CLIP)

    pieces = 3 * min(rules.PIECE_NUMBERS, batch["input_ids"].numel() * length)
    wide = sum(p.numel() for p in engine.parameters) * WIDE_BYTES * (micro_batches > 1)
    numbers = sum(found.values()) + pieces
    return plain_peak + FLOAT_BYTES * numbers + wide + SMALL_BYTES, peak_bytes(ours)


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt2-tied"])
def test_a_step_allocates_at_most_what_is_stated(
    name: str, micro_batches: int, make_model: Callable[..., Any]
) -> None:
    family, _, variant = name.partition("-")
    model = make_model(family, tied=variant == "tied", vocabulary=1500, hidden=64)
    bound, peak = bound_and_peak(model, micro_batches)
    assert peak <= bound


def test_gradients_of_every_example_would_not_stay_within_it(
    make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "KEEP_ROOM", 1e9)
    bound, peak = bound_and_peak(make_model("gpt2", vocabulary=1500, hidden=256), length=32)
    assert peak > bound
