"""Options that several commands share, with the words that explain them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit

GUARANTEE: Final = "The guarantee"
TRAINING: Final = "Training (public choices)"
RECORDS: Final = "Records"
FILES: Final = "Files and machine"
AUDIT: Final = "Audit by canaries"


class AccountantName(StrEnum):
    """Accountants by name."""

    PLD = "pld"
    RDP = "rdp"
    GDP = "gdp"


class OptimizerName(StrEnum):
    """Optimizers by name."""

    ADAMW = "adamw"
    ADAMBC = "adambc"
    SGD = "sgd"
    ADAM = "adam"
    ADAFACTOR = "adafactor"
    ADADELTA = "adadelta"
    ADAGRAD = "adagrad"
    ADAMAX = "adamax"
    ASGD = "asgd"
    MUON = "muon"
    NADAM = "nadam"
    RADAM = "radam"
    RMSPROP = "rmsprop"
    RPROP = "rprop"


class ScheduleName(StrEnum):
    """Learning rate schedules by name."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class AverageName(StrEnum):
    """Averages of the weights by name."""

    AUTO = "auto"
    NONE = "none"
    EMA = "ema"
    POLYNOMIAL = "polynomial"


class AdapterName(StrEnum):
    """What is trained instead of all weights, by name."""

    LORA = "lora"
    DORA = "dora"
    IA3 = "ia3"
    PROMPT = "prompt"
    BIASES = "biases"
    HEAD = "head"
    LAST_LAYERS = "last_layers"


