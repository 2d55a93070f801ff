"""The service, killed with its workers at random moments: no job lost or doubled, ledger exact.

A client submits jobs over HTTP, each with an idempotency key, and repeats whatever was not
answered; meanwhile the server or one of its workers is killed (SIGKILL) again and again.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
import sqlalchemy as sa

from privacy_core.guarantee import Guarantee
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.governance.accounts import scope_of
from privacy_finetuner.jobs import JobState
from privacy_finetuner.service import Service
from privacy_finetuner.training import run_record
from privacy_runtime.budget_store import BudgetStore, Signature, Status
from privacy_runtime.identity import Method, Principal, Role, Scope

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

JOBS, KILLS = 5, 20
PASSWORD = "quince umbrella 47 fjord"  # noqa: S105  opens nothing but this test
PAUSE = threading.Event()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """None for SQLite below the home, or a database of PostgreSQL for this test alone."""
    if request.param == "sqlite":
        yield None
        return
    url = os.environ.get("TEST_DATABASE_URL")
    if url is None:
        pytest.skip("TEST_DATABASE_URL is not set")
    engine = sa.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    name = f"killed_{secrets.token_hex(6)}"
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield urlsplit(url)._replace(path=f"/{name}").geturl()
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@dataclass
class House:
    """A deployment, its server process, and a trainer's key."""

    home: Path
    config: Path
    url: str | None
    port: int
    tenant: str = ""
    key: str = ""
    process: subprocess.Popen[bytes] | None = None
    answers: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settled(self) -> EnvironmentConfig:
        return EnvironmentConfig.from_file(self.config)

    def move_in(self) -> None:
        """Make an organisation, its budget and a trainer with a key, before the server starts."""
        with Service.open(self.settled(), home=self.home) as service:
            self.tenant = service.identity.accounts.create_organisation("clinic")
            operator = Principal(
                subject="u_operator",
                tenant=self.tenant,
                scopes=frozenset(Scope),
                method=Method.PASSWORD_AND_CODE,
                authenticated_at=service.clock.now(),
                session="s_operator",
            )
            _, first = service.identity.accounts.create_user(operator, "tina", Role.TRAINER)
            service.identity.logins.change_password(
                "tina", first.reveal(), PASSWORD, source="127.0.0.1"
            )
            tokens = service.identity.logins.log_in("tina", PASSWORD, source="127.0.0.1")
            issued = service.identity.api_keys.issue(
                tokens.principal, label="test", scopes=[Scope.JOBS_READ, Scope.JOBS_WRITE]
            )
            self.key = issued.text.reveal()
            service.ledger.open_account(
                "open",
                scope_of(self.tenant, "notes/2026"),
                Guarantee(epsilon=100.0, delta=1e-3),
                signature=Signature("A. Officer", "ethics vote 17"),
            )

    def start(self) -> None:
        script = Path(sys.executable).with_name("privacy-finetuner")
        words = ["serve", "--home", str(self.home), "--config", str(self.config)]
        with (self.home.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(script), *words, "--port", str(self.port), "--workers", "1"],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def kill(self) -> str:
        """Kill the server, or one of the processes below it."""
        assert self.process is not None
        below = []
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.process.pid).children(recursive=True)
        victim = self.process.pid
        if below and secrets.randbelow(2):
            victim = secrets.choice(below).pid
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        if victim == self.process.pid:
            self.process.wait()
            self.start()
            return "server"
        return "worker"

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """An answer, or None while nobody answers."""
        headers = {"X-API-Key": self.key, **options.pop("headers", {})}
        try:
            answer = httpx2.request(
                method, f"{self.address}/api/v1{path}", headers=headers, timeout=10, **options
            )
        except httpx2.TransportError:
            return None
        if answer.status_code in (409, 429, 503):  # still at it, or away: repeat
            return None
        assert answer.status_code < 300, answer.text
        return answer.json()

    def submit_one(self) -> None:
        """Submit the next job that has no answer yet, and those before it once more."""
        name = f"submission-{len(self.answers)}"
        body = {
            "model_name": "sample:model",
            "dataset_path": "sample:records",
            "privacy_config": {"epsilon": 4.0, "delta": 1e-4},
            "training_config": {
                "epochs": 2, "batch_size": 80, "learning_rate": "auto", "max_length": 24,
                "save_steps": 3,
            },
            "account": "notes/2026",
        }  # fmt: skip
        answer = self.ask("POST", "/training/start", json=body, headers={"Idempotency-Key": name})
        if answer is not None:
            self.answers[name] = answer["job_id"]

    def are_all_done(self) -> bool:
        answer = self.ask("GET", "/training?limit=100")
        if answer is None or len(self.answers) < JOBS:
            return False
        return all(row["status"] in ("succeeded", "failed", "cancelled")
                   for row in answer["items"])  # fmt: skip


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def test_twenty_kills_of_server_and_workers_lose_nothing(tmp_path: Path, database: Any) -> None:
    config = tmp_path / "config.yaml"
    lines = ["environment: testing"]
    if database is not None:
        lines += ["database:", f"  url: {database}", "  pool_size: 4"]
    config.write_text("\n".join(lines) + "\n")
    house = House(tmp_path / "home", config, database, free_port())
    house.move_in()
    house.start()
    struck: list[str] = []
    try:
        while len(struck) < KILLS or not house.are_all_done():
            if len(house.answers) < JOBS:
                house.submit_one()
            if len(struck) < KILLS:
                PAUSE.wait(secrets.randbelow(9_000) / 1_000)
                struck.append(house.kill())
            else:
                PAUSE.wait(1.0)
    finally:
        assert house.process is not None
        house.process.terminate()
        house.process.wait()

    print(json.dumps({"struck": struck, "answers": house.answers}))  # noqa: T201  the proof
    require_all(house)


def require_all(house: House) -> None:
    """Each key is one job, each job ended with its reason, and the ledger holds each run once.

    A job that lost its worker three times fails, and says so: by chance that may happen here.
    """
    with Service.open(house.settled(), home=house.home) as service:
        jobs = service.jobs.find(house.tenant, limit=100)
        held = {each.key: each for each in _reservations(service.ledger)}
        runs = {job.id: run_record.read_state(service.jobs.folder(job)) for job in jobs}
        service.journal.verify("jobs")

    assert sorted(job.id for job in jobs) == sorted(house.answers.values())
    assert len(jobs) == JOBS
    charged = {id_: run for id_, run in runs.items() if run is not None and run.charged_steps}
    assert {f"training:{run.job_id}" for run in charged.values()} == set(held)
    assert {each.status for each in held.values()} <= {Status.COMMITTED}
    for job in jobs:
        if job.state is JobState.SUCCEEDED:
            only = held[f"training:{charged[job.id].job_id}"]
            assert only.settled == only.charge
            assert job.step == job.steps > 0
        else:
            assert job.state is JobState.FAILED
            assert "3 attempts ended in an accident" in (job.error or "")
    assert any(job.state is JobState.SUCCEEDED for job in jobs)


def _reservations(ledger: BudgetStore) -> list[Any]:
    """What was reserved and not refunded; nothing is open."""
    keys = [f.entry.key for f in ledger.history() if type(f.entry).__name__ == "Reserved"]
    ledger.verify()
    assert ledger.open_reservations() == []
    found = [ledger.reservation(key) for key in keys]
    return [each for each in found if each.status is not Status.REFUNDED]
