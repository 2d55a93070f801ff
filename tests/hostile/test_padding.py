"""A long neighbour makes everybody be padded: that must not reach anybody's gradient.

Each architecture is refused, or the clipped sum of examples is the same however far they are
padded, up to the rounding that the noise's margin covers. (Else one long example moves the sum by
its own gradient and by what it does to the others': measured up to 1.5 clip norms with three.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from privacy_finetuner.errors import UnsupportedLayer
from privacy_finetuner.training.engine import Clip, make_gradient
from privacy_finetuner.training.models import adopt_model
from privacy_finetuner.training.objectives import IGNORED, Objective, Task, public_probe

ROUNDING = 7.5e-4
CLIP = Clip(1e-3)
LENGTHS = (10, 12, 11)
LONG = 24

_SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
_ENCODER = {**_SMALL, "num_labels": 3, "hidden_dropout_prob": 0.0}
_BERT = {**_ENCODER, "attention_probs_dropout_prob": 0.0}
_LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.0],
    "long_factor": [4.0, 4.0],
    "original_max_position_embeddings": 16,
    "factor": 4.0,
}

MODELS: dict[str, tuple[Task, Callable[[], Any]]] = {
    "bert": (
        "sequence_classification",
        lambda: hf.BertForSequenceClassification(hf.BertConfig(**_BERT)),
    ),
    "fnet": (
        "sequence_classification",
        lambda: hf.FNetForSequenceClassification(hf.FNetConfig(**_ENCODER)),
    ),
    "yoso": (
        "sequence_classification",
        lambda: hf.YosoForSequenceClassification(hf.YosoConfig(**_BERT, use_expectation=True)),
    ),
    "convbert": (
        "sequence_classification",
        lambda: hf.ConvBertForSequenceClassification(
            hf.ConvBertConfig(**_BERT, embedding_size=16, conv_kernel_size=3, head_ratio=2)
        ),
    ),
    "funnel": (
        "sequence_classification",
        lambda: hf.FunnelForSequenceClassification(
            hf.FunnelConfig(
                vocab_size=40,
                block_sizes=[1, 1],
                d_model=16,
                n_head=4,
                d_head=4,
                d_inner=24,
                num_labels=3,
                hidden_dropout=0.0,
                attention_dropout=0.0,
            )
        ),
    ),
    "xlnet": (
        "sequence_classification",
        lambda: hf.XLNetForSequenceClassification(
            hf.XLNetConfig(
                vocab_size=40,
                d_model=16,
                n_layer=2,
                n_head=4,
                d_inner=24,
                num_labels=3,
                dropout=0.0,
                summary_last_dropout=0.0,
            )
        ),
    ),
    "llama": ("causal_lm", lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**_SMALL))),
    "rwkv": (
        "causal_lm",
        lambda: hf.RwkvForCausalLM(
            hf.RwkvConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, pad_token_id=0)
        ),
    ),
}


def batch_of(task: Task, width: int) -> dict[str, Tensor]:
    """Made-up examples of `LENGTHS`, padded to a width."""
    ids = torch.zeros(len(LENGTHS), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = (torch.arange(length) * 7 + row) % 37 + 3
        mask[row, :length] = 1
    labels = ids.masked_fill(mask == 0, IGNORED) if task == "causal_lm" else torch.arange(3)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.filterwarnings("ignore")  # of models that few people use, about their own future
@pytest.mark.parametrize("name", MODELS)
def test_how_far_examples_are_padded_does_not_reach_their_gradients(name: str) -> None:
    task, make = MODELS[name]
    torch.manual_seed(0)  # noqa: TID251 -- weights of a test model
    model = make()
    objective = Objective(task, 40 if task == "causal_lm" else 3)
    probe = public_probe(objective, vocabulary=40, device=torch.device("cpu"))
    try:
        source, _ = make_gradient(model, objective, probe)
    except UnsupportedLayer:
        assert name not in ("bert", "llama")
        return
    model.eval()

    def total(width: int) -> Tensor:
        source.add(batch_of(task, width), CLIP)
        return torch.cat([t.double().flatten() for t in source.take(CLIP).tensors])

    moved = float((total(LONG) - total(max(LENGTHS))).norm())
    assert moved <= CLIP.clip_norm * ROUNDING


def test_where_positions_change_with_the_longest_example_the_context_ends_before(
    byte_tokenizer: Any,
) -> None:
    """Above the first limit of longrope, the frequencies of all rows follow the longest one."""
    config = hf.LlamaConfig(**{**_SMALL, "vocab_size": 259}, rope_scaling=_LONGROPE)
    loaded = adopt_model(hf.LlamaForCausalLM(config), byte_tokenizer)
    assert loaded.context_length == _LONGROPE["original_max_position_embeddings"]
