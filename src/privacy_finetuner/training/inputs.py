"""From what the user names to what is trained: a model on its device, records as tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from privacy_finetuner.config import Source, TrainOptions
from privacy_finetuner.errors import ConfigurationError, DatasetError, ModelLoadError
from privacy_finetuner.training import records as record_room
from privacy_finetuner.training.collation import collate_with
from privacy_finetuner.training.datasets import Task, TokenizedDataset, tokenize
from privacy_finetuner.training.models import (
    LoadedModel,
    LoraSettings,
    adopt_model,
    apply_lora,
    load_model,
)

# Texts longer than this are cut unless `max_length` says otherwise: step time grows with length,
# and the first run should not surprise.
DEFAULT_MAX_LENGTH = 512
_TASKS: tuple[Task, ...] = ("causal_lm", "sequence_classification")


def prepare(
    source: Source,
    options: TrainOptions,
    *,
    model_name: str,
    adopted: LoadedModel | None,
    device: str,
) -> tuple[LoadedModel, TokenizedDataset]:
    """Read the records, load the model that their kind asks for, and tokenise.

    Raises:
        DatasetError, ModelLoadError, ConfigurationError: nothing was trained or spent.
    """
    records = _read(source, options)
    task = _task(options, records)
    if adopted is not None and adopted.task == task:
        loaded = adopted
        if options.lora_rank is not None and not adopted.is_adapter:
            adapted = apply_lora(adopted.model, LoraSettings(rank=options.lora_rank), task)
            loaded = replace(adopted, model=adapted)
    else:
        loaded = _load(model_name, records, options, task, device)
    data = _tokenize(records, options, loaded)
    if options.data_collator is not None:
        vocabulary = loaded.model.config.get_text_config().vocab_size
        collate = collate_with(options.data_collator, task=task, vocabulary=vocabulary)
        data = replace(data, collate=collate)
    return loaded, data


def read_data(source: Source, options: TrainOptions, loaded: LoadedModel) -> TokenizedDataset:
    """Read records as a loaded model takes them."""
    return _tokenize(_read(source, options), options, loaded)


def load(name_or_path: str, *, device: str, task: str | None = None) -> LoadedModel:
    """Load a model for the task it was saved for, or the one named."""
    return load_model(name_or_path, task=_known(task or _saved_task(name_or_path)), device=device)


def adopt(model: Any, tokenizer: Any, *, device: str) -> LoadedModel:
    """Take a model object as it is: what it marks `requires_grad` is what will be trained.

    Raises:
        ConfigurationError: it comes without its tokenizer, or trains nothing.
        ModelLoadError: model and tokenizer do not belong together.
    """
    if tokenizer is None:
        raise ConfigurationError(
            f"a {type(model).__name__} object needs its tokenizer: PrivateTrainer(model, config, "
            "tokenizer=...); nothing was started"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigurationError(
            f"no parameter of the {type(model).__name__} has requires_grad; nothing was started"
        )
    kind = str(getattr(model, "active_peft_config", None) and model.active_peft_config.task_type)
    is_classifier = "SequenceClassification" in type(model).__name__ or "SEQ_CLS" in kind
    task: Task = "sequence_classification" if is_classifier else "causal_lm"
    return adopt_model(model, tokenizer, task=task, device=device)


def _saved_task(name_or_path: str) -> str:
    """What the model at a path was saved for; a bare name is taken as a causal language model."""
    folder = Path(name_or_path)
    for file, field in (("adapter_config.json", "task_type"), ("config.json", "architectures")):
        if (folder / file).is_file():
            found = str(json.loads((folder / file).read_text()).get(field))
            is_classifier = "SequenceClassification" in found or found == "SEQ_CLS"
            return "sequence_classification" if is_classifier else "causal_lm"
    return "causal_lm"


def _read(source: Source, options: TrainOptions) -> record_room.Records:
    if isinstance(source, str) and source.startswith("mcp://"):
        raise DatasetError(
            "the data set is at an mcp:// address; reading through the MCP gateway is not part of "
            "this version: export the records to a file"
        )
    return record_room.read_records(
        source,
        text_field=options.text_field,
        label_field=options.label_field,
        user_field=options.user_field,
    )


def _task(options: TrainOptions, records: record_room.Records) -> Task:
    if options.task is not None:
        return _known(options.task)
    return "sequence_classification" if records.kind == "classification" else "causal_lm"


def _known(task: str) -> Task:
    for known in _TASKS:
        if task == known:
            return known
    raise ConfigurationError(f"task is {task!r}, expected one of {', '.join(_TASKS)}")


def _load(
    name: str, records: record_room.Records, options: TrainOptions, task: Task, device: str
) -> LoadedModel:
    label_names: Any = None
    if task == "sequence_classification":
        label_names = record_room.label_space(records, label_names=options.label_names).names
    # A resumed adapter brings its own settings.
    is_adapter = (Path(name) / "adapter_config.json").is_file()
    lora = None
    if options.lora_rank is not None and not is_adapter:
        lora = LoraSettings(rank=options.lora_rank)
    return load_model(name, task=task, label_names=label_names, device=device, lora=lora)


def _tokenize(
    records: record_room.Records, options: TrainOptions, loaded: LoadedModel
) -> TokenizedDataset:
    context = loaded.context_length
    longest = min(DEFAULT_MAX_LENGTH, context) if context else DEFAULT_MAX_LENGTH
    if options.max_length is not None:
        if context is not None and options.max_length > context:
            raise ModelLoadError(
                f"max_length is {options.max_length}, the model's context holds {context} tokens"
            )
        longest = options.max_length
    return tokenize(
        records,
        loaded.tokenizer,
        max_length=longest,
        task=loaded.task,
        strict=options.strict,
        user_field=options.user_field,
        max_examples_per_user=options.max_examples_per_user,
        label_names=loaded.label_names or None,
    )
