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


class AccountantName(StrEnum):
    """Accountants by name."""

    PLD = "pld"
    RDP = "rdp"
    GDP = "gdp"


class OptimizerName(StrEnum):
    """Optimizers by name."""

    ADAMW = "adamw"
    ADAM = "adam"
    SGD = "sgd"


class ScheduleName(StrEnum):
    """Learning rate schedules by name."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


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


def names_in(text: str | None) -> list[str] | None:
    """The names in a comma-separated option."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
