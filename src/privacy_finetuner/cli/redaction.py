"""`privacy-finetuner redaction`: how well personal data is found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json, names_in
from privacy_finetuner.cli.redaction_options import Level, LevelName

if TYPE_CHECKING:
    from privacy_finetuner.context.evaluation import Evaluation, MarkedFile

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Measure how well personal data is found in texts that people have marked.",
    epilog="Example: privacy-finetuner redaction evaluate marked.jsonl --json",
)
_EPILOG: Final = (
    "A line of FILE: {'id': 'a1', 'text': 'Ask Jo Smith.', 'spans': [[4, 12, 'PERSON']]} "
    "(as JSON, with double quotes).\n\n"
    "Example: privacy-finetuner redaction evaluate marked.jsonl --level high\n\n"
    "Example: privacy-finetuner redaction evaluate notes.jsonl --ignore-label PHI_TYPE7 --json\n\n"
    "Exit codes: 0 scored, 2 bad input."
)


@app.callback()
def _group() -> None:
    """Keep `evaluate` a command of its own, also while it is the only one."""


@app.command(epilog=_EPILOG)
def evaluate(
    file: Annotated[Path, typer.Argument(help="Marked texts, JSON lines.")],
    *,
    level: Level = LevelName.HIGH,
    no_names: Annotated[
        bool, typer.Option("--no-names", help="Patterns alone, without the name model.")
    ] = False,
    ignore_label: Annotated[
        str | None,
        typer.Option(help="Labels of FILE to leave out, separated by commas."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Findings of types that FILE never marks count as wrong, too."
        ),
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write the scores as a page.")] = None,
    as_json: Json = False,
) -> None:
    """Score detection on marked texts: per type, exact, by character, calibration, and what leaks.

    A finding is right when its type agrees and it overlaps the mark by half or more (intersection
    over union). Labels of i2b2, MEDDOCAN, TAB, Presidio, spaCy and HIPAA are translated; a label
    that nobody knows is refused. **character_recall** counts marked characters that anything
    covers, whatever its type: it is what protects.
    """
    with output.failures_reported(as_json):
        from privacy_finetuner.context.evaluation import read_marks  # noqa: PLC0415 -- tables

        marks = read_marks(file, ignore=names_in(ignore_label) or ())
        result = _scored(marks, level.value, no_names=no_names, strict=strict)
        document = {"file": str(file), **result.to_dict()}
        if html is not None:
            from privacy_finetuner.context.pages import write_evaluation  # noqa: PLC0415 -- jinja

            write_evaluation(document, html)
        document["html"] = None if html is None else str(html)
    output.deliver(document, _shown(result), as_json=as_json)


def _scored(marks: MarkedFile, level: str, *, no_names: bool, strict: bool) -> Evaluation:
    from privacy_core.redaction.detection import PatternDetector  # noqa: PLC0415 -- tables
    from privacy_finetuner.context import evaluation  # noqa: PLC0415
    from privacy_runtime.names import shipped  # noqa: PLC0415

    names = None if no_names else shipped(level)
    console = output.stderr_console()
    bar = Progress(
        TextColumn("scoring"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("scoring", total=len(marks.texts))
        return evaluation.evaluate(
            marks,
            PatternDetector(names),
            level=level,
            strict=strict,
            progress=lambda done: bar.update(task, completed=done),
            notes=() if names is None else names.notes,
        )


def _shown(result: Evaluation) -> Group:
    parts: list[Any] = [_scores_table(result), _leak_table(result)]
    parts += [Text(note, style="yellow") for note in _notes(result)]
    return Group(*parts)


def _scores_table(result: Evaluation) -> Table:
    table = Table(
        title=f"Detection at level {result.level}: {result.texts} texts",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("type")
    for name in ("precision", "recall", "F1", "exact F1", "marked"):
        table.add_column(name, justify="right")
    rows = [
        *((name, s, result.exact.entities[name]) for name, s in result.typed.entities.items()),
        ("all", result.typed.micro, result.exact.micro),
    ]
    for name, score, exact in rows:
        table.add_row(
            name,
            *(_rate(value) for value in (score.precision, score.recall, score.f1, exact.f1)),
            str(score.n),
            style="bold" if name == "all" else None,
        )
    return table


def _leak_table(result: Evaluation) -> Table:
    table = Table(
        title=f"\nCharacters, whatever the type: recall {_rate(result.characters.recall)}, "
        f"precision {_rate(result.character_precision)}. What leaks:",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column("type")
    for name in ("characters", "of", "whole spans", "parts of spans"):
        table.add_column(name, justify="right")
    for label, leak in result.leaks.items():
        if leak.characters:
            counts = (leak.characters, leak.characters_marked, leak.spans_whole, leak.spans_part)
            table.add_row(label, *map(str, counts))
    return table


def _notes(result: Evaluation) -> list[str]:
    notes = list(result.notes)
    if result.not_scored:
        counts = ", ".join(f"{label} {n}" for label, n in result.not_scored.items())
        verb = "counted as wrong" if result.strict else "not scored"
        notes.append(f"found but never marked in this file, {verb}: {counts}")
    if result.file.left_out:
        counts = ", ".join(f"{label} {n}" for label, n in result.file.left_out.items())
        notes.append(f"marked but left out: {counts}")
    notes.append(f"calibration error {_rate(result.calibration.error)} (0: scores are exact)")
    return notes


def _rate(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"  # noqa: PLR0124 -- NaN is not itself
