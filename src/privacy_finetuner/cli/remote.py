"""What the commands that talk to a service share: which service, who asks, what is shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, TextIO, TypeAlias

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from privacy_finetuner.cli import output
from privacy_finetuner.client import AsyncClient, Client, ClientError, CredentialsFile
from privacy_finetuner.client.credentials import API_KEY_VARIABLE, default_file
from privacy_finetuner.client.errors import (
    BudgetRefused,
    CredentialsUnsafe,
    InvalidRequest,
    NotFound,
    NotLoggedIn,
    ServiceError,
    TooLarge,
)
from privacy_finetuner.client.shapes.training import Artefact, Job, JobEvent
from privacy_finetuner.errors import ConfigurationError

SERVICE: Final = "Service"
URL_VARIABLE: Final = "PRIVACY_FINETUNER_URL"
PROFILE_VARIABLE: Final = "PRIVACY_FINETUNER_PROFILE"

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(
        envvar=URL_VARIABLE,
        help=f"Address of the service. With {API_KEY_VARIABLE} set, the key is shown to it; "
        "otherwise the profile that was logged in there. Default: the profile's.",
        rich_help_panel=SERVICE,
    ),
]
ProfileName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--profile",
        envvar=PROFILE_VARIABLE,
        help="Which login to use. Default: the first one made.",
        rich_help_panel=SERVICE,
    ),
]

_BAD_INPUT: Final = (CredentialsUnsafe, InvalidRequest, NotFound, NotLoggedIn, TooLarge)
_BUDGET_CODES: Final = frozenset({"budget_exhausted", "privacy_budget_exhausted"})
_LINES: Final = 10


@contextmanager
def failures_reported(as_json: bool) -> Iterator[TextIO]:
    """As `output.failures_reported`, with the exit codes of what a service can refuse.

    Yields the real stdout: inside, `print` goes to stderr.
    """
    stdout = sys.stdout
    with output.failures_reported(as_json):
        try:
            yield stdout
        except ClientError as error:
            with redirect_stdout(stdout):
                code = output.report_failure(
                    visible(error.code),
                    visible(error),
                    exit_code_of(error),
                    as_json=as_json,
                    more=_more(error),
                )
            raise typer.Exit(code) from error


def exit_code_of(error: ClientError) -> output.ExitCode:
    """The exit code that belongs to an error of the client."""
    if isinstance(error, BudgetRefused):
        return output.ExitCode.BUDGET_EXHAUSTED
    return output.ExitCode.BAD_INPUT if isinstance(error, _BAD_INPUT) else output.ExitCode.FAILED


def _more(error: ClientError) -> Mapping[str, Any]:
    if not isinstance(error, ServiceError):
        return {}
    return {"status": error.status, "request_id": error.request_id, "details": list(error.details)}


def opened(url: str | None, profile: str | None) -> Client:
    """A client for the service that was named, with the credentials that there are for it.

    Raises:
        NotLoggedIn: there are none.
    """
    name = _profile(url, profile)
    return Client(url or "") if name is None else Client.from_profile(name)


def opened_async(url: str | None, profile: str | None) -> AsyncClient:
    """As `opened`."""
    name = _profile(url, profile)
    return AsyncClient(url or "") if name is None else AsyncClient.from_profile(name)


def _profile(url: str | None, profile: str | None) -> str | None:
    """Which profile is meant; `None`: the environment's key, for the service at `url`."""
    file = CredentialsFile(default_file(os.environ))
    if url is None:
        return file.load(profile)[0]
    if profile is None and os.environ.get(API_KEY_VARIABLE):
        return None
    found = sorted(name for name, known in file.profiles().items() if known.url == url.rstrip("/"))
    if profile in found:
        return profile
    if profile is None and len(found) == 1:
        return found[0]
    raise NotLoggedIn(
        f"{'which profile is meant for' if found else 'not logged in at'} {url}? use: "
        f"privacy-finetuner login --url {url}, or set {API_KEY_VARIABLE}; nothing was sent"
    )


def visible(text: object) -> str:
    """What others wrote, without what would steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def job_document(job: Job) -> dict[str, Any]:
    """A job as JSON-ready data."""
    return asdict(job)


def exit_code_of_job(job: Job) -> int:
    """What a command that waited for a job ends with."""
    if job.status == "succeeded":
        return 0
    if job.error_code in _BUDGET_CODES:
        return int(output.ExitCode.BUDGET_EXHAUSTED)
    is_cancelled = job.status == "cancelled"
    return int(output.ExitCode.INTERRUPTED if is_cancelled else output.ExitCode.FAILED)


class JobProgress:
    """The course of a job on stderr: a live bar on a terminal, some lines in a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = -1
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("epsilon {task.fields[epsilon]}"),
            TextColumn("{task.fields[figures]}"),
            TextColumn("ETA"),
            TextColumn("{task.fields[eta]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("queued", total=None, epsilon="...", figures="", eta="-")

    def __enter__(self) -> JobProgress:
        """Start to show."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()

    def __call__(self, event: JobEvent) -> None:
        """Show what happened."""
        body = event.body
        match event.kind:
            case "state":
                reason = f" ({body['reason']})" if body.get("reason") else ""
                self._bar.update(self._task, description=visible(body.get("state")))
                self._say(f"{body.get('state')}{reason}")
            case "step":
                self._step(body)
            case "epoch":
                figures = "  ".join(
                    f"{output.words(name)} {output.number(body[name])}"
                    for name in ("loss", "accuracy")
                    if isinstance(body.get(name), float)
                )
                self._bar.update(self._task, figures=figures)
                self._say(f"epoch {body.get('epoch')}  {figures}".rstrip())
            case "artefact":
                self._say(f"file {body.get('name')}")

    def _step(self, body: Mapping[str, Any]) -> None:
        step, steps = int(body.get("step") or 0), int(body.get("steps") or 0)
        epsilon, eta_s = output.number(body.get("epsilon")), body.get("eta_s")
        eta = "-" if eta_s is None else f"{eta_s:.0f} s"
        self._bar.update(self._task, completed=step, total=steps or None, epsilon=epsilon, eta=eta)
        part = step * _LINES // steps if steps else step
        if part > self._shown or step == steps:
            self._shown = part
            self._say(f"step {step}/{steps}  epsilon {epsilon}  ETA {eta}")

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(visible(line), soft_wrap=True, markup=False)


def watched(client: Client, job_id: str, console: Console, *, after: int = 0) -> Job:
    """Show a job until it has ended."""
    with JobProgress(console) as progress:
        for event in client.jobs.watch(job_id, after=after):
            progress(event)
    return client.jobs.get_training(job_id)


def downloaded(
    client: Client, job_id: str, artefacts: list[Artefact], folder: Path, console: Console
) -> list[Path]:
    """Fetch files of a job into a folder, below which each keeps its name."""
    files: list[Path] = []
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        for artefact in artefacts:
            target = place_below(folder, artefact.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            task = bar.add_task(visible(artefact.name), total=artefact.size_bytes)

            def show(done: int, total: int, task: Any = task) -> None:
                bar.update(task, completed=done, total=total)

            files.append(
                client.jobs.download_artefact(job_id, artefact.name, target, progress=show)
            )
    return files


def place_below(folder: Path, name: str) -> Path:
    """Where a file of the service goes. Its name may not lead out of the folder.

    Raises:
        ConfigurationError: it would.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise ConfigurationError(
            f"the service names a file {name!r}, which would lie outside of {folder}; not fetched"
        )
    return folder.joinpath(*parts)
