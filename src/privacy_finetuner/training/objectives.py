"""Losses that are sums over examples, where each example's part is its own.

Hugging Face's causal loss is a mean over all supervised tokens of the batch. There, adding one long
example rescales everybody's gradient *before* clipping: measured, the clipped sum then moves by 6
to 24 times the clip norm, and every epsilon computed from it is wrong. Here the mean is over one
example's own tokens.

Shapes: B examples, T positions, V classes (vocabulary or labels).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from privacy_finetuner.training.token_losses import token_scores

IGNORED = -100
Task = Literal["causal_lm", "sequence_classification"]


@dataclass(frozen=True, slots=True)
class Objective:
    """The per-example loss and accuracy of a task.

    `classes` is V: the vocabulary or the number of labels. An example without a supervised token
    has loss 0 and accuracy 0.
    """

    task: Task
    classes: int

    @property
    def loss_cap(self) -> float:
        """The loss of a uniform guess, log V: released mean losses are of losses cut at this."""
        return math.log(max(self.classes, 2))

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (loss_B, accuracy_B); entry b depends on example b alone."""
        if self.task == "causal_lm":
            loss_B, accuracy_B, _ = causal_lm_scores(model, batch)
            return loss_B, accuracy_B
        return classification_scores(model, batch)


def causal_lm_scores(
    model: nn.Module, batch: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean next-token loss and accuracy of each example, and its number of supervised tokens."""
    output = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    )
    # A soft prompt stands in front of the tokens; its own positions predict nothing.
    logits_BTV = output.logits[:, -batch["labels"].shape[1] :]
    # Shifting the labels instead of the logits saves a copy of the largest tensor of the step.
    targets_BT = functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    losses_N, hits_N = token_scores(logits_BTV.flatten(0, 1), targets_BT.flatten(), ignored=IGNORED)
    losses_B = losses_N.view_as(targets_BT).sum(dim=1)
    hits_B = hits_N.view_as(targets_BT).sum(dim=1)
    tokens_B = (targets_BT != IGNORED).sum(dim=1)
    divisor_B = tokens_B.clamp(min=1)
    return losses_B / divisor_B, hits_B / divisor_B, tokens_B


def classification_scores(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Cross-entropy and correctness of each example."""
    output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    logits_BV = output.logits.float()
    losses_B = functional.cross_entropy(logits_BV, batch["labels"], reduction="none")
    return losses_B, (logits_BV.detach().argmax(dim=-1) == batch["labels"]).float()


def public_probe(
    objective: Objective,
    *,
    vocabulary: int,
    device: torch.device,
    examples: int = 3,
    length: int = 7,
) -> dict[str, Tensor]:
    """Made-up inputs of unequal length, from counting alone: what the engine is verified on."""
    counts = torch.arange(examples * length).reshape(examples, length)
    lengths = [max(2, length - 2 * i) for i in range(examples)]
    mask = torch.stack([(torch.arange(length) < n).long() for n in lengths])
    input_ids = (counts * 7 + 3) % vocabulary * mask
    if objective.task == "causal_lm":
        labels = input_ids.masked_fill(mask == 0, IGNORED)
    else:
        labels = torch.arange(examples) % objective.classes
    batch = {"input_ids": input_ids, "attention_mask": mask, "labels": labels}
    return {name: values.to(device) for name, values in batch.items()}
