"""`worker`: one worker of the service, in the foreground."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from privacy_finetuner.cli import output
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.jobs import Jobs
from privacy_finetuner.jobs.stopping import stop_requests
from privacy_finetuner.jobs.worker import Means, Worker
from privacy_finetuner.operations.trail import AuditTrail
from privacy_finetuner.service import Deployment, Homes, artefacts_at, catalogue_of
from privacy_finetuner.service.retention import Retention
from privacy_finetuner.service.telemetry import observed, telemetry_of
from privacy_runtime import logs
from privacy_runtime.budget_store.homes import home_at
from privacy_runtime.journal import Journal
from privacy_runtime.world import SystemClock, SystemEntropy

_log = logs.logger(__name__)
DEFAULT_HOME: Final = Path("privacy-finetuner-home")
EPILOG: Final = (
    "Example: privacy-finetuner worker --home ./privacy-finetuner-home --config production.yaml\n\n"
    "Ctrl-C or SIGTERM stops it in order: the job at hand is saved at the next step and goes back "
    "into the queue. Stopped at once (kill -9), its job is taken over when the lease has ended."
)
_MODULE: Final = ("-m", "privacy_finetuner.cli.worker")  # without the other commands: a second less


def worker(
    *,
    home: Annotated[
        Path, typer.Option(help="The folder of the deployment, as `serve` has it.")
    ] = DEFAULT_HOME,
    config: Annotated[
        Path | None, typer.Option(help="The configuration, as `serve` has it. Default: none.")
    ] = None,
    allow_data: Annotated[
        list[Path] | None, typer.Option(help="A further folder that jobs may name records of.")
    ] = None,
    allow_models: Annotated[
        list[Path] | None, typer.Option(help="A further folder that jobs may name models of.")
    ] = None,
    allow_hub: Annotated[
        list[str] | None, typer.Option(help="A model that may be loaded from a hub, by its name.")
    ] = None,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Work on what waits, then end.")
    ] = False,
    supervised: Annotated[
        bool,
        typer.Option("--supervised", hidden=True, help="Stop when standard input ends."),
    ] = False,
) -> None:
    """Work on training jobs: claim one, train it in a process of its own, settle the ledger.

    The server starts workers of its own; run more of them on any machine that reaches the same
    database and the same folder of runs (or, with `artefacts.store`, a folder of its own and the
    same store). Workers load no configuration from the server: give them
    the same `--home` and `--config`. What they do is logged to standard error, as the server does.
    """
    deployment = Deployment(
        datasets=tuple(path.absolute() for path in allow_data or ()),
        models=tuple(path.absolute() for path in allow_models or ()),
        hub_models=frozenset(allow_hub or ()),
    )
    with output.failures_reported(as_json=False), ExitStack() as closing:
        settled = (
            EnvironmentConfig.from_env() if config is None else EnvironmentConfig.from_file(config)
        )
        closing.enter_context(observed(settled))
        jobs, means = _opened(home, settled, deployment, closing)
        one = Worker(jobs, means)
        _log.info("a worker waits for jobs", worker=one.id, process=os.getpid())
        pipe = sys.stdin.fileno() if supervised else None
        with stop_requests(lambda word: _stopping(one.id, word), supervisor=pipe) as stop:
            one.run(stop, until_idle=until_idle)
        _log.info("a worker has stopped", worker=one.id)


def command(
    home: Path,
    config: Path | None = None,
    *,
    allow_data: Sequence[Path] = (),
    allow_models: Sequence[Path] = (),
    allow_hub: Sequence[str] = (),
) -> list[str]:
    """The command of a worker that ends with the process that started it: for `WorkerPool`."""
    words = [sys.executable, *_MODULE, "--supervised", "--home", str(home)]
    if config is not None:
        words += ["--config", str(config)]
    for flag, values in (
        ("--allow-data", allow_data),
        ("--allow-models", allow_models),
        ("--allow-hub", allow_hub),
    ):
        for value in values:
            words += [flag, str(value)]
    return words


def _opened(
    home: Path, config: EnvironmentConfig, deployment: Deployment, closing: ExitStack
) -> tuple[Jobs, Means]:
    """The queue and the means of a deployment; identity stays closed: a worker logs nobody in."""
    homes = Homes.of(config, home)
    homes.make()
    clock = SystemClock()
    journal = Journal(home_at(homes.journal.reveal()), clock=clock)
    closing.callback(journal.close)
    jobs = Jobs.open(
        homes.jobs.reveal(),
        journal,
        runs=homes.runs,
        artefacts=artefacts_at(config),
        clock=clock,
        entropy=SystemEntropy(),
        pool_size=1,
    )
    closing.callback(jobs.close)
    means = Means(
        sources=catalogue_of(homes, deployment, jobs, journal),
        ledger=homes.journal.reveal(),
        keys=homes.root,
        telemetry=telemetry_of(config),
        upkeep=_upkeep(config, jobs, journal),
    )
    return jobs, means


def _upkeep(config: EnvironmentConfig, jobs: Jobs, journal: Journal) -> Callable[[], object] | None:
    """Old runs of this folder of runs go, for it may be no server's; servers see to the store."""
    days = config.retention.runs_days
    if days is None:
        return None
    world: dict[str, Any] = {"clock": SystemClock(), "entropy": SystemEntropy()}
    old = Retention(jobs, AuditTrail(journal), days=days, **world)
    return lambda: old.look(here_only=True)


def _stopping(worker: str, word: str) -> None:
    _log.info(
        "a worker is asked to stop; a job at hand is saved and goes back into the queue",
        worker=worker,
        signal=word,
    )


if __name__ == "__main__":
    typer.run(worker)
