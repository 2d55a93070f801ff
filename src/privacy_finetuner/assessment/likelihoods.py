"""What a language model says about texts, token by token: the raw material of every attack.

Texts are encoded as they are in training (`training.encoding`), cut at the model's context, and
read in batches without gradients; the model's mode is as before afterwards. What comes out was
computed from the texts: where those are private it is outside every guarantee.

Shapes: T positions, V tokens of the vocabulary, S positions that are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from privacy_finetuner.errors import DatasetError, ModelLoadError
from privacy_finetuner.training.encoding import Encoder

__all__ = [
    "Continuation",
    "Progress",
    "TokenStatistics",
    "completion_log_probs",
    "context_length",
    "continuations",
    "evaluating",
    "require_match",
    "token_statistics",
]

Vector = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and of how many."""

AFTER_CHARACTERS: Final = 32
"""How much of the text behind a value counts, at most."""

_BATCH_NUMBERS: Final = 2**25
"""Logits of one batch: 128 MiB in float32."""

_BLOCK_NUMBERS: Final = 2**22
"""Numbers in double precision at a time: 32 MiB each of a few tensors."""

_SPARE_ROWS: Final = 16_384
"""Embedding tables are padded to round sizes and have rows for canaries; more is not a match."""


@dataclass(frozen=True, slots=True, repr=False)
class TokenStatistics:
    """Of each text, one number a token after its first: what was given, and what was expected.

    Attributes:
        log_probs: log p(token | prefix).
        means: the mean of log p(z | prefix) for z drawn from the model: minus the entropy.
        deviations: its standard deviation.
        cut: how many texts were longer than the model's context.
    """

    log_probs: tuple[Vector, ...]
    means: tuple[Vector, ...]
    deviations: tuple[Vector, ...]
    cut: int = 0

    def __repr__(self) -> str:
        return f"TokenStatistics({len(self.log_probs)} texts)"

    @property
    def mean_log_probs(self) -> Vector:
        """One number a text: minus its loss."""
        return np.array([float(np.mean(row)) for row in self.log_probs], dtype=np.float64)


@dataclass(frozen=True, slots=True, repr=False)
class Continuation:
    """How a model values one given continuation of one prefix.

    Attributes:
        log_prob: of the whole continuation, sampled at `temperature` from the `top_k` likeliest
            tokens; -inf where a token is not among them.
        is_greedy: every token is the likeliest at its place, so greedy decoding writes it out.
        tokens: how many tokens it has.
    """

    log_prob: float
    is_greedy: bool
    tokens: int


