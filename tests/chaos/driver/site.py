"""A site under strain: databases, workers as processes, and jobs that never run out."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import psutil
import sqlalchemy as sa

from driver.jumping_clock import JumpingClock
from driver.nursery import Forked, Nursery
from driver.places import Places
from driver.proxy import Proxy
from driver.worker import opened
from privacy_core.guarantee import Guarantee
from privacy_finetuner.jobs import Job, TrainingSpec
from privacy_finetuner.training import run_record
from privacy_finetuner.training.run_record import RunState
from privacy_runtime.append_log import RunRecordDamaged
from privacy_runtime.budget_store import BudgetStore, Signature, protection

TENANT: Final = "o_chaos"
ACCOUNT: Final = protection("notes", "2026")
PASSWORD: Final = "slate-harbour-83-of-the-database"  # noqa: S105  opens nothing
RECORD: Final = "Orla Quennell-Vance of 9 Tarn Lane"
"""Planted in records; nobody of this name is in the sample."""
LEASE_S: Final = 4.0
_OFFICER: Final = Signature("A. Officer", "ethics vote 17")
_HERE: Final = Path(__file__).resolve().parents[1]
_ASSETS: Final = Path(__file__).resolve().parents[3] / "src" / "privacy_finetuner" / "demo/assets"
_RUNS_MB: Final = 160
_PAUSE: Final = threading.Event()
_SHAPES: Final[tuple[tuple[str | None, dict[str, Any]], ...]] = (
    ("notes/2026", {}),
    ("notes/2026", {"lora_rank": 4}),
    (None, {}),
    ("notes/2026", {"save_steps": 2, "keep_checkpoints": 2}),
    (None, {"lora_rank": 2}),
)
"""Account and further keywords, in turn: full and LoRA, one shared account and none."""


def pause(seconds: float) -> None:
    """Let time pass."""
    _PAUSE.wait(seconds)


def children_of(worker: int) -> list[int]:
    """Processes that train for a worker: each leads a session of its own."""
    found = []
    with suppress(psutil.Error):
        for each in psutil.Process(worker).children():
            with suppress(ProcessLookupError):
                if os.getsid(each.pid) == each.pid:
                    found.append(each.pid)
    return found


@dataclass(slots=True)
class Site:
    """One deployment, and what was done to it.

    Args:
        root: an empty folder.
        server: an address of PostgreSQL where databases may be made; `None`: SQLite.
        workers: how many processes work.
        jobs_at_once: how many jobs are live while faults strike.
        nursery: forks the workers; `None`: they are started, as in the product.
        pace_s: how long a run waits before each step, for campaigns that should mostly wait.
        mounted: whether runs lie on a file system of their own, which can be full. Needs root.

    Attributes:
        damaged: checkpoints that were damaged: job, name, entries of the run record by then.
    """

    root: Path
    server: str | None = None
    workers: int = 2
    jobs_at_once: int = 3
    nursery: Nursery | None = None
    pace_s: float = 0.0
    mounted: bool = False
    proxy: Proxy | None = None
    damaged: list[tuple[str, str, int]] = field(default_factory=list)
    _database: str | None = None
    _running: list[subprocess.Popen[bytes] | Forked] = field(default_factory=list)
    _submitted: int = 0
    _places: Places | None = None
    _jobs: Any = None

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self) -> None:
        self._places = self._settle()
        self._places.write()
        self._places.witness.mkdir()
        direct = self._direct()
        self._jobs = opened(self._places, jobs=direct, ledger=self.ledger)
        with BudgetStore.open(self.ledger) as store:
            guarantee = Guarantee(epsilon=10_000.0, delta=1e-2)
            store.open_account("open", ACCOUNT, guarantee, signature=_OFFICER)

    def __exit__(self, *_: object) -> None:
        self.kill_everything()
        if self._jobs is not None:
            self._jobs.store._journal.close()
            self._jobs.close()
        if self.proxy is not None:
            self.proxy.close()
        if self._database is not None:
            self._admin(f"DROP DATABASE {self._database} WITH (FORCE)")
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.root / "runs")], check=False)  # noqa: S607

    @property
    def places(self) -> Places:
        """Where things are."""
        assert self._places is not None
        return self._places

    @property
    def ledger(self) -> str:
        """The ledger, past the proxy."""
        return self._direct() or str(self.root / "journal.db")

    @property
    def clock(self) -> JumpingClock:
        """That of every process here."""
        return JumpingClock(self.places.clock)

    @property
    def jobs(self) -> list[Job]:
        """All of them."""
        found: list[Job] = self._jobs.find(TENANT, limit=1000)
        return found

    def live(self) -> list[Job]:
        """Those that have not ended."""
        return [job for job in self.jobs if not job.state.is_final]

    def folder(self, job: Job | str) -> Path:
        """Of its run."""
        return Path(self.places.runs) / (job if isinstance(job, str) else job.id)

    def story(self, job: Job) -> list[Any]:
        """Its events."""
        return list(self._jobs.events(job.id, tenant=TENANT, limit=1000))

    def artefacts(self, job: Job) -> list[Any]:
        """What it handed over."""
        return list(self._jobs.artefacts(job.id, tenant=TENANT))

    def reset_ledger_time(self) -> None:
        """What an officer does once a clock that ran ahead was put right."""
        with BudgetStore.open(self.ledger, clock=self.clock) as store:
            store.reset_clock(f"clock {secrets.token_hex(8)}", signature=_OFFICER)

    def verify_journal(self) -> None:
        """Walk the chain of the jobs' stream."""
        self._jobs.store._journal.verify("jobs")

    def record(self, job: Job | str) -> RunState | None:
        """What its run record says just now."""
        with suppress(RunRecordDamaged):
            return run_record.read_state(self.folder(job))
        return None

    def witnessed(self, job: Job | str) -> list[dict[str, Any]]:
        """What its children did, by their own words."""
        path = self.places.witness / f"{job if isinstance(job, str) else job.id}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    def steps(self) -> int:
        """Steps that really ran, of all jobs."""
        return sum(path.read_text().count('"step"') for path in self.places.witness.glob("*.jsonl"))

    def lost_steps(self) -> int:
        """Steps that were charged and are in no model, of all jobs."""
        lost = 0
        for path in Path(self.places.runs).glob("*/run.jsonl"):
            for line in path.read_text().splitlines():
                with suppress(ValueError):
                    entry = json.loads(line)
                    if entry["type"] == "resumed":
                        lost += entry["body"]["charged"] - entry["body"]["from_step"]
        return lost

    def top_up(self) -> None:
        """Submit until enough jobs are live."""
        for _ in range(self.jobs_at_once - len(self.live())):
            account, more = _SHAPES[self._submitted % len(_SHAPES)]
            spec = TrainingSpec(
                model="sample:model",
                dataset="sample:records",
                privacy={"epsilon": 4, "delta": 1e-4},
                training={
                    "epochs": 3 + self._submitted % 3, "batch_size": 40, "learning_rate": "auto",
                    "max_length": 24, "save_steps": 4, **more,
                },
                account=account,
            )  # fmt: skip
            name = f"job {self._submitted}"
            for _ in range(2):  # the second time changes nothing
                self._jobs.submit(spec, tenant=TENANT, owner="u_ada", name=name, key=name)
            self._submitted += 1

    @property
    def submitted(self) -> int:
        """How many jobs there must be."""
        return self._submitted

    def keep(self) -> list[subprocess.Popen[bytes] | Forked]:
        """Start workers in the place of those that ended; returns all."""
        self._running = [each for each in self._running if each.poll() is None]
        while len(self._running) < self.workers:
            started = self._started() if self.nursery is None else self.nursery.worker(self.root)
            self._running.append(started)
        return self._running

    def _started(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, (str(_HERE), os.environ.get("PYTHONPATH"))))
        with (self.root / "workers.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "driver.worker", str(self.root)],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            )

    def stop(self) -> None:
        """Ask all workers to stop, and wait for them."""
        for worker in self._running:
            worker.terminate()
        for worker in self._running:
            worker.wait()
        self._running = []

    def children(self) -> list[int]:
        """Processes that train, or are about to."""
        return [each for worker in self._running for each in children_of(worker.pid)]

    def kill_everything(self) -> None:
        """SIGKILL to all workers and children; returns when they are gone."""
        children = self.children()
        for worker in self._running:
            worker.kill()
        for each in children:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        for worker in self._running:
            worker.wait()
        self.wait(lambda: not any(psutil.pid_exists(each) for each in children), within_s=10)

    def wait(self, until: Callable[[], object], *, within_s: float) -> bool:
        """Wait for something; returns whether it came. Workers are kept meanwhile."""
        clock, start = self.clock, self.clock.monotonic_s()
        while not until():
            if clock.monotonic_s() - start >= within_s:
                return False
            pause(0.05)
        return True

    def _settle(self) -> Places:
        runs = self.root / "runs"
        runs.mkdir(mode=0o700)
        if self.mounted:
            size = f"size={_RUNS_MB}m,mode=0700"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(runs)], check=True)  # noqa: S607
        dataset = self.root / "records.jsonl"
        lines = (_ASSETS / "heldout.jsonl").read_text().splitlines()
        for number, line in enumerate(lines[::10]):
            record = json.loads(line)
            record["text"] = f"{RECORD}, case {number}. {record['text']}"
            lines[number * 10] = json.dumps(record)
        dataset.write_text("\n".join(lines) + "\n")
        model = self.root / "model"
        shutil.copytree(_ASSETS / "model", model)
        jobs, ledger = str(self.root / "jobs.db"), str(self.root / "journal.db")
        if self.server is not None:
            jobs = ledger = self._make_database()
        return Places(
            root=str(self.root), runs=str(runs), jobs=jobs, ledger=ledger, dataset=str(dataset),
            model=str(model), lease_s=LEASE_S, pace_s=self.pace_s,
        )  # fmt: skip

    def _make_database(self) -> str:
        """A database behind a proxy; its address has a password that nothing may repeat."""
        parts = urlsplit(self.server)
        self._database = f"chaos_{secrets.token_hex(6)}"
        self._admin(f"CREATE DATABASE {self._database}")
        assert isinstance(parts.hostname, str)
        self.proxy = Proxy(parts.hostname, parts.port or 5432)
        user = parts.username or "postgres"
        return f"postgresql://{user}:{PASSWORD}@127.0.0.1:{self.proxy.port}/{self._database}"

    def _direct(self) -> str | None:
        if self._database is None:
            return None
        return urlsplit(self.server)._replace(path=f"/{self._database}").geturl()  # type: ignore[return-value]  # the server is an address here

    def _admin(self, statement: str) -> None:
        assert self.server is not None
        url = self.server.replace("postgresql://", "postgresql+psycopg://")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
        engine.dispose()
