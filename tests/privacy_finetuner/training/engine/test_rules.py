from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from privacy_finetuner.training.engine import Clip, rules
from privacy_finetuner.training.engine.rules import Instantiated, Matrix

CLIP = Clip(1.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.zeros(*shape).normal_(generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("keep", [0.0, 1.0, 1e9])
@pytest.mark.parametrize("size", [1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("tilt", [0.0, 1e-6, 1e-4, 1e-2])
def test_products_that_cancel_hide_no_gradient(
    keep: float, size: float, tilt: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A norm from Gram matrices is a difference of large numbers here: it once came out as zero."""
    monkeypatch.setattr(rules, "KEEP_ROOM", keep)
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
    monkeypatch.setattr(rules, "KEEP_ROOM", 0)
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


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("look_up", [False, True])
def test_writing_is_adding_to_zeros_whatever_the_target_held(
    transposed: bool, is_shared: bool, look_up: bool
) -> None:
    shape = (6, 5) if transposed else (5, 6)
    found = []
    for write in (True, False):
        matrix = Matrix(nn.Parameter(torch.zeros(shape)), transposed=transposed)
        matrix.is_shared = is_shared
        for seed in (1, 2):
            matrix.add_dense(normal(2, 3, 6, seed=seed), normal(2, 3, 5, seed=seed + 9))
        if look_up:
            rows = torch.tensor([[0, 1, 4], [2, 2, 0]])
            matrix.add_look_up(rows, normal(2, 3, shape[1], seed=5), ignored_row=None)
        target = torch.full(shape, float("nan")) if write else torch.zeros(shape)
        weigh = matrix.write_weighted_sum if write else matrix.add_weighted_sum
        weigh(torch.tensor([0.25, 3.0]), target)
        found.append(target)
    assert torch.allclose(*found, rtol=1e-5, atol=1e-6)
    assert found[1].any()


def test_writing_for_an_unused_weight_is_zeros() -> None:
    target = torch.full((4, 4), float("nan"))
    Matrix(nn.Parameter(torch.zeros(4, 4))).write_weighted_sum(torch.ones(2), target)
    assert not target.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_activations_are_weighted_and_added_in_float32(dtype: torch.dtype) -> None:
    parameter = nn.Parameter(torch.zeros(70, 60))
    matrix = Matrix(parameter)
    matrix.is_shared = True
    inputs, gradients = normal(3, 5, 60).to(dtype), normal(3, 5, 70, seed=2).to(dtype)
    matrix.add_dense(inputs, gradients)
    products = gradients.double().transpose(1, 2) @ inputs.double()
    norms_B = products.flatten(1).norm(dim=1)

    found_B = matrix.norms_squared()
    factors_B = 1 / norms_B.float()
    target = torch.empty_like(parameter, requires_grad=False)
    matrix.write_weighted_sum(factors_B, target)

    assert found_B is not None
    assert torch.allclose(found_B.double().sqrt(), norms_B, rtol=1e-5)
    expected = (products / norms_B.view(-1, 1, 1)).sum(dim=0)
    assert float((target.double() - expected).norm() / expected.norm()) <= 1e-5


@pytest.mark.parametrize("pieces", [2**25, 5000, 400])
@pytest.mark.parametrize("widths", [(170, 90, 90), (8, 6), (160,)])
@pytest.mark.parametrize("length", [1, 2, 64, 130])
def test_layers_that_read_one_input_have_the_norm_of_their_products_together(
    length: int, widths: tuple[int, ...], pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "PIECE_NUMBERS", pieces)
    inputs = normal(3, length, 160)
    outputs = [normal(3, length, width, seed=width + i) for i, width in enumerate(widths)]
    found_B = rules.joint_norms_squared([(inputs, gradients) for gradients in outputs])
    products = torch.cat(outputs, dim=2).double().transpose(1, 2) @ inputs.double()
    assert torch.allclose(found_B.double(), products.square().sum(dim=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("tilt", [0.0, 1e-6, 1e-3])
def test_no_gradient_hides_behind_a_layer_that_reads_the_same(size: float, tilt: float) -> None:
    """The products of both layers cancel, one of them not quite."""
    inputs = normal(1, 1, 64).repeat(1, 8, 1) * size
    outputs = [normal(1, 1, 64, seed=s).repeat(1, 8, 1) * size for s in (1, 2)]
    for gradients in outputs:
        gradients[:, 1::2] *= -1
    outputs[1][:, 1::2] *= 1 + tilt
    factor = CLIP.factors(rules.joint_norms_squared([(inputs, g) for g in outputs]).sqrt()).double()
    # As the engine forms the sum: one product in float32.
    sums = [(factor.float() * inputs[0]).T @ gradients[0] for gradients in outputs]
    assert float(torch.cat(sums, dim=1).double().norm()) <= 1 + 1e-3


def test_only_one_product_and_nothing_else_may_be_shared() -> None:
    matrix = Matrix(nn.Parameter(torch.zeros(70, 60)))
    assert matrix.lone_product() is None
    use = normal(2, 3, 60), normal(2, 3, 70)
    matrix.add_dense(*use)
    found = matrix.lone_product()
    assert found is not None
    assert torch.equal(found[0], use[0])
    matrix.add_look_up(torch.zeros(2, 3, dtype=torch.long), normal(2, 3, 60), ignored_row=None)
    assert matrix.lone_product() is None
    matrix.clear()
    matrix.is_shared = True
    for _ in range(2):
        matrix.add_dense(*use)
    assert matrix.lone_product() is None
