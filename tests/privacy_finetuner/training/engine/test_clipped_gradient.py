"""The clipped sum against a loop over examples that shares no code with the engine.

Each reference gradient is that of the unpadded example alone, under Hugging Face's own loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine import (
    Clip,
    ClippedGradient,
    ClipRule,
    ExampleLoop,
    clipped_gradient,
    make_gradient,
    rules,
)
from privacy_finetuner.training.lora import LoraSettings, apply_lora
from privacy_finetuner.training.objectives import IGNORED, Objective, public_probe

MakeModel = Callable[..., Any]
Batch = dict[str, Tensor]
LENGTHS = (9, 4, 7, 2, 9)
CLIP = Clip(0.5)
CAUSAL = Objective("causal_lm", 40)
CLASSES = Objective("sequence_classification", 3)


def batch_of(task: str, lengths: tuple[int, ...] = LENGTHS, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mask = torch.stack([(torch.arange(width) < n).long() for n in lengths])
    ids = torch.randint(3, 40, mask.shape, generator=generator) * mask
    if task == "causal_lm":
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": ids.masked_fill(mask == 0, IGNORED),
        }
    labels = torch.randint(0, 3, (len(lengths),), generator=generator)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def rows(batch: Batch, at: slice) -> Batch:
    return {name: values[at] for name, values in batch.items()}


def lora(model: Any) -> Any:
    adapted = apply_lora(model, LoraSettings(rank=3, dropout=0.0), "causal_lm")
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:  # as made they are zero, and then nothing reaches lora_A
                parameter.copy_(torch.sin(torch.arange(parameter.numel()) * 1.0).view_as(parameter))
    return adapted


def model_named(name: str, make_model: MakeModel) -> tuple[Any, Objective]:
    family, _, variant = name.partition("-")
    model = make_model(family, tied=variant == "tied")
    if variant == "lora":
        model = lora(model)
    return model, CLASSES if family in ("bert", "albert") else CAUSAL


def lone_gradient(model: Any, batch: Batch, i: int) -> list[Tensor]:
    """The gradient of example i alone and without padding, by Hugging Face's loss."""
    length = int(batch["attention_mask"][i].sum())
    labels = batch["labels"][i : i + 1]
    output = model(
        input_ids=batch["input_ids"][i : i + 1, :length],
        labels=labels[:, :length] if labels.ndim == 2 else labels,
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(output.loss, trained, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(trained, found, strict=True)]


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])


def brute_force(model: Any, batch: Batch, bound: float) -> Tensor:
    singles = [flat(lone_gradient(model, batch, i)) for i in range(len(batch["labels"]))]
    return torch.stack([g * min(1.0, bound / float(g.norm())) for g in singles]).sum(dim=0)