class PrecisionName(StrEnum):
    """Types of activations by name."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class GradientName(StrEnum):
    """Ways to a gradient by name."""

    BACKWARD = "backward"
    FORWARD = "forward"


def rate(text: str) -> str:
    """A learning rate as it was written: `auto`, or a number.

    Raises:
        typer.BadParameter: neither.
    """
    if text != "auto":
        try:
            float(text)
        except ValueError as error:
            raise typer.BadParameter("expected auto or a number") from error
    return text


class AuditKind(StrEnum):
    """What canaries are made of, by name."""

    RANDOM_TOKEN = "random-token"  # noqa: S105  no password
    NEW_TOKEN = "new-token"  # noqa: S105  no password
    SYNTHETIC = "synthetic"


class AuditScores(StrEnum):
    """What the auditor of a run sees, by name."""

    BLACK_BOX = "black-box"
    WHITE_BOX = "white-box"


class NoiseName(StrEnum):
    """How the noise of different steps hangs together, by name."""

    AUTO = "auto"
    INDEPENDENT = "independent"
    BANDED = "banded"
    BLT = "blt"
    LAMBDA_CGD = "lambda_cgd"


Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")
]
Device: TypeAlias = Annotated[
    str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=FILES)
]
Relation: TypeAlias = Annotated[
    NeighbouringRelation,
    typer.Option(
        help="Which two data sets must be hard to tell apart: one unit more or less, or one "
        "exchanged for another.",
        rich_help_panel=GUARANTEE,
    ),
]
Accountant: TypeAlias = Annotated[
    AccountantName,
    typer.Option(
        help="pld is tight; rdp is a looser bound; gdp prices full batches only.",
        rich_help_panel=GUARANTEE,
    ),
]
Noise: TypeAlias = Annotated[
    NoiseName,
    typer.Option(
        help="independent is DP-SGD. Correlated noise takes back a part of earlier noise in each "
        "step, at the same epsilon: auto picks what leaves least in the weights. It wants a "
        "higher learning rate with Adam, and keeps up to 31 copies of the trained weights.",
        rich_help_panel=GUARANTEE,
    ),
]
Unit: TypeAlias = Annotated[
    PrivacyUnit,
    typer.Option(
        help="Whom the guarantee protects: one record, or all records of one user.",
        rich_help_panel=GUARANTEE,
    ),
]
UserField: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Field that names the user of a record.", rich_help_panel=GUARANTEE),
]
UserCap: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Records used of one user; more are left out and counted.", rich_help_panel=GUARANTEE
    ),
]
UserSampling: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--user-sampling",
        help="With --unit user: draw users instead of records; --batch-size counts users, and a "
        "user's mean gradient is clipped as a whole.",
        rich_help_panel=GUARANTEE,
    ),
]
LearningRate: TypeAlias = Annotated[
    str,
    typer.Option(
        callback=rate,
        help="Peak learning rate, or auto: by a rule from public numbers (weights, steps, noise). "
        "Comparing several on private records costs budget for each.",
        rich_help_panel=TRAINING,
    ),
]
WeightAverage: TypeAlias = Annotated[
    AverageName,
    typer.Option(
        help="Hand over the average of the weights along the run instead of the last: less noise, "
        "at no cost in privacy.",
        rich_help_panel=TRAINING,
    ),
]
Gradient: TypeAlias = Annotated[
    GradientName,
    typer.Option(
        help="forward: zeroth order, two forward passes a direction and no backward pass; for "
        "models whose activations do not fit. Needs --optimizer sgd and a rate.",
        rich_help_panel=TRAINING,
    ),
]
Directions: TypeAlias = Annotated[
    int,
    typer.Option(help="With --gradient forward: directions a step.", rich_help_panel=TRAINING),
]
Views: TypeAlias = Annotated[
    int,
    typer.Option(
        help="Damaged views of each record that its one clipped gradient is the mean over: each "
        "costs a pass, none costs privacy.",
        rich_help_panel=TRAINING,
    ),
]
TextField: TypeAlias = Annotated[
    str, typer.Option(help="Field that holds the text.", rich_help_panel=RECORDS)
]
LabelField: TypeAlias = Annotated[
    str, typer.Option(help="Field that holds the label.", rich_help_panel=RECORDS)
]
LabelNames: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="The classes, separated by commas, when which of them occur is itself private.",
        rich_help_panel=RECORDS,
    ),
]
MaxLength: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Longest example in tokens. Default: the model's context, at most 512.",
        rich_help_panel=RECORDS,
    ),
]
Strict: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Refuse texts longer than --max-length instead of cutting them.",
        rich_help_panel=RECORDS,
    ),
]
Model: TypeAlias = Annotated[str, typer.Option(help="Folder with a model, or a Hugging Face name.")]
Data: TypeAlias = Annotated[
    Path, typer.Option(help="Records: .jsonl, .json, .csv, .txt, .parquet, or a folder of them.")
]

AuditCanaries: TypeAlias = Annotated[
    int,
    typer.Option(
        help="Carry so many canaries (even, 1000 is a good number), each in the data by a secret "
        "coin, so that `audit` can bound epsilon from below.",
        rich_help_panel=AUDIT,
    ),
]
AuditKindOption: TypeAlias = Annotated[
    AuditKind,
    typer.Option(
        "--audit-kind",
        help="Texts of random tokens; or each with a new token of its own (stronger; adds rows to "
        "the model's vocabulary); or written by the model.",
        rich_help_panel=AUDIT,
    ),
]
AuditScoresOption: TypeAlias = Annotated[
    AuditScores,
    typer.Option(
        "--audit-scores",
        help="white-box: canaries are dictated gradients, scored at every step from the noisy sum.",
        rich_help_panel=AUDIT,
    ),
]

Ledger: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="PRIVACY_FINETUNER_LEDGER",
        help="Charge every private act to this ledger, before it happens: a file, or "
        "postgresql://... of a database. See the command budget.",
        rich_help_panel=GUARANTEE,
    ),
]
Account: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="PRIVACY_FINETUNER_ACCOUNT",
        help="With --ledger: whose budget, as COHORT/SLICE: the account of these records.",
        rich_help_panel=GUARANTEE,
    ),
]
Quota: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar="PRIVACY_FINETUNER_QUOTA",
        help="With --ledger: whose quota is charged besides, as ORGANISATION/DEPARTMENT/....",
        rich_help_panel=GUARANTEE,
    ),
]


class RedactName(StrEnum):
    """Sensitivity levels by name."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


Redact: TypeAlias = Annotated[
    RedactName | None,
    typer.Option(
        help="Replace personal and secret values by placeholders first, at this sensitivity "
        "level. Default: not. See the command protect.",
        rich_help_panel=RECORDS,
    ),
]


def names_in(text: str | None) -> list[str] | None:
    """The names in a comma-separated option."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
