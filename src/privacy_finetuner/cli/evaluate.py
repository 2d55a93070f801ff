"""`evaluate`: score a model, with a price or exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import (
    FILES,
    GUARANTEE,
    Account,
    Data,
    Device,
    Json,
    LabelField,
    Ledger,
    MaxLength,
    Model,
    Quota,
    TextField,
    Unit,
    UserCap,
    UserField,
)
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.trainer import PrivateTrainer
from privacy_finetuner.training.records import read_records
from privacy_finetuner.training.sizes import default_delta

if TYPE_CHECKING:
    from privacy_finetuner.results import EvaluationResult

EPILOG: Final = (
    "Example: privacy-finetuner evaluate --model ./private --data heldout.jsonl --epsilon 0.5\n\n"
    "Example: privacy-finetuner evaluate --model ./private --data public.jsonl --exact --json"
)
_PRIVACY_STATE: Final = "privacy_state.json"
_EPSILON: Final = 0.5


def evaluate(  # noqa: PLR0913 -- one parameter an option
    *,
    model: Model,
    data: Data,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Exact figures, outside any guarantee: for public records, or for people who may "
            "see the records anyway.",
            rich_help_panel=GUARANTEE,
        ),
    ] = False,
    epsilon: Annotated[
        float, typer.Option(help="Price of this release.", rich_help_panel=GUARANTEE)
    ] = _EPSILON,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Delta of this release. Default: a tenth of what training would use.",
            rich_help_panel=GUARANTEE,
        ),
    ] = None,
    unit: Unit = PrivacyUnit.EXAMPLE,
    user_field: UserField = None,
    max_examples_per_user: UserCap = None,
    batch_size: Annotated[
        int, typer.Option(help="Records of one pass: memory and speed only.", rich_help_panel=FILES)
    ] = 8,
    text_field: TextField = "text",
    label_field: LabelField = "label",
    max_length: MaxLength = None,
    device: Device = "auto",
    ledger: Ledger = None,
    account: Account = None,
    quota: Quota = None,
    as_json: Json = False,
) -> None:
    """Score a model on records: loss, perplexity, accuracy.

    By default the figures are released with noise, and what that costs is charged to the people in
    *these* records: to their account in a ledger (--ledger, --account), or to the evaluation
    account in privacy_state.json beside the model. For people who are in the training records as
    well, the price of training comes on top.
    """
    with output.failures_reported(as_json):
        count = len(
            read_records(data, text_field=text_field, label_field=label_field, user_field=None)
        )
        slack = default_delta(count) / 10 if delta is None else delta
        # Where no account lies beside the model, the price itself is the whole budget.
        privacy = PrivacyConfig(epsilon=epsilon, delta=slack)
        result, notes = _score(
            model,
            privacy,
            device,
            # Exact figures are outside any guarantee: no account is charged.
            {} if exact else {"ledger": ledger, "account": account, "quota": quota},
            {
                "dataset": str(data),
                "batch_size": batch_size,
                "privacy_safe": not exact,
                "epsilon": epsilon,
                "delta": slack,
                "text_field": text_field,
                "label_field": label_field,
                "unit": unit.value,
                "user_field": user_field,
                "max_examples_per_user": max_examples_per_user,
                "max_length": max_length,
                "account": None if exact else account,
            },
        )
        document = {**result.to_dict(), "model": model, "data": str(data), "notes": notes}
        rows: list[tuple[str, object]] = [
            ("loss", _with_spread(result.loss, result.loss_std)),
            ("perplexity", output.number(result.perplexity)),
            ("accuracy", _with_spread(result.accuracy, result.accuracy_std)),
            ("records", result.examples),
            ("epsilon", result.privacy_spent.epsilon),
            ("delta", result.privacy_spent.delta),
            *(("note", note) for note in notes),
        ]
    output.deliver(document, output.facts("Evaluation", rows), as_json=as_json)


def _score(
    model: str,
    privacy: PrivacyConfig,
    device: str,
    charged_to: dict[str, str | None],
    keywords: dict[str, object],
) -> tuple[EvaluationResult, list[str]]:
    """Evaluate, and have the spending on the disk before anybody sees the figures."""
    trainer = PrivateTrainer(
        model,
        privacy,
        device,
        enable_context_guard=False,
        **charged_to,  # type: ignore[arg-type]  # names of an account, all text
    )
    has_state = (Path(model) / _PRIVACY_STATE).is_file()
    if has_state:
        trainer.load_model(model)
    result = trainer.evaluate(**keywords)  # type: ignore[arg-type]  # typed by the options above
    if result.outside_guarantee:
        return result, [
            "exact figures: outside the guarantee; do not publish them for private records"
        ]
    if charged_to.get("ledger") is not None:
        return result, [f"the price is charged to account {charged_to['account']} of the ledger"]
    if has_state:
        trainer.save_model(model)
        return result, [f"the price is recorded in {Path(model) / _PRIVACY_STATE}"]
    return result, [
        f"{model} has no {_PRIVACY_STATE}: this price is not remembered, add it up yourself"
    ]


def _with_spread(value: float, std: float) -> str:
    return output.number(value) if std == 0 else f"{value:.6g} (noise std {std:.2g})"
