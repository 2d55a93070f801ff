"""`privacy-finetuner jobs`: the training jobs of a service."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer
from rich.table import Table
from rich.text import Text

from privacy_finetuner.cli import output, remote
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.remote import ProfileName, Url
from privacy_finetuner.client.shapes.training import Artefact, Job
from privacy_finetuner.errors import ConfigurationError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="See, follow and end the training jobs of a service.\n\n"
    "First say who you are: privacy-finetuner login --url URL. A job runs at the service whether "
    "or not anybody watches; a watch that loses the connection goes on where it was.",
    epilog="Begin: privacy-finetuner jobs list, then privacy-finetuner jobs watch JOB",
)
_EXAMPLE: Final = "Example: privacy-finetuner jobs"
_SHORT: Final = 40

JobId: TypeAlias = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job: job_....")]


class StateName(StrEnum):
    """States by name."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@app.command("list", epilog=f"{_EXAMPLE} list --state running --json")
def list_(
    *,
    state: Annotated[
        list[StateName] | None, typer.Option(help="Only in this state; may be repeated.")
    ] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only your own.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    url: Url = None,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """List the jobs of your organisation, newest first."""
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        states = [one.value for one in state or []]
        found = client.jobs.list_training(
            status=states or None, mine=mine, page_size=min(limit, 200)
        )
        jobs = list(islice(found, limit))
    document = {"jobs": [remote.job_document(job) for job in jobs]}
    output.deliver(document, _table(jobs) if jobs else "no jobs", as_json=as_json)


@app.command(epilog=f"{_EXAMPLE} show job_2k7w --json")
def show(
    job: JobId, *, url: Url = None, profile: ProfileName = None, as_json: Json = False
) -> None:
    """Show one job: what was asked for, how far it is, what it has spent."""
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        found = client.jobs.get_training(job)
    output.deliver(remote.job_document(found), _facts(found), as_json=as_json)


@app.command(
    epilog=f"{_EXAMPLE} watch job_2k7w\n\nExit codes: 0 it succeeded, 1 it failed, 3 the budget "
    "ended it, 130 it was cancelled, or you stopped watching (the job goes on)."
)
def watch(
    job: JobId,
    *,
    after: Annotated[
        int, typer.Option(min=0, help="Number of the last event that you have seen.")
    ] = 0,
    lines: Annotated[
        bool,
        typer.Option("--lines", help="Print every event on stdout as it comes, one JSON a line."),
    ] = False,
    url: Url = None,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """Follow a job to its end: step, loss, epsilon, time to go.

    A lost connection, or a restart of the service, is waited for and costs no event.
    """
    console = output.stderr_console()
    with remote.failures_reported(as_json) as stdout, remote.opened(url, profile) as client:
        if lines:
            for event in client.jobs.watch(job, after=after):
                stdout.write(json.dumps(asdict(event), default=_plain) + "\n")
                stdout.flush()
            found = client.jobs.get_training(job)
        else:
            found = remote.watched(client, job, console, after=after)
    if not lines:
        output.deliver(remote.job_document(found), _facts(found), as_json=as_json)
    raise typer.Exit(remote.exit_code_of_job(found))


@app.command(epilog=f"{_EXAMPLE} cancel job_2k7w")
def cancel(
    job: JobId, *, url: Url = None, profile: ProfileName = None, as_json: Json = False
) -> None:
    """End a job within seconds. What it has charged stays charged."""
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        answer = client.jobs.cancel_training(job)
    text = f"{job}: {answer.status}" + (
        ", asked to end" if answer.cancel_requested and answer.status != "cancelled" else ""
    )
    output.deliver(asdict(answer), text, as_json=as_json)


@app.command(epilog=f"{_EXAMPLE} artefacts job_2k7w")
def artefacts(
    job: JobId, *, url: Url = None, profile: ProfileName = None, as_json: Json = False
) -> None:
    """List the files that a job left."""
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        found = client.jobs.list_artefacts(job)
    document = {"artefacts": [asdict(artefact) for artefact in found]}
    output.deliver(document, _files(found) if found else "no files", as_json=as_json)


@app.command(
    epilog=f"{_EXAMPLE} download job_2k7w report.html --output reports\n\nEvery file is compared "
    "with its SHA-256. A download that was cut off goes on where it stopped."
)
def download(
    job: JobId,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Files; default: all.")
    ] = None,
    *,
    folder: Annotated[Path, typer.Option("--output", help="Folder to put them into.")] = Path(),
    url: Url = None,
    profile: ProfileName = None,
    as_json: Json = False,
) -> None:
    """Fetch files of a job: model, report, certificate."""
    console = output.stderr_console()
    with remote.failures_reported(as_json), remote.opened(url, profile) as client:
        found = {artefact.name: artefact for artefact in client.jobs.list_artefacts(job)}
        if missing := sorted(set(names or []) - set(found)):
            raise ConfigurationError(
                f"job {job} left no {', '.join(missing)}; it left: "
                f"{', '.join(sorted(found)) or 'nothing'}; nothing was fetched"
            )
        wanted = [found[name] for name in names] if names else list(found.values())
        files = remote.downloaded(client, job, wanted, folder, console)
    document = {"files": [str(file) for file in files]}
    output.deliver(document, "\n".join(map(str, files)) or "no files", as_json=as_json)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _table(jobs: list[Job]) -> Table:
    table = Table(box=None)
    for name in ("job", "state", "done", "epsilon", "created", "name"):
        table.add_column(name, overflow="fold", no_wrap=name == "job")
    for job in jobs:
        table.add_row(
            Text(job.job_id),
            Text(remote.visible(job.status)),
            f"{job.progress:.0%}",
            output.number(job.privacy_spent.epsilon),
            f"{job.created_at:%Y-%m-%d %H:%M}Z",
            Text(_short(remote.visible(job.name))),
        )
    return table


def _facts(job: Job) -> Table:
    spent = job.privacy_spent
    rows: list[tuple[str, object]] = [
        ("state", job.status + (", asked to end" if job.cancel_requested else "")),
        ("name", job.name),
        ("model", job.request.get("model", "-")),
        ("data", job.request.get("dataset", "-")),
        ("account", job.request.get("account") or "none: the job's own epsilon is the only limit"),
        ("steps", f"{job.step} of {job.steps}" if job.steps else "not planned yet"),
        ("epsilon", f"{output.number(spent.epsilon)} at delta {output.number(spent.delta)}"),
        *((name, value) for name, value in job.metrics.items() if value is not None),
        ("created", job.created_at),
    ]
    if job.estimated_completion is not None:
        rows.append(("ends about", job.estimated_completion))
    if job.finished_at is not None:
        rows.append(("ended", job.finished_at))
    if job.error is not None:
        rows.append(("error", f"[{job.error_code}] {job.error}"))
    return output.facts(
        job.job_id, [(name, remote.visible(value)) for name, value in _plain_rows(rows)]
    )


def _plain_rows(rows: list[tuple[str, object]]) -> list[tuple[str, object]]:
    return [(name, output.number(v) if isinstance(v, float) else v) for name, v in rows]


def _short(name: str) -> str:
    return name if len(name) <= _SHORT else name[: _SHORT - 1] + "…"


def _files(found: tuple[Artefact, ...]) -> Table:
    table = Table(box=None)
    for name in ("name", "bytes", "sha256", ""):
        table.add_column(name, overflow="fold")
    for artefact in found:
        note = "outside the guarantee" if artefact.outside_guarantee else ""
        table.add_row(
            Text(remote.visible(artefact.name)),
            str(artefact.size_bytes),
            artefact.sha256[:16],
            note,
        )
    return table
