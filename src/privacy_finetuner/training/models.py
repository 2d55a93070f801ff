"""Loading, adapting, counting and saving models for private training.

Notes on what is chosen here and why:

- Parameters that are trained are float32. A private update is small beside the parameter, and
  bfloat16 (8 bits of mantissa) would round most of it away. On a CUDA device that computes in
  bfloat16 a frozen base under LoRA is held in bfloat16; peft keeps the adapters in float32.
- The model is left in train mode. Dropout is allowed under DP-SGD: its mask does not look at the
  data, and every example's gradient is clipped whatever the mask was. It draws from torch's
  global generator, so a resumed run with dropout is not bit-equal to an undisturbed one.
- Attention is what Hugging Face selects (usually scaled-dot-product); it has no parameters and
  needs no per-example rule.
- New classification heads and adapters are initialised from torch's global generator; they are
  drawn before any data is seen.
- A tokenizer without a pad token pads with its end-of-text token. The attention mask covers the
  padding and no embedding is added.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from privacy_finetuner.errors import CheckpointNotWritten, ConfigurationError, ModelLoadError
from privacy_finetuner.training.adapters import AdapterSettings, adapt
from privacy_finetuner.training.datasets import Task
from privacy_finetuner.training.lora import LoraSettings, apply_lora
from privacy_finetuner.training.pretrained import (
    ADAPTER_FILE,
    adapter_base,
    first_line,
    has_tokenizer,
    load_adapter,
    load_tokenizer,
    load_weights,
    quantization,
    refuse_missing_folder,
    set_pad_token,
    without_progress_bars,
)
from privacy_runtime.files import errno_of

__all__ = [
    "LoadedModel",
    "LoraSettings",
    "adopt_model",
    "apply_lora",
    "choose_device",
    "count_parameters",
    "load_model",
    "load_tokenizer",
    "save_model",
]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class LoadedModel:
    """A model on its device with its tokenizer, in train mode, parameters to train marked.

    Attributes:
        model: a Hugging Face model, or the peft model around one.
        tokenizer: its tokenizer; it has a pad token.
        device: where the parameters are.
        task: what the model learns.
        base_name: where the weights came from; empty for an object that was handed in.
        notes: what was decided while loading that a reader of a report should know.
    """

    model: Any
    tokenizer: Any
    device: torch.device
    task: Task
    base_name: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        trainable, total = count_parameters(self.model)
        return (
            f"LoadedModel(task={self.task!r}, device={str(self.device)!r}, "
            f"trainable={trainable}, parameters={total})"
        )

    @property
    def is_adapter(self) -> bool:
        """Whether only adapters (and a head) are trained."""
        return isinstance(self.model, PeftModel)

    @property
    def context_length(self) -> int | None:
        """The longest input in tokens; `None` when the model states no limit.

        Some models (rope type `longrope`) compute all positions of a batch in another way as soon
        as its longest example passes a first limit. One example would then change all others, so
        that first limit counts.
        """
        length = _longest(self.model.config)
        if not isinstance(length, int) or length < 1:
            return None
        # RoBERTa and its kin start counting positions after the padding row of their table.
        skipped = [
            layer.padding_idx + 1
            for name, layer in self.model.named_modules()
            if name.endswith("position_embeddings") and getattr(layer, "padding_idx", None)
        ]
        prompt = getattr(
            getattr(self.model, "active_peft_config", None), "num_virtual_tokens", None
        )
        return length - max(skipped, default=0) - (prompt or 0)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The name of each class; empty for `causal_lm`."""
        if self.task != "sequence_classification":
            return ()
        names = self.model.config.id2label
        return tuple(str(names[k]) for k in range(len(names)))


