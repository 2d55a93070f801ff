"""A user's data collator, admitted when it treats each record alone.

Clipping bounds what one record does to the sum only if a record's row depends on nothing but that
record. A collator that packs records into shared rows, mixes them or draws at random would break
the guarantee in silence; so it is tried on made-up records first.

Shapes: B examples of a batch, T tokens of its longest example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.datasets import Collate, Task

__all__ = ["collate_with"]

_FIELDS: Final = ("input_ids", "attention_mask", "labels")
_PROBE_LENGTHS: Final = (5, 3, 1, 4)


def collate_with(collator: Any, *, task: Task, vocabulary: int) -> Collate:
    """How a Hugging Face data collator makes the batches of a `TokenizedDataset`.

    Guarantee: on made-up records of unequal length, alone and in two orders together, the collator
    gave each record the same tokens, mask and labels in a row of its own. Else it is refused: that
    is evidence about the collator, not a proof.

    Raises:
        ConfigurationError: it packs or mixes records, is random, or lacks a field; nothing was
            started.
    """
    probe = _probe(task, vocabulary)
    together = _rows(collator, probe)
    reversed_ = _rows(collator, probe[::-1])[::-1]
    alone = [row for record in probe for row in _rows(collator, [record])]
    for rows in (reversed_, alone):
        for row, other in zip(together, rows, strict=True):
            if any(not np.array_equal(row[name], other[name]) for name in _FIELDS):
                raise ConfigurationError(
                    f"{type(collator).__name__} gives a record other tokens or labels beside other "
                    "records than alone, or draws at random: one record could then change more "
                    "than its own clipped gradient; nothing was started"
                )

    return partial(_batch, collator)


def _probe(task: Task, vocabulary: int) -> list[dict[str, Any]]:
    """Made-up records of unequal length, from counting alone."""
    records = []
    for number, length in enumerate(_PROBE_LENGTHS):
        ids = [(3 + 7 * (10 * number + k)) % vocabulary for k in range(length)]
        labels: Any = list(ids) if task == "causal_lm" else number % 2
        records.append({"input_ids": ids, "attention_mask": [1] * length, "labels": labels})
    return records


def _batch(collator: Any, features: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """One batch of the collator, with one row a record and the fields that a pass needs."""
    try:
        made = collator([dict(each) for each in features])
    except (ValueError, TypeError, KeyError, IndexError) as error:
        reason = type(error).__name__  # its message may quote the records
    else:
        return _checked(collator, made, len(features))
    raise ConfigurationError(
        f"{type(collator).__name__} cannot make a batch of records that have {', '.join(_FIELDS)} "
        f"({reason}); one that pads all three can, such as DataCollatorForSeq2Seq"
    )


def _checked(collator: Any, made: Mapping[str, Any], count: int) -> dict[str, Tensor]:
    lacking = [name for name in _FIELDS if name not in made]
    if lacking:
        raise ConfigurationError(
            f"{type(collator).__name__} gives no {', '.join(lacking)}; expected "
            f"{', '.join(_FIELDS)}; nothing was started"
        )
    batch = {name: torch.as_tensor(made[name]) for name in _FIELDS}
    if any(len(values) != count for values in batch.values()):
        raise ConfigurationError(
            f"{type(collator).__name__} makes {len(batch['input_ids'])} rows of {count} records"
            ": rows that hold several records cannot be clipped by record; nothing was "
            "started"
        )
    return batch


def _rows(collator: Any, features: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each record's tokens and labels without the padding."""
    batch = _batch(collator, features)
    rows = []
    for b in range(len(features)):
        is_token = batch["attention_mask"][b].bool()
        labels = batch["labels"][b]
        rows.append(
            {
                "input_ids": batch["input_ids"][b][is_token].numpy(),
                "attention_mask": int(is_token.sum()),
                "labels": (labels[is_token] if labels.dim() else labels).numpy(),
            }
        )
    return rows
