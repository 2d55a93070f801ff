"""What a client asks of a training job.

Every keyword of `PrivacyConfig`, `TrainingConfig` and `TrainOptions` that can travel as JSON is
here under its own name; a test compares the lists. What cannot is left out on purpose: callbacks,
collators, metrics of one's own, output folders, and `resume`, which a worker does by itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.api.shapes.bodies import LONGEST_NAME, Body
from privacy_finetuner.domains import GRAD_NORM_LEAST

_PRIORITY_MOST: Final = 10
_LONGEST_PATH: Final = 1024
_NAMES_MOST: Final = 10_000
_WHOLE_MOST: Final = 2**31 - 1

Above = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=_WHOLE_MOST)]
FieldName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Path = Annotated[str, Field(min_length=1, max_length=_LONGEST_PATH)]
OptimizerValue = bool | int | float | str | list[float] | None


class PrivacyFields(Body):
    """The guarantee. What is left out is as the environment's section `privacy` says."""

    epsilon: Annotated[Above | None, Field(examples=[1.0])] = None
    delta: Annotated[Share | None, Field(examples=[1e-5])] = None
    max_grad_norm: Annotated[
        float | None, Field(ge=GRAD_NORM_LEAST, examples=[1.0], description="Clip norm, L2.")
    ] = None
    noise_multiplier: Annotated[
        Above | None, Field(description="Left out: solved from epsilon.")
    ] = None
    accounting_mode: Literal["rdp", "pld", "gdp", "prv", "moments"] | None = None
    target_delta: Share | None = None
    adaptive_clipping: bool | None = None
    secure_rng: bool | None = None
    relation: Annotated[NeighbouringRelation | None, Field(strict=False)] = None
    noise: Literal["auto", "independent", "banded", "blt", "lambda_cgd"] | None = None


class TrainingFields(Body):
    """How to train: public choices, none of which weakens the guarantee.

    What is left out has the default of `PrivateTrainer.train`, but for the size of a batch.
    """

    epochs: Annotated[Above | None, Field(examples=[3])] = None
    batch_size: Annotated[
        Count | None,
        Field(
            examples=[16],
            description="Expected size of the Poisson batches. Left out: a sixteenth of the "
            "records, within 8 and 512.",
        ),
    ] = None
    learning_rate: Annotated[Above | Literal["auto"] | None, Field(examples=[3e-5])] = None
    max_grad_norm: Annotated[float | None, Field(ge=GRAD_NORM_LEAST)] = None
    noise_multiplier: Above | None = None
    target_epsilon: Above | None = None
    target_delta: Share | None = None
    save_steps: Count | None = None
    eval_steps: Count | None = None
    eval_dataset: Annotated[
        Path | None,
        Field(description="PUBLIC records for `eval_steps`: scored exactly, outside a guarantee."),
    ] = None
    task: Literal["causal_lm", "sequence_classification"] | None = None
    adapter: Literal["lora", "dora", "ia3", "prompt", "biases", "head", "last_layers"] | None = None
    lora_rank: Count | None = None
    lora_alpha: Above | None = None
    lora_targets: Annotated[list[FieldName] | None, Field(max_length=_NAMES_MOST)] = None
    base_bits: Literal[4, 8] | None = None
    prompt_tokens: Count | None = None
    trained_layers: Count | None = None
    unit: Literal["example", "user"] | None = None
    user_field: FieldName | None = None
    max_examples_per_user: Count | None = None
    user_sampling: bool | None = None
    text_field: FieldName | None = None
    label_field: FieldName | None = None
    label_names: Annotated[list[FieldName] | None, Field(max_length=_NAMES_MOST)] = None
    max_length: Annotated[int | None, Field(ge=2, le=_WHOLE_MOST)] = None
    strict: bool | None = None
    redact: Annotated[
        Literal["low", "medium", "high"] | None,
        Field(description="How readily records are redacted before they are tokenised."),
    ] = None
    optimizer: FieldName | None = None
    optimizer_options: Annotated[dict[str, OptimizerValue] | None, Field(max_length=32)] = None
    weight_decay: Annotated[float | None, Field(ge=0)] = None
    weight_average: Literal["auto", "none", "ema", "polynomial"] | None = None
    average_decay: Annotated[float | None, Field(ge=0, lt=1)] = None
    lr_schedule: Literal["constant", "linear", "cosine"] | None = None
    warmup_steps: Annotated[int | None, Field(ge=0, le=_WHOLE_MOST)] = None
    clip_rule: Literal["auto", "bound", "normalise"] | None = None
    gradient: Literal["backward", "forward"] | None = None
    directions: Count | None = None
    perturbation: Above | None = None
    views: Count | None = None
    view_replacement: Share | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    micro_batch_tokens: Count | None = None
    gradient_checkpointing: bool | None = None
    max_memory_gb: Above | None = None
    keep_checkpoints: Count | None = None
    metric_for_best_model: Literal["loss", "perplexity", "accuracy"] | None = None
    audit_canaries: Annotated[int | None, Field(ge=0, le=_WHOLE_MOST)] = None
    audit_kind: Literal["random-token", "new-token", "synthetic"] | None = None
    audit_scores: Literal["black-box", "white-box"] | None = None


class TrainingRequest(Body):
    """A training job. Nothing is spent before all of it was checked and the budget reserved."""

    model_name: Annotated[
        Path,
        Field(
            examples=["sample:model"],
            description="`sample:model`, a folder below an allowed one, `job:JOB_ID` for the model "
            "of a finished job, or a hub name that the operator allowed.",
        ),
    ]
    dataset_path: Annotated[
        Path,
        Field(
            examples=["sample:records"],
            description="`sample:records`, or a file below an allowed folder.",
        ),
    ]
    privacy_config: Annotated[
        PrivacyFields, Field(examples=[{"epsilon": 1.0, "delta": 1e-5, "max_grad_norm": 1.0}])
    ] = PrivacyFields()
    training_config: Annotated[
        TrainingFields, Field(examples=[{"epochs": 3, "batch_size": 16, "learning_rate": 3e-5}])
    ] = TrainingFields()
    name: Annotated[
        str | None, Field(min_length=1, max_length=LONGEST_NAME, examples=["notes, epsilon 1"])
    ] = None
    priority: Annotated[
        int,
        Field(
            ge=-_PRIORITY_MOST,
            le=_PRIORITY_MOST,
            description="Among the jobs of one organisation, higher first.",
        ),
    ] = 0
    account: Annotated[
        str | None,
        Field(
            min_length=3,
            max_length=512,
            examples=["hospital-notes/2026"],
            description="The budget account of the records: COHORT/SLICE. Left out: the job's own "
            "epsilon is the only limit, and nobody adds it to others.",
        ),
    ] = None
    quota: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=512,
            examples=["research/ada"],
            description="Whose quota is charged besides: DEPARTMENT/USER/...",
        ),
    ] = None
    certificate: Annotated[bool, Field(description="Issue a certificate when it is done.")] = True


def given(fields: Body) -> dict[str, Any]:
    """What was sent with a value: `null` is as good as left out."""
    return fields.model_dump(mode="json", exclude_none=True)
