"""Augmentation multiplicity: several views of an example, one clipped gradient.

The loss of an example is the mean over K views of it, so its gradient is the mean over their
gradients, and *that* is clipped: K views cost K passes and no privacy. A view is made from its own
example and from chance, never from another example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.engine.clipped_gradient import Batch, PerExampleLoss

View = Callable[[Mapping[str, Tensor], torch.Generator], Mapping[str, Tensor]]
"""Makes a view of *one* example: every tensor has one row. Keys and shapes stay as they are."""


def replaced_tokens(probability: float, vocabulary: int) -> View:
    """A view in which each input token is exchanged for any other with this probability.

    Labels stay: a language model learns to predict the true text from a damaged one.

    Raises:
        InvalidParameter: the probability is outside [0, 1).
    """
    if not 0 <= probability < 1:
        raise InvalidParameter("probability", found=probability, expected="a number in [0, 1)")

    def view(example: Mapping[str, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
        ids_1T = example["input_ids"]
        chance = torch.empty(ids_1T.shape).uniform_(generator=generator).to(ids_1T.device)
        others = torch.randint(vocabulary, ids_1T.shape, generator=generator).to(ids_1T.device)
        is_hit_1T = (chance < probability) & (example["attention_mask"] == 1)
        return {**example, "input_ids": torch.where(is_hit_1T, others, ids_1T)}

    return view


@dataclass(frozen=True, slots=True)
class Views:
    """A per-example loss that is the mean over `count` views.

    Guarantee: entry b of what it returns depends on example b and on chance alone: a view is shown
    one example at a time. In evaluation mode the views are the example itself, so that the engine
    can be compared with a loop over examples.

    Args:
        loss: the per-example loss of one view.
        count: K >= 1.
        view: makes a view.
        generator: chance; secret, like the masks of dropout: to somebody who knows it, an example
            more shifts what the others are shown.

    Source: De et al. 2022 (arXiv:2204.13650), section 3.2.
    """

    loss: PerExampleLoss
    count: int
    view: View
    generator: torch.Generator

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (loss_B, accuracy_B), means over the views."""
        found = [self.loss(model, self._seen(batch, model)) for _ in range(self.count)]
        losses_B = torch.stack([losses for losses, _ in found]).mean(dim=0)
        return losses_B, torch.stack([hits for _, hits in found]).mean(dim=0)

    def _seen(self, batch: Batch, model: nn.Module) -> Batch:
        if not model.training:
            return batch
        rows = next(iter(batch.values())).shape[0]
        examples = [
            self.view({name: values[b : b + 1] for name, values in batch.items()}, self.generator)
            for b in range(rows)
        ]
        return {name: torch.cat([example[name] for example in examples]) for name in batch}
