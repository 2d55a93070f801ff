"""Weights, tokenizers and adapters as Hugging Face keeps them, read with our errors.

What a loader would leave at random or decide in silence is refused here: missing base weights, a
classification head of a size nobody asked for, padding without a token to pad with.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
)
from transformers.utils import logging as transformers_logging

from privacy_finetuner.errors import ConfigurationError, ModelLoadError
from privacy_finetuner.training.datasets import Task
from privacy_finetuner.training.lora import peft_warnings_settled

__all__ = [
    "ADAPTER_FILE",
    "adapter_base",
    "first_line",
    "has_tokenizer",
    "load_adapter",
    "load_tokenizer",
    "load_weights",
    "quantization",
    "refuse_missing_folder",
    "set_pad_token",
    "without_progress_bars",
]

ADAPTER_FILE = "adapter_config.json"

_LOADING_ERRORS = (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError)


def load_tokenizer(name_or_path: str | Path, *, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer and give it a pad token (its end-of-text token) where it has none.

    Raises:
        ModelLoadError: not found, not readable, or with neither pad nor end-of-text token.
    """
    refuse_missing_folder(name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(name_or_path), trust_remote_code=trust_remote_code
        )
    except _LOADING_ERRORS as error:
        raise _load_error("tokenizer", str(name_or_path), error) from error
    set_pad_token(tokenizer)
    return tokenizer


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers' own bars off the terminal: ours tell what the user waits for."""
    was_on = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            transformers_logging.enable_progress_bar()


def load_weights(name: str, task: Task, options: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """The model and a note on its head; refuses a checkpoint that leaves base weights random."""
    refuse_missing_folder(name)
    kind = AutoModelForCausalLM if task == "causal_lm" else AutoModelForSequenceClassification
    if task == "sequence_classification" and "num_labels" not in options:
        _refuse_unnamed_head(name, trust_remote_code=options["trust_remote_code"])
    try:
        with without_progress_bars():
            model, info = kind.from_pretrained(name, output_loading_info=True, **options)
    except _LOADING_ERRORS as error:
        raise _load_error("model", name, error) from error
    missing = sorted(info["missing_keys"])
    prefix = f"{model.base_model_prefix}."
    head = [
        key
        for key in missing
        if task == "sequence_classification" and (not key.startswith(prefix) or ".pooler." in key)
    ]
    if len(head) < len(missing):
        lacking = [key for key in missing if key not in head]
        raise ModelLoadError(
            f"the weights of {name!r} lack {len(lacking)} parameters of the model, "
            f"{lacking[:3]} among them; they would be random"
        )
    return model, (f"new head, not pre-trained: {', '.join(head)}",) if head else ()


def quantization(bits: int | None) -> dict[str, Any]:
    """What a loader is told to hold a frozen base in 4 or 8 bits; nothing for `None`.

    Raises:
        ConfigurationError: bitsandbytes is not installed.
    """
    if bits is None:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigurationError(
            f"a base in {bits} bits needs the package bitsandbytes, which is not installed: "
            "install it, or leave base_bits out; nothing was started"
        )
    if bits == 8:
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")}


def adapter_base(
    adapter: Path, task: Task, label_names: Sequence[str] | None, num_labels: int | None
) -> tuple[str, Sequence[str] | None]:
    """The base that an adapter was trained on, and the classes it was trained for."""
    try:
        base = json.loads((adapter / ADAPTER_FILE).read_text("utf-8")).get(
            "base_model_name_or_path"
        )
        if task == "sequence_classification" and label_names is None and num_labels is None:
            names = json.loads((adapter / "config.json").read_text("utf-8"))["id2label"]
            label_names = [names[str(k)] for k in range(len(names))]
    except _LOADING_ERRORS as error:
        raise _load_error("adapter", str(adapter), error) from error
    if not base:
        raise ModelLoadError(
            f"adapter {adapter.name!r} names no base model; save it with merge=True, or write "
            f"the base's folder into base_model_name_or_path of its {ADAPTER_FILE}"
        )
    return str(base), label_names


def load_adapter(model: Any, adapter: Path) -> Any:
    """Put a saved adapter on its base, trainable."""
    try:
        with peft_warnings_settled():
            return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    except _LOADING_ERRORS as error:
        raise _load_error("adapter", str(adapter), error) from error


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has a tokenizer of its own."""
    return (folder / "tokenizer_config.json").is_file()


def set_pad_token(tokenizer: Any) -> tuple[str, ...]:
    """Pad with the end-of-text token where there is no pad token; returns a note if so."""
    if tokenizer.pad_token_id is not None:
        return ()
    if tokenizer.eos_token_id is None:
        raise ModelLoadError(
            "the tokenizer has neither a pad nor an end-of-text token; set tokenizer.pad_token "
            "and tokenizer.eos_token to tokens of its vocabulary"
        )
    tokenizer.pad_token = tokenizer.eos_token
    return ("the tokenizer has no pad token: padded with its end-of-text token",)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut at 300 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:300].rstrip(".: ") if lines else type(error).__name__


def _refuse_unnamed_head(name: str, *, trust_remote_code: bool) -> None:
    """A base model has no classes of its own; Hugging Face would silently take two."""
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except _LOADING_ERRORS as error:
        raise _load_error("model", name, error) from error
    architectures = config.architectures or []
    if not any("SequenceClassification" in architecture for architecture in architectures):
        raise ConfigurationError(
            f"{name!r} has no classification head of its own; give num_labels or label_names"
        )


def refuse_missing_folder(name_or_path: str | Path) -> None:
    """Do not ask the hub for what can only be a path."""
    text = str(name_or_path)
    looks_local = (
        isinstance(name_or_path, Path) or text[:1] in {"/", ".", "~"} or text.count("/") > 1
    )
    folder = Path(text).expanduser()
    if not text.strip():
        raise ModelLoadError("the name of the model is empty")
    if looks_local and not folder.is_dir():
        raise ModelLoadError(f"no model folder {text!r}")
    if folder.is_dir() and not (has_tokenizer(folder) or (folder / "config.json").is_file()):
        raise ModelLoadError(
            f"folder {text!r} holds no Hugging Face model: neither config.json nor "
            "tokenizer_config.json is there"
        )


def _load_error(what: str, name: str, error: BaseException) -> ModelLoadError:
    if Path(name).is_dir():
        return ModelLoadError(f"the {what} in {name!r} cannot be loaded: {first_line(error)}")
    return ModelLoadError(
        f"no local folder {name!r}, and the model hub gave no {what} of that name: "
        f"{first_line(error)}. Without a network, download the model elsewhere and give its folder"
    )
