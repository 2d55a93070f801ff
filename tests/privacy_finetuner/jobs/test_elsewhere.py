"""Real training on a machine with a folder of runs of its own: the others have what it left."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.jobs.test_training_job import (
    require_exact,
    require_steps_once,
    reservations,
    spec,
)

from privacy_finetuner.api.results import report_of
from privacy_finetuner.jobs import JobState, Left, UnknownJob
from privacy_finetuner.jobs.worker import Pauses
from privacy_runtime.blobs import FolderStore

pytestmark = pytest.mark.timeout(600)
AWAY = Pauses(idle_s=0.05, delays_s=(0.5,))


def test_a_finished_run_waits_for_its_store_and_others_begin_from_its_model(live_yard: Any) -> None:
    live_yard.open_account(epsilon=20.0)
    store = FolderStore(live_yard.folder / "store")
    store.root.write_text("a file where the folder should be: the store is away")
    there = live_yard.opened(runs="there", store=store)
    job = live_yard.submit(spec=spec(live_yard, epochs=1))

    live_yard.worker(jobs=there, pauses=AWAY).run(threading.Event(), until_idle=True)
    waiting = live_yard.job(job)
    assert (waiting.state, waiting.step) == (JobState.QUEUED, waiting.steps)
    assert live_yard.jobs.artefacts(job.id, tenant=live_yard.tenant) == []
    store.root.unlink()
    threading.Event().wait(AWAY.delays_s[0])
    live_yard.worker(jobs=live_yard.opened(runs="other", store=store)).run(
        threading.Event(), until_idle=True
    )
    assert live_yard.job(job).state is JobState.QUEUED  # no other machine trains it again
    live_yard.worker(jobs=there).run(threading.Event(), until_idle=True)

    ended = live_yard.job(job)
    live_yard.jobs = there
    assert live_yard.states(job) == [
        ("queued", "submitted"), ("running", None), ("queued", "artefacts_unavailable"),
        ("running", None), ("succeeded", None),
    ]  # fmt: skip
    require_exact(live_yard, ended)
    assert require_steps_once(live_yard, ended) == 0
    left = there.artefacts(job.id, tenant=live_yard.tenant)
    assert sorted(f"{live_yard.tenant}/{job.id}/{each.name}" for each in left) == store.names()

    shutil.move(live_yard.folder / "there", live_yard.folder / "gone")
    server = live_yard.opened(runs="server", store=store)
    _require_served(server, ended, live_yard.folder)
    second = live_yard.submit(spec=live_yard.spec(
        model=f"job:{job.id}", training=spec(live_yard, epochs=1).training, account="notes/2026"
    ))  # fmt: skip
    live_yard.worker(jobs=server).run(threading.Event(), until_idle=True)
    begun = live_yard.job(second)
    assert begun.state is JobState.SUCCEEDED, (begun.error_code, begun.error)
    assert len(reservations(live_yard)) == 2


def _require_served(server: Any, job: Any, folder: Path) -> None:
    """Every file, the report and the model come from the store; nobody else sees them."""
    for each in server.artefacts(job.id, tenant=job.tenant):
        path = server.artefact_path(job.id, each.name, tenant=job.tenant)
        assert path.is_relative_to(folder / "server")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == each.sha256
        with pytest.raises(UnknownJob):
            server.artefact_path(job.id, each.name, tenant="o_two")
    left = Left(jobs=server)
    report = report_of(left.papers(job), job)
    assert report["theoretical_guarantees"]["epsilon_theoretical"] == job.epsilon
    model = left.model(f"job:{job.id}", tenant=job.tenant)
    assert model is not None
    assert (model / "model.safetensors").is_file()
    assert left.model(f"job:{job.id}", tenant="o_two") is None