def median_norm(model: Any, batch: Batch) -> float:
    norms = [
        float(flat(lone_gradient(model, batch, i)).norm()) for i in range(len(batch["labels"]))
    ]
    return sorted(norms)[len(norms) // 2]


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def summed(engine: Any, batch: Batch, clip: Clip, micro_batch: int | None = None) -> Tensor:
    count = len(batch["labels"])
    size = micro_batch or count
    for start in range(0, count, size):
        engine.add(rows(batch, slice(start, start + size)), clip)
    return flat(engine.take(clip).tensors)


MODELS = [
    "gpt2", "gpt2-tied", "llama", "llama-tied", "bert", "llama-lora", "gpt2-lora", "gemma-tied",
    "albert", "opt",
]  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_clipped_sum_is_that_of_a_loop_over_examples(name: str, make_model: MakeModel) -> None:
    model, objective = model_named(name, make_model)
    batch = batch_of(objective.task)
    probe = public_probe(objective, vocabulary=40, device=torch.device("cpu"))
    bound = median_norm(model, batch)  # some examples are clipped, some are not
    expected = brute_force(model, batch, bound)
    engine, story = make_gradient(model, objective, probe)
    assert isinstance(engine, ClippedGradient), story
    for micro_batch in (1, 3, None):
        found = summed(engine, batch, Clip(bound), micro_batch)
        assert error(found, expected) <= 1e-5, (name, micro_batch)


@pytest.mark.parametrize("name", ["gpt2-tied", "llama", "bert", "albert"])
def test_as_many_positions_as_examples_confuses_nothing(name: str, make_model: MakeModel) -> None:
    model, objective = model_named(name, make_model)
    batch = batch_of(objective.task, (4, 4, 4, 4))
    engine = ClippedGradient(model, objective)
    found = summed(engine, batch, CLIP)
    assert error(found, brute_force(model, batch, CLIP.clip_norm)) <= 1e-5


PATHS = {
    "as set": {},
    "gram, whole": {"KEEP_ROOM": 0.0},
    "gram, in blocks": {"KEEP_ROOM": 0.0, "PIECE_NUMBERS": 1000},
    "instantiated again": {"KEEP_ROOM": 0.0, "PIECE_NUMBERS": 300},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["gpt2-tied", "llama"])
def test_every_way_to_a_norm_gives_the_same_sum_on_long_texts(
    name: str, path: str, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for constant, value in PATHS[path].items():
        monkeypatch.setattr(rules, constant, value)
    model, objective = model_named(name, make_model)
    batch = batch_of(objective.task, (96, 33, 70))
    bound = median_norm(model, batch)
    engine = ClippedGradient(model, objective)
    assert error(summed(engine, batch, Clip(bound)), brute_force(model, batch, bound)) <= 1e-5


def test_a_short_context_takes_the_gram_path_too(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "KEEP_ROOM", 0.0)
    model = make_model("llama", hidden=32)
    batch = batch_of("causal_lm", (5, 3, 4))
    engine = ClippedGradient(model, CAUSAL)
    found = summed(engine, batch, CLIP)
    assert error(found, brute_force(model, batch, CLIP.clip_norm)) <= 1e-5


@pytest.mark.parametrize("name", ["gpt2-tied", "llama", "llama-lora"])
def test_activation_checkpointing_changes_nothing(name: str, make_model: MakeModel) -> None:
    model, objective = model_named(name, make_model)
    batch = batch_of(objective.task)
    expected = brute_force(model, batch, CLIP.clip_norm)
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    assert error(summed(ClippedGradient(model, objective), batch, CLIP), expected) <= 1e-5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_that_read_one_tensor_share_its_gram_matrix(
    checkpointing: bool, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "KEEP_ROOM", 0.0)
    groups: list[int] = []

    def joint(products: list[tuple[Tensor, Tensor]]) -> Tensor:
        groups.append(len(products))
        return rules.joint_norms_squared(products)

    monkeypatch.setattr(clipped_gradient, "joint_norms_squared", joint)
    model = make_model("llama")
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    batch = batch_of("causal_lm")
    bound = median_norm(model, batch)
    found = summed(ClippedGradient(model, CAUSAL), batch, Clip(bound))
    assert error(found, brute_force(model, batch, bound)) <= 1e-5
    # Of each of two blocks: q, k and v; o; gate and up; down. And the head.
    assert sorted(groups) == [1, 1, 1, 1, 1, 2, 2, 3, 3]


def test_equal_inputs_at_another_place_are_not_taken_for_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "KEEP_ROOM", 0.0)

    class Halves(nn.Module):
        """Two layers on two halves of one tensor: one memory, two places."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x_BTD: Tensor) -> Tensor:
            one, two = x_BTD.chunk(2, dim=1)
            return (self.first(one) + self.second(two)).sum(dim=(1, 2))

    model = Halves()
    batch = toy_batch([1.0, 2.0, 3.0])
    batch["x"] = torch.cat([batch["x"], 2 * batch["x"]], dim=1)
    expected = torch.zeros(1)
    for i in range(3):
        losses_B, _ = toy_loss(model, rows(batch, slice(i, i + 1)))
        single = flat(list(torch.autograd.grad(losses_B.sum(), list(model.parameters()))))
        expected = expected + single * min(1.0, CLIP.clip_norm / float(single.norm()))
    assert error(summed_toy(ClippedGradient(model, toy_loss), batch, CLIP), expected) <= 1e-5


def test_the_loop_engine_gives_the_same_sum(make_model: MakeModel) -> None:
    model = make_model("gpt2", tied=True)
    batch = batch_of("causal_lm")
    found = summed(ExampleLoop(model, CAUSAL), batch, CLIP, 3)
    assert error(found, brute_force(model, batch, CLIP.clip_norm)) <= 1e-5


def test_normalising_scales_short_and_long_gradients_to_just_below_the_bound(
    make_model: MakeModel,
) -> None:
    model = make_model("llama")
    batch = batch_of("causal_lm")
    clip = Clip(0.25, ClipRule.NORMALISE)
    engine = ClippedGradient(model, CAUSAL)
    for i in range(len(LENGTHS)):
        part = summed(engine, rows(batch, slice(i, i + 1)), clip)
        single = flat(lone_gradient(model, batch, i))
        expected = single * 0.25 / (single.norm() + 0.0025)
        assert error(part, expected) <= 1e-5
        assert part.norm() < 0.25


@pytest.mark.parametrize("rule", list(ClipRule))
@pytest.mark.parametrize("seed", range(4))
def test_leaving_one_example_out_moves_the_sum_by_at_most_the_bound(
    rule: ClipRule, seed: int, make_model: MakeModel
) -> None:
    model = make_model("gpt2", tied=True, seed=seed)
    with torch.no_grad():  # gradients from ordinary to enormous
        for parameter in model.parameters():
            parameter.mul_(10.0 ** (seed - 1))
    batch = batch_of("causal_lm", seed=seed)
    clip = Clip(0.1, rule)
    engine = ClippedGradient(model, CAUSAL)
    whole = summed(engine, batch, clip)
    for i in range(len(LENGTHS)):
        others = [j for j in range(len(LENGTHS)) if j != i]
        rest = summed(engine, {k: v[others] for k, v in batch.items()}, clip)
        assert (whole - rest).norm() <= 0.1 * (1 + 1e-5)


class Toy(nn.Module):
    """A linear layer on given vectors, with the square of a given multiple as the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 6)
        self.outer = nn.Linear(6, 1)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.outer(self.inner(x_BTD)).sum(dim=(1, 2))


