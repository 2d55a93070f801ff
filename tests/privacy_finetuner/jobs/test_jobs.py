"""The facade, the same on both databases."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from privacy_finetuner.jobs import (
    IdempotencyConflict,
    InvalidJob,
    JobState,
    JobStoreUnavailable,
    QueueFull,
    TrainingSpec,
    UnknownArtefact,
    UnknownJob,
)
from privacy_finetuner.jobs.claims import Ending
from privacy_finetuner.jobs.jobs import Jobs
from privacy_finetuner.jobs.model import EventKind
from privacy_runtime.journal import StoreUnavailable
from privacy_runtime.testing import ManualClock, MemoryHome


def together(count: int, work: Any) -> list[Any]:
    """Run `work(n)` in threads that start at once; returns what each returned or raised."""
    gate, answers = threading.Barrier(count), [None] * count

    def run(n: int) -> None:
        gate.wait()
        try:
            answers[n] = work(n)
        except Exception as error:  # noqa: BLE001 -- handed to the test
            answers[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_a_submitted_job_is_queued_and_found(yard: Any) -> None:
    job = yard.submit("the first", priority=3)
    assert job.id.startswith("job_")
    assert len(job.id) == len("job_") + 26
    assert (job.state, job.priority, job.attempts, job.name) == ("queued", 3, 0, "the first")
    assert job.created_at == yard.clock.now()
    assert yard.job(job) == job
    assert job.spec == yard.spec()
    assert yard.states(job) == [("queued", "submitted")]
    assert yard.jobs.counts()[JobState.QUEUED] == 1


def test_the_same_key_and_body_are_one_job(yard: Any) -> None:
    first = yard.submit(key="k1")
    assert yard.submit(key="k1") == first
    assert yard.submit(key="k2").id != first.id
    assert yard.submit(tenant="o_two", key="k1").id != first.id
    assert yard.submit().id != yard.submit().id


@pytest.mark.parametrize("change", [{"name": "b"}, {"priority": 1}, {"spec": {"epsilon": 2}}])
def test_the_same_key_and_another_body_are_refused(yard: Any, change: dict[str, Any]) -> None:
    first = yard.submit("a", key="k")
    if "spec" in change:
        change = {"spec": yard.spec(privacy=change["spec"])}
    with pytest.raises(IdempotencyConflict, match=first.id):
        yard.submit(**{"name": "a", "key": "k", **change})
    assert yard.jobs.counts()[JobState.QUEUED] == 1


def test_simultaneous_submits_with_one_key_make_one_job(yard: Any) -> None:
    others = [yard.opened() for _ in range(4)]

    def submit(n: int) -> str:
        jobs: Jobs = others[n % 4]
        return jobs.submit(
            yard.spec(), tenant=yard.tenant, owner=yard.owner, name="one", key="k"
        ).id

    assert len(set(together(8, submit))) == 1
    assert yard.jobs.counts()[JobState.QUEUED] == 1
    assert [kind for kind, _ in yard.journalled()] == ["job.submitted"]


def test_simultaneous_submits_of_two_bodies_make_one_job_and_refuse_the_others(yard: Any) -> None:
    answers = together(8, lambda n: yard.submit(f"body {n % 2}", key="k").id)
    made = {answer for answer in answers if isinstance(answer, str)}
    refused = [answer for answer in answers if not isinstance(answer, str)]
    assert len(made) == 1
    assert len(refused) == 4
    assert all(isinstance(answer, IdempotencyConflict) for answer in refused)


def test_an_object_of_another_organisation_does_not_exist(yard: Any) -> None:
    job = yard.submit()
    for ask in (
        lambda: yard.jobs.get(job.id, tenant="o_two"),
        lambda: yard.jobs.cancel(job.id, tenant="o_two", by="u"),
        lambda: yard.jobs.events(job.id, tenant="o_two"),
        lambda: yard.jobs.artefacts(job.id, tenant="o_two"),
        lambda: yard.jobs.artefact_path(job.id, "x", tenant="o_two"),
        lambda: yard.jobs.get("job_nothing", tenant=yard.tenant),
    ):
        with pytest.raises(UnknownJob):
            ask()
    assert yard.jobs.find("o_two") == []
    assert yard.job(job).state is JobState.QUEUED


def test_jobs_are_found_newest_first_in_pages(yard: Any) -> None:
    ids = [yard.submit(f"job {n}").id for n in range(7)]
    yard.submit(tenant="o_two")
    newest_first = ids[::-1]
    first = yard.jobs.find(yard.tenant, limit=3)
    assert [job.id for job in first] == newest_first[:3]
    rest = yard.jobs.find(yard.tenant, limit=50, before=first[-1].id)
    assert [job.id for job in rest] == newest_first[3:]
    assert yard.jobs.find(yard.tenant, before="job_nothing") == []
    assert yard.jobs.find(yard.tenant, owner="u_somebody") == []
    yard.jobs.cancel(ids[0], tenant=yard.tenant, by="u")
    cancelled = yard.jobs.find(yard.tenant, states=[JobState.CANCELLED])
    assert [job.id for job in cancelled] == [ids[0]]


def test_a_job_that_nobody_took_is_cancelled_at_once(yard: Any) -> None:
    job = yard.submit()
    yard.clock.advance(5)
    ended = yard.jobs.cancel(job.id, tenant=yard.tenant, by="u_boss")
    assert ended.state is JobState.CANCELLED
    assert ended.finished_at == yard.clock.now()
    assert yard.leases().claim("w") is None
    again = yard.jobs.cancel(job.id, tenant=yard.tenant, by="u_other")
    assert again == ended
    kind, body = yard.journalled()[-1]
    assert (kind, body["by"], body["job"]) == ("job.cancelled", "u_boss", job.id)


def test_a_running_job_is_asked_to_end(yard: Any) -> None:
    job = yard.submit()
    claim = yard.leases().claim("w")
    asked = yard.jobs.cancel(job.id, tenant=yard.tenant, by="u")
    assert asked.state is JobState.RUNNING
    assert asked.cancel_requested
    yard.jobs.cancel(job.id, tenant=yard.tenant, by="u")
    assert yard.states(job)[-1] == ("running", "cancel_requested")
    assert len(yard.story(job)) == 3
    assert yard.leases().renew(claim)


def test_events_are_numbered_without_a_gap(yard: Any) -> None:
    job = yard.submit()
    leases = yard.leases()
    claim = leases.claim("w")
    for n in range(5):
        leases.tell(claim, [(EventKind.STEP, {"step": 2 * n}), (EventKind.STEP, {"step": n})])
    story = yard.story(job)
    assert [event.seq for event in story] == list(range(1, 13))
    assert [event.seq for event in yard.jobs.events(job.id, tenant=yard.tenant, after=10)] == [
        11, 12,
    ]  # fmt: skip
    assert len(yard.jobs.events(job.id, tenant=yard.tenant, limit=4)) == 4
    assert yard.jobs.events(job.id, tenant=yard.tenant, after=12) == []


def test_artefacts_are_those_that_were_told_and_are_there(yard: Any) -> None:
    job = yard.submit()
    leases = yard.leases()
    claim = leases.claim("w")
    told = {"size_bytes": 2, "sha256": "0" * 64, "media_type": "text/html"}
    old = (EventKind.ARTEFACT, {"name": "report.html", "outside_guarantee": False, **told})
    new = (EventKind.ARTEFACT, {**old[1], "size_bytes": 5})
    leases.tell(claim, [old, new])
    (found,) = yard.jobs.artefacts(job.id, tenant=yard.tenant)
    assert (found.name, found.size_bytes) == ("report.html", 5)
    with pytest.raises(UnknownArtefact):
        yard.jobs.artefact_path(job.id, "report.html", tenant=yard.tenant)
    folder = yard.jobs.folder(job)
    folder.mkdir()
    (folder / "job.log").write_text("a trace")
    (folder / "report.html").write_text("hello")
    path = yard.jobs.artefact_path(job.id, "report.html", tenant=yard.tenant)
    assert path.read_text() == "hello"
    for name in ("job.log", "../report.html", "", "report.html/"):
        with pytest.raises(UnknownArtefact):
            yard.jobs.artefact_path(job.id, name, tenant=yard.tenant)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(UnknownArtefact):
        yard.jobs.artefact_path(job.id, "report.html", tenant=yard.tenant)


def test_an_organisation_may_have_so_many_jobs_waiting(yard: Any) -> None:
    jobs = Jobs(yard.jobs.store, runs=yard.jobs.runs, waiting_most=2)
    for n in range(2):
        jobs.submit(yard.spec(), tenant="o", owner="u", name=f"{n}", key=f"{n}")
    with pytest.raises(QueueFull):
        jobs.submit(yard.spec(), tenant="o", owner="u", name="2")
    assert jobs.submit(yard.spec(), tenant="o", owner="u", name="1", key="1").name == "1"
    jobs.submit(yard.spec(), tenant="another", owner="u", name="2")


def test_every_change_of_state_is_in_the_journal(yard: Any) -> None:
    job = yard.submit()
    leases = yard.leases()
    claim = leases.claim("w1")
    leases.give_back(claim, code="worker_stopped", message="why")
    claim = leases.claim("w2")
    leases.finish(claim, Ending(state=JobState.SUCCEEDED), epsilon=3.0)
    told = yard.journalled()
    assert [kind for kind, _ in told] == [
        "job.submitted", "job.started", "job.requeued", "job.started", "job.succeeded",
    ]  # fmt: skip
    assert all(body["job"] == job.id and body["tenant"] == yard.tenant for _, body in told)
    assert told[-1][1]["epsilon"] == 3.0


class AbsentHome(MemoryHome):
    """A journal that can be taken away."""

    is_away = False

    def begin(self, stream: str, keys: Any, names: Any) -> Any:
        if self.is_away:
            raise StoreUnavailable("memory", reason="it is away", state="nothing was written")
        return super().begin(stream, keys, names)


def test_a_journal_that_is_away_delays_nothing_and_misses_nothing(yard: Any) -> None:
    home = AbsentHome()
    jobs = yard.opened(home)
    home.is_away = True
    job = jobs.submit(yard.spec(), tenant="o", owner="u", name="n")
    jobs.cancel(job.id, tenant="o", by="u")
    assert not home.rows.entries
    assert not jobs.store.deliver()
    home.is_away = False
    assert jobs.store.deliver()
    assert jobs.store.deliver()
    kinds = [entry.type for entry in home.rows.entries["jobs"]]
    assert kinds == ["job.submitted", "job.cancelled"]


def test_carrying_an_entry_twice_is_carrying_it_once(yard: Any) -> None:
    home = MemoryHome()
    one, other = yard.opened(home), yard.opened(MemoryHome(home.rows))
    for n in range(5):
        one.submit(yard.spec(), tenant="o", owner="u", name=f"{n}")
    together(2, lambda n: (one, other)[n].store.deliver())
    assert len(home.rows.entries["jobs"]) == 5


def test_what_is_wrong_is_said_all_at_once(yard: Any) -> None:
    spec = yard.spec(privacy={"epsilon": -1, "delta": 3}, training={"epochs": 0, "batchsize": 4})
    with pytest.raises(InvalidJob) as refused:
        yard.jobs.submit(spec, tenant="o", owner="u", name="", priority=11)
    paths = {fault.path for fault in refused.value.faults}
    assert paths == {
        "name", "priority", "privacy.epsilon", "privacy.delta", "training.epochs",
        "training.batchsize",
    }  # fmt: skip
    assert yard.jobs.counts()[JobState.QUEUED] == 0


def test_workers_are_listed_while_they_are_heard_of(yard: Any) -> None:
    leases = yard.leases()
    leases.enrol("worker_a", host="one", process=7)
    yard.clock.advance(20)
    leases.enrol("worker_b", host="two", process=8)
    leases.seen("worker_b", job="job_x")
    yard.clock.advance(15)
    rows = yard.jobs.workers()
    assert [(row.id, row.is_alive, row.job) for row in rows] == [
        ("worker_a", False, None),
        ("worker_b", True, "job_x"),
    ]
    leases.leave("worker_b")
    yard.clock.advance(4000)
    leases.enrol("worker_c", host="two", process=9)
    assert [row.id for row in yard.jobs.workers()] == ["worker_c"]


def test_a_newer_schema_is_left_alone(yard: Any) -> None:
    import sqlalchemy as sa

    from privacy_finetuner.jobs.schema import SCHEMA

    yard.jobs.store.database.change(lambda c: c.execute(sa.update(SCHEMA).values(version=99)))
    with pytest.raises(JobStoreUnavailable, match="version 99"):
        yard.opened()


def test_a_file_that_others_may_read_is_refused(small_yard: Any) -> None:
    path = small_yard.folder / "jobs.db"
    path.chmod(0o644)
    with pytest.raises(JobStoreUnavailable, match="0644"):
        small_yard.opened()


def test_a_database_that_is_away_is_named_without_its_password(
    clock: ManualClock, tmp_path: Any
) -> None:
    from privacy_runtime.journal import Journal

    url = "postgresql://user:secret-word@127.0.0.1:1/none"
    with pytest.raises(JobStoreUnavailable) as refused:
        Jobs.open(url, Journal(MemoryHome(), clock=clock), runs=tmp_path / "runs")
    assert "secret-word" not in str(refused.value)
    assert "127.0.0.1" in str(refused.value)


def test_importing_the_room_loads_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, privacy_finetuner.jobs, privacy_finetuner.jobs.worker, "
        "privacy_finetuner.jobs.pool; "
        "sys.exit([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules] != [])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_specification_is_frozen() -> None:
    spec = TrainingSpec(model="m", dataset="d", privacy={})
    with pytest.raises(AttributeError):
        spec.model = "other"  # type: ignore[misc]
