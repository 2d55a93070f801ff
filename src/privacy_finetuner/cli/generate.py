"""`generate`: continue a prompt. What a private model writes costs nothing more."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Device, Json, Model, RedactName
from privacy_finetuner.cli.redaction_options import guard_of
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.trainer import PrivateTrainer

EPILOG: Final = (
    'Example: privacy-finetuner generate --model ./private --prompt "Patient reports" '
    "--max-new-tokens 40"
)


def generate(
    *,
    model: Model,
    prompt: Annotated[str, typer.Option(help="The text to continue.")],
    max_new_tokens: Annotated[int, typer.Option(help="At most so many new tokens.")] = 64,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; above 0 samples.")
    ] = 0.0,
    redact: Annotated[
        RedactName | None,
        typer.Option(
            help="Replace personal and secret values in what the model writes, at this level. "
            "Default: not."
        ),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Continue a prompt with a model.

    This is post-processing: a model trained with differential privacy keeps its guarantee however
    often it is asked. The prompt itself is not protected by anything.
    """
    with output.failures_reported(as_json):
        trainer = PrivateTrainer(model, PrivacyConfig(), device, enable_context_guard=False)
        text = trainer.generate(prompt, max_new_tokens=max_new_tokens, temperature=temperature)
        if redact is not None:
            text = guard_of().protect(text, redact.value).protected_text
        document = {"prompt": prompt, "text": text, "model": model}
    output.deliver(document, text, as_json=as_json)
