"""Jobs over a SQLite file and over a PostgreSQL schema, with children that train nothing."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from privacy_core.guarantee import Guarantee
from privacy_finetuner.jobs import Job, JobEvent, Jobs, TrainingSpec
from privacy_finetuner.jobs.leases import Leases
from privacy_finetuner.jobs.worker import Means, Pauses, Worker
from privacy_runtime.blobs import BlobStore
from privacy_runtime.budget_store import BudgetStore, ScopeState, Signature, protection
from privacy_runtime.budget_store.homes import home_at
from privacy_runtime.journal import Home, Journal
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import Clock, SystemClock, SystemEntropy

ASSETS = Path(__file__).resolve().parents[3] / "src" / "privacy_finetuner" / "demo" / "assets"
BLOCK = protection("notes", "2026")
QUICK = Pauses(idle_s=0.05, delays_s=(0.0,), try_again_s=0.1)

PREAMBLE = """
import json, os, signal, subprocess, sys, time
task = json.loads(sys.stdin.readline())
def tell(kind, **body):
    print(json.dumps({"kind": kind, "body": body}), flush=True)
def end(how="done", **more):
    tell("end", how=how, **more)
    sys.exit(0 if how == "done" else 1)
"""


class Sources:
    """Every name is a file of the sample, but `gone`."""

    def dataset(self, name: str, *, tenant: str) -> Path:
        """The held-out notes: a tenth of the records."""
        from privacy_finetuner.errors import DatasetError

        if name == "gone":
            raise DatasetError("there is no such data set; nothing was started")
        return ASSETS / "heldout.jsonl"

    def model(self, name: str, *, tenant: str) -> str:
        """The sample's model."""
        return str(ASSETS / "model")


class Yard:
    """One deployment: jobs, journal and ledger in one place, and what workers need."""

    tenant, owner, block = "o_one", "u_ada", BLOCK

    def __init__(self, folder: Path, where: str | None, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.url = where or str(folder / "jobs.db")
        self.ledger = where or str(folder / "journal.db")
        self.lease_s = 30.0
        self._opened: list[Jobs] = []
        self.jobs = self.opened()

    def opened(
        self, journal: Home | None = None, *, runs: str = "runs", store: BlobStore | None = None
    ) -> Jobs:
        """What one process would open; another folder of runs is another machine's."""
        jobs = Jobs.open(
            self.url,
            Journal(journal or home_at(self.ledger), clock=self.clock, retry_s=1.0),
            runs=self.folder / runs,
            artefacts=store,
            clock=self.clock,
            entropy=SystemEntropy(),
            lease_s=self.lease_s,
        )
        self._opened.append(jobs)
        return jobs

    def close(self) -> None:
        """Let go of everything."""
        for jobs in self._opened:
            jobs.store._journal.home.disconnect()
            jobs.close()

    def spec(self, **changes: Any) -> TrainingSpec:
        """A small specification."""
        given: dict[str, Any] = {
            "model": "sample:model",
            "dataset": "sample:records",
            "privacy": {"epsilon": 8, "delta": 1e-4},
            "training": {"epochs": 1, "batch_size": 64},
        }
        return TrainingSpec(**(given | changes))

    def submit(self, name: str = "a job", *, tenant: str | None = None, **more: Any) -> Job:
        """Queue one."""
        spec = more.pop("spec", None) or self.spec()
        return self.jobs.submit(
            spec, tenant=tenant or self.tenant, owner=self.owner, name=name, **more
        )

    def job(self, job: Job | str) -> Job:
        """A job as it stands."""
        return self.jobs.get(job if isinstance(job, str) else job.id, tenant=self.tenant)

    def story(self, job: Job | str) -> list[JobEvent]:
        """All its events."""
        return self.jobs.events(
            job if isinstance(job, str) else job.id, tenant=self.tenant, limit=1000
        )

    def states(self, job: Job | str) -> list[tuple[str, str | None]]:
        """Its states, each with its reason or code."""
        bodies = [event.body for event in self.story(job) if event.kind == "state"]
        return [(body["state"], body.get("reason") or body.get("code")) for body in bodies]

    def leases(self, **more: Any) -> Leases:
        """What a worker holds jobs by."""
        return Leases(self.jobs.store, lease_s=self.lease_s, **more)

    def script(self, body: str) -> tuple[str, ...]:
        """The command of a child that follows the protocol and trains nothing."""
        path = self.folder / f"child-{uuid.uuid4().hex[:8]}.py"
        path.write_text(PREAMBLE + textwrap.dedent(body))
        return (sys.executable, "-S", "-E", str(path))

    def worker(
        self, command: tuple[str, ...] | None = None, *, jobs: Jobs | None = None, **more: Any
    ) -> Worker:
        """A worker in this process."""
        means: dict[str, Any] = {"command": command} if command else {}
        return Worker(
            jobs or self.jobs,
            Means(
                sources=Sources(),
                ledger=self.ledger,
                keys=self.folder,
                **means,
            ),
            **more,
        )

    def work(self, body: str, **more: Any) -> None:
        """Let one worker work on what waits, with children of this script."""
        self.worker(self.script(body), **more).run(threading.Event(), until_idle=True)

    def open_account(self, epsilon: float = 8.0) -> None:
        """Open the account of the records."""
        with BudgetStore.open(self.ledger, clock=self.clock) as store:
            store.open_account(
                "open",
                BLOCK,
                Guarantee(epsilon=epsilon, delta=1e-3),
                signature=Signature("A. Officer", "ethics vote 17"),
            )

    def balance(self) -> ScopeState:
        """The account as it stands."""
        with BudgetStore.open(self.ledger, clock=self.clock) as store:
            return store.balance(BLOCK)

    def journalled(self) -> list[tuple[str, dict[str, Any]]]:
        """Types and bodies of the journal's stream `jobs`."""
        journal = Journal(home_at(self.ledger), clock=self.clock)
        try:
            return [(entry.type, dict(entry.body)) for entry in journal.read("jobs")]
        finally:
            journal.home.disconnect()


def schema_url() -> tuple[str, Callable[[], None]]:
    """A PostgreSQL schema of the caller's own, and how to drop it."""
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip("no PostgreSQL: set TEST_DATABASE_URL")
    schema = f"jobs_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {schema}"))

    def drop() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()

    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}", drop


@pytest.fixture
def postgres_schema() -> Iterator[str]:
    """An empty schema."""
    url, drop = schema_url()
    yield url
    drop()


def _yard(kind: str, clock: Clock, tmp_path: Path) -> Iterator[Yard]:
    where, drop = (None, None) if kind == "sqlite" else schema_url()
    yard = Yard(tmp_path, where, clock)
    yield yard
    yard.close()
    if drop is not None:
        drop()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgres"])
def yard(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Iterator[Yard]:
    """A deployment on each kind of database, in a time that stands still."""
    yield from _yard(request.param, clock, tmp_path)


@pytest.fixture
def small_yard(clock: ManualClock, tmp_path: Path) -> Iterator[Yard]:
    """A deployment on SQLite, where the kind of database does not matter."""
    yield from _yard("sqlite", clock, tmp_path)


@pytest.fixture
def live_yard(tmp_path: Path) -> Iterator[Yard]:
    """A deployment on SQLite, in real time: for processes."""
    yield from _yard("sqlite", SystemClock(), tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def live_yards(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    """A deployment on each kind of database, in real time."""
    yield from _yard(request.param, SystemClock(), tmp_path)


def lines_of(path: Path) -> list[Any]:
    """The JSON lines of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
