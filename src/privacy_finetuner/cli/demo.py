"""`demo`: the same records with and without privacy, attacked alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json

EPILOG: Final = (
    "Example: privacy-finetuner demo --data notes.jsonl --model ./model --epsilon 3 --output ./out"
)
_SAMPLE: Final = "What to show (default: the sample that ships with the product)"
_TRAINING: Final = "How to train"


def demo(
    *,
    output_folder: Annotated[
        Path, typer.Option("--output", help="Folder for models, report and certificate.")
    ] = Path("demo-output"),
    data: Annotated[
        Path | None,
        typer.Option(help="Records to use; a random tenth is held out.", rich_help_panel=_SAMPLE),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Model to fine-tune.", rich_help_panel=_SAMPLE)
    ] = None,
    text_field: Annotated[
        str, typer.Option(help="Field that holds the text.", rich_help_panel=_SAMPLE)
    ] = "text",
    epsilon: Annotated[
        float, typer.Option(help="The privacy budget.", rich_help_panel=_TRAINING)
    ] = 8.0,
    epochs: Annotated[
        float | None,
        typer.Option(help="Passes over the records, with privacy.", rich_help_panel=_TRAINING),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate. The default suits models below a million parameters.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fine-tune with and without privacy, attack both models, and show the difference.

    Secret codes are planted among the records, each several times. Afterwards an attacker asks
    the model before training, the ordinary fine-tune and the private one for them. The table shows
    what privacy cost (perplexity on held-out records, time) and what it bought (secrets kept).

    The sample's patients are invented. On your own records the figures of this comparison are
    computed exactly: they are outside the guarantee, for you to look at, not to publish.
    """
    from privacy_finetuner import demo as demonstration  # noqa: PLC0415 -- loads plotting

    with output.failures_reported(as_json):
        settings = demonstration.DemoSettings(
            data=data,
            model=model,
            text_field=text_field,
            epsilon=epsilon,
        )
        if epochs is not None:
            settings = replace(settings, epochs=epochs)
        if learning_rate is not None:
            settings = replace(settings, learning_rate=learning_rate)
        console = output.stderr_console() if as_json else output.stdout_console()
        document = demonstration.run(output_folder, settings, console=console)
    if as_json:
        output.deliver(document, "", as_json=True)
