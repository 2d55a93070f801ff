"""Contexts that share what follows them: left-padded rows, one key-value cache, one way to ask.

Shapes: B rows, W tokens of a row's own prefix, S tokens that all rows share, V the vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache


class Rows:
    """B prefixes of one width, padded on the left, and the cache of what was fed behind them.

    Every row takes the same time whatever its prefix is: the padding is computed like any token,
    and masked.

    Args:
        model: a causal language model, in eval mode.
        prefixes: token ids, at most `width` each.
        width: W.
        pad: the id that is fed where a prefix is shorter.
    """

    def __init__(
        self, model: Any, prefixes: Sequence[Sequence[int]], *, width: int, pad: int
    ) -> None:
        self._model = model
        self._device = model.device
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self._ids_BW = torch.tensor(
            [[pad] * (width - len(row)) + list(row) for row in prefixes], dtype=torch.long
        ).to(self._device)
        self._mask_BW = torch.tensor(
            [[0] * (width - len(row)) + [1] * len(row) for row in prefixes], dtype=torch.long
        ).to(self._device)
        self._cache = DynamicCache()
        self._fed: list[int] | None = None
        """Shared tokens that are in the cache; None: not even the prefixes."""

    @torch.inference_mode()
    def logits(self, shared: Sequence[int], last: int) -> torch.Tensor:
        """Logits float32 [B, last, V] after each of the last tokens of `shared`.

        What is in the cache of an earlier call and still fits is not computed again; what does not
        fit, a draft that was left, is cut off.

        Args:
            shared: tokens behind the prefixes, at least `last`.
            last: at least 1.
        """
        tokens = list(shared)
        if self._fed is None:
            kept, new_BT = 0, self._behind_prefixes(tokens)
        else:
            kept = min(_common(self._fed, tokens), len(tokens) - last)
            if len(self._fed) > kept:
                self._cache.crop(kept - len(self._fed))
            new_BT = self._repeated(tokens[kept:])
        ones_BS = torch.ones((len(self._mask_BW), len(tokens)), dtype=torch.long)
        mask_BT = torch.cat([self._mask_BW, ones_BS.to(self._device)], dim=1)
        options: dict[str, Any] = {}
        if self._takes_positions:
            places_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)
            options["position_ids"] = places_BT[:, -new_BT.shape[1] :]
        self._fed = None  # until the model has returned: what an interruption leaves is not known
        out = self._model(
            input_ids=new_BT,
            attention_mask=mask_BT,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=last,
            **options,
        )
        self._fed = tokens
        logits_BLV: torch.Tensor = out.logits[:, -last:].float()
        return logits_BLV

    def _behind_prefixes(self, tokens: Sequence[int]) -> torch.Tensor:
        self._cache = DynamicCache()
        return torch.cat([self._ids_BW, self._repeated(tokens)], dim=1)

    def _repeated(self, tokens: Sequence[int]) -> torch.Tensor:
        one_T = torch.tensor(list(tokens), dtype=torch.long, device=self._device)
        return one_T.expand(len(self._ids_BW), -1)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
