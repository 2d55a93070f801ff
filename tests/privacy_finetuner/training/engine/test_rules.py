from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from privacy_finetuner.training.engine import Clip, rules
from privacy_finetuner.training.engine.rules import Instantiated, Matrix

CLIP = Clip(1.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.zeros(*shape).normal_(generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("keep", [0, 2**23])
@pytest.mark.parametrize("size", [1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("tilt", [0.0, 1e-6, 1e-4, 1e-2])
def test_products_that_cancel_hide_no_gradient(
    keep: int, size: float, tilt: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A norm from Gram matrices is a difference of large numbers here: it once came out as zero."""
    monkeypatch.setattr(rules, "KEEP_NUMBERS", keep)
    parameter = nn.Parameter(torch.zeros(64, 64))
    matrix = Matrix(parameter)
    inputs = normal(1, 1, 64).repeat(1, 8, 1) * size
    gradients = normal(1, 1, 64, seed=1).repeat(1, 8, 1) * size
    gradients[:, 1::2] *= -1
    inputs[:, 1::2] *= 1 + tilt
    matrix.add_dense(inputs, gradients)
    assert contribution(matrix, parameter) <= 1 + 1e-3


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("tilt", [0.0, 1e-6, 1e-3])
def test_a_tied_weight_whose_two_uses_cancel_hides_no_gradient(size: float, tilt: float) -> None:
    parameter = nn.Parameter(torch.zeros(32, 16))
    matrix = Matrix(parameter)
    matrix.is_shared = True
    inputs = normal(1, 4, 16) * size
    rows = torch.tensor([[3, 5, 7, 9]])
    gradients = nn.functional.one_hot(rows, 32).float() * size
    matrix.add_dense(inputs, gradients)
    matrix.add_look_up(rows, -inputs * size * (1 + tilt), ignored_row=None)
    assert contribution(matrix, parameter) <= 1 + 1e-3


def test_look_ups_that_cancel_hide_no_gradient() -> None:
    parameter = nn.Parameter(torch.zeros(8, 16))
    matrix = Matrix(parameter)
    found = normal(1, 1, 16).repeat(1, 6, 1) * 1e8
    found[:, 1::2] *= -(1 + 1e-6)
    matrix.add_look_up(torch.full((1, 6), 2), found, ignored_row=None)
    assert contribution(matrix, parameter) <= 1 + 1e-3


def contribution(rule: Matrix, parameter: nn.Parameter) -> float:
    squares_B = rule.norms_squared()
    assert squares_B is not None
    target = torch.zeros_like(parameter, requires_grad=False)
    rule.add_weighted_sum(CLIP.factors(squares_B.sqrt()), target)
    return float(target.double().norm())


@pytest.mark.parametrize("pieces", [2**25, 5000, 400])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 130])
def test_the_gram_norm_is_the_norm_of_the_product(
    length: int, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "KEEP_NUMBERS", 0)
    monkeypatch.setattr(rules, "PIECE_NUMBERS", pieces)
    inputs, gradients = normal(3, length, 160), normal(3, length, 170, seed=2)
    matrix = Matrix(nn.Parameter(torch.zeros(170, 160)))
    matrix.add_dense(inputs, gradients)
    found_B = matrix.norms_squared()
    products = gradients.double().transpose(1, 2) @ inputs.double()
    expected_B = products.square().sum(dim=(1, 2))
    assert found_B is not None
    assert torch.allclose(found_B.double(), expected_B, rtol=1e-5)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_layer_used_twice_adds_its_uses_before_the_norm(transposed: bool) -> None:
    shape = (6, 5) if transposed else (5, 6)
    parameter = nn.Parameter(torch.zeros(shape))
    for keep in (True, False):
        matrix = Matrix(parameter, transposed=transposed)
        matrix.is_shared = not keep
        uses = [(normal(2, 3, 6, seed=s), normal(2, 3, 5, seed=s + 9)) for s in (1, 2)]
        for use in uses:
            matrix.add_dense(*use)
        products = torch.stack([g.transpose(1, 2) @ a for a, g in uses]).sum(dim=0)
        found_B = matrix.norms_squared()
        assert found_B is not None
        assert torch.allclose(found_B, products.square().sum(dim=(1, 2)), rtol=1e-5)
        target = torch.zeros(shape)
        matrix.add_weighted_sum(torch.tensor([0.5, 2.0]), target)
        expected = 0.5 * products[0] + 2.0 * products[1]
        assert torch.allclose(target, expected.T if transposed else expected, atol=1e-5)


def test_a_padding_row_takes_no_gradient() -> None:
    parameter = nn.Parameter(torch.zeros(5, 3))
    matrix = Matrix(parameter)
    matrix.add_look_up(torch.tensor([[0, 1, 0]]), torch.ones(1, 3, 3), ignored_row=0)
    found_B = matrix.norms_squared()
    assert found_B is not None
    assert found_B.tolist() == [3.0]
    target = torch.zeros(5, 3)
    matrix.add_weighted_sum(torch.ones(1), target)
    assert target[0].abs().sum() == 0
    assert target[1].tolist() == [1.0, 1.0, 1.0]


def test_an_unused_parameter_has_no_norm_and_no_sum() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    for rule in (Instantiated(parameter), Matrix(nn.Parameter(torch.zeros(4, 4)))):
        assert rule.norms_squared() is None
        target = torch.zeros_like(rule.parameter)
        rule.add_weighted_sum(torch.ones(2), target)
        assert target.abs().sum() == 0
