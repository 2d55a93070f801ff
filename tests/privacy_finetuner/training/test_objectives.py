from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from privacy_finetuner.training.objectives import (
    IGNORED,
    Objective,
    causal_lm_scores,
    public_probe,
)

MakeModel = Callable[..., Any]
CAUSAL = Objective("causal_lm", 40)
CLASSES = Objective("sequence_classification", 3)


def texts(lengths: tuple[int, ...], seed: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mask = torch.stack([(torch.arange(width) < n).long() for n in lengths])
    ids = torch.randint(3, 40, mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED)}


def with_classes(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**batch, "labels": torch.arange(len(batch["labels"])) % 3}


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_an_examples_loss_does_not_depend_on_its_neighbours(
    family: str, make_model: MakeModel
) -> None:
    model, objective = make_model(family), CLASSES if family == "bert" else CAUSAL
    first = {k: v[:, :6] for k, v in texts((6, 3, 12)).items()}
    longer = texts((6, 3, 12, 9, 1))
    longer["input_ids"][:2, :6] = first["input_ids"][:2]
    longer["labels"][:2, :6] = first["labels"][:2]
    if family == "bert":
        first, longer = with_classes(first), with_classes(longer)
    with torch.no_grad():
        alone_B, _ = objective(model, {k: v[:2] for k, v in first.items()})
        among_B, _ = objective(model, longer)
    assert torch.allclose(alone_B, among_B[:2], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_alone_an_example_has_hugging_faces_own_loss(family: str, make_model: MakeModel) -> None:
    model = make_model(family)
    batch = texts((7,))
    batch["labels"][0, :3] = IGNORED  # a prompt
    with torch.no_grad():
        losses_B, _ = CAUSAL(model, batch)
        expected = model(**batch).loss
    assert torch.allclose(losses_B[0], expected, rtol=1e-6)


def test_the_usual_token_mean_couples_examples_and_this_loss_does_not(
    make_model: MakeModel,
) -> None:
    """Hugging Face divides by all supervised tokens of the batch.

    So a long neighbour shrinks what a short example contributes *before* clipping, and clipping
    each example cannot bound what one example does to the others' contributions.
    """
    model = make_model("llama")
    batch = texts((3, 40))
    short = {k: v[:1] for k, v in batch.items()}

    def hugging_face_share() -> tuple[Tensor, Tensor]:
        losses_BT = torch.nn.functional.cross_entropy(
            model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[0, :2],
            batch["labels"][0, 1:3],
            reduction="sum",
        )
        return losses_BT / 2, losses_BT / (2 + 39)

    with torch.no_grad():
        alone, among = hugging_face_share()
        ours_alone, _ = CAUSAL(model, short)
        ours_among, _ = CAUSAL(model, batch)
        whole = model(**batch).loss
    assert float(alone / among) == pytest.approx(20.5)
    assert torch.allclose(ours_alone[0], ours_among[0], rtol=1e-5)
    assert abs(float(whole) - float(ours_among.mean())) > 1e-4


def test_an_example_without_supervised_tokens_has_loss_and_accuracy_zero(
    make_model: MakeModel,
) -> None:
    batch = texts((5, 5))
    batch["labels"][0] = IGNORED
    with torch.no_grad():
        losses_B, accuracies_B, tokens_B = causal_lm_scores(make_model("llama"), batch)
    assert (float(losses_B[0]), float(accuracies_B[0]), int(tokens_B[0])) == (0.0, 0.0, 0)
    assert float(losses_B[1]) > 0


def test_accuracy_counts_next_tokens() -> None:
    class Echo(torch.nn.Module):
        def forward(self, input_ids: Tensor, **_: Any) -> Any:
            following = torch.roll(input_ids, -1, dims=1)
            logits = torch.nn.functional.one_hot(following, 40) * 50.0
            return type("Output", (), {"logits": logits})()

    batch = texts((6, 4))
    losses_B, accuracies_B = CAUSAL(Echo(), batch)
    assert accuracies_B.tolist() == [1.0, 1.0]
    assert losses_B.max() < 1e-6


def test_the_loss_cap_is_that_of_a_uniform_guess() -> None:
    assert CAUSAL.loss_cap == pytest.approx(math.log(40))
    assert Objective("sequence_classification", 1).loss_cap > 0


def test_the_probe_is_made_of_counting_and_fits_the_model(make_model: MakeModel) -> None:
    for family, objective in (("llama", CAUSAL), ("bert", CLASSES)):
        probe = public_probe(objective, vocabulary=40, device=torch.device("cpu"))
        assert len({int(n) for n in probe["attention_mask"].sum(dim=1)}) == 3
        again = public_probe(objective, vocabulary=40, device=torch.device("cpu"))
        assert all(torch.equal(probe[k], again[k]) for k in probe)
        losses_B, _ = objective(make_model(family), probe)
        assert bool(torch.isfinite(losses_B).all())
