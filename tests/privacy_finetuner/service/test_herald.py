"""What happened is announced without anybody calling, once, whenever the process starts again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from privacy_core.guarantee import Guarantee
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.jobs import Job, JobState, TrainingSpec, UnknownJob
from privacy_finetuner.operations.alerts import Alert, Severity, ThreatType
from privacy_finetuner.service.herald import Herald, Pace, standings_of
from privacy_runtime.budget_store import BudgetStore, Signature, protection, quota
from privacy_runtime.journal import Change, Draft
from privacy_runtime.metrics import Audience, Metrics
from privacy_runtime.notify import Notifier
from privacy_runtime.testing import DEFAULT_START, ManualClock, MemoryJournal, MemoryRows
from privacy_runtime.world import SystemEntropy


class PlainSeal:
    def seal(self, data: bytes, *, purpose: str, owner: str) -> bytes:
        return data

    def open(self, sealed: bytes, *, purpose: str, owner: str) -> bytes:
        return sealed


def job_of(number: int, state: JobState, **fields: Any) -> Job:
    return Job(
        id=f"job_{number}",
        tenant="o_1",
        owner="u_1",
        name="a",
        spec=TrainingSpec(model="m", dataset="d", privacy={}),
        state=state,
        priority=0,
        created_at=DEFAULT_START,
        updated_at=DEFAULT_START,
        started_at=DEFAULT_START,
        finished_at=DEFAULT_START + timedelta(seconds=40),
        step=96,
        epsilon=1.5,
        delta=1e-5,
        **fields,
    )


@dataclass
class KnownJobs:
    """What the herald asks of `Jobs`: a job by id, and the rows of running ones."""

    jobs: dict[str, Job] = field(default_factory=dict)
    running: list[tuple[str, int, int, int]] = field(default_factory=list)

    @property
    def store(self) -> KnownJobs:
        return self

    def read(self, _work: object) -> Any:
        return self.running

    def get(self, job_id: str, *, tenant: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None or job.tenant != tenant:
            raise UnknownJob
        return job


class World:
    """A journal, a ledger, an outbox; a herald can be started anew on them."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.clock = ManualClock()
        self.rows = MemoryRows()
        self.journal = MemoryJournal(self.clock, self.rows)
        self.ledger = BudgetStore(MemoryJournal(self.clock), clock=self.clock)
        self.jobs = KnownJobs()
        self.config = EnvironmentConfig(environment="testing", **config)
        self.notices = Notifier.open(
            folder / "notify.db", seal=PlainSeal(), clock=self.clock, entropy=SystemEntropy()
        )
        events = ["training_complete", "job_failed", "privacy_budget_warning", "security_alert"]
        self.endpoint = self.notices.add(
            tenant="o_1", url="https://hooks.example/x", events=events
        ).endpoint
        self.metrics = Metrics(process=False)
        self.herald = self.started()

    def started(self) -> Herald:
        return Herald(
            journal=self.journal,
            jobs=self.jobs,  # type: ignore[arg-type]  # see KnownJobs
            ledger=self.ledger,
            notices=self.notices,
            metrics=self.metrics,
            config=self.config,
        )

    def say(self, type_: str, stream: str = "jobs", **body: Any) -> None:
        key = f"k{len(self.rows.entries.get(stream, []))}"
        draft = Draft(type_, key, body)
        self.journal.transact(stream, lambda _view: Change([draft]))

    def end(self, job: Job, **body: Any) -> None:
        self.jobs.jobs[job.id] = job
        self.say(f"job.{job.state.value}", job=job.id, tenant=job.tenant, **body)

    @property
    def announced(self) -> list[str]:
        found = self.notices.deliveries(self.endpoint.id, tenant="o_1", limit=200)
        return [each.event for each in reversed(found)]

    @property
    def figures(self) -> str:
        return self.metrics.exposition(Audience.OPERATOR)[0].decode()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.notices.close()


def test_ends_of_jobs_are_announced_once_also_after_a_restart(world: World) -> None:
    world.herald.round()
    world.end(job_of(1, JobState.SUCCEEDED))
    world.end(job_of(2, JobState.FAILED), code="out_of_memory")
    world.end(job_of(3, JobState.CANCELLED))
    world.say("job.started", job="job_4", tenant="o_1")
    world.herald.round()
    world.herald.round()
    world.started().round()

    assert world.announced == ["training_complete", "job_failed"]


