"""Tokenised examples with their unit of privacy, and the batches made of them.

Everything here is done example by example: no number in an example's tokens, labels or truncation
depends on another example, so a neighbouring data set differs in one unit's examples and in
nothing else. Batches are padded on the right and carry an attention mask; no position ids are
made. Labels are aligned with the tokens (the loss shifts them), -100 where nothing is learned.

Shape legend: B examples of a batch, T tokens of its longest example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from privacy_finetuner.errors import ConfigurationError, DatasetError
from privacy_finetuner.training.encoding import Encoder
from privacy_finetuner.training.records import LabelSpace, Records, label_space

__all__ = ["IGNORED", "Collate", "Task", "TokenizedDataset", "tokenize"]

Task: TypeAlias = Literal["causal_lm", "sequence_classification"]
IntArray: TypeAlias = NDArray[np.int64]

Collate: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], dict[str, torch.Tensor]]
"""From examples (`input_ids`, `attention_mask`, `labels`) to a batch, one row an example."""

IGNORED = -100  # the label of a position that nothing is learned from, as Hugging Face has it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TokenizedDataset:
    """Examples ready for training. The repr shows sizes only.

    Attributes:
        input_ids: the tokens of each example, at least one and at most `max_length`.
        labels: for `causal_lm` an array as long as the tokens for each example, `IGNORED` where
            nothing is learned; for `sequence_classification` one array with a class per example.
        units: the unit of privacy of each example, in 0 .. `unit_count` - 1.
        unit_count: how many units there are; every unit has at least one example.
        truncated: how many examples were cut at `max_length`.
        dropped: how many examples were left out above `max_examples_per_user`.
        unsupervised: how many examples have no position to learn from; they contribute nothing.
        fingerprint: SHA-256 over tokens, labels and units in order: equal for an exact resume.
            Computed from private data; not for publishing.
        label_names: the name of each class; empty for `causal_lm`.
        pad_id: the token that fills batches where the attention mask is 0.
        collate: makes the batches instead of padding here; see `training.collation`.
        padded_to: pad every batch to this public width instead of to its longest example.
    """

    task: Task
    input_ids: tuple[IntArray, ...]
    labels: tuple[IntArray, ...] | IntArray
    units: IntArray
    unit_count: int
    truncated: int
    dropped: int
    unsupervised: int
    fingerprint: str
    label_names: tuple[str, ...]
    pad_id: int
    lengths: IntArray
    collate: Collate | None = None
    padded_to: int | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    def __repr__(self) -> str:
        return (
            f"TokenizedDataset(task={self.task!r}, examples={len(self)}, units={self.unit_count}, "
            f"tokens={int(self.lengths.sum())}, truncated={self.truncated}, dropped={self.dropped})"
        )

    def examples_of(self, units: Sequence[int] | IntArray) -> IntArray:
        """The examples of these units of privacy, in order; each example once.

        Without users a unit is an example, and this is the identity on sorted distinct indices.
        """
        return np.flatnonzero(np.isin(self.units, np.asarray(units, dtype=np.int64)))

    def batch(self, indices: Sequence[int] | IntArray) -> dict[str, torch.Tensor]:
        """Pad the examples at `indices` on the right to the longest of them, or to `padded_to`.

        ======================  ============================================================
        result                  shape
        ======================  ============================================================
        `input_ids`             (B, T); `pad_id` after the end of an example
        `attention_mask`        (B, T); 1 on tokens, 0 on padding
        `labels`                (B, T), `IGNORED` on padding; classification: (B,)
        no indices              (0, 0); labels of a classification: (0,)
        ======================  ============================================================

        All are int64 on the CPU.

        Raises:
            IndexError: an index is outside 0 .. len - 1.
        """
        chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"an index is outside 0..{len(self) - 1}")
        if self.collate is not None and len(chosen):
            return self.collate([self._example(int(index)) for index in chosen])
        width = self.padded_to or int(self.lengths[chosen].max()) if len(chosen) else 0
        ids_BT = np.full((len(chosen), width), self.pad_id, dtype=np.int64)
        mask_BT = np.zeros((len(chosen), width), dtype=np.int64)
        for row, index in enumerate(chosen):
            ids = self.input_ids[index]
            ids_BT[row, : len(ids)] = ids
            mask_BT[row, : len(ids)] = 1
        if isinstance(self.labels, np.ndarray):
            labels = self.labels[chosen]
        else:
            labels = np.full((len(chosen), width), IGNORED, dtype=np.int64)
            for row, index in enumerate(chosen):
                labels[row, : self.lengths[index]] = self.labels[index]
        return {
            "input_ids": torch.from_numpy(ids_BT),
            "attention_mask": torch.from_numpy(mask_BT),
            "labels": torch.from_numpy(labels),
        }

    def _example(self, index: int) -> dict[str, Any]:
        label = self.labels[index]
        ids = self.input_ids[index].tolist()
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": label.tolist()}

    def micro_batches(
        self,
        indices: Sequence[int] | IntArray,
        *,
        size: int | None = None,
        max_tokens: int | None = None,
        sort_by_length: bool = True,
    ) -> Iterator[IntArray]:
        """Split a logical batch into pieces that fit in memory; together they are the batch.

        Nothing is yielded for an empty batch. The pieces of a sorted batch hold examples of like
        length (longest first, so that memory fails early or not at all); order does not matter to
        a sum over examples.

        Args:
            indices: the examples of the logical batch.
            size: at most this many examples a piece; at least 1.
            max_tokens: at most this many positions a piece, padding counted; a longer example
                makes a piece of its own.
            sort_by_length: put examples of like length together.

        Raises:
            ConfigurationError: neither or a non-positive bound is given.
        """
        bounds = [bound for bound in (size, max_tokens) if bound is not None]
        if not bounds or min(bounds) < 1:
            raise ConfigurationError(
                f"micro_batches needs size or max_tokens, at least 1; found size={size}, "
                f"max_tokens={max_tokens}"
            )
        chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
        if sort_by_length:
            chosen = chosen[np.argsort(-self.lengths[chosen], kind="stable")]
        return self._pieces(chosen, size or len(chosen), max_tokens)

    def _pieces(self, chosen: IntArray, size: int, max_tokens: int | None) -> Iterator[IntArray]:
        start, width = 0, 0
        for stop in range(len(chosen)):
            width = self.padded_to or max(width, int(self.lengths[chosen[stop]]))
            held = stop - start
            too_wide = max_tokens is not None and (held + 1) * width > max_tokens
            if held and (held == size or too_wide):
                yield chosen[start:stop]
                start, width = stop, int(self.lengths[chosen[stop]])
        if start < len(chosen):
            yield chosen[start:]


def tokenize(  # noqa: PLR0913 -- keyword-only; each is a decision of the caller's
    records: Records,
    tokenizer: Any,
    *,
    max_length: int,
    task: Task,
    strict: bool = False,
    user_field: str | None = None,
    max_examples_per_user: int | None = None,
    label_names: Sequence[str] | None = None,
    num_labels: int | None = None,
) -> TokenizedDataset:
    """Turn records into tokens, labels and units of privacy.

    Guarantee: an example depends on its own record only. Which of a user's examples are dropped
    depends on that user's records only: the first `max_examples_per_user` in file order stay.

    ================  =========================================  ==============================
    records           tokens                                     learned
    ================  =========================================  ==============================
    text              BOS if the tokenizer adds one, text, EOS   all
    completion        BOS, prompt, completion, EOS               completion and EOS
    chat              the tokenizer's chat template, else BOS,   the assistant's turns (and the
                      `role: content` lines, EOS                 EOS after one)
    classification    as the tokenizer frames a text             the class
    ================  =========================================  ==============================

    An example longer than `max_length` loses its end, the EOS included (a frame such as [SEP]
    stays). Labelled text under `causal_lm` is read as text.

    Args:
        records: what `read_records` returned.
        tokenizer: a Hugging Face tokenizer.
        max_length: the longest example in tokens; at least 2, and no more than the model's context.
        task: what the model learns.
        strict: refuse examples longer than `max_length` instead of cutting them.
        user_field: the field that names the unit of privacy; without it each example is a unit.
        max_examples_per_user: keep at most this many examples of a user; at least 1.
        label_names: see `records.label_space`.
        num_labels: see `records.label_space`.

    Raises:
        DatasetError: the records do not fit the task or the tokenizer, or `strict` and too long.
        ModelLoadError: the tokenizer lacks a token that the task needs.
        ConfigurationError: a number is out of range, or a cap without users.
    """
    _check(max_length, task, user_field, max_examples_per_user)
    space = None
    if task == "sequence_classification":
        space = label_space(records, label_names=label_names, num_labels=num_labels)
    users = records.users(user_field) if user_field is not None else None
    kept = _kept(users, max_examples_per_user, len(records))
    units = _units(users, kept)

    encoder = Encoder(tokenizer, classification=space is not None)
    encoded = encoder.encode([records.rows[i] for i in kept], records.kind)
    lengths = np.array([len(ids) for ids, _ in encoded], dtype=np.int64)
    too_long = int((lengths > max_length).sum())
    if strict and too_long:
        raise DatasetError(
            f"{too_long} of {len(encoded)} examples are longer than max_length {max_length}; the "
            f"longest has {int(lengths.max())} tokens"
        )
    cut = [encoder.cut(ids, learned, max_length) for ids, learned in encoded]
    input_ids = tuple(np.array(ids, dtype=np.int64) for ids, _ in cut)
    if space is not None:
        labels: tuple[IntArray, ...] | IntArray = _classes(records, kept, space)
        unsupervised = 0
    else:
        labels = _next_tokens(input_ids, [learned for _, learned in cut])
        # The first token is never predicted, so a label there teaches nothing.
        unsupervised = sum(bool((row[1:] == IGNORED).all()) for row in labels)
    return TokenizedDataset(
        task=task,
        input_ids=input_ids,
        labels=labels,
        units=units,
        unit_count=int(units.max()) + 1,
        truncated=too_long,
        dropped=len(records) - len(kept),
        unsupervised=unsupervised,
        fingerprint=_fingerprint(task, input_ids, labels, units),
        label_names=space.names if space is not None else (),
        pad_id=encoder.pad_id,
        lengths=np.minimum(lengths, max_length),
    )


def _check(
    max_length: int, task: str, user_field: str | None, max_examples_per_user: int | None
) -> None:
    if task not in ("causal_lm", "sequence_classification"):
        raise ConfigurationError(
            f"task is {task!r}, expected 'causal_lm' or 'sequence_classification'"
        )
    if max_length < 2:
        raise ConfigurationError(f"max_length is {max_length}, expected at least 2")
    if max_examples_per_user is not None:
        if user_field is None:
            raise ConfigurationError("max_examples_per_user needs user_field")
        if max_examples_per_user < 1:
            raise ConfigurationError(
                f"max_examples_per_user is {max_examples_per_user}, expected at least 1"
            )


def _kept(users: Sequence[str] | None, cap: int | None, count: int) -> list[int]:
    """The records that stay: the first `cap` of each user in file order."""
    if users is None or cap is None:
        return list(range(count))
    seen: dict[str, int] = {}
    kept = []
    for index, user in enumerate(users):
        seen[user] = seen.get(user, 0) + 1
        if seen[user] <= cap:
            kept.append(index)
    return kept


def _units(users: Sequence[str] | None, kept: Sequence[int]) -> IntArray:
    """Number the units in order of first appearance."""
    if users is None:
        return np.arange(len(kept), dtype=np.int64)
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(users[i], len(numbers)) for i in kept], dtype=np.int64)


def _classes(records: Records, kept: Sequence[int], space: LabelSpace) -> IntArray:
    number = {name: k for k, name in enumerate(space.names)}
    given = [records.rows[i]["label"] for i in kept]
    return np.array([x if isinstance(x, int) else number[str(x)] for x in given], dtype=np.int64)


def _next_tokens(
    input_ids: Sequence[IntArray], learned: Sequence[Sequence[bool]]
) -> tuple[IntArray, ...]:
    """The tokens themselves where they are learned; the loss shifts them."""
    return tuple(
        np.where(np.array(marks, dtype=bool), ids, IGNORED)
        for ids, marks in zip(input_ids, learned, strict=True)
    )


def _fingerprint(
    task: str,
    input_ids: Sequence[IntArray],
    labels: Sequence[IntArray] | IntArray,
    units: IntArray,
) -> str:
    digest = hashlib.sha256(task.encode())
    per_example = [labels] if isinstance(labels, np.ndarray) else labels
    for arrays in (input_ids, per_example, [units]):
        digest.update(np.array([len(array) for array in arrays], dtype="<i8").tobytes())
        for array in arrays:
            digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()
