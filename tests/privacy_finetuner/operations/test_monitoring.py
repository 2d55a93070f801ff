"""The loop: what it keeps, what it closes, whom it tells, and what it does when things are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest

from privacy_finetuner.operations.alerts import AccountFact, Alert, ChainFact, FailureFact
from privacy_finetuner.operations.errors import AlertClosed, UnknownAlert
from privacy_finetuner.operations.figures import RunFigures
from privacy_finetuner.operations.monitoring import ALERTS, Monitor
from privacy_finetuner.operations.run_rules import RunFacts
from privacy_finetuner.operations.trail import STREAM, AuditTrail
from privacy_runtime.journal import Change, Draft, Journal, StoreUnavailable
from privacy_runtime.testing import ManualClock, MemoryHome, MemoryRows

TENANT = "o_1"


@dataclass
class Street:
    """What there is to watch."""

    clock: ManualClock = field(default_factory=ManualClock)
    rows: MemoryRows = field(default_factory=MemoryRows)
    told: list[Alert] = field(default_factory=list)
    released: list[RunFacts] = field(default_factory=list)
    epsilon_used: float = 1.0
    epsilon: float = 8.0
    is_ledger_intact: bool = True
    is_gone: bool = False
    count: int = 0

    def __post_init__(self) -> None:
        self.says("identity.organisation_created", tenant=TENANT)
        self.says("identity.user_created", tenant=TENANT, subject="u_1")

    def journal(self) -> Journal:
        return Journal(MemoryHome(self.rows), clock=self.clock)

    def says(self, type_: str, **body: Any) -> None:
        self.count += 1
        draft = Draft(type_, f"k{self.count}", body)
        self.journal().transact(STREAM, lambda _: Change([draft]))

    def monitor(self) -> Monitor:
        journal = self.journal()
        return Monitor(
            journal,
            AuditTrail(journal),
            self,
            clock=self.clock,
            budget_threshold=0.9,
            on_alert=self.told.append,
        )

    def accounts(self, tenant: str, now: datetime) -> Sequence[AccountFact]:
        if self.is_gone:
            raise StoreUnavailable("ledger", reason="gone")
        return [
            AccountFact(
                account="notes/2026",
                epsilon=self.epsilon,
                epsilon_used=self.epsilon_used,
                daily_shares=(),
                at=now,
            )
        ]

    def failures(self, tenant: str, since: datetime) -> Sequence[FailureFact]:
        return []

    def released_runs(self, tenant: str) -> Sequence[RunFacts]:
        return self.released

    def ledger_chain(self, now: datetime) -> ChainFact:
        return ChainFact(stream="ledger", is_intact=self.is_ledger_intact, broken_at=None, at=now)


@pytest.fixture
def street() -> Street:
    return Street()


def test_an_alert_is_kept_and_told_of_once_whoever_looks(street: Street) -> None:
    street.epsilon_used = 8.0
    for _ in range(2):
        street.monitor().scan()
    one = street.monitor()
    one.scan()
    one.scan()

    assert [each.rule for each in street.told] == ["budget_nearly_spent"]
    assert len(list(street.journal().read(ALERTS))) == 1


def test_a_condition_that_is_over_is_resolved_and_may_come_back(street: Street) -> None:
    monitor = street.monitor()
    street.epsilon_used = 7.5
    monitor.scan()
    street.epsilon_used = 1.0
    monitor.scan()
    (kept,) = monitor.alerts(TENANT)
    assert (kept.status, kept.closed_by) == ("resolved", "service")

    street.epsilon_used = 7.5
    monitor.scan()
    (kept,) = monitor.alerts(TENANT)
    assert (kept.status, kept.closed_at) == ("open", None)
    assert [entry.type for entry in street.journal().read(ALERTS)] == [
        "alert.raised",
        "alert.resolved",
        "alert.reopened",
    ]


def test_what_a_run_released_is_judged_once(street: Street) -> None:
    far = RunFigures(gradient_norm=9.0, gradient_norm_std=0.5, clip_norm=1.0)
    street.released = [RunFacts(tenant=TENANT, run="job_1", now=street.clock.now(), figures=far)]
    monitor = street.monitor()
    monitor.scan()
    street.clock.advance(60)
    monitor.scan()

    assert [each.rule for each in street.told] == ["gradient_bound"]


def test_what_a_person_closed_stays_closed_while_it_holds(street: Street) -> None:
    monitor = street.monitor()
    street.epsilon_used = 7.5
    monitor.scan()
    (kept,) = monitor.alerts(TENANT)
    monitor.acknowledge(TENANT, kept.alert.id, by="u_1", reason="planned")
    monitor.scan()

    assert monitor.alerts(TENANT, is_open=True) == []
    with pytest.raises(AlertClosed):
        monitor.acknowledge(TENANT, kept.alert.id, by="u_2", reason="again")
    with pytest.raises(UnknownAlert):
        monitor.acknowledge("o_2", kept.alert.id, by="u_2", reason="mine")
    with pytest.raises(UnknownAlert):
        monitor.acknowledge(TENANT, "alert_0", by="u_2", reason="what")


def test_old_events_raise_nothing_when_a_new_process_reads_them(street: Street) -> None:
    street.says("identity.second_factor_reset", subject="u_1", by="u_2")
    street.clock.advance(8 * 86_400)
    monitor = street.monitor()
    monitor.scan()

    assert monitor.alerts(TENANT) == []


@pytest.mark.parametrize("text", ["{}", "not json", "[]", '{"tenant":7}'])
def test_a_damaged_trail_is_an_alert_and_the_scan_goes_on(street: Street, text: str) -> None:
    street.is_ledger_intact = False
    monitor = street.monitor()
    monitor.scan()
    entries = street.rows.entries[STREAM]
    entries[1] = replace(entries[1], body_text=text)
    street.clock.advance(86_400)

    for each in (monitor, street.monitor()):
        each.scan()
        found = {kept.alert.evidence[0]["stream"] for kept in each.alerts(TENANT, is_open=True)}
        assert found == {"audit", "ledger"}


def test_a_scan_that_fails_did_not_happen(street: Street) -> None:
    monitor = street.monitor()
    monitor.scan()
    before = monitor.last_scan
    street.clock.advance(10)
    street.is_gone = True

    with pytest.raises(StoreUnavailable):
        monitor.scan()
    assert monitor.last_scan == before


def test_the_loop_goes_on_after_a_failure_and_says_whether_it_runs(street: Street) -> None:
    monitor = street.monitor()
    street.is_gone = True
    looks: list[bool] = []

    async def until(holds: Callable[[], bool]) -> None:
        for _ in range(2000):
            if holds():
                return
            await asyncio.sleep(0.01)
        raise AssertionError

    async def watch() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(monitor.run(interval_s=0.0, stop=stop))
        await until(lambda: monitor.is_running)
        looks.append(monitor.summary(TENANT).monitoring_active)
        street.is_gone = False
        await until(lambda: monitor.last_scan is not None)
        stop.set()
        await task

    asyncio.run(watch())
    assert looks == [True]
    assert not monitor.is_running
    assert monitor.last_scan == street.clock.now()


def test_a_summary_counts_a_day_and_takes_the_worst(street: Street) -> None:
    monitor = street.monitor()
    assert monitor.summary(TENANT).last_scan is None
    street.says("identity.second_factor_reset", subject="u_1", by="u_2")
    street.epsilon_used = 8.0
    monitor.scan()

    summary = monitor.summary(TENANT)
    assert (summary.active_alerts, summary.threats_detected_24h) == (2, 2)
    assert summary.threat_level == "critical"
    street.clock.advance(2 * 86_400)
    assert monitor.summary(TENANT).threats_detected_24h == 0
    assert monitor.summary("o_2").active_alerts == 0
