"""Batches of whole users: every example of a user in one piece, marked with whose it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from privacy_finetuner.training.datasets import IntArray, TokenizedDataset
from privacy_finetuner.training.engine.user_mean import USER


class UserBatches:
    """A data set seen by user. Indices are numbers of users; a piece never splits one."""

    def __init__(self, dataset: TokenizedDataset) -> None:
        self._dataset = dataset
        order = np.argsort(dataset.units, kind="stable")
        starts = np.searchsorted(dataset.units[order], np.arange(dataset.unit_count + 1))
        self._owned = [order[a:b] for a, b in itertools.pairwise(starts)]

    def micro_batches(
        self, users: Sequence[int] | IntArray, *, max_tokens: int
    ) -> Iterator[IntArray]:
        """Split users into pieces of at most `max_tokens` padded positions.

        A user above the bound is a piece of their own; the engine splits it again.
        """
        piece: list[int] = []
        rows = width = 0
        for user in np.asarray(users, dtype=np.int64).tolist():
            owned = self._owned[user]
            longest = int(self._dataset.lengths[owned].max())
            if piece and (rows + len(owned)) * max(width, longest) > max_tokens:
                yield np.array(piece, dtype=np.int64)
                piece, rows, width = [], 0, 0
            piece.append(user)
            rows, width = rows + len(owned), max(width, longest)
        if piece:
            yield np.array(piece, dtype=np.int64)

    def batch(self, users: Sequence[int] | IntArray) -> dict[str, torch.Tensor]:
        """The examples of these users, padded, with the key `user` for the owner of each row."""
        chosen = [self._owned[user] for user in np.asarray(users, dtype=np.int64).tolist()]
        owners = [np.full(len(o), u, dtype=np.int64) for u, o in zip(users, chosen, strict=True)]
        return {
            **self._dataset.batch(np.concatenate(chosen)),
            USER: torch.from_numpy(np.concatenate(owners)),
        }