def require_match(model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot be the model's.

    Raises:
        ModelLoadError: the tokenizer knows tokens that the model does not embed, or the model
            embeds many more than the tokenizer knows. Nothing was computed.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    known = len(tokenizer)
    if known > rows or rows > known + max(_SPARE_ROWS, known):
        raise ModelLoadError(
            f"the tokenizer has {known} tokens and the model embeds {rows}; they do not belong "
            "together. Nothing was computed; load both from the same folder"
        )


def token_statistics(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    stage: str = "reading texts",
    progress: Progress | None = None,
) -> TokenStatistics:
    """The log-probability of every token, and its mean and deviation over the vocabulary.

    The first token is scored only where the tokenizer puts a beginning before it.

    Args:
        model: a causal language model of Hugging Face, or a peft model around one.
        tokenizer: its tokenizer.
        texts: any strings that have at least one token to score.
        stage: what `progress` is told.
        progress: called after each batch.

    Raises:
        ModelLoadError: model and tokenizer do not belong together.
        DatasetError: a text has no token to score; says which one by number, from 1.
    """
    require_match(model, tokenizer)
    rows, cut = _encoded(model, tokenizer, texts)
    log_probs: list[Vector] = [np.empty(0)] * len(rows)
    means, deviations = list(log_probs), list(log_probs)
    found = _logits(model, rows, Encoder(tokenizer).pad_id)
    for done, (index, logits_TV) in enumerate(found, start=1):
        moments = _moments(logits_TV[:-1], rows[index][1:])
        log_probs[index], means[index], deviations[index] = moments
        if progress is not None and (done % 64 == 0 or done == len(rows)):
            progress(stage, done, len(rows))
    return TokenStatistics(tuple(log_probs), tuple(means), tuple(deviations), cut)


def continuations(
    model: Any,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    pad_id: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    stage: str = "reading continuations",
    progress: Progress | None = None,
) -> list[Continuation]:
    """Value each continuation after its prefix, both in tokens, by one reading of the model.

    The probability of a continuation is a product that one forward pass gives exactly, so nothing
    is sampled (Hayes et al. 2024, arXiv:2410.19482).
    """
    rows = [[*prefix, *rest] for prefix, rest in pairs]
    found: list[Continuation | None] = [None] * len(rows)
    for count, (index, logits_TV) in enumerate(_logits(model, rows, pad_id), start=1):
        start = len(pairs[index][0])
        target_S = torch.tensor(rows[index][start:], device=logits_TV.device)
        logits_SV = logits_TV[start - 1 : -1].double()
        highest_S = logits_SV.argmax(dim=-1)
        scaled_SV = logits_SV / temperature
        if top_k is not None and top_k < scaled_SV.shape[-1]:
            least_S1 = scaled_SV.topk(top_k, dim=-1).values[:, -1:]
            scaled_SV = scaled_SV.masked_fill(scaled_SV < least_S1, float("-inf"))
        log_SV = torch.log_softmax(scaled_SV, dim=-1)
        found[index] = Continuation(
            log_prob=float(log_SV.gather(1, target_S[:, None]).sum()),
            is_greedy=bool((highest_S == target_S).all()),
            tokens=len(target_S),
        )
        if progress is not None and (count % 64 == 0 or count == len(rows)):
            progress(stage, count, len(rows))
    return [continuation for continuation in found if continuation is not None]


def completion_log_probs(
    model: Any,
    tokenizer: Any,
    cases: Sequence[tuple[str, str, str]],
    stage: str = "reading candidates",
    progress: Progress | None = None,
) -> Vector:
    """The log-probability of value + after, given before, for each case (before, value, after).

    A prefix too long for the model's context loses its beginning.

    Raises:
        DatasetError: a value and what follows have no token of their own.
    """
    encoder, limit = Encoder(tokenizer), context_length(model)
    pairs = []
    for before, value, after in cases:
        rest = value + after[:AFTER_CHARACTERS]
        whole, prefix = encoder.prompt(before + rest), encoder.prompt(before)
        # The tokens of the prefix may end differently in running text: score from there on.
        same = next(
            (k for k, (a, b) in enumerate(zip(prefix, whole, strict=False)) if a != b),
            min(len(prefix), len(whole)),
        )
        start = max(1, same)
        if len(whole) <= start:
            raise DatasetError("a candidate has no token to score; nothing was computed")
        pairs.append(_fitted(whole, start, limit))
    found = continuations(model, pairs, encoder.pad_id, stage=stage, progress=progress)
    return np.array([one.log_prob for one in found], dtype=np.float64)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Hold the model in evaluation mode, without gradients."""
    was_training = bool(model.training)
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def context_length(model: Any) -> int | None:
    """The longest input that the model states, in tokens."""
    length = getattr(model.config, "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 1 else None


def _fitted(whole: list[int], start: int, limit: int | None) -> tuple[list[int], list[int]]:
    rest = whole[start:] if limit is None else whole[start : start + limit - 1]
    room = start if limit is None else min(start, limit - len(rest))
    return whole[start - room : start], rest


def _encoded(model: Any, tokenizer: Any, texts: Sequence[str]) -> tuple[list[list[int]], int]:
    encoder, limit, cut = Encoder(tokenizer), context_length(model), 0
    rows = []
    for number, text in enumerate(texts, start=1):
        row = encoder.prompt(text)
        if len(row) < 2:
            raise DatasetError(
                f"text {number} of {len(texts)} has {len(row)} tokens, expected at least 2: there "
                "is nothing to score. Nothing was computed; leave it out"
            )
        cut += limit is not None and len(row) > limit
        rows.append(row[:limit])
    return rows, cut


def _logits(model: Any, rows: Sequence[Sequence[int]], pad_id: int) -> Iterator[tuple[int, Tensor]]:
    """The logits (T, V) of each row, longest rows first; rows of like length share a batch."""
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    tokens = max(1, _BATCH_NUMBERS // vocabulary)
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda k: -len(rows[k]))
    with evaluating(model):
        start = 0
        while start < len(order):
            width = len(rows[order[start]])
            batch = order[start : start + max(1, tokens // width)]
            start += len(batch)
            ids = [[*rows[k], *[pad_id] * (width - len(rows[k]))] for k in batch]
            mask = [[1] * len(rows[k]) + [0] * (width - len(rows[k])) for k in batch]
            logits_BTV = model(
                input_ids=torch.tensor(ids, device=device),
                attention_mask=torch.tensor(mask, device=device),
            ).logits
            for place, index in enumerate(batch):
                yield index, logits_BTV[place, : len(rows[index])]


def _moments(logits_SV: Tensor, targets: Sequence[int]) -> tuple[Vector, Vector, Vector]:
    """The log p of each target, and mean and deviation of log p, some positions at a time."""
    block = max(1, _BLOCK_NUMBERS // logits_SV.shape[-1])
    target_S = torch.tensor(targets, device=logits_SV.device)
    parts = []
    for start in range(0, len(targets), block):
        all_RV = torch.log_softmax(logits_SV[start : start + block].double(), dim=-1)
        # A masked token has log-probability -inf and probability 0: it counts nothing.
        finite_RV, weight_RV = all_RV.clamp(min=-1e4), all_RV.exp()
        mean_R = (weight_RV * finite_RV).sum(dim=-1)
        square_R = (weight_RV * (finite_RV - mean_R[:, None]) ** 2).sum(dim=-1)
        given_R = all_RV.gather(1, target_S[start : start + block, None])[:, 0]
        parts.append(torch.stack([given_R, mean_R, square_R.sqrt()]))
    given, mean, deviation = _array(torch.cat(parts, dim=1))
    return given, mean, deviation


def _array(values: Tensor) -> Vector:
    return np.asarray(values.double().cpu().numpy(), dtype=np.float64)
