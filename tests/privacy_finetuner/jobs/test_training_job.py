"""Real training of the shipped sample: succeeded, cancelled, refused, killed at random moments."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from privacy_finetuner.assessment import certificate_check
from privacy_finetuner.jobs import FINAL, Job, JobState
from privacy_finetuner.jobs.folder import CERTIFICATE_FILE
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.training import run_record
from privacy_finetuner.training.loop import _RESERVED_AHEAD
from privacy_runtime.append_log import read_log
from privacy_runtime.budget_store import BudgetStore, Status
from privacy_runtime.signing import SigningKey, TrustedKeys

pytestmark = pytest.mark.timeout(1500)

WORKER = """
import sys
sys.path[:0] = [{folder!r}]
from pathlib import Path
from privacy_finetuner.jobs.stopping import stop_requests
from privacy_runtime.world import SystemClock
import conftest_of_jobs as conftest
yard = conftest.Yard(Path({folder!r}), {where!r}, SystemClock())
yard.lease_s = yard.jobs.lease_s = {lease_s}
with stop_requests(lambda _: None) as stop:
    yard.worker(attempts_most=1000, pauses=conftest.QUICK).run(stop)
yard.close()
"""
LEASE_S = 2.0
PACE = threading.Event()


def spec(yard: Any, *, epochs: float, **training: Any) -> Any:
    return yard.spec(
        privacy={"epsilon": 8, "delta": 1e-4},
        training={
            "epochs": epochs, "batch_size": 40, "learning_rate": "auto", "max_length": 24,
            "save_steps": 3, **training,
        },
        account="notes/2026",
    )  # fmt: skip


def start(yard: Any) -> subprocess.Popen[bytes]:
    """A worker in a process of its own."""
    link = yard.folder / "conftest_of_jobs.py"
    if not link.exists():
        link.symlink_to(Path(__file__).parent / "conftest.py")
    where = None if yard.jobs.store.database.is_sqlite else yard.url
    code = WORKER.format(folder=str(yard.folder), where=where, lease_s=LEASE_S)
    return subprocess.Popen([sys.executable, "-c", code])


def reservations(yard: Any) -> list[Any]:
    """All that the ledger ever held, in order."""
    with BudgetStore.open(yard.ledger) as store:
        keys = [f.entry.key for f in store.history() if type(f.entry).__name__ == "Reserved"]
        store.verify()
        return [store.reservation(key) for key in keys]


def require_exact(yard: Any, job: Job) -> None:
    """The ledger says of the job's run what its record says, and nothing is open."""
    folder = yard.jobs.folder(job)
    state = run_record.read_state(folder)
    held = [each for each in reservations(yard) if each.status is not Status.REFUNDED]
    with BudgetStore.open(yard.ledger) as store:
        assert store.open_reservations() == []
    if state is None or not state.charged_steps:
        assert held == []
        assert job.epsilon == 0.0
        return
    (only,) = held
    assert only.key == f"training:{state.job_id}"
    assert only.status is Status.COMMITTED
    assert only.settled.basic == only.charge.basic
    assert job.step == state.charged_steps
    if state.charged_steps == job.steps:
        assert only.settled == only.charge
    assert job.epsilon == job.epsilon_planned > 0


def require_steps_once(yard: Any, job: Job) -> int:
    """No step that a checkpoint holds ran again; returns how many were lost to deaths.

    Between a death and the next attempt at most one group of steps is charged and did not run.
    """
    lost, reached, settled = 0, 0, 0
    for entry in read_log(yard.jobs.folder(job) / run_record.FILE_NAME):
        body = entry.body
        if entry.type == "reserved":
            assert reached < body["until"] <= max(reached, settled) + _RESERVED_AHEAD
            reached = body["until"]
        elif entry.type == "settled":
            settled = body["steps"]
            reached = settled
        elif entry.type == "resumed":
            assert body["charged"] == reached  # goes on after everything that was charged
            assert body["from_step"] <= body["charged"]
            lost += body["charged"] - body["from_step"]
            settled = body["charged"]
    return lost


def require_story(yard: Any, job: Job) -> None:
    """Numbered from 1; the states follow each other; one end; no exact figure but in EXACT."""
    story = yard.story(job)
    assert [event.seq for event in story] == list(range(1, len(story) + 1))
    states = [state for state, _ in yard.states(job)]
    assert states[0] == "queued"
    assert sum(JobState(state) in FINAL for state in states) == 1
    assert JobState(states[-1]) in FINAL
    epochs = [event.body["epoch"] for event in story if event.kind is EventKind.EPOCH]
    assert epochs == sorted(set(epochs))
    told = " ".join(json.dumps(e.body) for e in story if e.kind is not EventKind.EXACT)
    for word in ("truncated", "unsupervised", "duration_s"):
        assert word not in told


def child_of(worker: int) -> int | None:
    with suppress(psutil.NoSuchProcess):
        return next((each.pid for each in psutil.Process(worker).children()), None)
    return None