def toy_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    output_B = model(batch["x"])
    return output_B * batch["scale"], torch.zeros(len(output_B))


def toy_batch(scales: list[float], x: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(7)
    count = len(scales)
    return {
        "x": torch.zeros(count, 5, 4).normal_(generator=generator) * x,
        "scale": torch.tensor(scales),
    }


@pytest.mark.parametrize("engine_type", [ClippedGradient, ExampleLoop])
@pytest.mark.parametrize("keep", [0.0, 1.0, 1e9])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e20, 3e37])
@pytest.mark.parametrize("x", [1e-10, 1.0, 1e10, 1e17])
@pytest.mark.parametrize("rule", list(ClipRule))
def test_no_size_of_gradient_or_activation_passes_the_bound(
    engine_type: type,
    keep: float,
    scale: float,
    x: float,
    rule: ClipRule,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "KEEP_ROOM", keep)
    engine = engine_type(Toy(), toy_loss)
    batch = toy_batch([scale], x)
    clip = Clip(0.7, rule)
    part = summed_toy(engine, batch, clip)
    assert bool(torch.isfinite(part).all())
    assert part.norm() <= 0.7 * (1 + 1e-5)


def summed_toy(engine: Any, batch: Batch, clip: Clip) -> Tensor:
    engine.add(batch, clip)
    return flat(engine.take(clip).tensors)


