"""`train --remote`: the options of a local training as a job of a service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Annotated, Any, Final, TypeAlias

import typer
from rich.console import Console

from privacy_finetuner.cli import output, remote
from privacy_finetuner.cli.options import names_in
from privacy_finetuner.cli.request import TrainRequest
from privacy_finetuner.client import Client
from privacy_finetuner.client.shapes.training import Job
from privacy_finetuner.errors import ConfigurationError

Remote: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--remote",
        metavar="URL",
        help="Train at this service instead of here: --model and --data are names that it allows. "
        "Its files come to --output. See the command login.",
        rich_help_panel=remote.SERVICE,
    ),
]
Detach: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--detach",
        help="With --remote: print the job and do not wait; see the command jobs.",
        rich_help_panel=remote.SERVICE,
    ),
]


def train(
    request: TrainRequest, url: str | None, *, detach: bool, dry_run: bool, as_json: bool
) -> None:
    """Submit, follow, fetch. Interrupted, it stops to follow; the job goes on.

    Raises:
        typer.Exit: with the code of how the job ended, if that was not well.
    """
    console = output.stderr_console()
    with remote.failures_reported(as_json):
        if url is None:
            raise ConfigurationError("--detach needs --remote; nothing was started")
        if dry_run:
            raise ConfigurationError(
                "--dry-run plans from the records, which are at the service: leave --remote out, "
                "or use the command accountant plan; nothing was sent"
            )
        asked = request_of(request)
        with remote.opened(url, None) as client:
            started = client.jobs.start_training(**asked)
            console.print(f"submitted as {started.job_id}", soft_wrap=True, markup=False)
            if detach:
                document: dict[str, Any] = asdict(started)
            else:
                job = _followed(client, started.job_id, console)
                document = remote.job_document(job) | {"files": _fetched(client, job, request)}
    if detach:
        follow = f"privacy-finetuner jobs watch {started.job_id} --url {url}"
        output.deliver(document, f"{started.job_id}; follow it with: {follow}", as_json=as_json)
        return
    output.deliver(document, _facts(job, document["files"]), as_json=as_json)
    if code := remote.exit_code_of_job(job):
        raise typer.Exit(code)


def _followed(client: Client, job_id: str, console: Console) -> Job:
    try:
        return remote.watched(client, job_id, console)
    except KeyboardInterrupt:
        console.print(
            f"stopped watching; the job goes on: privacy-finetuner jobs watch {job_id}, or "
            f"privacy-finetuner jobs cancel {job_id}",
            soft_wrap=True,
        )
        raise


def _fetched(client: Client, job: Job, request: TrainRequest) -> list[str]:
    """The files of a job that succeeded, below the folder of the request."""
    if job.status != "succeeded":
        return []
    found = list(client.jobs.list_artefacts(job.job_id))
    console = output.stderr_console()
    return [
        str(file) for file in remote.downloaded(client, job.job_id, found, request.output, console)
    ]


def _facts(job: Job, files: list[str]) -> object:
    rows: list[tuple[str, object]] = [
        ("state", job.status),
        ("epsilon", job.privacy_spent.epsilon),
        ("delta", job.privacy_spent.delta),
        ("steps", job.step),
        *((name, value) for name, value in job.metrics.items() if value is not None),
        *(("file", file) for file in files),
    ]
    if job.error is not None:
        rows.append(("error", remote.visible(f"[{job.error_code}] {job.error}")))
    return output.facts(f"Private fine-tune {job.job_id}", rows)


_LOCAL_ONLY: Final = ("device", "resume", "ledger")
_PRIVACY: Final = {
    "epsilon": "epsilon",
    "delta": "delta",
    "clip_norm": "max_grad_norm",
    "noise_multiplier": "noise_multiplier",
    "accountant": "accounting_mode",
    "relation": "relation",
    "noise": "noise",
}
_TRAINING: Final = (
    "epochs", "batch_size", "adapter", "lora_rank", "base_bits", "optimizer", "lr_schedule",
    "warmup_steps", "weight_decay", "weight_average", "gradient", "directions", "views",
    "text_field", "label_field", "max_length", "eval_steps", "save_steps", "audit_canaries",
    "audit_kind", "audit_scores", "unit", "user_field", "max_examples_per_user", "user_sampling",
    "micro_batch_tokens", "precision", "gradient_checkpointing", "max_memory_gb", "strict",
    "redact", "clip_rule",
)  # fmt: skip
"""Options that have the same name and meaning in a request."""


def request_of(request: TrainRequest) -> dict[str, Any]:
    """A local training as keywords of `start_training`.

    What a local training would derive from the number of records is left to the service where it
    was not given: the records are there. It takes the same batch size; delta is as its environment
    says.

    Raises:
        ConfigurationError: an option makes sense on this machine only.
    """
    defaults = {item.name: item.default for item in fields(TrainRequest)}
    local = [name for name in _LOCAL_ONLY if getattr(request, name) != defaults[name]]
    if local:
        flags = ", ".join(f"--{name}" for name in local)
        raise ConfigurationError(
            f"{flags}: this machine only, and the training is to run at the service; nothing was "
            "sent"
        )
    privacy = {key: getattr(request, name) for name, key in _PRIVACY.items()}
    privacy |= {
        "adaptive_clipping": not request.fixed_clipping,
        "secure_rng": not request.no_secure_rng,
    }
    training: dict[str, Any] = {name: getattr(request, name) for name in _TRAINING}
    training |= {
        "learning_rate": "auto"
        if request.learning_rate == "auto"
        else float(request.learning_rate),
        "label_names": names_in(request.label_names),
        "eval_dataset": None if request.eval_data is None else str(request.eval_data),
    }
    return {
        "model_name": request.model,
        "dataset_path": str(request.data),
        "privacy_config": _given(privacy),
        "training_config": _given(training),
        "account": request.account,
        "quota": request.quota,
    }


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
