"""Further keywords of `PrivateTrainer.train`: public choices, with their defaults."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.domains import (
    ADAPTERS,
    AUDIT_KINDS,
    AUDIT_SCORES,
    above_zero,
    given,
    one_of,
    raise_if_any,
    whole_from,
)
from privacy_finetuner.performance import PerformanceFlags

if TYPE_CHECKING:
    from privacy_finetuner.training.loop import StepRecord

Source: TypeAlias = str | Path | Sequence[Mapping[str, Any]] | Any
"""A path, a list of records, or a `datasets.Dataset`."""
ComputeMetrics: TypeAlias = Callable[[Any], Mapping[str, Any]]
"""Takes a `transformers.EvalPrediction`; its figures join an exact evaluation."""


_TRAIN_PARAMETERS: Final = (
    "dataset", "epochs", "batch_size", "learning_rate", "max_grad_norm", "noise_multiplier",
    "target_epsilon", "target_delta", "save_steps", "eval_steps", "output_dir",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Further keywords of `PrivateTrainer.train`. All of them are public choices.

    Attributes:
        task: `causal_lm`, `sequence_classification`, or `None` to follow the records.
        adapter: what is trained instead of all weights: `lora`, `dora`, `ia3`, `prompt` (virtual
            tokens), `biases` (BiTFiT), `head` or `last_layers`; see `training.adapters`. `None`
            is all weights, or `lora` where a rank is given.
        lora_rank: rank of `lora` and `dora`; 8 where they are named without one.
        lora_alpha: their outputs are scaled by `lora_alpha / lora_rank`; `None` is twice the rank.
        lora_targets: names of the layers that get one; `None` is every linear layer but the head.
        base_bits: hold the frozen base in 4 or 8 bits (QLoRA); needs bitsandbytes.
        prompt_tokens: how many virtual tokens `prompt` trains.
        trained_layers: how many of the last blocks `last_layers` trains, with the head.
        resume: continue the unfinished run of `output_dir`.
        eval_dataset: *public* records for `eval_steps`; scored exactly, outside any guarantee.
        unit: `"example"`, or `"user"` to protect all records of one `user_field` value.
        user_field: field that names the user of a record.
        max_examples_per_user: cap of records a user; what is above is dropped and counted.
        text_field: field of the text.
        label_field: field of the label.
        label_names: the classes, when which of them occur is itself private.
        max_length: longest example in tokens; default: the model's context, at most 512.
        strict: refuse texts longer than `max_length` instead of cutting them.
        optimizer: name of a `torch.optim` class in lower case, or `adambc`.
        optimizer_options: further keywords of its class: `betas`, `momentum`, ...
        weight_decay: of the optimizer.
        weight_average: `none`, `ema` or `polynomial`: hand over an average of the weights; `auto`
            is `polynomial` where the learning rate is `"auto"`, else `none`.
        average_decay: of `ema`, in [0, 1).
        lr_schedule: `constant`, `linear` or `cosine`.
        warmup_steps: steps of linear warm-up.
        clip_rule: `bound`, or `normalise` (automatic clipping: no adaptive bound); `auto` is
            `normalise` where the learning rate is `"auto"`, else `bound`. `bound_layers` clips
            each of K layers by itself to `max_grad_norm / sqrt(K)`; no adaptive bound either.
        user_sampling: with `unit="user"`, draw users instead of examples; `batch_size` counts
            users, and the mean gradient of a user's examples is clipped as a whole.
        gradient: `backward`, or `forward`: zeroth order, without a backward pass.
        directions: of `forward`, how many random directions a step looks along.
        perturbation: of `forward`, how far the weights move to measure a slope.
        views: damaged views of each example that its one clipped gradient is the mean over.
        view_replacement: chance of a token to be exchanged for another in a view.
        precision: `float32`, or `bfloat16`: activations under autocast. Weights, norms, sums and
            noise stay float32: the same guarantee, a little coarser arithmetic.
        micro_batch_tokens: padded tokens of one physical pass. Speed and memory only.
        gradient_checkpointing: recompute activations, do not keep them. Speed and memory only.
        max_memory_gb: what training may hold, in 10^9 bytes: passes are made small enough. Speed
            and memory only.
        keep_checkpoints: how many of the newest checkpoints stay on disk.
        on_step: called with a `StepRecord` after every step.
        compute_metrics: figures of one's own in exact scores, from all logits at once.
        data_collator: a Hugging Face data collator that treats records one by one; see
            `training.collation`.
        callbacks: `transformers.TrainerCallback`s; see `training.callbacks`.
        audit_canaries: carry so many canaries, each in by a secret coin, for `privacy-finetuner
            audit`; even, at least 100, 0 for none. See `training.canaries`.
        audit_kind: `random-token`, `new-token` or `synthetic`.
        audit_scores: `black-box`, or `white-box`: canaries are dictated gradients, scored at every
            step from the noisy sum; `audit_kind` does not matter then.
        redact: with `enable_context_guard`, the sensitivity level: `low`, `medium` or `high`.
        metric_for_best_model: public score that an `EarlyStoppingCallback` watches: `loss`,
            `perplexity` or `accuracy`.
    """

    task: str | None = None
    adapter: str | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_targets: Sequence[str] | None = None
    base_bits: int | None = None
    prompt_tokens: int = 20
    trained_layers: int = 1
    resume: bool = False
    eval_dataset: Source | None = None
    unit: str = "example"
    user_field: str | None = None
    max_examples_per_user: int | None = None
    text_field: str = "text"
    label_field: str = "label"
    label_names: Sequence[str] | None = None
    max_length: int | None = None
    strict: bool = False
    optimizer: str = "adamw"
    optimizer_options: Mapping[str, Any] | None = None
    weight_decay: float = 0.0
    weight_average: str = "auto"
    average_decay: float = 0.99
    lr_schedule: str = "constant"
    warmup_steps: int = 0
    clip_rule: str = "auto"
    user_sampling: bool = False
    gradient: str = "backward"
    directions: int = 1
    perturbation: float = 1e-3
    views: int = 1
    view_replacement: float = 0.1
    precision: str = "float32"
    micro_batch_tokens: int = 4096
    gradient_checkpointing: bool = False
    max_memory_gb: float | None = None
    keep_checkpoints: int = 3
    on_step: Callable[[StepRecord], None] | None = None
    data_collator: Any = None
    compute_metrics: ComputeMetrics | None = None
    callbacks: Sequence[Any] = ()
    metric_for_best_model: str = "loss"
    redact: str = "medium"
    audit_canaries: int = 0
    audit_kind: str = "random-token"
    audit_scores: str = "black-box"

    def __post_init__(self) -> None:
        raise_if_any(
            [
                one_of("unit", self.unit, tuple(PrivacyUnit)),
                one_of("redact", self.redact, ("low", "medium", "high")),
                whole_from("micro_batch_tokens", self.micro_batch_tokens, 1),
                given(above_zero, "max_memory_gb", self.max_memory_gb),
                whole_from("keep_checkpoints", self.keep_checkpoints, 1),
                *self._adapter_faults(),
                whole_from("audit_canaries", self.audit_canaries, 0),
                one_of("audit_kind", self.audit_kind, AUDIT_KINDS),
                one_of("audit_scores", self.audit_scores, AUDIT_SCORES),
                None
                if self.max_examples_per_user is None
                else whole_from("max_examples_per_user", self.max_examples_per_user, 1),
            ]
        )

    def _adapter_faults(self) -> list[str | None]:
        """Settings of an adapter that is not the one asked for would be ignored: refused."""
        low_rank = self.adapter in ("lora", "dora") or self.adapter is None
        of_low_rank = {
            "lora_rank": self.lora_rank,
            "lora_alpha": self.lora_alpha,
            "lora_targets": self.lora_targets,
            "base_bits": self.base_bits,
        }
        asked = [name for name, value in of_low_rank.items() if value is not None]
        has_rank = self.lora_rank is not None or self.adapter is not None
        return [
            None if self.adapter is None else one_of("adapter", self.adapter, ADAPTERS),
            None if low_rank or not asked else f"{asked[0]} goes with adapter 'lora' or 'dora'",
            None if has_rank or not asked else f"{asked[0]} needs adapter='lora' or a lora_rank",
            None if self.adapter == "prompt" or self.prompt_tokens == 20
            else "prompt_tokens goes with adapter 'prompt'",
            None if self.adapter == "last_layers" or self.trained_layers == 1
            else "trained_layers goes with adapter 'last_layers'",
            whole_from("prompt_tokens", self.prompt_tokens, 1),
            whole_from("trained_layers", self.trained_layers, 1),
        ]  # fmt: skip

    def flags(self) -> PerformanceFlags:
        """What of these options is about speed and memory."""
        names = [f.name for f in fields(PerformanceFlags)]
        return PerformanceFlags(**{name: getattr(self, name) for name in names})

    def training(self, **given: Any) -> TrainingConfig:
        """What of these options is about training, with what `train` was given besides."""
        shared = {f.name for f in fields(TrainingConfig)} & {f.name for f in fields(self)}
        chosen = {name: getattr(self, name) for name in shared}
        if self.clip_rule == "auto":
            chosen["clip_rule"] = "normalise" if given["learning_rate"] == "auto" else "bound"
        return TrainingConfig(**chosen, **given)

    @classmethod
    def read(cls, keywords: Mapping[str, Any]) -> TrainOptions:
        """Accept known keywords only.

        Raises:
            TypeError: an unknown keyword; names the nearest known one.
        """
        known = [f.name for f in fields(cls)]
        for name in keywords:
            if name not in known:
                near = difflib.get_close_matches(name, [*known, *_TRAIN_PARAMETERS], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise TypeError(f"train() has no parameter {name!r}{hint}")
        return cls(**keywords)
