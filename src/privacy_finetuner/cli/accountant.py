"""`accountant`: prices and noise by themselves, without data, model or torch."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer
from rich.table import Table

from privacy_core.accounting import (
    accountant_names,
    calibrate_noise_multiplier,
    dp_sgd_event,
    epsilon_of,
)
from privacy_core.errors import UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Accountant, AccountantName, Json, Relation

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Compute what DP-SGD costs, or the noise that a budget asks for.\n\n"
    "Every epsilon printed here is an upper bound, and belongs to its delta, relation and unit. No "
    "data is read and nothing is spent.",
    epilog="Example: privacy-finetuner accountant noise --epsilon 8 --sample-rate 0.01 "
    "--steps 1000 --delta 1e-5",
)

NoiseMultiplier: TypeAlias = Annotated[
    float, typer.Option(help="Standard deviation of the noise over the clip norm, > 0.")
]
SampleRate: TypeAlias = Annotated[
    float, typer.Option(help="Probability of a record to join a step: batch size / records.")
]
Steps: TypeAlias = Annotated[int, typer.Option(help="Number of training steps.")]
Delta: TypeAlias = Annotated[
    float, typer.Option(help="Slack of the guarantee; well below 1 / number of records.")
]
Epsilon: TypeAlias = Annotated[float, typer.Option(help="The budget to keep, > 0.")]
UserCap: TypeAlias = Annotated[
    int,
    typer.Option(
        "--max-examples-per-user",
        help="Above 1 the unit is a user who owns up to so many records.",
    ),
]

_ADD_OR_REMOVE = NeighbouringRelation.ADD_OR_REMOVE_ONE


@app.command(
    epilog="Example: privacy-finetuner accountant epsilon --accountant pld --noise-multiplier 1.0 "
    "--sample-rate 0.01 --steps 1000 --delta 1e-5 --json"
)
def epsilon(
    *,
    noise_multiplier: NoiseMultiplier,
    sample_rate: SampleRate,
    steps: Steps,
    delta: Delta,
    accountant: Accountant = AccountantName.PLD,
    relation: Relation = _ADD_OR_REMOVE,
    max_examples_per_user: UserCap = 1,
    as_json: Json = False,
) -> None:
    """What a run of Poisson-sampled DP-SGD costs: an upper bound on epsilon.

    The figure does not depend on the data: only on the noise, the sampling and the steps.
    """
    with output.failures_reported(as_json):
        event = dp_sgd_event(
            noise_multiplier=noise_multiplier,
            sample_rate=sample_rate,
            steps=steps,
            max_examples_per_user=max_examples_per_user,
        )
        document = {
            "epsilon": epsilon_of(event, delta, accountant.value, relation=relation),
            **_scenario(delta, relation, max_examples_per_user),
            "accountant": accountant.value,
            "noise_multiplier": noise_multiplier,
            "sample_rate": sample_rate,
            "steps": steps,
        }
    output.deliver(document, _table("Price of the run", document), as_json=as_json)


@app.command(
    epilog="Example: privacy-finetuner accountant noise --epsilon 8 --sample-rate 0.01 "
    "--steps 1000 --delta 1e-5 --json"
)
def noise(
    *,
    epsilon: Epsilon,
    sample_rate: SampleRate,
    steps: Steps,
    delta: Delta,
    accountant: Accountant = AccountantName.PLD,
    relation: Relation = _ADD_OR_REMOVE,
    max_examples_per_user: UserCap = 1,
    as_json: Json = False,
) -> None:
    """The smallest noise multiplier that keeps epsilon over a whole run.

    The multiplier found is priced again before it is printed: its epsilon is at most the target.
    """
    with output.failures_reported(as_json):
        multiplier = calibrate_noise_multiplier(
            epsilon=epsilon,
            delta=delta,
            sample_rate=sample_rate,
            steps=steps,
            accountant=accountant.value,
            relation=relation,
            max_examples_per_user=max_examples_per_user,
        )
        event = dp_sgd_event(
            noise_multiplier=multiplier,
            sample_rate=sample_rate,
            steps=steps,
            max_examples_per_user=max_examples_per_user,
        )
        document = {
            "noise_multiplier": multiplier,
            "epsilon": epsilon_of(event, delta, accountant.value, relation=relation),
            "target_epsilon": epsilon,
            **_scenario(delta, relation, max_examples_per_user),
            "accountant": accountant.value,
            "sample_rate": sample_rate,
            "steps": steps,
        }
    output.deliver(document, _table("Noise for the budget", document), as_json=as_json)


@app.command(
    epilog="Example: privacy-finetuner accountant compare --noise-multiplier 1.0 "
    "--sample-rate 0.01 --steps 1000 --delta 1e-5"
)
def compare(
    *,
    noise_multiplier: NoiseMultiplier,
    sample_rate: SampleRate,
    steps: Steps,
    delta: Delta,
    relation: Relation = _ADD_OR_REMOVE,
    max_examples_per_user: UserCap = 1,
    as_json: Json = False,
) -> None:
    """The same run priced by every accountant; one that has no sound price says why.

    All figures are upper bounds of the same number, so the smallest one holds.
    """
    with output.failures_reported(as_json):
        event = dp_sgd_event(
            noise_multiplier=noise_multiplier,
            sample_rate=sample_rate,
            steps=steps,
            max_examples_per_user=max_examples_per_user,
        )
        rows: list[dict[str, Any]] = []
        for name in accountant_names():
            row: dict[str, Any] = {"accountant": name, "epsilon": None, "refused": None}
            try:
                row["epsilon"] = epsilon_of(event, delta, name, relation=relation)
            except UnsupportedEvent as error:
                row["refused"] = error.reason
            rows.append(row)
        document = {
            "accountants": rows,
            **_scenario(delta, relation, max_examples_per_user),
            "noise_multiplier": noise_multiplier,
            "sample_rate": sample_rate,
            "steps": steps,
        }
        table = Table(title="One run, every accountant", title_justify="left")
        for heading in ("accountant", "epsilon", "refused because"):
            table.add_column(heading)
        for row in rows:
            table.add_row(row["accountant"], output.number(row["epsilon"]), row["refused"] or "")
    output.deliver(document, table, as_json=as_json)


def _scenario(
    delta: float, relation: NeighbouringRelation, max_examples_per_user: int
) -> dict[str, Any]:
    unit = PrivacyUnit.USER if max_examples_per_user > 1 else PrivacyUnit.EXAMPLE
    return {
        "delta": delta,
        "relation": relation.value,
        "unit": unit.value,
        "max_examples_per_user": max_examples_per_user,
    }


def _table(title: str, document: dict[str, Any]) -> Table:
    return output.facts(title, [(output.words(name), value) for name, value in document.items()])
