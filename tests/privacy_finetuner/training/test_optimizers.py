"""Optimizers by name, and the one of our own against plain NumPy."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from privacy_core.errors import InvalidParameter
from privacy_finetuner.config import OPTIMIZERS, TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.optimizers import (
    NOISE_STD,
    REFUSED,
    AdamBC,
    known_optimizers,
    make_optimizer,
)


def gradients(steps: int, size: int = 7) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(3).normal(size=(steps, size)) * 0.1  # noqa: TID251


def parameter(size: int = 7) -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, size, dtype=torch.float64))


def test_adambc_is_its_formula() -> None:
    beta1, beta2, floor, eps, lr, decay = 0.8, 0.95, 0.5, 1e-8, 0.02, 0.1
    noises = [0.05, 0.05, 0.2, 0.0, 0.1, 0.1]
    moved = parameter()
    optimizer = AdamBC(
        [moved], lr=lr, betas=(beta1, beta2), floor=floor, eps=eps, weight_decay=decay
    )
    expected = moved.detach().numpy().copy()
    mean, square, variance = np.zeros(7), np.zeros(7), 0.0

    for t, (gradient, noise) in enumerate(zip(gradients(6), noises, strict=True), start=1):
        optimizer.param_groups[0][NOISE_STD] = noise
        moved.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        variance = beta2 * variance + (1 - beta2) * noise**2
        known = variance / (1 - beta2**t)
        scale = np.sqrt(np.maximum(square / (1 - beta2**t) - known, max(floor**2 * known, eps**2)))
        expected = expected * (1 - lr * decay) - lr * mean / (1 - beta1**t) / scale

    # the noise's variance is kept in float32
    np.testing.assert_allclose(moved.detach().numpy(), expected, rtol=1e-5)


def test_adambc_without_noise_is_adamw() -> None:
    ours, theirs = parameter(), parameter()
    a = AdamBC([ours], lr=0.01, weight_decay=0.1)
    b = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)

    for gradient in gradients(5):
        for moved, optimizer in ((ours, a), (theirs, b)):
            moved.grad = torch.from_numpy(gradient.copy())
            optimizer.step()

    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_adambc_moves_a_drowned_coordinate_further_than_adam_does() -> None:
    """A gradient of 0.05 under noise of deviation 0.1: Adam divides by 0.11, AdamBC by 0.05."""
    noise, signal, steps = 0.1, 0.05, 4000
    generator = torch.Generator().manual_seed(0)
    drawn = signal + noise * torch.empty(steps, 64).normal_(generator=generator)
    moved = nn.Parameter(torch.zeros(64))
    optimizer = AdamBC([moved], lr=1e-3, betas=(0.9, 0.9995), floor=0.1)
    optimizer.param_groups[0][NOISE_STD] = noise

    for gradient in drawn:
        moved.grad = gradient
        optimizer.step()

    slow = signal / (signal**2 + noise**2) ** 0.5  # what Adam moves per unit of rate
    assert float(-moved.detach().mean()) / (1e-3 * steps) > 1.5 * slow


@pytest.mark.parametrize("options", [{"floor": 0.0}, {"eps": 0.0}, {"betas": (1.0, 0.9)}])
def test_adambc_refuses_numbers_outside_their_domain(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        AdamBC([parameter()], **options)


def test_every_optimizer_of_torch_is_known_or_refused_by_name() -> None:
    kinds = [
        name.lower()
        for name, kind in vars(torch.optim).items()
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)
    ]

    missing = set(kinds) - set(known_optimizers()) - set(REFUSED) - {"optimizer"}

    assert missing == set()
    assert set(OPTIMIZERS) == set(known_optimizers())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_name_makes_an_optimizer_that_moves(name: str) -> None:
    moved = nn.Parameter(torch.ones(3, 2))
    optimizer = make_optimizer(TrainingConfig(optimizer=name, learning_rate=0.1), [moved])
    moved.grad = torch.full((3, 2), 0.5)

    optimizer.step()

    assert not torch.equal(moved, torch.ones(3, 2))
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert optimizer.param_groups[0].get("weight_decay", 0) == 0


def test_options_reach_the_optimizer() -> None:
    training = TrainingConfig(optimizer="sgd", optimizer_options={"momentum": 0.8})

    assert make_optimizer(training, [parameter()]).param_groups[0]["momentum"] == 0.8


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"optimizer": "sgd", "optimizer_options": {"betas": (0.9, 0.9)}}, "no option 'betas'"),
        ({"optimizer": "sgd", "optimizer_options": {"momentum": -1.0}}, "refuses its options"),
        ({"optimizer": "rprop", "weight_decay": 0.1}, "no option 'weight_decay'"),
    ],
)
def test_options_that_do_not_fit_are_refused(training: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_optimizer(TrainingConfig(**training), [parameter()])


def test_optimizers_that_look_twice_are_refused_with_the_reason() -> None:
    with pytest.raises(ConfigurationError, match="lbfgs"):
        TrainingConfig(optimizer="lbfgs")
    with pytest.raises(InvalidParameter, match="closure"):
        AdamBC([parameter()]).step(closure=lambda: 0.0)  # type: ignore[arg-type]  # the point
