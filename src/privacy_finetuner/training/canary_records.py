"""Canaries as training examples: their tokens, their place in the data set, their losses.

Shapes: M canaries, L tokens of each, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training.canaries import (
    GRADIENT,
    SALT_BYTES,
    Places,
    Seal,
    draw_coins,
    protocol,
    read_seal,
    refuse_unsuited,
)
from privacy_finetuner.training.datasets import IGNORED, TokenizedDataset
from privacy_finetuner.training.encoding import Encoder
from privacy_finetuner.training.evaluation import example_losses
from privacy_finetuner.training.models import LoadedModel
from privacy_runtime.keystream import KeyStream
from privacy_runtime.world import Entropy

RANDOM_LENGTH: Final = 8
SYNTHETIC_LENGTH: Final = 24
TEMPERATURE: Final = 1.5
_PASS_TOKENS: Final = 8192

Tokens = NDArray[np.int64]


def audited(
    data: TokenizedDataset,
    loaded: LoadedModel,
    options: TrainOptions,
    training: TrainingConfig,
    folder: Path,
    entropy: Entropy,
) -> tuple[TokenizedDataset, Places | None]:
    """The data set of a run with its canaries, if it is to carry any: new ones, or the run's own.

    Nothing is written here; the seal is, by the session, before the first gradient. A model that
    gets new tokens is changed in place.

    Returns:
        the data set, with every canary behind the records whether it is in or out, and the places
        that a sampler draws from.

    Raises:
        ConfigurationError: the run cannot carry them. CheckpointError: a resumed run's are gone.
    """
    if not options.audit_canaries:
        return data, None
    refuse_unsuited(options, training, is_adapter=loaded.is_adapter)
    records = data.unit_count if options.user_sampling else len(data)
    if options.resume:
        seal = read_seal(folder)
        _add_tokens(loaded, seal.kind, seal.vocabulary, seal.count)
    else:
        seal = make_seal(data, loaded, options, entropy)
    return with_canaries(data, seal), Places(seal, records, examples=len(data))


def make_seal(
    data: TokenizedDataset, loaded: LoadedModel, options: TrainOptions, entropy: Entropy
) -> Seal:
    """Draw canaries and coins for a run. Looks at nothing of `data` but its form."""
    stream = KeyStream.fresh(entropy)
    count = options.audit_canaries
    kind = GRADIENT if options.audit_scores == "white-box" else options.audit_kind
    seal = Seal(
        kind=kind,
        task=data.task,
        included=draw_coins(count, stream),
        salt=stream.read(SALT_BYTES).hex(),
        protocol=protocol(stream),
        base=loaded.base_name,
        vocabulary=int(loaded.model.get_input_embeddings().weight.shape[0]),
    )
    if kind == GRADIENT:
        return replace(seal, coordinates=_coordinates(loaded, count, stream))
    seal = replace(seal, **_texts(seal, data, loaded, stream))
    _add_tokens(loaded, kind, seal.vocabulary, count)
    return replace(seal, first_losses=tuple(canary_losses(seal, loaded).tolist()))


def canary_losses(seal: Seal, loaded: LoadedModel) -> NDArray[np.float64]:
    """The loss of each canary under a model, shape (M,)."""
    data = dataset_of(seal, pad_id=int(loaded.tokenizer.pad_token_id), names=loaded.label_names)
    return np.asarray(example_losses(loaded, data, max_tokens=_PASS_TOKENS), dtype=np.float64)


def dataset_of(seal: Seal, *, pad_id: int, names: Sequence[str]) -> TokenizedDataset:
    """The canaries alone, as examples."""
    input_ids = tuple(np.array(ids, dtype=np.int64) for ids in seal.tokens)
    labels: tuple[Tokens, ...] | Tokens
    if seal.task == "sequence_classification":
        labels = np.array(seal.classes, dtype=np.int64)
    else:
        labels = tuple(_learned(ids, seal.learned) for ids in input_ids)
    return TokenizedDataset(
        task=seal.task,
        input_ids=input_ids,
        labels=labels,
        units=np.arange(len(input_ids), dtype=np.int64),
        unit_count=len(input_ids),
        truncated=0,
        dropped=0,
        unsupervised=0,
        fingerprint=seal.digest,
        label_names=tuple(names),
        pad_id=pad_id,
        lengths=np.array([len(ids) for ids in input_ids], dtype=np.int64),
    )


def with_canaries(data: TokenizedDataset, seal: Seal) -> TokenizedDataset:
    """The data set with every canary behind its records, each a unit of its own.

    The fingerprint stays that of the records: the canaries have their seal.
    """
    if seal.is_white_box:
        return data
    own = dataset_of(seal, pad_id=data.pad_id, names=data.label_names)
    labels: Any
    if isinstance(data.labels, np.ndarray):
        labels = np.concatenate([data.labels, np.asarray(own.labels)])
    else:
        labels = (*data.labels, *own.labels)
    return replace(
        data,
        input_ids=(*data.input_ids, *own.input_ids),
        labels=labels,
        units=np.concatenate([data.units, own.units + data.unit_count]),
        unit_count=data.unit_count + own.unit_count,
        lengths=np.concatenate([data.lengths, own.lengths]),
    )


def _texts(
    seal: Seal, data: TokenizedDataset, loaded: LoadedModel, stream: KeyStream
) -> dict[str, Any]:
    """Tokens, classes and learned length of the canaries of a kind."""
    before, after = Encoder(
        loaded.tokenizer, classification=data.task == "sequence_classification"
    ).frame
    # With a public width for all batches, no canary may be longer than that.
    most = data.padded_to or loaded.context_length or 2**31
    room = most - len(before) - len(after)
    count = seal.count
    if seal.kind == "synthetic":
        if data.task != "causal_lm":
            raise ConfigurationError(
                "a classifier writes no text: audit_kind 'synthetic' is for language models; "
                "nothing was started"
            )
        length = min(SYNTHETIC_LENGTH, room)
        middle = _written_by(loaded, before, count, length, stream)
    else:
        length = min(RANDOM_LENGTH, room)
        middle = _random_tokens(loaded, count, length, stream)
    if length < 2:
        raise ConfigurationError("the model's context has no room for a canary of two tokens")
    learned = length
    if seal.kind == "new-token":
        if data.task != "causal_lm":
            raise ConfigurationError(
                "a classifier predicts no token: audit_kind 'new-token' is for language models; "
                "nothing was started"
            )
        middle[:, -1] = seal.vocabulary + np.arange(count)
        learned = 1
    classes: tuple[int, ...] = ()
    if data.task == "sequence_classification":
        drawn = stream.words(count) % np.uint64(len(data.label_names))
        classes = tuple(int(k) for k in drawn)
        learned = 0
    tokens = tuple((*before, *map(int, row), *after) for row in middle)
    return {"tokens": tokens, "classes": classes, "learned": learned}


def _random_tokens(loaded: LoadedModel, count: int, length: int, stream: KeyStream) -> Tokens:
    """[M, L] tokens, uniform over the tokenizer's vocabulary without special tokens."""
    special = set(loaded.tokenizer.all_special_ids)
    known = np.array([k for k in range(len(loaded.tokenizer)) if k not in special], dtype=np.int64)
    drawn = (stream.uniforms(count * length) * len(known)).astype(np.int64)
    return np.take(known, drawn).reshape(count, length)


