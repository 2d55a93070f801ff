"""Low-rank adapters: which layers get them, and the head that is trained beside them.

The base is frozen; the adapters' parameters, and for classification a trainable copy of the head,
are all that is trained, clipped and noised. peft keeps the copy inside a wrapper whose original is
frozen and not called, so forward hooks on the copy see every use of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from privacy_finetuner.errors import ConfigurationError

__all__ = ["LoraSettings", "apply_lora", "peft_warnings_settled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """The size and place of the adapters.

    Attributes:
        rank: inner dimension of an adapter; at least 1.
        alpha: an adapter's output is scaled by `alpha / rank`; `None` means `2 * rank`.
        dropout: probability of dropping an input of an adapter; 0 <= dropout < 1.
        target_modules: names of the layers that get an adapter, in full or their last part;
            `None` means every linear layer but the output embedding and the classification head.
        dora: train the length of every output's weight vector apart from its direction (Liu et
            al. 2024, arXiv:2402.09353).
        base_bits: hold the frozen base in 4 or 8 bits (QLoRA, Dettmers et al. 2023), with
            bitsandbytes; only while loading. The adapters stay float32.

    Raises:
        ConfigurationError: a number is out of range.
    """

    rank: int
    alpha: float | None = None
    dropout: float = 0.0
    target_modules: tuple[str, ...] | None = None
    dora: bool = False
    base_bits: int | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigurationError(f"LoRA rank is {self.rank}, expected at least 1")
        if self.alpha is not None and not 0 < self.alpha < float("inf"):
            raise ConfigurationError(f"LoRA alpha is {self.alpha}, expected more than 0")
        if not 0 <= self.dropout < 1:
            raise ConfigurationError(f"LoRA dropout is {self.dropout}, expected 0 <= dropout < 1")
        if self.base_bits not in (None, 4, 8):
            raise ConfigurationError(f"LoRA base_bits is {self.base_bits}, expected 4 or 8")
        if self.target_modules is not None and not self.target_modules:
            raise ConfigurationError("LoRA target_modules is empty; leave it out for all linear")

    @property
    def scale(self) -> float:
        """What an adapter's output is multiplied by."""
        return (2 * self.rank if self.alpha is None else self.alpha) / self.rank


def apply_lora(model: Any, settings: LoraSettings, task: str) -> Any:
    """Freeze the model and put adapters on it; returns the peft model around it.

    Adapters start as zero (their second matrix is zero), so the model's outputs do not change.
    With `sequence_classification` the head is trained too.

    Raises:
        ConfigurationError: a target names no linear layer, or there is none to adapt.
    """
    if settings.base_bits is not None and not getattr(model, "is_quantized", False):
        raise ConfigurationError(
            f"base_bits is {settings.base_bits}, and the model is in memory already: a base is "
            "quantised while it is loaded; give the model's name or folder"
        )
    linear = dict(_linear_layers(model))
    head = _head_names(model) if task == "sequence_classification" else []
    targets = _targets(model, linear, head, settings.target_modules)
    adapted = [layer for name, layer in linear.items() if _is_named(name, targets)]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scale * settings.rank,
        lora_dropout=settings.dropout,
        target_modules=targets,
        modules_to_save=head or None,
        fan_in_fan_out=all(isinstance(layer, Conv1D) for layer in adapted),
        bias="none",
        use_dora=settings.dora,
        task_type=TaskType.SEQ_CLS if task == "sequence_classification" else TaskType.CAUSAL_LM,
    )
    with peft_warnings_settled():
        return get_peft_model(model, config)


@contextmanager
def peft_warnings_settled() -> Iterator[None]:
    """Silence one warning that peft raises by its own call, not by ours.

    Its constructor reads a property that transformers renamed; there is nothing to change here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
        )
        yield


def _linear_layers(model: Any) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear | Conv1D):
            yield name, layer


def _head_names(model: Any) -> list[str]:
    """The children with parameters that stand beside the base model."""
    return [
        name
        for name, child in model.named_children()
        if name != model.base_model_prefix and any(True for _ in child.parameters())
    ]


def _targets(
    model: Any, linear: dict[str, nn.Module], head: list[str], wanted: tuple[str, ...] | None
) -> list[str]:
    """The layers to adapt, in the names that peft understands."""
    output = model.get_output_embeddings()
    inside = {
        name: layer
        for name, layer in linear.items()
        if layer is not output and name.split(".")[0] not in head
    }
    candidates = sorted({name.rsplit(".", 1)[-1] for name in inside})
    if not inside:
        raise ConfigurationError("the model has no linear layer to put an adapter on")
    if wanted is None:
        return sorted(inside)
    unknown = [name for name in wanted if not any(_is_named(full, [name]) for full in inside)]
    if unknown:
        raise ConfigurationError(
            f"LoRA target_modules {unknown} name no linear layer; candidates are {candidates}"
        )
    return list(wanted)


def _is_named(full: str, names: list[str]) -> bool:
    return any(full == name or full.endswith(f".{name}") for name in names)
