"""Old runs lose their weights and keep their proofs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import sqlalchemy as sa

from privacy_finetuner.jobs import Artefact, Jobs, TrainingSpec
from privacy_finetuner.jobs.folder import artefacts_in, locked
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.jobs.schema import JOBS
from privacy_finetuner.jobs.store import to_us
from privacy_finetuner.operations.trail import STREAM, AuditTrail
from privacy_finetuner.service.retention import Retention
from privacy_runtime.blobs import FolderStore
from privacy_runtime.testing import ManualClock, MemoryJournal
from privacy_runtime.world import SystemEntropy

DAY = 86_400
PROOFS = {"certificate.json", "report.html", "run.jsonl", "privacy_report.json"}
REST = {"model.safetensors", "job.log", "audit_scores.json"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def journal(clock: ManualClock) -> MemoryJournal:
    return MemoryJournal(clock)


@pytest.fixture
def jobs(tmp_path: Path, clock: ManualClock, journal: MemoryJournal) -> Iterator[Jobs]:
    with Jobs.open(tmp_path / "jobs.db", journal, runs=tmp_path / "runs", clock=clock) as opened:
        yield opened


@pytest.fixture
def retention(jobs: Jobs, clock: ManualClock, journal: MemoryJournal) -> Retention:
    return Retention(jobs, AuditTrail(journal), days=30, clock=clock, entropy=SystemEntropy())


def submit(jobs: Jobs, model: str = "sample:model") -> str:
    spec = TrainingSpec(
        model=model, dataset="sample:records", privacy={"epsilon": 8.0, "delta": 1e-5}
    )
    return jobs.submit(spec, tenant="o_1", owner="u_1", name="a job").id


def ended(jobs: Jobs, state: str = "succeeded") -> str:
    job = submit(jobs)
    folder = jobs.folder(job)
    (folder / "checkpoint-3").mkdir(parents=True)
    for name in (*PROOFS, *REST, "checkpoint-3/weights"):
        (folder / name).write_text("x" * 10)

    def end(work: object) -> None:
        values = {"state": state, "finished_us": to_us(jobs.store.clock.now())}
        work.run(sa.update(JOBS).where(JOBS.c.id == job).values(**values))  # type: ignore[attr-defined]

    jobs.store.change(end)
    return job


def told(jobs: Jobs, job: str) -> list[Artefact]:
    """Say what the job left, as its worker does."""
    found = artefacts_in(jobs.folder(job))
    lines = [(EventKind.ARTEFACT, asdict(each)) for each in found]
    jobs.store.change(
        lambda work: work.tell(
            job, work.update(job, lines=len(lines)), [(*line, work.now_us) for line in lines]
        )
    )
    return found


def names(jobs: Jobs, job: str) -> set[str]:
    return {path.name for path in jobs.folder(job).iterdir()} - {".job.lock"}


def test_weights_go_and_proofs_stay(
    jobs: Jobs, clock: ManualClock, retention: Retention, journal: MemoryJournal
) -> None:
    old = ended(jobs)
    clock.advance(20 * DAY)
    young, running = ended(jobs, "failed"), submit(jobs)
    clock.advance(11 * DAY)

    (removed,) = retention.look()

    assert (removed.job, removed.entries, removed.size_bytes) == (old, 4, 40)
    assert names(jobs, old) == PROOFS
    assert names(jobs, young) == PROOFS | REST | {"checkpoint-3"}
    assert not jobs.folder(running).exists()
    assert retention.look() == []
    (entry,) = [e for e in journal.read(STREAM) if e.type == "retention.run_emptied"]
    assert (entry.body["job"], entry.body["entries"]) == (old, 4)


def test_a_model_that_others_start_from_is_kept_for_now(
    jobs: Jobs, clock: ManualClock, retention: Retention
) -> None:
    old = ended(jobs)
    clock.advance(31 * DAY)
    user = submit(jobs, f"job:{old}")

    assert retention.look() == []
    jobs.cancel(user, tenant="o_1", by="u_1")
    assert [each.job for each in retention.look()] == [old]


def test_a_folder_that_somebody_works_in_waits(
    jobs: Jobs, clock: ManualClock, retention: Retention
) -> None:
    old = ended(jobs)
    clock.advance(31 * DAY)

    with locked(jobs.folder(old), clock=clock):
        assert retention.look() == []
    assert [each.job for each in retention.look()] == [old]


def test_links_are_removed_and_not_followed(
    jobs: Jobs, clock: ManualClock, retention: Retention, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("x")
    old = ended(jobs)
    (jobs.folder(old) / "out").symlink_to(elsewhere)
    clock.advance(31 * DAY)

    retention.look()

    assert (elsewhere / "kept").exists()
    assert names(jobs, old) == PROOFS


def test_the_store_is_emptied_as_the_folder_is_and_said_where_it_cannot_be(
    tmp_path: Path, clock: ManualClock, journal: MemoryJournal
) -> None:
    store = FolderStore(tmp_path / "store")
    with Jobs.open(
        tmp_path / "jobs.db", journal, runs=tmp_path / "runs", artefacts=store, clock=clock
    ) as jobs:
        job = ended(jobs)
        jobs.shelf.put(jobs.folder(job), told(jobs, job), tenant="o_1", job=job)
        retention = Retention(
            jobs, AuditTrail(journal), days=30, clock=clock, entropy=SystemEntropy()
        )
        clock.advance(31 * DAY)
        away = store.root.rename(tmp_path / "away")
        store.root.write_text("no folder")

        (first,) = retention.look()
        assert (first.entries > 0, first.store) == (True, "unreachable")
        store.root.unlink()
        away.rename(store.root)
        clock.advance(DAY)
        (second,) = retention.look()

        assert (second.entries, second.store) == (0, "emptied")
        assert {name.rpartition("/")[2] for name in store.names()} == PROOFS
        assert names(jobs, job) == PROOFS
        assert retention.look() == []
    bodies = [entry.body for entry in journal.read(STREAM)]
    assert [body.get("store") for body in bodies] == ["unreachable", "emptied"]


def test_a_worker_empties_its_own_folder_and_leaves_the_store(
    tmp_path: Path, clock: ManualClock, journal: MemoryJournal
) -> None:
    store = FolderStore(tmp_path / "store")
    with Jobs.open(
        tmp_path / "jobs.db", journal, runs=tmp_path / "runs", artefacts=store, clock=clock
    ) as jobs:
        job = ended(jobs)
        jobs.shelf.put(jobs.folder(job), told(jobs, job), tenant="o_1", job=job)
        clock.advance(31 * DAY)
        retention = Retention(
            jobs, AuditTrail(journal), days=30, clock=clock, entropy=SystemEntropy()
        )

        (removed,) = retention.look(here_only=True)

        assert removed.store is None
        assert names(jobs, job) == PROOFS
        assert f"o_1/{job}/model.safetensors" in store.names()