@torch.no_grad()
def _written_by(
    loaded: LoadedModel, before: Sequence[int], count: int, length: int, stream: KeyStream
) -> Tokens:
    """[M, L] tokens that the model writes at a high temperature, by inverse transform sampling."""
    start = list(before) or [int(loaded.tokenizer.pad_token_id)]
    ids_ML = torch.tensor([start] * count, device=loaded.device)
    was_training = loaded.model.training
    loaded.model.eval()
    known = len(loaded.tokenizer)
    for _ in range(length):
        pieces = [
            loaded.model(input_ids=piece, use_cache=False).logits[:, -1, :known].float().cpu()
            for piece in torch.split(ids_ML, max(1, _PASS_TOKENS // ids_ML.shape[1]))
        ]
        cumulative_MV = (torch.cat(pieces) / TEMPERATURE).softmax(dim=-1).double().cumsum(dim=-1)
        thresholds_M = torch.from_numpy(stream.uniforms(count)) * cumulative_MV[:, -1]
        drawn_M = torch.searchsorted(cumulative_MV, thresholds_M[:, None]).clamp(max=known - 1)
        ids_ML = torch.cat([ids_ML, drawn_M.to(loaded.device)], dim=1)
    loaded.model.train(was_training)
    return ids_ML[:, len(start) :].cpu().numpy().astype(np.int64)


def _coordinates(loaded: LoadedModel, count: int, stream: KeyStream) -> tuple[int, ...]:
    """Distinct places among all trained weights, laid end to end."""
    weights = sum(p.numel() for p in loaded.model.parameters() if p.requires_grad)
    if weights < 4 * count:
        raise ConfigurationError(
            f"{count} white-box canaries need a trained weight each, and room between them; the "
            f"model trains {weights}; take audit_canaries of at most {weights // 8 * 2}; nothing "
            "was started"
        )
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        chosen.update(dict.fromkeys((stream.uniforms(count) * weights).astype(int).tolist()))
    return tuple(list(chosen)[:count])


def _add_tokens(loaded: LoadedModel, kind: str, vocabulary: int, count: int) -> None:
    """Give each canary a row of the embedding, where the mean of all others is; never generated.

    A resumed run's checkpoint has them already.
    """
    model = loaded.model
    if kind != "new-token" or model.get_input_embeddings().weight.shape[0] > vocabulary:
        return
    model.resize_token_embeddings(vocabulary + count, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[vocabulary:] = layer.weight[:vocabulary].mean(dim=0)
    if model.generation_config is not None:
        model.generation_config.suppress_tokens = list(range(vocabulary, vocabulary + count))


def _learned(ids: Tokens, count: int) -> Tokens:
    """The labels of a canary: its last `count` tokens."""
    labels = np.full(len(ids), IGNORED, dtype=np.int64)
    labels[len(ids) - count :] = ids[len(ids) - count :]
    return labels
