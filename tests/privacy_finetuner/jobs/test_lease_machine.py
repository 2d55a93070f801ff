"""Leases under faults, against a model: workers that die, sleep and come back, clocks that jump.

The model is what a reader expects: a job has at most one holder; a holder loses it by its own word,
by silence for a lease, or to a clock that was far ahead; what a former holder writes changes
nothing; and when all faults are over, every job ends.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from privacy_finetuner.jobs import Jobs, JobState, LeaseLost, TrainingSpec
from privacy_finetuner.jobs.claims import Claim, Ending
from privacy_finetuner.jobs.leases import Leases
from privacy_finetuner.jobs.model import EventKind
from privacy_runtime.testing import ManualClock, MemoryJournal, SeededEntropy

LEASE_S = 30.0
ATTEMPTS = 3
TENANT = "o_one"
SPEC = TrainingSpec(
    model="sample:model",
    dataset="sample:records",
    privacy={"epsilon": 8, "delta": 1e-4},
    training={"epochs": 1, "batch_size": 64},
)
ENDINGS = st.sampled_from(
    [Ending(state=JobState.SUCCEEDED), Ending(state=JobState.FAILED, code="x", message="y")]
)


class LeaseMachine(RuleBasedStateMachine):
    """Claims as their workers remember them, whether or not they still hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        journal = MemoryJournal(self.clock)
        self.jobs = Jobs.open(
            self.folder / "jobs.db", journal, runs=self.folder / "runs", clock=self.clock,
            entropy=SeededEntropy(1), lease_s=LEASE_S,
        )  # fmt: skip
        self.journal = journal
        self.leases = Leases(self.jobs.store, lease_s=LEASE_S, attempts_most=ATTEMPTS)
        self.claims: list[Claim] = []
        self.holders: dict[str, Claim] = {}
        self.until: dict[str, Any] = {}
        self.ended: set[str] = set()

    def teardown(self) -> None:
        self.let_all_end()
        self.jobs.close()
        shutil.rmtree(self.folder)

    @initialize()
    def begin(self) -> None:
        self.submit(0)

    @rule(priority=st.integers(-2, 2))
    def submit(self, priority: int) -> None:
        self.jobs.submit(SPEC, tenant=TENANT, owner="u", name="a job", priority=priority)

    @rule(worker=st.integers(0, 2), silence_s=st.sampled_from([0.0, LEASE_S]))
    def claim(self, worker: int, silence_s: float) -> None:
        self.clock.advance(silence_s)
        now = self.clock.now()
        claim = self.leases.claim(f"worker_{worker}")
        if claim is None:
            return
        if claim.job.id in self.holders:
            until = self.until[claim.job.id]
            assert until <= now or until > now + timedelta(seconds=2 * LEASE_S)
        assert claim.job.id not in self.ended
        self.claims.append(claim)
        self.hold(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def renew(self, data: Any) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        if self.writes(claim, lambda: self.leases.renew(claim)):
            self.hold(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def tell(self, data: Any) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        self.writes(claim, lambda: self.leases.tell(claim, [(EventKind.STEP, {"step": 1})], step=1))

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), ending=ENDINGS)
    def finish(self, data: Any, ending: Ending) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        if self.writes(claim, lambda: self.leases.finish(claim, claim.ending or ending)):
            self.ended.add(claim.job.id)
            self.let_go(claim)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), is_accident=st.booleans(), delay_s=st.sampled_from([0.0, 5.0, 60.0]))
    def give_back(self, data: Any, is_accident: bool, delay_s: float) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        if self.writes(
            claim,
            lambda: self.leases.give_back(
                claim, code="c", message="m", delay_s=delay_s, is_accident=is_accident
            ),
        ):
            self.let_go(claim)

    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        live = [job.id for job in self.jobs.find(TENANT) if not job.state.is_final]
        if live:
            job = data.draw(st.sampled_from(live))
            if self.jobs.cancel(job, tenant=TENANT, by="u").state.is_final:
                self.ended.add(job)
                self.holders.pop(job, None)

    @rule(seconds=st.sampled_from([1.0, LEASE_S / 3, LEASE_S, 5 * LEASE_S]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-86_400.0, -LEASE_S, LEASE_S, 3_600.0, 86_400.0]))
    def the_clock_jumps(self, seconds: float) -> None:
        self.clock.set_time_of_day(self.clock.now() + timedelta(seconds=seconds))

    @rule(worker=st.integers(0, 2))
    def a_worker_whose_clock_is_ahead_claims(self, worker: int) -> None:
        self.the_clock_jumps(86_400.0)
        self.claim(worker, 0.0)
        self.the_clock_jumps(-86_400.0)

    @invariant()
    def what_has_ended_stays_ended(self) -> None:
        final = {job.id for job in self.jobs.find(TENANT, limit=500) if job.state.is_final}
        assert final == self.ended

    def writes(self, claim: Claim, write: Any) -> bool:
        """Whether a write was taken: exactly from the holder."""
        holds = self.holders.get(claim.job.id)
        try:
            write()
        except LeaseLost:
            # A holder loses its job to nobody but another claim, which also puts back what is lost.
            assert holds is None or holds.fence != claim.fence or self.was_put_back(claim)
            return False
        assert holds is not None
        assert holds.fence == claim.fence
        return True

    def was_put_back(self, claim: Claim) -> bool:
        """Any claim puts back what is lost, whichever job it takes itself."""
        return self.jobs.get(claim.job.id, tenant=TENANT).state is JobState.QUEUED

    def hold(self, claim: Claim) -> None:
        self.holders[claim.job.id] = claim
        self.until[claim.job.id] = self.clock.now() + timedelta(seconds=LEASE_S)

    def let_go(self, claim: Claim) -> None:
        self.holders.pop(claim.job.id, None)

    def let_all_end(self) -> None:
        """All faults are over: workers that are left alone end everything, and no job is stuck."""
        for _ in range(4 * (len(self.jobs.find(TENANT, limit=500)) + 1)):
            self.clock.advance(2 * LEASE_S + 60)
            while (claim := self.leases.claim("worker_last")) is not None:
                self.leases.finish(claim, claim.ending or Ending(state=JobState.SUCCEEDED))
        for job in self.jobs.find(TENANT, limit=500):
            assert job.state.is_final
            story = self.jobs.events(job.id, tenant=TENANT, limit=1000)
            assert [event.seq for event in story] == list(range(1, len(story) + 1))
            states = [JobState(e.body["state"]) for e in story if e.kind is EventKind.STATE]
            assert [state.is_final for state in states].count(True) == 1
        self.jobs.store.deliver()
        self.journal.verify("jobs")


TestLeases = LeaseMachine.TestCase
TestLeases.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
