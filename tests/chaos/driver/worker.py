"""The product's own worker, with a clock that jumps and children that are watched."""

from __future__ import annotations

import sys
from pathlib import Path

from driver.jumping_clock import JumpingClock
from driver.places import Places
from privacy_finetuner.jobs import Jobs
from privacy_finetuner.jobs.stopping import stop_requests
from privacy_finetuner.jobs.telemetry import Telemetry
from privacy_finetuner.jobs.worker import Means, Pauses, Worker
from privacy_runtime import logs
from privacy_runtime.budget_store.homes import home_at
from privacy_runtime.journal import Journal
from privacy_runtime.logs import LogOptions
from privacy_runtime.secret import Secret
from privacy_runtime.world import SystemEntropy

ACCIDENTS = 1000
"""A campaign strikes one job more often than any real one is struck."""


class Sources:
    """One data set and one model, whatever they are called."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def dataset(self, name: str, *, tenant: str) -> Path:
        """The records."""
        return Path(self._places.dataset)

    def model(self, name: str, *, tenant: str) -> str:
        """The model's folder."""
        return self._places.model


def opened(places: Places, *, jobs: str | None = None, ledger: str | None = None) -> Jobs:
    """The queue, at its usual addresses or at others."""
    clock = JumpingClock(places.clock)
    journal = Journal(home_at(ledger or places.ledger), clock=clock)
    return Jobs.open(
        jobs or places.jobs,
        journal,
        runs=Path(places.runs),
        clock=clock,
        entropy=SystemEntropy(),
        lease_s=places.lease_s,
        pool_size=1,
    )


def main(root: Path) -> None:
    places = Places.read(root)
    means = Means(
        sources=Sources(places),
        ledger=places.ledger,
        keys=Path(places.root),
        command=(sys.executable, "-m", "driver.child", str(root)),
        telemetry=Telemetry(),
    )
    pauses = Pauses(idle_s=0.1, delays_s=(0.2,), try_again_s=0.2)
    with (
        logs.install(LogOptions(), secrets=(Secret(places.ledger),), stream=sys.stderr),
        opened(places) as jobs,
        stop_requests(lambda _: None) as stop,
    ):
        Worker(jobs, means, attempts_most=ACCIDENTS, pauses=pauses).run(stop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
