"""`search`: several private trainings, the best one kept, all within one epsilon."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import (
    FILES,
    GUARANTEE,
    TRAINING,
    Account,
    Data,
    Device,
    Json,
    LabelField,
    LabelNames,
    Ledger,
    MaxLength,
    Model,
    OptimizerName,
    Quota,
    Relation,
    TextField,
    Unit,
    UserCap,
    UserField,
    names_in,
)
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.errors import TrainingInterrupted
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training.accounts import RunTargets, named_account
from privacy_finetuner.training.records import read_records
from privacy_finetuner.training.sizes import default_batch_size, default_delta
from privacy_finetuner.training.tuning_plan import Tuning, TuningResult, planned
from privacy_runtime.world import SystemClock, SystemEntropy

if TYPE_CHECKING:
    from privacy_finetuner.training.ledger_account import LedgerAccount

EPILOG: Final = (
    "Example: privacy-finetuner search --model ./model --data records.jsonl --epsilon 8 "
    "--learning-rates 1e-4,1e-3,1e-2 --output ./private --json\n\n"
    "The rule behind --learning-rate auto of train costs nothing: search where it is known to be "
    "poor. A stopped search is charged whole and leaves nothing; it cannot be resumed."
)
SEARCH: Final = "The search"


class MethodName(StrEnum):
    """Ways to search by name."""

    AUTO = "auto"
    RANDOM = "random"
    EACH = "each"


class LawName(StrEnum):
    """Laws of the number of trials by name."""

    GEOMETRIC = "geometric"
    LOGARITHMIC = "logarithmic"
    POISSON = "poisson"


class SearchInterrupted(output.Interrupted):
    """The user stopped a search. It is charged whole once it has begun; it cannot be resumed."""

    def __init__(self, *, is_charged: bool) -> None:
        spent = "all of it is charged" if is_charged else "nothing was spent"
        super().__init__(
            f"the search was interrupted; {spent} and nothing was released",
            charged_steps=0,
            resume=None,
        )

    def __str__(self) -> str:
        return self.message


def search(  # noqa: PLR0913 -- one parameter an option
    *,
    model: Model,
    data: Data,
    epsilon: Annotated[
        float,
        typer.Option(
            help="The budget of the whole search: all trials, their scores, the choice.",
            rich_help_panel=GUARANTEE,
        ),
    ],
    output_folder: Annotated[
        Path, typer.Option("--output", help="Folder for the best model and search.json.")
    ],
    learning_rates: Annotated[
        str,
        typer.Option(
            help="The candidates, separated by commas: numbers, or auto. Choose them without "
            "looking at the data.",
            rich_help_panel=SEARCH,
        ),
    ],
    method: Annotated[
        MethodName,
        typer.Option(
            help="each: one trial a candidate, all paid for, all shown. random: a random number "
            "of random trials, only the best is ever seen; cheaper from about five candidates. "
            "auto: whichever needs less noise.",
            rich_help_panel=SEARCH,
        ),
    ] = MethodName.AUTO,
    law: Annotated[
        LawName,
        typer.Option(help="Of the number of random trials.", rich_help_panel=SEARCH),
    ] = LawName.GEOMETRIC,
    mean_trials: Annotated[
        float | None,
        typer.Option(
            help="Random trials to expect. Default: twice the candidates.", rich_help_panel=SEARCH
        ),
    ] = None,
    public_data: Annotated[
        Path | None,
        typer.Option(
            help="Score on these PUBLIC records, exactly and at no price, instead of on --data "
            "with noise. The trainings cost what they cost.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    score_noise: Annotated[
        float | None,
        typer.Option(
            help="Noise of a score on --data, in contributions of one unit. Default: by a rule "
            "that gives it some 5 % of a trial's budget.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Slack of the guarantee. Default: the smaller of 1e-5 and 1/(10 n), one digit.",
            rich_help_panel=GUARANTEE,
        ),
    ] = None,
    relation: Relation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
    unit: Unit = PrivacyUnit.EXAMPLE,
    user_field: UserField = None,
    max_examples_per_user: UserCap = None,
    epochs: Annotated[
        float,
        typer.Option(help="Passes over the records of each trial.", rich_help_panel=TRAINING),
    ] = 3.0,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Expected records a step. Default: n/16, at least 8, at most 512.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            help="Train adapters of this rank instead of all weights.", rich_help_panel=TRAINING
        ),
    ] = None,
    optimizer: Annotated[OptimizerName, typer.Option(rich_help_panel=TRAINING)] = (
        OptimizerName.ADAMW
    ),
    text_field: TextField = "text",
    label_field: LabelField = "label",
    label_names: LabelNames = None,
    max_length: MaxLength = None,
    device: Device = "auto",
    micro_batch_tokens: Annotated[
        int,
        typer.Option(help="Tokens of one pass: memory and speed only.", rich_help_panel=FILES),
    ] = 4096,
    ledger: Ledger = None,
    account: Account = None,
    quota: Quota = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what the search would cost and stop."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Try several learning rates on private records and keep the best model.

    Comparing trainings by looking at private records costs budget. Here the whole search keeps
    --epsilon, so each of its trials is trained with more noise than one training alone would be;
    it is charged before it starts. Losing trials leave no trace. How long a random search took
    tells how many trials it had: do not publish that.
    """
    console = output.stderr_console()
    with output.failures_reported(as_json):
        options = TrainOptions(
            unit=unit.value,
            user_field=user_field,
            max_examples_per_user=max_examples_per_user,
            lora_rank=lora_rank,
            optimizer=optimizer.value,
            clip_rule="normalise",
            text_field=text_field,
            label_field=label_field,
            label_names=names_in(label_names),
            max_length=max_length,
            micro_batch_tokens=micro_batch_tokens,
        )
        examples, units = _sizes(data, options)
        privacy = PrivacyConfig(
            epsilon=epsilon,
            delta=default_delta(units) if delta is None else delta,
            relation=NeighbouringRelation(relation),
        )
        book = named_account(ledger, account, quota, SystemClock())
        tuning = Tuning(
            model=model,
            dataset=str(data),
            privacy=privacy if book is None else book.run_privacy(privacy, RunTargets()),
            training=options.training(
                epochs=epochs,
                batch_size=default_batch_size(examples) if batch_size is None else batch_size,
                learning_rate="auto",
            ),
            options=options,
            candidates=[
                {"learning_rate": rate if rate == "auto" else _number(rate)}
                for rate in names_in(learning_rates) or ()
            ],
            method=method.value,
            law=law.value,
            mean_trials=mean_trials,
            public_records=None if public_data is None else str(public_data),
            score_noise=score_noise,
            device=device,
        )
        if dry_run:
            document = _dry(tuning, examples, units)
            table = output.facts("Search (nothing was started or spent)", list(document.items()))
        else:
            console.print("searching; how long it takes is not covered by the guarantee ...")
            result = _run(tuning, output_folder, book)
            document = {**result.to_dict(), "output": str(output_folder)}
            table = output.facts("Private search", _rows(document))
    output.deliver(document, table, as_json=as_json)