def load_model(
    name_or_path: str | Path,
    *,
    task: Task = "causal_lm",
    num_labels: int | None = None,
    label_names: Sequence[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    lora: AdapterSettings | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model and its tokenizer from a local folder or by hub name.

    Guarantee: no weight of the base is left at random. A folder written by `save_model` for an
    adapter loads its base and continues with the adapter, trainable.

    Args:
        name_or_path: a folder, or a name on the model hub.
        task: `causal_lm` or `sequence_classification`.
        num_labels: classes of the head; at least 2.
        label_names: names of the classes; gives `num_labels` when that is left out.
        device: `auto` (cuda, then mps, then cpu) or a torch device.
        dtype: `auto` (see the module's notes), `float32` or `bfloat16`.
        lora: put adapters on the model, or choose a part of it, and train only that.
        trust_remote_code: run model code that comes with the weights.

    Raises:
        ModelLoadError: not found, not readable, incomplete, or of a kind that cannot do the task.
        ConfigurationError: the arguments are out of range, contradict each other or the machine.
    """
    _check_task(task)
    place = choose_device(device)
    refuse_missing_folder(name_or_path)
    path = Path(name_or_path).expanduser()
    name = str(path.resolve()) if path.is_dir() else str(name_or_path)
    adapter = path if (path / ADAPTER_FILE).is_file() else None
    if adapter is not None:
        if lora is not None:
            raise ConfigurationError(f"{path.name!r} is an adapter already; lora was given too")
        name, label_names = adapter_base(adapter, task, label_names, num_labels)
    options = {
        "dtype": _dtype(dtype, place, has_adapters=lora is not None or adapter is not None),
        "trust_remote_code": trust_remote_code,
        **_label_options(task, num_labels, label_names),
        **quantization(lora.base_bits if isinstance(lora, LoraSettings) else None),
    }
    tokenizer = load_tokenizer(
        adapter if adapter is not None and has_tokenizer(adapter) else name,
        trust_remote_code=trust_remote_code,
    )
    model, notes = load_weights(name, task, options)
    if adapter is not None:
        model = load_adapter(model, adapter)
    loaded = adopt_model(model, tokenizer, task=task, device=str(place), lora=lora)
    # An adapter brings the head that its base lacks.
    kept = () if adapter is not None else notes
    return replace(loaded, base_name=name, notes=(*kept, *loaded.notes))


def adopt_model(
    model: Any,
    tokenizer: Any,
    *,
    task: Task = "causal_lm",
    device: str = "auto",
    lora: AdapterSettings | None = None,
) -> LoadedModel:
    """Take a model and tokenizer that are already in memory; both are changed in place.

    The tokenizer gets a pad token where it has none, the model's configuration the same pad id.

    Raises:
        ModelLoadError: the tokenizer has neither pad nor end-of-text token, or knows more tokens
            than the model; or the model reads in both directions and cannot learn to continue.
        ConfigurationError: see `load_model`.
    """
    _check_task(task)
    place = choose_device(device)
    notes = set_pad_token(tokenizer)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelLoadError(
            f"the tokenizer has {len(tokenizer)} tokens and the model embeds {rows}; they do not "
            "belong together"
        )
    if task == "causal_lm" and _reads_both_ways(model.config):
        raise ModelLoadError(
            f"a {model.config.model_type} model reads in both directions and cannot learn to "
            "continue a text; expected a causal language model"
        )
    # A causal classifier reads the class at the last token that is not this one. Were it another
    # than the one batches are padded with, an example's output would depend on its batch.
    model.config.pad_token_id = tokenizer.pad_token_id
    if lora is not None:
        model = adapt(model, lora, task)
    if not getattr(model, "is_quantized", False):  # placed by its loader
        model.to(place)
    model.train()
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=place,
        task=task,
        base_name=str(getattr(model, "name_or_path", "") or ""),
        notes=notes,
    )


def save_model(loaded: LoadedModel, path: str | Path, *, merge: bool = False) -> Path:
    """Write the model and tokenizer as a Hugging Face folder; adapters as a peft folder.

    Guarantee: files already at `path` are replaced only after everything has been written, so a
    full disk leaves them as they were.

    Args:
        loaded: what to save; it is not changed.
        path: the folder; made when missing.
        merge: fold adapters into a copy of the base (needs memory for it) and save a plain model.

    Raises:
        CheckpointNotWritten: the folder cannot be written.
        ConfigurationError: `merge` of a model without adapters.
    """
    if merge and not loaded.is_adapter:
        raise ConfigurationError("merge=True needs a model with adapters; this one has none")
    folder = Path(path).expanduser()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as staging:
            with without_progress_bars():
                _write(loaded, Path(staging), merge=merge)
            folder.mkdir(exist_ok=True)
            for file in sorted(Path(staging).iterdir()):
                file.replace(folder / file.name)
    except Exception as error:
        if not isinstance(error, SafetensorError) and errno_of(error) is None:
            raise
        raise CheckpointNotWritten(
            f"the model cannot be saved to {str(folder)!r} ({first_line(error)}); files that were "
            "there before are intact"
        ) from error
    return folder


def count_parameters(model: Any) -> tuple[int, int]:
    """How many numbers are trained, and how many there are; tied weights count once."""
    parameters = list(model.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return trainable, sum(p.numel() for p in parameters)


def choose_device(device: str = "auto") -> torch.device:
    """The torch device for a name; `auto` is cuda, then mps, then cpu.

    Raises:
        ConfigurationError: an unknown device, or one that this machine does not have.
    """
    has = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return torch.device(next(kind for kind, is_here in has.items() if is_here))
    try:
        place = torch.device(device)
    except RuntimeError:
        place = None
    if place is None or place.type not in has:
        raise ConfigurationError(f"device is {device!r}, expected auto, cpu, cuda or mps")
    if not has[place.type]:
        here = [kind for kind, is_here in has.items() if is_here]
        raise ConfigurationError(f"device {device!r} is not on this machine; it has {here}")
    return place


def _longest(config: Any) -> int | None:
    """The positions in which no example changes another one's."""
    length = getattr(config, "max_position_embeddings", None)
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    first = (scaling or {}).get("original_max_position_embeddings")
    first = first or getattr(config, "original_max_position_embeddings", None)
    if (scaling or {}).get("rope_type") == "longrope" and first is not None:
        return min(int(first), length or int(first))
    return length


def _reads_both_ways(config: Any) -> bool:
    """Whether a model of this family attends to what follows (BERT and its kin, unless told)."""
    # is_decoder alone does not say: GPT-NeoX is causal and has it False.
    family = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return family and not getattr(config, "is_decoder", True)


def _check_task(task: str) -> None:
    if task not in ("causal_lm", "sequence_classification"):
        raise ConfigurationError(
            f"task is {task!r}, expected 'causal_lm' or 'sequence_classification'"
        )


def _dtype(dtype: str, place: torch.device, *, has_adapters: bool) -> torch.dtype:
    if dtype == "auto":
        helps = has_adapters and place.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if helps else torch.float32
    if dtype not in _DTYPES:
        raise ConfigurationError(f"dtype is {dtype!r}, expected auto, {' or '.join(_DTYPES)}")
    return _DTYPES[dtype]


def _label_options(
    task: Task, num_labels: int | None, label_names: Sequence[str] | None
) -> dict[str, Any]:
    """What the configuration is told about the classes."""
    if task == "causal_lm":
        if num_labels is not None or label_names is not None:
            raise ConfigurationError("num_labels and label_names belong to classification")
        return {}
    if label_names is not None and num_labels not in (None, len(label_names)):
        raise ConfigurationError(
            f"num_labels is {num_labels} and {len(label_names)} label_names were given"
        )
    count = num_labels if label_names is None else len(label_names)
    if count is None:
        return {}
    if count < 2:
        raise ConfigurationError(f"num_labels is {count}, expected at least 2")
    if label_names is None:
        return {"num_labels": count}
    return {
        "num_labels": count,
        "id2label": dict(enumerate(label_names)),
        "label2id": {name: k for k, name in enumerate(label_names)},
    }


def _write(loaded: LoadedModel, folder: Path, *, merge: bool) -> None:
    if merge:
        copy.deepcopy(loaded.model).merge_and_unload().save_pretrained(folder)
    elif loaded.is_adapter:
        # Told not to look for changed embeddings, peft does not ask the hub about the base.
        loaded.model.save_pretrained(str(folder), save_embedding_layers=False)
        loaded.model.config.save_pretrained(folder)
    else:
        loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
