"""Claims: who gets which job, for how long, and what they may write."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy_finetuner.jobs import JobState, LeaseLost
from privacy_finetuner.jobs.claims import Claim, Ending
from privacy_finetuner.jobs.leases import Leases
from privacy_finetuner.jobs.model import EventKind

SUCCESS = Ending(state=JobState.SUCCEEDED)


def drained(leases: Leases) -> list[str]:
    """The names of all jobs in the order in which one worker gets them."""
    names = []
    while (claim := leases.claim("w")) is not None:
        names.append(claim.job.name)
    return names


def test_higher_priority_first_then_who_came_first(yard: Any) -> None:
    for name, priority in (("a", 0), ("b", 5), ("c", -5), ("d", 5), ("e", 0)):
        yard.submit(name, priority=priority)
    assert drained(yard.leases()) == ["b", "d", "a", "e", "c"]


def test_organisations_take_turns_whatever_their_priorities(yard: Any) -> None:
    for n in range(4):
        yard.submit(f"greedy {n}", tenant="o_greedy", priority=10)
    yard.submit("modest 0", tenant="o_modest", priority=-10)
    yard.submit("modest 1", tenant="o_modest", priority=-10)
    order = drained(yard.leases())
    assert [name.split()[0] for name in order] == [
        "greedy", "modest", "greedy", "modest", "greedy", "greedy",
    ]  # fmt: skip


@given(
    jobs=st.lists(st.tuples(st.sampled_from("abc"), st.integers(-10, 10)), min_size=1, max_size=10)
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_organisation_is_passed_over_while_it_waits(
    small_yard: Any, jobs: list[tuple[str, int]]
) -> None:
    leases = small_yard.leases()
    drained(leases)
    waiting: dict[str, list[tuple[int, int]]] = {}
    for n, (tenant, priority) in enumerate(jobs):
        small_yard.submit(f"{n}", tenant=f"o_{tenant}", priority=priority)
        waiting.setdefault(f"o_{tenant}", []).append((-priority, n))
    served: list[str] = []
    while (claim := leases.claim("w")) is not None:
        tenant = claim.job.tenant
        others = {t for t, left in waiting.items() if left and t != tenant}
        since = served[len(served) - served[::-1].index(tenant) :] if tenant in served else None
        if since is not None:  # everybody else who waits had a turn since this one's last
            assert others <= set(since)
        assert int(claim.job.name) == min(waiting[tenant])[1]
        waiting[tenant].remove(min(waiting[tenant]))
        served.append(tenant)
    assert not any(waiting.values())


def test_workers_who_ask_at_once_get_different_jobs(yard: Any) -> None:
    for n in range(12):
        yard.submit(f"{n}", tenant=f"o_{n % 3}")
    stores = [yard.opened().store for _ in range(4)]
    claims: list[Claim] = []

    def work(n: int) -> None:
        leases = Leases(stores[n], lease_s=30)
        while (claim := leases.claim(f"w{n}")) is not None:
            claims.append(claim)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(claim.job.name) for claim in claims) == list(range(12))
    assert yard.jobs.counts()[JobState.RUNNING] == 12


def test_two_workers_who_ask_at_once_serve_two_organisations(yard: Any) -> None:
    if yard.jobs.store.database.is_sqlite:
        pytest.skip("one writer at a time: there is no at once")
    for n in range(2):
        yard.submit(f"a{n}", tenant="o_a")
        yard.submit(f"b{n}", tenant="o_b")
    one, other = yard.leases(), Leases(yard.opened().store, lease_s=30)
    inside, seen = threading.Event(), threading.Event()

    def first(work: Any) -> str:
        row = one._next(work, only_endings=False)
        inside.set()
        assert seen.wait(10)
        return str(one._take(work, row, "w1").job.tenant)

    tenants: list[str] = []
    thread = threading.Thread(target=lambda: tenants.append(yard.jobs.store.change(first)))
    thread.start()
    assert inside.wait(10)
    tenants.append(other.claim("w2").job.tenant)
    seen.set()
    thread.join()
    assert sorted(tenants) == ["o_a", "o_b"]


def test_a_job_returns_to_the_queue_when_the_lease_ends(yard: Any) -> None:
    job = yard.submit()
    leases = yard.leases()
    first = leases.claim("w1")
    yard.clock.advance(29)
    assert leases.claim("w2") is None
    assert leases.renew(first) is False
    yard.clock.advance(29)
    assert leases.claim("w2") is None
    yard.clock.advance(2)
    second = leases.claim("w2")
    assert second.job.id == job.id
    assert (second.job.attempts, second.job.worker) == (2, "w2")
    assert yard.states(job) == [
        ("queued", "submitted"), ("running", None), ("queued", "worker_lost"), ("running", None),
    ]  # fmt: skip


def test_who_lost_the_lease_cannot_write(yard: Any) -> None:
    job = yard.submit()
    leases = yard.leases()
    lost = leases.claim("w1")
    yard.clock.advance(31)
    leases.claim("w2")
    before = yard.job(job), yard.story(job)
    line = (EventKind.STEP, {"step": 9})
    for write in (
        lambda: leases.renew(lost),
        lambda: leases.tell(lost, [line], step=9),
        lambda: leases.finish(lost, SUCCESS, [line], epsilon=1.0),
        lambda: leases.give_back(lost, code="c", message="m"),
        lambda: leases.decide(lost, Ending(state=JobState.FAILED, code="c", message="m")),
    ):
        with pytest.raises(LeaseLost, match=job.id):
            write()
    assert (yard.job(job), yard.story(job)) == before


def test_nobody_writes_to_a_job_that_has_ended(yard: Any) -> None:
    job = yard.submit()
    leases = yard.leases()
    claim = leases.claim("w")
    leases.finish(claim, SUCCESS)
    for again in (lambda: leases.finish(claim, SUCCESS), lambda: leases.renew(claim)):
        with pytest.raises(LeaseLost):
            again()
    assert yard.states(job)[-1] == ("succeeded", None)
    assert yard.job(job).progress == 1.0


def test_a_job_that_kills_its_worker_every_time_is_ended(yard: Any) -> None:
    job = yard.submit()
    leases = yard.leases(attempts_most=3)
    for n in range(3):
        claim = leases.claim(f"w{n}")
        assert claim.ending is None
        yard.clock.advance(31)
    last = leases.claim("w3")
    assert last.job.id == job.id
    assert last.job.state is JobState.QUEUED
    assert (last.ending.state, last.ending.code) == (JobState.FAILED, "worker_lost")
    assert "3 attempts" in last.ending.message
    leases.finish(last, last.ending)
    ended = yard.job(job)
    assert (ended.state, ended.error_code, ended.attempts) == ("failed", "worker_lost", 3)
    assert leases.claim("w4") is None


def test_a_job_given_back_in_order_is_no_accident(yard: Any) -> None:
    yard.submit()
    leases = yard.leases(attempts_most=2)
    for _ in range(5):
        claim = leases.claim("w")
        assert claim.ending is None
        leases.give_back(claim, code="worker_stopped", message="why")


def test_a_job_waits_before_another_attempt(yard: Any) -> None:
    yard.submit()
    leases = yard.leases()
    claim = leases.claim("w")
    leases.give_back(claim, code="disk_full", message="why", delay_s=20, is_accident=True)
    yard.clock.advance(19)
    assert leases.claim("w") is None
    yard.clock.advance(1)
    assert leases.claim("w") is not None


def test_a_cancelled_job_that_waits_for_another_attempt_is_only_ended(yard: Any) -> None:
    job = yard.submit()
    yard.submit("another", priority=10)
    leases = yard.leases()
    assert leases.claim("w").job.name == "another"
    claim = leases.claim("w")
    leases.give_back(claim, code="disk_full", message="why", delay_s=99, is_accident=True)
    assert not leases.has_leftovers()
    waiting = yard.jobs.cancel(job.id, tenant=yard.tenant, by="u")
    assert waiting.state is JobState.QUEUED  # what it may have charged is not settled yet
    assert leases.has_leftovers()
    ending = leases.claim("w", only_endings=True)
    assert ending.ending == Ending(state=JobState.CANCELLED)
    assert leases.claim("w2") is None
    leases.finish(ending, ending.ending)
    assert yard.job(job).state is JobState.CANCELLED
    assert not leases.has_leftovers()


def test_an_ending_that_was_decided_is_kept_when_the_worker_dies(yard: Any) -> None:
    job = yard.submit()
    leases = yard.leases()
    failed = Ending(state=JobState.FAILED, code="dataset_error", message="no text")
    leases.decide(leases.claim("w1"), failed, [(EventKind.STEP, {"step": 1})])
    yard.clock.advance(31)
    claim = leases.claim("w2")
    assert claim.ending == failed
    yard.clock.advance(31)
    assert leases.claim("w3").ending == failed
    assert yard.job(job).attempts == 1


def test_only_endings_leaves_work_alone(yard: Any) -> None:
    yard.submit()
    assert yard.leases().claim("w", only_endings=True) is None
    assert yard.jobs.counts()[JobState.QUEUED] == 1


def test_figures_are_those_of_the_newest_lines(yard: Any) -> None:
    job = yard.submit()
    leases = yard.leases()
    claim = leases.claim("w")
    leases.tell(claim, [], step=3, steps=12, epoch=1, metrics={"loss": 2.0}, eta_s=9.0)
    found = yard.job(job)
    assert (found.step, found.steps, found.epoch, found.eta_s) == (3, 12, 1, 9.0)
    assert (found.metrics, found.progress) == ({"loss": 2.0}, 0.25)
    leases.give_back(claim, code="c", message="m")
    assert yard.job(job).eta_s is None


def test_a_worker_whose_clock_was_ahead_keeps_no_job_when_it_has_died(yard: Any) -> None:
    job = yard.submit()
    true = yard.clock.now()
    yard.clock.set_time_of_day(true + timedelta(days=1))
    first = yard.leases().claim("worker_ahead")
    yard.clock.set_time_of_day(true)
    assert yard.leases().has_leftovers()
    second = yard.leases().claim("worker_right")
    assert (first.job.id, second.job.id) == (job.id, job.id)
    with pytest.raises(LeaseLost):
        yard.leases().renew(first)


def test_a_job_given_back_by_a_clock_that_was_ahead_waits_no_longer(yard: Any) -> None:
    yard.submit()
    true = yard.clock.now()
    yard.clock.set_time_of_day(true + timedelta(days=1))
    leases = yard.leases()
    leases.give_back(leases.claim("worker_ahead"), code="disk_full", message="full", delay_s=60.0)
    yard.clock.set_time_of_day(true)
    assert leases.claim("worker_right") is not None


def test_clocks_that_differ_by_less_than_a_lease_take_nothing_away(yard: Any) -> None:
    yard.submit()
    true = yard.clock.now()
    yard.clock.set_time_of_day(true + timedelta(seconds=yard.lease_s - 1))
    assert yard.leases().claim("worker_ahead") is not None
    yard.clock.set_time_of_day(true)
    assert yard.leases().claim("worker_right") is None