def test_what_ended_while_nobody_looked_is_announced_later(world: World) -> None:
    world.herald.round()
    for number in range(700):  # more than one page
        world.end(job_of(number, JobState.SUCCEEDED))
    world.started().round()

    assert world.notices.standing().waiting == {"webhook": 700}


def test_a_new_outbox_does_not_tell_old_news(world: World) -> None:
    world.end(job_of(1, JobState.SUCCEEDED))
    world.herald.round()

    assert world.announced == []


def test_a_job_that_nobody_knows_any_more_is_passed_by(world: World) -> None:
    world.herald.round()
    world.say("job.succeeded", job="job_gone", tenant="o_1")
    world.end(job_of(1, JobState.SUCCEEDED))
    world.herald.round()

    assert world.announced == ["training_complete"]


def test_ends_and_refused_logins_are_counted_from_the_start_of_the_process(world: World) -> None:
    world.end(job_of(1, JobState.SUCCEEDED))
    world.say("identity.login_refused", stream="audit", reason="wrong_password")
    world.herald.round()
    world.end(job_of(2, JobState.SUCCEEDED))
    world.say("identity.login_refused", stream="audit", reason="unknown_user")
    world.say("identity.session_ended", stream="audit", reason="reused")
    world.herald.round()
    world.herald.round()

    assert 'jobs_finished_total{state="succeeded"} 1.0' in world.figures
    assert 'job_seconds_sum{state="succeeded"} 40.0' in world.figures
    assert 'login_failures_total{reason="wrong_password"} 1.0' in world.figures
    assert 'login_failures_total{reason="reused"} 1.0' in world.figures


def test_accounts_of_organisations_warn_and_those_of_subjects_never_do(world: World) -> None:
    signed = Signature(person="officer", reason="a test")
    cap = Guarantee(epsilon=1e-9, delta=1e-6)  # no room at all, so its spent share matters not
    scopes = (
        protection("o_1:notes", "2026"),
        protection("o_1:notes", "2026", "subject-7"),
        protection("cli", "2026"),
        quota("o_1", "research"),
    )
    for number, scope in enumerate(scopes):
        world.ledger.open_account(f"open{number}", scope, cap, signature=signed)

    found = list(standings_of(world.ledger.accounts()))

    assert {(each.tenant, each.account) for each in found} == {
        ("o_1", "notes/2026"),
        ("o_1", "quota/research"),
    }


def alert(severity: Severity) -> Alert:
    return Alert(
        id=f"a_{severity}",
        tenant="o_1",
        rule="r",
        threat_type=ThreatType.TAMPERING,
        severity=severity,
        description="d",
        at=DEFAULT_START,
        evidence=(),
        count=1,
        recommended_actions=(),
    )


@pytest.mark.parametrize(("is_on", "told"), [(True, 4), (False, 0)])
def test_alerts_are_announced_as_the_configuration_says(
    tmp_path: Path, is_on: bool, told: int
) -> None:
    world = World(tmp_path, monitoring={"alerts": {"threat_detection_enabled": is_on}})
    for severity in Severity:
        world.herald.alert(alert(severity))
        world.herald.alert(alert(severity))
    world.notices.close()

    assert 'security_alerts_total{severity="low",threat="tampering"} 2.0' in world.figures
    notices = Notifier.open(tmp_path / "notify.db", seal=PlainSeal(), clock=world.clock)
    assert sum(notices.standing().waiting.values()) == told
    notices.close()


def test_steps_are_timed_between_two_looks_and_slow_jobs_are_counted(world: World) -> None:
    def look(step: int, at_s: float) -> None:
        world.jobs.running = [("job_1", 1, step, int(at_s * 1e6))]
        world.herald.round()

    look(0, 0)
    look(10, 100)  # the first steps wait for the model to load
    look(110, 110)
    look(210, 120)
    assert "training_step_seconds_count 2.0" in world.figures
    assert "training_slow_jobs 0.0" in world.figures

    look(211, 130)
    assert "training_slow_jobs 1.0" in world.figures
    world.jobs.running = []
    world.herald.round()
    assert "training_slow_jobs 0.0" in world.figures


def test_a_pace_is_compared_with_its_best() -> None:
    pace = Pace.first(5, 10.0).after(15, 11.0)

    assert pace.mean_s == pytest.approx(0.1)
    assert not pace.is_below(0.8)
    assert pace.after(15, 12.0) is pace
    assert pace.after(25, 12.1).is_below(0.95)
    assert not pace.after(25, 12.1).is_below(0.8)
