"""`export`: write a model for other programs, quantized if asked, and compare what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import FILES, Json
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.export.forms import Format, Quantization

if TYPE_CHECKING:
    from privacy_finetuner.export.artefact import Export

EPILOG: Final = (
    "Example: privacy-finetuner export --model ./private --output ./mobile --format onnx "
    "--quantize int8\n\nLater, wherever it lies: privacy-finetuner export --check ./mobile"
)


def export(  # the options of a command
    *,
    model: Annotated[
        Path | None, typer.Option(help="A model's folder, or an adapter's.", rich_help_panel=FILES)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--output", help="The folder to make or replace.", rich_help_panel=FILES),
    ] = None,
    quantize: Annotated[
        Quantization, typer.Option(help="In how many bits to keep the weights of linear layers.")
    ] = Quantization.NONE,
    form: Annotated[
        Format,
        typer.Option(
            "--format", help="safetensors: for transformers and vLLM; onnx: for ONNX Runtime."
        ),
    ] = Format.SAFETENSORS,
    least_agreement: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Reject the export below this share of equal likeliest answers. Default: 0.999, "
            "0.95 for int8, 0.8 for int4.",
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Make nothing: check an export's files, and that it answers as it did."),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option(help="Run model code that comes with the weights.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a model for other programs, and prove that it still answers.

    The export is read back from disk and asked what the source was asked: text that the source
    itself wrote, so nothing private is looked at and no privacy is spent. One that answers too
    differently is not put in place, and an earlier one there stays.

    Exit codes: 0 made, or as it was; 1 rejected or damaged; 2 cannot be asked for.
    """
    with output.failures_reported(as_json):
        made = _made(
            model,
            folder,
            check,
            form=form,
            quantization=quantize,
            least_agreement=least_agreement,
            trust_remote_code=trust_remote_code,
        )
        document = made.to_dict()
    output.deliver(document, _facts(made), as_json=as_json)


def _made(  # what the command was given
    model: Path | None,
    folder: Path | None,
    check: Path | None,
    *,
    form: Format,
    quantization: Quantization,
    least_agreement: float | None,
    trust_remote_code: bool,
) -> Export:
    from privacy_finetuner.export.artefact import (  # noqa: PLC0415  # torch is slow
        check_export,
        export_model,
    )

    if check is not None:
        if model is not None or folder is not None:
            raise ConfigurationError("--check makes nothing: leave --model and --output out")
        return check_export(check)
    if model is None or folder is None:
        raise ConfigurationError("--model and --output are needed, or --check")
    return export_model(
        model,
        folder,
        form=form,
        quantization=quantization,
        least_agreement=least_agreement,
        trust_remote_code=trust_remote_code,
    )


def _facts(made: Export) -> Table:
    found = made.comparison
    rows: list[tuple[str, object]] = [
        ("Folder", made.folder),
        ("Form", f"{made.format}, weights {made.quantization}"),
        (
            "Size",
            f"{made.bytes / 1e6:,.2f} MB; the source's weights {made.source_bytes / 1e6:,.2f}",
        ),
        ("Same likeliest answer", f"{found.agreement:.2%} of {found.positions} positions"),
        ("Mean divergence (nats)", found.divergence_mean_nats),
        ("Largest divergence (nats)", found.divergence_most_nats),
    ]
    if found.perplexity_ratio is not None:
        rows.append(("Perplexity over the source's", found.perplexity_ratio))
    return output.facts("Export", rows)
