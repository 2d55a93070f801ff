"""`reveal`: sealed values back into a text, for whoever holds the key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from privacy_core.redaction.entities import resolve
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.redaction_options import (
    EncodingName,
    KeyFile,
    Tenant,
    keys_at,
    names_of,
    standard_input,
)
from privacy_finetuner.context.decoding import decoded, read_whole
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.files import replacing

EPILOG: Final = (
    "Example: privacy-finetuner reveal sealed.jsonl --key-file redaction.key --only EMAIL > notes"
)


def reveal(
    file: Annotated[
        Path | None, typer.Argument(help="A text with tokens. Default: standard input.")
    ] = None,
    *,
    key_file: KeyFile = None,
    tenant: Tenant = "default",
    only: Annotated[
        str | None, typer.Option(help="Types to reveal, separated by commas; default: all.")
    ] = None,
    output_file: Annotated[
        Path | None, typer.Option("--output", help="File to write. Default: standard output.")
    ] = None,
    encoding: EncodingName = None,
    as_json: Json = False,
) -> None:
    """Put back what tokens of `protect --strategy semantic_encryption` stand for.

    The text around the tokens may have been rewritten by a model. Tokens that were changed, cut or
    made with another key stay tokens and are counted. **The result is personal data in clear.**
    """
    stdout = sys.stdout
    with output.failures_reported(as_json):
        from privacy_finetuner.context.reversal import looked_into  # noqa: PLC0415 -- cryptography

        keys = keys_at(key_file)
        if keys is None:
            raise ConfigurationError("reveal needs the key: --key-file FILE; nothing was revealed")
        labels = {resolve(name).name for name in names_of(only)} or None
        if file is None:
            text, form = decoded(standard_input().read(), "standard input", encoding)
        else:
            text, form = read_whole(file, encoding)
        found = looked_into(text, keys, tenant, labels)
        if output_file is not None:
            with replacing(output_file) as (_, write):
                write(form.mark + form.encode(found.text))
        elif not as_json:
            stdout.write(found.text)
            stdout.flush()
        refused: dict[str, int] = {}
        for each in found.refused:
            refused[each.reason.value] = refused.get(each.reason.value, 0) + 1
        document = {
            "text": found.text if output_file is None else None,
            "output": None if output_file is None else str(output_file),
            "revealed": dict(found.counts),
            "refused": refused,
        }
        counts = ", ".join(f"{label} {count}" for label, count in found.counts.items())
        output.stderr_console().print(
            f"revealed: {counts or 'nothing'}"
            + "".join(f"; {count} stay: {reason}" for reason, count in refused.items()),
            soft_wrap=True,
            markup=False,
        )
    if as_json:
        output.write_json(document)