class Overflow(torch.autograd.Function):
    """The identity whose gradient is not finite for the examples that are marked."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, poison: Tensor) -> Tensor:
        ctx.save_for_backward(poison)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (poison,) = ctx.saved_tensors
        return gradients[0] + poison.view(-1, *[1] * (gradients[0].ndim - 1)), None


def poisoned_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    output_B = Overflow.apply(model(batch["x"]), batch["poison"])
    return output_B * batch["scale"], torch.zeros(len(output_B))


@pytest.mark.parametrize("engine_type", [ClippedGradient, ExampleLoop])
@pytest.mark.parametrize("keep", [0.0, 1.0, 1e9])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_a_gradient_that_is_not_finite_adds_nothing_and_disturbs_nobody(
    engine_type: type, keep: float, poison: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "KEEP_ROOM", keep)
    engine = engine_type(Toy(), poisoned_loss)
    batch = toy_batch([1.0, 1.0, 1.0])
    batch["poison"] = torch.tensor([0.0, poison, 0.0])
    with_it = summed_toy(engine, batch, CLIP)
    without = summed_toy(engine, {k: v[[0, 2]] for k, v in batch.items()}, CLIP)
    assert torch.allclose(with_it, without, rtol=1e-6, atol=1e-7)
    assert without.norm() > 0


@pytest.mark.parametrize("engine_type", [ClippedGradient, ExampleLoop])
@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_an_example_whose_loss_is_not_finite_is_as_if_absent(
    engine_type: type, scale: float
) -> None:
    model = Toy()
    before = flat(list(model.parameters()))
    engine = engine_type(model, toy_loss)
    batch = toy_batch([1.0, scale])
    found = summed_toy(engine, batch, CLIP)
    assert torch.equal(flat(list(model.parameters())), before)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    alone = summed_toy(engine, {name: values[:1] for name, values in batch.items()}, CLIP)
    assert torch.allclose(found, alone, rtol=1e-6, atol=1e-7)


def test_an_empty_logical_batch_sums_to_zeros() -> None:
    engine = ClippedGradient(Toy(), toy_loss)
    bounded = engine.take(CLIP)
    assert bounded.sensitivity == CLIP.clip_norm
    assert flat(bounded.tensors).norm() == 0


def test_frozen_parameters_are_neither_summed_nor_touched() -> None:
    model = Toy()
    model.inner.weight.requires_grad_(False)
    engine = ClippedGradient(model, toy_loss)
    assert len(engine.parameters) == 3
    engine.add(toy_batch([1.0, 2.0]), CLIP)
    assert not model.inner.weight.requires_grad
    assert model.inner.weight.grad is None


def hooks_of(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_taps_leave_no_trace(make_model: MakeModel) -> None:
    model = make_model("gpt2", tied=True)
    batch = batch_of("causal_lm")
    plain = model(**batch).logits.detach().clone()
    engine = ClippedGradient(model, CAUSAL)
    assert hooks_of(model) > 0
    engine.add(batch, CLIP)
    # Between steps the model answers anybody as if nobody listened, at any batch size.
    assert torch.equal(model(**batch).logits, plain)
    assert model.generate(batch["input_ids"][:1, :2], max_new_tokens=1).shape == (1, 3)
    model(**batch).loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    engine.close()
    assert hooks_of(model) == 0


def test_taps_leave_no_trace_after_an_exception() -> None:
    model = Toy()

    def broken(net: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        net(batch["x"])
        raise ZeroDivisionError

    engine = ClippedGradient(model, broken)
    with pytest.raises(ZeroDivisionError):
        engine.add(toy_batch([1.0]), CLIP)
    assert all(p.requires_grad for p in model.parameters())
    engine.close()
    assert hooks_of(model) == 0


def test_a_refused_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(UnsupportedLayer, match=r"1.*BatchNorm1d"):
        make_gradient(model, toy_loss, toy_batch([1.0]))
    assert hooks_of(model) == 0


def regression(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    output = model(batch["x"]).flatten(1)
    losses_B = mse_loss(output, torch.ones_like(output), reduction="none").mean(dim=1)
    return losses_B, torch.zeros(len(losses_B))


class Loose(nn.Module):
    """A parameter outside any layer that takes one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.shift = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor, *, twice: bool = True) -> Tensor:
        return self.layer(x) * self.shift * (2 if twice else 1)


class Doubled(nn.Linear):
    """A linear layer by name, another function by nature."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) ** 2


class Mixing(nn.Module):
    """Subtracts the batch mean: what one example gets depends on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        return out - out.mean(dim=0, keepdim=True) * 0.5


