"""`accountant`: prices and noise by themselves, without data, model or torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.table import Table

from privacy_core.accounting import (
    accountant_names,
    calibrate_noise_multiplier,
    dp_sgd_event,
    epsilon_of,
)
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.cli import output
from privacy_finetuner.cli.comparison import Comparison, RunSizes, compare_run
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
Examples: TypeAlias = Annotated[int, typer.Option(help="Records in the data set.")]
BatchSize: TypeAlias = Annotated[int, typer.Option(help="Expected number of records in a step.")]
PlannedSteps: TypeAlias = Annotated[
    int | None, typer.Option("--steps", help="Number of training steps. Or give --epochs.")
]
Epochs: TypeAlias = Annotated[
    float | None, typer.Option(help="Passes over the data. Or give --steps.")
]
RecordsPerUser: TypeAlias = Annotated[
    int,
    typer.Option(
        help="The most records that one user owns; above 1, the plan shows what it takes to "
        "protect a whole user, by the cap on the records that are used of one."
    ),
]
Plot: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Draw the comparison: a file that ends in .png, .svg or .pdf."
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


@app.command(
    epilog="Example: privacy-finetuner accountant plan --examples 50000 --batch-size 500 "
    "--epochs 10 --epsilon 4 --delta 1e-5 --records-per-user 8 --plot plan.png"
)
def plan(  # noqa: PLR0913  # every argument is an option of the command
    *,
    examples: Examples,
    batch_size: BatchSize,
    epsilon: Epsilon,
    delta: Delta,
    steps: PlannedSteps = None,
    epochs: Epochs = None,
    records_per_user: RecordsPerUser = 1,
    relation: Relation = _ADD_OR_REMOVE,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Compare the ways to run one training before anyone trains. Reads no data, spends nothing.

    The yardstick is DP-SGD on Poisson batches, priced by the tight accountant. Beside it stand the
    other ways to make batches, the other accountants, correlated noise, and protection of a whole
    user instead of one record.

    **noise** is the multiplier that keeps epsilon. **error** is the expected error of the sum of
    all updates so far, with the yardstick as 1: less is better. **epsilon if not priced** is what
    the alternative costs with the yardstick's noise: what a run really spends when its loader does
    one thing while its accountant believes another.
    """
    with output.failures_reported(as_json):
        sizes = RunSizes(
            examples=examples,
            batch_size=batch_size,
            steps=_planned_steps(steps, epochs, examples, batch_size),
            epsilon=epsilon,
            delta=delta,
            relation=relation,
            records_per_user=records_per_user,
        )
        if plot is not None:
            from privacy_finetuner.cli import comparison_plot  # noqa: PLC0415 -- loads plotting

            comparison_plot.require_picture(plot)
        comparison = compare_run(sizes)
        if plot is not None:
            comparison_plot.draw(comparison, plot)
        document = {
            "yardstick_noise_multiplier": comparison.noise_multiplier,
            "alternatives": [row.to_dict() for row in comparison.alternatives],
            "examples": examples,
            "batch_size": batch_size,
            "steps": sizes.steps,
            "epsilon": epsilon,
            "delta": delta,
            "relation": relation.value,
            "records_per_user": records_per_user,
            "plot": None if plot is None else str(plot),
        }
    output.deliver(document, _comparison_table(comparison), as_json=as_json)


def _planned_steps(steps: int | None, epochs: float | None, examples: int, batch_size: int) -> int:
    """The number of steps, from itself or from passes over the data."""
    if (steps is None) == (epochs is None):
        found = "neither" if steps is None else "both"
        raise InvalidParameter("steps", found=found, expected="either --steps or --epochs")
    if epochs is None:
        assert steps is not None  # noqa: S101  # one of them is given
        return steps
    if not 0 < epochs < math.inf:
        raise InvalidParameter("epochs", found=epochs, expected="a finite number > 0")
    return max(1, math.ceil(epochs * examples / max(batch_size, 1) - 1e-9))


def _comparison_table(comparison: Comparison) -> Table:
    sizes = comparison.sizes
    table = Table(
        title=f"{sizes.examples:,} records, batches of {sizes.batch_size:,}, "
        f"{sizes.steps:,} steps, "
        f"target ({sizes.epsilon:g}, {sizes.delta:g}), {output.words(sizes.relation.value)}",
        title_justify="left",
    )
    table.add_column("alternative", no_wrap=True)
    for heading in ("noise", "error", "epsilon if not priced"):
        table.add_column(heading, justify="right")
    table.add_column("note", overflow="fold")
    group = ""
    for row in comparison.alternatives:
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(group, style="bold")
        note = f"refused: {row.refused}" if row.refused else row.note
        figures = (row.noise_multiplier, row.relative_error, row.epsilon)
        table.add_row(f"  {row.name}", *(_figure(value) for value in figures), note)
    return table


def _figure(value: float | None) -> str:
    """Four digits are enough to compare by."""
    return "-" if value is None else "infinite" if math.isinf(value) else f"{value:.4g}"


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