def _run(tuning: Tuning, folder: Path, book: LedgerAccount | None) -> TuningResult:
    from privacy_finetuner.training.tuning import tune  # noqa: PLC0415 -- loads torch

    entropy, charge = SystemEntropy(), None
    if book is not None:
        from privacy_finetuner.training.search_charge import search_charge  # noqa: PLC0415

        charge = search_charge(
            book,
            f"search-{entropy.token_bytes(8).hex()}",
            delta=tuning.privacy.priced_delta,
            relation=tuning.privacy.relation,
            unit=PrivacyUnit(tuning.options.unit),
        )
    try:
        return tune(tuning, folder, entropy=entropy, clock=SystemClock(), charge=charge)
    except (TrainingInterrupted, KeyboardInterrupt) as error:
        raise SearchInterrupted(is_charged=(folder / "search.json").exists()) from error


def _sizes(data: Path, options: TrainOptions) -> tuple[int, int]:
    """How many examples and units there are: public, and all that is read here."""
    records = read_records(
        data,
        text_field=options.text_field,
        label_field=options.label_field,
        user_field=options.user_field,
    )
    if options.user_field is None or options.max_examples_per_user is None:
        return len(records), len(records)
    owned = Counter(records.users(options.user_field)).values()
    return sum(min(count, options.max_examples_per_user) for count in owned), len(owned)


def _dry(tuning: Tuning, examples: int, units: int) -> dict[str, Any]:
    plan, search = planned(tuning, examples=examples, units=units)
    return {
        "dry_run": True,
        "epsilon": search.epsilon(),
        "delta": search.delta,
        "unit": plan.unit.value,
        "method": search.method,
        "candidates": search.candidates,
        "expected_trials": search.expected_trials,
        "chance_of_missing": search.chance_of_missing,
        "noise_multiplier": plan.noise_multiplier,
        "steps": plan.steps,
        "sample_rate": plan.sampling_probability,
    }


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"--learning-rates has {text!r}, expected numbers or auto"
        ) from error


def _rows(document: dict[str, Any]) -> list[tuple[str, object]]:
    best = document["best"] or {}
    return [
        *((f"best {output.words(name)}", value) for name, value in best.items()),
        ("score", f"{document['score']:.6g} (noise std {document['score_std']:.2g})"),
        *(
            (output.words(name), document[name])
            for name in (
                *("epsilon", "delta", "relation", "unit", "method", "candidates"),
                *("expected_trials", "chance_of_missing", "noise_multiplier", "output"),
            )
        ),
    ]