class Twice(nn.Module):
    """One that calls its layer with two arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Bilinear(4, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x)


@pytest.mark.parametrize("model_type", [lambda: Doubled(4, 4), Mixing])
def test_a_model_without_a_true_rule_falls_back_to_the_loop_and_says_so(
    model_type: Callable[[], nn.Module],
) -> None:
    model = model_type()
    batch = {"x": toy_batch([1.0, 1.0, 1.0])["x"]}
    engine, story = make_gradient(model, regression, batch)
    assert isinstance(engine, ExampleLoop)
    assert "slow" in story
    assert hooks_of(model) == 0
    expected = torch.zeros(1)
    for i in range(3):
        losses_B, _ = regression(model, {"x": batch["x"][i : i + 1]})
        single = flat(list(torch.autograd.grad(losses_B.sum(), list(model.parameters()))))
        expected = expected + single * min(1.0, CLIP.clip_norm / float(single.norm()))
    engine.add(batch, CLIP)
    assert error(flat(engine.take(CLIP).tensors), expected) <= 1e-5


@pytest.mark.parametrize("model_type", [Loose, Twice])
def test_parameters_that_no_layer_rule_fits_give_the_same_sum_in_one_pass(
    model_type: Callable[[], nn.Module],
) -> None:
    model = model_type()
    batch = {"x": toy_batch([1.0, 1.0, 1.0])["x"]}
    engine, story = make_gradient(model, regression, batch)
    assert isinstance(engine, ClippedGradient), story
    loop = ExampleLoop(model, regression)
    found, expected = (summed_x(e, batch) for e in (engine, loop))
    assert error(found, expected) <= 1e-5


def summed_x(engine: Any, batch: Batch) -> Tensor:
    engine.add(batch, CLIP)
    return flat(engine.take(CLIP).tensors)


class Forgetful(nn.Module):
    """A layer of its own kind with dropout inside: vmap cannot tell its masks."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        scaled = (x.unsqueeze(-2) * torch.sin(self.scale)).sum(dim=-2)
        return nn.functional.dropout(scaled, 0.5, self.training)


def test_a_rule_that_fails_in_train_mode_fails_before_training() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Forgetful())
    engine, story = make_gradient(model, regression, {"x": toy_batch([1.0, 1.0, 1.0])["x"]})
    assert isinstance(engine, ExampleLoop)
    assert "vmap cannot run it" in story


class Hoarder(nn.Linear):
    """Keeps a mean of what it saw: a checkpoint would publish it without noise."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.copy_(x.detach().mean(dim=(0, 1)))
        return super().forward(x)


@pytest.mark.parametrize("rest", [nn.Identity, lambda: Doubled(4, 4)])
def test_a_layer_that_keeps_what_it_saw_is_refused(rest: Callable[[], nn.Module]) -> None:
    model = nn.Sequential(Hoarder(), rest())
    with pytest.raises(UnsupportedLayer, match=r"0\.seen"):
        make_gradient(model, regression, {"x": toy_batch([1.0, 1.0, 1.0])["x"]})
    assert hooks_of(model) == 0


def test_an_example_without_gradient_is_a_zero_to_the_loop() -> None:
    model = nn.Linear(4, 4)

    def unused(_model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        losses_B = batch["x"].sum(dim=(1, 2)).requires_grad_()
        return losses_B, torch.zeros(len(losses_B))

    engine = ExampleLoop(model, unused)
    record = engine.add({"x": toy_batch([1.0, 1.0])["x"]}, CLIP)
    assert record.norms_B.tolist() == [0.0, 0.0]
    assert flat(engine.take(CLIP).tensors).norm() == 0


def test_an_example_without_a_supervised_token_adds_nothing(make_model: MakeModel) -> None:
    model = make_model("llama")
    batch = batch_of("causal_lm")
    batch["labels"][1] = IGNORED
    engine = ClippedGradient(model, CAUSAL)
    whole = summed(engine, batch, CLIP)
    others = [0, 2, 3, 4]
    rest = summed(engine, {k: v[others] for k, v in batch.items()}, CLIP)
    assert torch.allclose(whole, rest, atol=1e-6)


def test_the_record_of_a_batch_shows_no_number() -> None:
    engine = ClippedGradient(Toy(), toy_loss)
    record = engine.add(toy_batch([1.0, 3.0]), CLIP)
    assert repr(record) == "BatchRecord(2 examples)"
