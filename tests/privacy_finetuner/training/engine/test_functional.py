"""Parameters that a module's own forward uses, each way against a loop over examples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine import Clip, ClippedGradient, ExampleLoop, make_gradient
from privacy_finetuner.training.engine.tap import Examples

Batch = dict[str, Tensor]
CLIP = Clip(0.7)


class Own(nn.Module):
    """A module as code that comes with a model writes it: bare parameters and functions of them."""

    def __init__(self, use: Callable[[nn.Module, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        ramp = torch.arange(float(torch.Size(shape).numel()))
        self.raw = nn.Parameter(torch.sin(ramp).view(shape))
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, self.first(x))


def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    losses_B = model(batch["x"]).square().flatten(1).mean(dim=1)
    return losses_B, torch.zeros(len(losses_B))


def batch(count: int = 3) -> Batch:
    return {"x": torch.cos(torch.arange(count * 5 * 4) * 0.7).view(count, 5, 4)}


def class_token(m: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([m.raw.expand(len(x), -1, -1), x], dim=1)


def added_in_place(m: nn.Module, x: Tensor) -> Tensor:
    y = x * 2
    y += m.raw
    return y


IN_ONE_PASS: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], tuple[int, ...]]] = {
    "linear": (lambda m, x: linear(x, m.raw), (3, 4)),
    "linear, twice": (lambda m, x: linear(linear(x, m.raw).tanh(), m.raw), (4, 4)),
    "matmul": (lambda m, x: x @ m.raw, (4, 3)),
    "flattened, as a router does": (
        lambda m, x: linear(x.reshape(-1, 4), m.raw).view(len(x), -1),
        (3, 4),
    ),
    "look-up": (lambda m, x: embedding((x > 0).long()[..., 0], m.raw) + x, (2, 4)),
    "scale": (lambda m, x: x * m.raw, (4,)),
    "scale by one plus": (lambda m, x: x * (1.0 + m.raw.float()), (4,)),
    "scale by a multiple": (lambda m, x: (3.0 * m.raw / torch.arange(1.0, 5.0)) * x, (4,)),
    "positions": (lambda m, x: x - m.raw, (1, 5, 4)),
    "in place": (added_in_place, (4,)),
    "class token": (class_token, (1, 1, 4)),
    "several shapes": (lambda m, x: x * m.raw.view(1, 1, -1) + m.raw[None, :], (4,)),
}
BY_VMAP = {
    "a function of it": (lambda m, x: x * torch.sin(m.raw), (4,)),
    "a slice of it": (lambda m, x: x * m.raw[:4], (6,)),
    "it twice in one product": (lambda m, x: x * (m.raw * m.raw), (4,)),
    "its transpose": (lambda m, x: linear(x, m.raw.T), (4, 3)),
}


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("name", [*IN_ONE_PASS, *BY_VMAP])
def test_every_use_gives_the_sum_of_the_loop(name: str, count: int) -> None:
    use, shape = (IN_ONE_PASS | BY_VMAP)[name]
    model = Own(use, *shape)
    engine, story = make_gradient(model, loss, batch())
    assert isinstance(engine, ClippedGradient), story
    assert engine.kinds[""] == ("functions" if name in IN_ONE_PASS else "vmap")
    loop = ExampleLoop(model, loss)
    # Five examples of five positions: as many rows as positions confuse nothing.
    norms = [e.add(batch(count), CLIP).norms_B for e in (engine, loop)]
    assert torch.allclose(*norms, rtol=1e-5)
    found, expected = (e.take(CLIP).tensors for e in (engine, loop))
    assert all(
        torch.allclose(a.double(), b.double(), rtol=1e-5, atol=1e-6)
        for a, b in zip(found, expected, strict=True)
    )
    engine.close()
    assert "forward" not in model.__dict__


class Borrowed(nn.Module):
    """Uses another layer's weight behind its back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return linear(self.first(x), self.second.weight)


def test_a_weight_that_is_borrowed_is_found_out_by_its_name() -> None:
    _, story = make_gradient(Borrowed(), loss, batch())
    assert "slow" in story
    assert "second.weight" in story


class Faint(nn.Module):
    """A parameter whose part of the gradient is too small to show in the error of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.loud, self.faint = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.loud(x) + 1e-4 * linear(x, self.faint.weight)


def test_a_parameter_that_would_silently_not_train_is_found_out() -> None:
    _, story = make_gradient(Faint(), loss, batch())
    assert "faint.weight" in story
    assert "no gradient reaches it" in story


def test_rows_without_their_padding_belong_to_nobody() -> None:
    examples = Examples()
    with examples.counted(3):
        examples.see(torch.zeros(3, 7))
        assert examples.rows_of(torch.zeros(21, 4)).shape == (3, 7, 4)
        # 7 + 5 + 3 tokens are left of three examples: a multiple of three, and not theirs.
        assert examples.rows_of(torch.zeros(15, 4)) is None


class Halfway(nn.Module):
    """A layer on rows that belong to no example; its output is used or not."""

    def __init__(self, *, is_used: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.is_used = is_used

    def forward(self, x: Tensor) -> Tensor:
        aside = self.layer(torch.eye(4))
        return self.layer(x) + (aside if self.is_used else aside.detach()).sum()


def test_an_unknown_row_is_refused_only_where_a_gradient_comes_back() -> None:
    quiet = ClippedGradient(Halfway(is_used=False), loss)
    quiet.add(batch(), CLIP)
    loud = ClippedGradient(Halfway(is_used=True), loss)
    with pytest.raises(UnsupportedLayer, match="4 rows for 3 examples"):
        loud.add(batch(), CLIP)
