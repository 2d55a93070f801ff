"""Token losses against torch's own cross-entropy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from privacy_finetuner.training import token_losses
from privacy_finetuner.training.token_losses import token_scores

IGNORED = -100


def logits_and_targets(n: int, v: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits_NV = torch.zeros(n, v).normal_(generator=generator) * 3
    targets_N = torch.randint(0, v, (n,), generator=generator)
    targets_N[::3] = IGNORED
    return logits_NV, targets_N


@pytest.mark.parametrize("block", [2**20, 100, 1])
@pytest.mark.parametrize("shape", [(1, 2), (7, 50), (64, 17)])
def test_losses_hits_and_gradients_are_those_of_cross_entropy(
    shape: tuple[int, int], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_losses, "_BLOCK_NUMBERS", block)
    logits_NV, targets_N = logits_and_targets(*shape)
    weights_N = torch.linspace(-1, 2, shape[0])
    ours, torchs = (logits_NV.clone().requires_grad_() for _ in range(2))

    losses_N, hits_N = token_scores(ours, targets_N, ignored=IGNORED)
    (losses_N * weights_N).sum().backward()
    expected_N = functional.cross_entropy(torchs, targets_N, ignore_index=IGNORED, reduction="none")
    (expected_N * weights_N).sum().backward()

    torch.testing.assert_close(losses_N, expected_N, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.grad, torchs.grad, rtol=1e-5, atol=1e-7)
    assert torch.equal(hits_N, (logits_NV.argmax(dim=1) == targets_N))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits_NV, targets_N = logits_and_targets(9, 40)
    narrow = logits_NV.to(dtype).requires_grad_()
    wide = narrow.detach().float().requires_grad_()

    found_N, _ = token_scores(narrow, targets_N, ignored=IGNORED)
    expected_N, _ = token_scores(wide, targets_N, ignored=IGNORED)
    found_N.sum().backward()
    expected_N.sum().backward()

    assert torch.equal(found_N, expected_N)
    assert narrow.grad is not None
    assert wide.grad is not None
    assert torch.equal(narrow.grad, wide.grad.to(dtype))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_ignored_token_passes_nothing_on_whatever_its_logits(bad: float) -> None:
    logits_NV, targets_N = logits_and_targets(6, 5)
    logits_NV[0] = bad
    logits_NV.requires_grad_()

    losses_N, hits_N = token_scores(logits_NV, targets_N, ignored=IGNORED)
    losses_N.sum().backward()

    assert losses_N[0] == 0
    assert not hits_N[0]
    assert logits_NV.grad is not None
    assert not logits_NV.grad[0].any()
    assert bool(torch.isfinite(logits_NV.grad).all())


def test_a_supervised_token_with_a_bad_logit_has_a_loss_that_is_not_finite() -> None:
    logits_NV, targets_N = logits_and_targets(6, 5)
    logits_NV[1] = math.nan

    losses_N, _ = token_scores(logits_NV, targets_N, ignored=IGNORED)

    assert not torch.isfinite(losses_N[1])
    assert bool(torch.isfinite(losses_N[2:]).all())


def test_the_backward_pass_keeps_the_logits_and_no_second_tensor_of_their_size() -> None:
    logits_NV, targets_N = logits_and_targets(8, 1000)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_scores(logits_NV.requires_grad_(), targets_N, ignored=IGNORED)

    assert sum(size >= 8000 for size in kept) == 1


def test_the_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(3)
    logits_NV = torch.zeros(4, 3, dtype=torch.float64).normal_(generator=generator)
    targets_N = torch.tensor([0, 2, IGNORED, 1])

    def weighted(values: Tensor) -> Tensor:
        losses_N, _ = token_scores(values, targets_N, ignored=IGNORED)
        return (losses_N * torch.tensor([1.0, -2.0, 3.0, 0.5])).sum()

    logits_NV.requires_grad_()
    weighted(logits_NV).backward()
    assert logits_NV.grad is not None
    step = 1e-2
    for at in range(logits_NV.numel()):
        nudge = torch.zeros(12, dtype=torch.float64)
        nudge[at] = step
        high, low = (weighted(logits_NV.detach() + s * nudge.view(4, 3)) for s in (1, -1))
        assert float((high - low) / (2 * step)) == pytest.approx(
            float(logits_NV.grad.flatten()[at]), abs=1e-3
        )