def drive_with_kills(yard: Any, job: Job, kills: int) -> list[str]:
    """Run workers until the job has ended, killing a worker or a child at random moments.

    Half of the moments are drawn from the start of an attempt on, half from its first step on, so
    that loading, steps, saves and the end are all hit.
    """
    chance = secrets.SystemRandom()
    struck: list[str] = []
    worker = start(yard)
    try:
        while not yard.job(job).state.is_final:
            if worker.poll() is not None:
                worker = start(yard)
            if len(struck) >= kills:
                PACE.wait(0.1)
                continue
            if chance.random() < 0.5:
                PACE.wait(chance.uniform(0.2, 9.0))
            else:
                _wait_for_steps(yard, job, worker)
                PACE.wait(chance.uniform(0.0, 1.5))
            victim = child_of(worker.pid) if chance.random() < 0.5 else worker.pid
            if victim is not None:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    struck.append("worker" if victim == worker.pid else "child")
    finally:
        worker.terminate()
        worker.wait()
    return struck


def _wait_for_steps(yard: Any, job: Job, worker: subprocess.Popen[bytes]) -> None:
    """Wait until an attempt has told a step, or has ended."""
    before = yard.job(job)
    while worker.poll() is None:
        now = yard.job(job)
        if now.state.is_final or now.step > before.step or now.attempts > before.attempts + 1:
            return
        PACE.wait(0.05)


def endure(yard: Any, kills: int, epochs: float) -> dict[str, Any]:
    """One job, killed so often; everything about it is checked."""
    yard.open_account()
    job = yard.submit(spec=spec(yard, epochs=epochs))
    struck = drive_with_kills(yard, job, kills)
    ended = yard.job(job)
    assert ended.state is JobState.SUCCEEDED, (ended.error_code, ended.error)
    require_exact(yard, ended)
    require_story(yard, ended)
    lost = require_steps_once(yard, ended)
    assert lost <= _RESERVED_AHEAD * len(struck)
    names = {each.name for each in yard.jobs.artefacts(job.id, tenant=yard.tenant)}
    assert {"model.safetensors", "report.html", "certificate.json", "run.jsonl"} <= names
    return {"kills": struck, "attempts": ended.attempts, "steps": ended.steps, "lost": lost}


def test_a_job_survives_kills_and_is_charged_exactly(live_yard: Any) -> None:
    figures = endure(live_yard, kills=3, epochs=3)
    assert len(figures["kills"]) <= 3
    ended = live_yard.jobs.find(live_yard.tenant)[0]
    folder = live_yard.jobs.folder(ended)
    key = SigningKey.load(live_yard.folder / "signing-key.pem")
    found = certificate_check.verify(
        (folder / CERTIFICATE_FILE).read_bytes(),
        trusted=TrustedKeys([key.public]),
        now=live_yard.clock.now(),
        run=folder,
    )
    assert found.trusted is not None
    assert found.certificate.document["guarantee"]["epsilon"] == ended.epsilon
    assert not (folder / ".resume").exists()
    last_step = [e.body for e in live_yard.story(ended) if e.kind is EventKind.STEP][-1:]
    assert all(body["epsilon"] <= ended.epsilon for body in last_step)


@pytest.mark.slow
def test_a_job_survives_twenty_kills(live_yards: Any) -> None:
    figures = endure(live_yards, kills=20, epochs=20)
    print(json.dumps(figures))  # noqa: T201 -- the figures of the proof


def test_a_cancelled_job_is_stopped_at_a_step_and_settled(live_yard: Any) -> None:
    live_yard.open_account()
    job = live_yard.submit(spec=spec(live_yard, epochs=500))
    worker = start(live_yard)
    try:
        while live_yard.job(job).step < 2:
            assert worker.poll() is None
            assert live_yard.job(job).state not in FINAL
            PACE.wait(0.05)
        child = child_of(worker.pid)
        live_yard.jobs.cancel(job.id, tenant=live_yard.tenant, by="u")
        while live_yard.job(job).state not in FINAL:
            PACE.wait(0.02)
        assert child is not None
        assert not psutil.pid_exists(child)
    finally:
        worker.terminate()
        worker.wait()
    ended = live_yard.job(job)
    assert ended.state is JobState.CANCELLED
    assert 2 <= ended.step < ended.steps
    require_exact(live_yard, ended)
    require_story(live_yard, ended)
    assert live_yard.balance().epsilon_remaining < 8.0
    assert not (live_yard.jobs.folder(job) / ".resume").exists()


def test_a_job_that_the_budget_refuses_spends_nothing(live_yard: Any) -> None:
    live_yard.open_account(epsilon=0.5)
    job = live_yard.submit(spec=spec(live_yard, epochs=1))
    live_yard.worker().run(threading.Event(), until_idle=True)
    ended = live_yard.job(job)
    assert (ended.state, ended.error_code) == (JobState.FAILED, "budget_exhausted")
    assert "nothing was spent" in (ended.error or "")
    assert str(live_yard.folder) not in (ended.error or "")
    assert (ended.epsilon, ended.step) == (0.0, 0)
    assert live_yard.balance().epsilon_remaining == 0.5
    assert reservations(live_yard) == []
