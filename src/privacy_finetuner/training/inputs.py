"""From what the user names to what is trained: a model on its device, records as tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from privacy_finetuner.errors import ConfigurationError, DatasetError, ModelLoadError
from privacy_finetuner.options import Source, TrainOptions
from privacy_finetuner.training import records as record_room
from privacy_finetuner.training.adapters import (
    AdapterSettings,
    Ia3Settings,
    LoraSettings,
    PartSettings,
    PromptSettings,
    adapt,
)
from privacy_finetuner.training.collation import collate_with
from privacy_finetuner.training.datasets import Task, TokenizedDataset, tokenize
from privacy_finetuner.training.models import LoadedModel, adopt_model, load_model

# Texts longer than this are cut unless `max_length` says otherwise: step time grows with length,
# and the first run should not surprise.
DEFAULT_MAX_LENGTH = 512
_DEFAULT_RANK = 8
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
        settings = adapter_settings(options)
        if settings is not None and not adopted.is_adapter:
            loaded = replace(adopted, model=adapt(adopted.model, settings, task))
    else:
        loaded = _load(model_name, records, options, task, device)
    data = _tokenize(records, options, loaded)
    if options.data_collator is not None:
        if options.precision != "float32":
            raise ConfigurationError(
                f"precision is {options.precision!r}, which needs batches of one public width, and "
                "a data_collator pads as it likes; nothing was started"
            )
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
            "a data set at an mcp:// address is read by PrivateTrainer for `dataset` only; for "
            "others use privacy_finetuner.context.gateway.resources.read_records, and pass the "
            "records; nothing was spent"
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
    if is_adapter and options.base_bits is not None:
        raise ConfigurationError(
            f"base_bits is {options.base_bits}, and {Path(name).name!r} is an adapter already: its "
            "base would be held in full; nothing was started"
        )
    lora = None if is_adapter else adapter_settings(options)
    return load_model(name, task=task, label_names=label_names, device=device, lora=lora)


def adapter_settings(options: TrainOptions) -> AdapterSettings | None:
    """What is trained instead of all weights; `None` is all weights.

    Raises:
        ConfigurationError: a number is out of range.
    """
    targets = options.lora_targets
    match options.adapter:
        case "ia3":
            return Ia3Settings()
        case "prompt":
            return PromptSettings(tokens=options.prompt_tokens)
        case "biases" | "head" | "last_layers":
            return PartSettings(part=options.adapter, layers=options.trained_layers)
        case None if options.lora_rank is None:
            return None
        case _:
            return LoraSettings(
                rank=_DEFAULT_RANK if options.lora_rank is None else options.lora_rank,
                alpha=options.lora_alpha,
                target_modules=None if targets is None else tuple(targets),
                dora=options.adapter == "dora",
                base_bits=options.base_bits,
            )


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
    dataset = tokenize(
        records,
        loaded.tokenizer,
        max_length=longest,
        task=loaded.task,
        strict=options.strict,
        user_field=options.user_field,
        max_examples_per_user=options.max_examples_per_user,
        label_names=loaded.label_names or None,
    )
    if options.precision == "bfloat16":
        # Padding to the longest neighbour rounds the others differently when it joins.
        dataset = replace(dataset, padded_to=longest)
    return dataset
