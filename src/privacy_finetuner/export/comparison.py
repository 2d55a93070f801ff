"""How differently an exported model answers, on tokens that cost no privacy.

The probe is drawn from the source model itself. What a released model writes is post-processing of
it (Dwork and Roth 2014, Proposition 2.1), so the figures here cost nothing more than the model did,
and they are measured where the model works: on text as it would write it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch

SEQUENCES: Final = 16
LENGTH: Final = 64
_SEED: Final = 1

Ids: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.int64]]
Logits: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Answers: TypeAlias = Callable[[Ids], Logits]
"""Token ids (batch, length) to logits (batch, length, vocabulary) or (batch, classes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models' answers to the same probe.

    Attributes:
        positions: how many answers were compared.
        agreement: share of them where both name the same likeliest answer.
        divergence_mean_nats, divergence_most_nats: Kullback-Leibler divergence of the exported
            distribution from the source's, over the positions.
        perplexity_ratio: the exported model's perplexity on the probe over the source's; `None`
            for a classifier.
    """

    positions: int
    agreement: float
    divergence_mean_nats: float
    divergence_most_nats: float
    perplexity_ratio: float | None


def probe_of(model: Any, *, sequences: int = SEQUENCES, length: int = LENGTH) -> Ids:
    """Draw a probe from a model: its own text, or any tokens for a classifier. Always the same.

    Args:
        model: a Hugging Face model in eval mode.
        sequences: rows.
        length: tokens in a row; fewer where the model's context is shorter.
    """
    config = model.config
    length = min(length, getattr(config, "max_position_embeddings", None) or length)
    chance = torch.Generator().manual_seed(_SEED)
    if not model.can_generate():
        any_ids = torch.randint(0, config.vocab_size, (sequences, length), generator=chance)
        return np.asarray(any_ids, dtype=np.int64)
    ids = torch.full((sequences, 1), _first_token(config))
    past = None
    with torch.no_grad():
        while ids.shape[1] < length:
            given = ids if past is None else ids[:, -1:]
            answer = model(input_ids=given.to(model.device), past_key_values=past, use_cache=True)
            past = answer.past_key_values
            shares = answer.logits[:, -1].float().softmax(-1).cpu()
            ids = torch.cat([ids, torch.multinomial(shares, 1, generator=chance)], dim=1)
    return np.asarray(ids, dtype=np.int64)


def _first_token(config: Any) -> int:
    """Where a text begins; some configurations name tokens that the vocabulary lacks."""
    named = (config.bos_token_id, config.eos_token_id)
    known = [each for each in named if isinstance(each, int) and 0 <= each < config.vocab_size]
    return known[0] if known else 0


def compare(source: Logits, exported: Logits, ids: Ids) -> Comparison:
    """Compare two models' logits for the same ids; a NaN agrees with nothing.

    Raises:
        ValueError: the shapes differ.
    """
    if source.shape != exported.shape:
        raise ValueError(f"logits of shape {exported.shape}, expected {source.shape}")
    p, q = _log_softmax(source), _log_softmax(exported)
    divergence = np.sum(np.exp(p) * (p - q), axis=-1)
    is_same = (p.argmax(-1) == q.argmax(-1)) & np.isfinite(q).all(-1)
    ratio = None
    if source.ndim == 3:
        ratio = float(np.exp(_cross_entropy(q, ids) - _cross_entropy(p, ids)))
    return Comparison(
        positions=int(is_same.size),
        agreement=float(is_same.mean()),
        divergence_mean_nats=float(divergence.mean()),
        divergence_most_nats=float(divergence.max()),
        perplexity_ratio=ratio,
    )


def _log_softmax(logits: Logits) -> np.ndarray[Any, np.dtype[np.float64]]:
    wide = np.asarray(logits, dtype=np.float64)
    wide = wide - wide.max(axis=-1, keepdims=True)
    shifted: np.ndarray[Any, np.dtype[np.float64]]
    shifted = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return shifted


def _cross_entropy(log_p: np.ndarray[Any, np.dtype[np.float64]], ids: Ids) -> float:
    following = np.take_along_axis(log_p[:, :-1], ids[:, 1:, None], axis=-1)
    return float(-following.mean())
