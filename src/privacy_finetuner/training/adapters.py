"""What of a model is trained: adapters of several kinds, or a part of its own parameters.

========================  =======================================================================
settings                  trains
========================  =======================================================================
`LoraSettings`            low-rank factors beside linear layers; with `dora`, magnitudes too
`Ia3Settings`             one factor for each output of keys and values, each input of the last
                          feed-forward layer
`PromptSettings`          embeddings of virtual tokens in front of every text
`PartSettings`            biases (BiTFiT), the head, or the last layers; the rest is frozen
========================  =======================================================================

Fewer trained numbers need less noise in all: the noise of a step grows with the root of their
count, the clipped signal does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from peft import IA3Config, PromptTuningConfig, TaskType, get_peft_model
from torch import nn

from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.lora import LoraSettings, apply_lora, peft_warnings_settled

__all__ = [
    "AdapterSettings",
    "Ia3Settings",
    "LoraSettings",
    "Part",
    "PartSettings",
    "PromptSettings",
    "adapt",
]

Part = Literal["biases", "head", "last_layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ia3Settings:
    """Where the factors are; `None` leaves the layers to peft, which knows the usual families.

    Raises:
        ConfigurationError: only one of the two is given.
    """

    target_modules: tuple[str, ...] | None = None
    feedforward_modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.target_modules is None) != (self.feedforward_modules is None):
            raise ConfigurationError(
                "IA3 needs target_modules and feedforward_modules together, or neither"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSettings:
    """How many virtual tokens stand in front of a text; causal language models only.

    Raises:
        ConfigurationError: the number is out of range.
    """

    tokens: int = 20

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigurationError(f"prompt tokens are {self.tokens}, expected at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSettings:
    """Which of a model's own parameters are trained.

    Attributes:
        part: `biases`, `head` (output layer, with what is tied to it) or `last_layers`.
        layers: how many blocks `last_layers` means; the head is trained with them.

    Raises:
        ConfigurationError: an unknown part, or a number out of range.
    """

    part: Part
    layers: int = 1

    def __post_init__(self) -> None:
        if self.part not in ("biases", "head", "last_layers"):
            raise ConfigurationError(
                f"part is {self.part!r}, expected 'biases', 'head' or 'last_layers'"
            )
        if self.layers < 1:
            raise ConfigurationError(f"layers is {self.layers}, expected at least 1")


AdapterSettings: TypeAlias = LoraSettings | Ia3Settings | PromptSettings | PartSettings


def adapt(model: Any, settings: AdapterSettings, task: str) -> Any:
    """Freeze what is not trained; returns the model, or the peft model around it.

    Raises:
        ConfigurationError: the model has no such part, or the task no such adapter.
    """
    match settings:
        case LoraSettings():
            return apply_lora(model, settings, task)
        case PartSettings():
            return _train_part(model, settings, task)
        case Ia3Settings():
            kind = TaskType.SEQ_CLS if task == "sequence_classification" else TaskType.CAUSAL_LM
            return _wrapped(
                model,
                IA3Config(
                    task_type=kind,
                    target_modules=_listed(settings.target_modules),
                    feedforward_modules=_listed(settings.feedforward_modules),
                ),
            )
        case PromptSettings():
            if task != "causal_lm":
                raise ConfigurationError(
                    "a prompt is trained for causal_lm only; use LoRA for classification"
                )
            config = PromptTuningConfig(
                task_type=TaskType.CAUSAL_LM, num_virtual_tokens=settings.tokens
            )
            return _wrapped(model, config)


def _wrapped(model: Any, config: Any) -> Any:
    try:
        with peft_warnings_settled():
            return get_peft_model(model, config)
    except ValueError as error:
        raise ConfigurationError(
            f"peft finds no place for the adapter in this model: {error}"
        ) from error


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)


def _train_part(model: Any, settings: PartSettings, task: str) -> Any:
    head = _head(model, task)
    trained = list(head.parameters()) if head is not None else []
    if settings.part == "biases":
        # A classification head is new and random: it has to be trained whole.
        trained = trained if task == "sequence_classification" else []
        found = [p for n, p in model.named_parameters() if n.rsplit(".", 1)[-1] == "bias"]
    elif settings.part == "last_layers":
        found = [p for block in _blocks(model, settings.layers) for p in block.parameters()]
    else:
        found = trained
    if not found:
        raise ConfigurationError(f"the model has no {settings.part.replace('_', ' ')} to train")
    model.requires_grad_(requires_grad=False)
    for parameter in (*trained, *found):
        parameter.requires_grad_(requires_grad=True)
    return model


def _head(model: Any, task: str) -> nn.Module | None:
    if task == "causal_lm":
        output = model.get_output_embeddings()
        return output if isinstance(output, nn.Module) else None
    beside = [child for name, child in model.named_children() if name != model.base_model_prefix]
    return nn.ModuleList(beside) if beside else None


def _blocks(model: Any, count: int) -> list[nn.Module]:
    """The last blocks of the longest list of modules, which is the stack of layers."""
    stacks = [list(m) for m in model.modules() if isinstance(m, nn.ModuleList)]
    longest = max(stacks, key=len, default=[])
    if len(longest) < count:
        raise ConfigurationError(
            f"layers is {count}, and the model has {len(longest)} layers in a stack"
        )
    return longest[-count:]
