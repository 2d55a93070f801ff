"""A check that padding reaches nobody: one long example pads all others of its micro-batch.

Clipping bounds what an example's own gradient does to the sum. A model that reads padding, or the
width of the batch, gives everybody else another gradient when a long example joins, and no clipping
of single examples bounds that. A comparison with a loop over examples cannot see it, because both
sides are padded alike. So the loss of each public example is taken with and without padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine.clipped_gradient import Batch, PerExampleLoss

_IGNORED: Final = -100
_FURTHER: Final = 9
"""Padding beyond the longest probe: some layers work in blocks of four or eight positions."""
_TOLERANCE: Final = {torch.float32: 1e-4, torch.float64: 1e-8}
_TOLERANCE_OF_HALVES: Final = 2e-2
_ROWS: Final = (2, 3, 8, 17)
_SAME: Final = 1e-6


@torch.no_grad()
def refuse_padding_readers(model: nn.Module, loss: PerExampleLoss, probe: Batch) -> None:
    """Refuse a model whose examples depend on how far they are padded.

    Guarantee: on the probe, the loss of each example alone is the same with no padding, with the
    padding of its batch, and with some more, up to rounding. Inputs without an attention mask
    (pictures) have no padding.

    Raises:
        UnsupportedLayer: padding changes a loss.
    """
    if not {"input_ids", "attention_mask"} <= set(probe):
        return
    tolerance = _TOLERANCE.get(next(model.parameters()).dtype, _TOLERANCE_OF_HALVES)
    was_training = model.training
    model.eval()
    try:
        for row in range(len(probe["input_ids"])):
            losses = list(_losses(model, loss, probe, row))
            spread = max(losses) - min(losses)
            if not spread <= tolerance * (1 + abs(losses[0])):
                raise UnsupportedLayer(
                    "model",
                    type(model).__name__,
                    f"the loss of an example moves by {spread:.2g} with the padding that longer "
                    "neighbours bring, so one example could move more than its own clipped "
                    "gradient",
                )
    finally:
        model.train(was_training)


@torch.no_grad()
def refuse_company(model: nn.Module, loss: PerExampleLoss, probe: Batch, width: int) -> None:
    """Refuse a model in which the number of neighbours shows in an example, at one width.

    In bfloat16 a sum that is taken in another order is another number in the third digit. With
    padding to the longest neighbour, one more record moved the clipped gradients of 256 others by
    0.056 clip norms together (stories260k, banking77; 3e-6 at one width for all, as in float32). So
    every batch has one public width then, and this is the check that no more is needed here:
    different kernels for different numbers of rows would do the same harm.

    Raises:
        UnsupportedLayer: it shows.
    """
    was_training = model.training
    model.eval()
    pad = getattr(getattr(model, "config", None), "pad_token_id", None) or 0
    length = int(probe["attention_mask"][0].sum())
    single = _padded(probe, 0, min(length, width), width, pad)
    try:
        alone = float(loss(model, single)[0].sum())
        for rows in _ROWS:
            crowd = {name: values.repeat_interleave(rows, 0) for name, values in single.items()}
            crowd["input_ids"] = crowd["input_ids"].clone()
            crowd["input_ids"][1:] = (crowd["input_ids"][1:] + 1) % int(single["input_ids"].max())
            found_B, _ = loss(model, crowd)
            moved = abs(float(found_B[0]) - alone)
            if not moved <= _SAME * (1 + abs(alone)):
                raise UnsupportedLayer(
                    "model",
                    type(model).__name__,
                    f"in bfloat16 the loss of an example moves by {moved:.2g} with {rows - 1} "
                    "neighbours on this device: use float32",
                )
    finally:
        model.train(was_training)


def _losses(model: nn.Module, loss: PerExampleLoss, probe: Batch, row: int) -> Iterator[float]:
    length = int(probe["attention_mask"][row].sum())
    width = probe["input_ids"].shape[1]
    pad = getattr(getattr(model, "config", None), "pad_token_id", None) or 0
    for to in (length, width, width + _FURTHER):
        try:
            losses_B, _ = loss(model, _padded(probe, row, length, to, pad))
        except (IndexError, RuntimeError):
            if to > width:  # beyond the model's last position
                return
            raise
        yield float(losses_B.sum())


def _padded(probe: Batch, row: int, length: int, width: int, pad: int) -> dict[str, Tensor]:
    """One example of the probe, cut to its length and padded on the right to a width."""
    fills = {"input_ids": pad, "attention_mask": 0, "labels": _IGNORED}
    whole = probe["input_ids"].shape[1]
    batch = {}
    for name, values in probe.items():
        values_1 = values[row : row + 1]
        if values_1.dim() == 2 and values_1.shape[1] == whole:
            values_1 = functional.pad(
                values_1[:, :length], (0, width - length), value=fills.get(name, 0)
            )
        batch[name] = values_1
    return batch
