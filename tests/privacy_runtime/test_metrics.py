"""Figures: from one table, bounded, and for whom they are."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from privacy_core.errors import InvalidParameter
from privacy_runtime.metrics import Audience, Kind, Metrics, MetricsServer, table
from privacy_runtime.metrics.table import TABLE
from privacy_runtime.testing import ManualClock


def samples(metrics: Metrics, audience: Audience = Audience.OPERATOR) -> Mapping[Any, float]:
    text = metrics.exposition(audience)[0].decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def quiet() -> Metrics:
    return Metrics(process=False)


def test_every_row_is_a_proper_name_with_a_sentence() -> None:
    names = [row.name for row in TABLE]

    assert len(names) == len(set(names)) > 25
    for row in TABLE:
        assert row.name.startswith("privacy_finetuner_")
        assert row.name.endswith("_total") == (row.kind is Kind.COUNTER)
        assert row.help.endswith(".")
        assert bool(row.buckets) == (row.kind is Kind.HISTOGRAM)
        assert list(row.buckets) == sorted(set(row.buckets))
        if row.unit in ("seconds", "bytes"):
            assert row.unit in row.name
        for label in row.labels:
            assert bool(label.values) != bool(label.most), f"{row.name} {label.name} has no bound"


def test_what_is_counted_is_exposed() -> None:
    metrics = quiet()
    metrics.request(method="GET", route="/a/{id}", status=200, seconds=0.004)
    metrics.request(method="GET", route="/a/{id}", status=503, seconds=0.2)
    metrics.set(table.SLOW_JOBS, 3)
    metrics.change(table.HTTP_OPEN, 2)
    metrics.change(table.HTTP_OPEN, -1)

    found = samples(metrics)
    assert found["privacy_finetuner_http_requests_total", "/a/{id}", "2xx", "GET"] == 1
    assert found["privacy_finetuner_http_requests_total", "/a/{id}", "5xx", "GET"] == 1
    assert found["privacy_finetuner_http_request_seconds_count", "/a/{id}", "GET"] == 2
    assert found["privacy_finetuner_http_request_seconds_bucket", "/a/{id}", "0.005", "GET"] == 1
    assert found["privacy_finetuner_training_slow_jobs",] == 3
    assert found["privacy_finetuner_http_requests_open",] == 1


def test_counters_with_closed_labels_begin_at_zero() -> None:
    found = samples(quiet())

    assert found["privacy_finetuner_security_alerts_total", "critical", "tampering"] == 0
    assert found["privacy_finetuner_jobs_finished_total", "failed"] == 0
    assert found["privacy_finetuner_login_failures_total", "reused"] == 0


def test_no_client_can_make_series_without_end() -> None:
    metrics = quiet()
    for number in range(1000):
        metrics.request(method=f"M{number}", route=f"/{number}", status=200, seconds=0.001)

    every = samples(metrics).items()
    found = {k: v for k, v in every if k[0] == "privacy_finetuner_http_requests_total"}
    assert len(found) == 301
    assert all("other" in key for key in found)
    assert max(found.values()) == 700


def test_a_figure_is_used_as_the_table_says() -> None:
    metrics = quiet()
    wrong: list[Any] = [
        lambda: metrics.set(table.JOBS_FINISHED, 1, state="failed"),
        lambda: metrics.add(table.JOBS_FINISHED),
        lambda: metrics.add(table.JOBS_FINISHED, status="failed"),
        lambda: metrics.add(table.JOBS_FINISHED, -1, state="failed"),
        lambda: metrics.add(table.JOBS_FINISHED, float("nan"), state="failed"),
        lambda: metrics.observe(table.JOBS, 1, state="queued"),
        lambda: metrics.reads(table.STEP_SECONDS, lambda: 1.0),
    ]
    for act in wrong:
        with pytest.raises(InvalidParameter):
            act()


def test_labels_may_be_given_in_any_order() -> None:
    metrics = quiet()
    metrics.add(table.DELIVERIES, sink="slack", outcome="dead")
    metrics.add(table.DELIVERIES, outcome="dead", sink="slack")

    assert samples(metrics)["privacy_finetuner_notify_attempts_total", "dead", "slack"] == 2


def test_readings_are_read_when_somebody_asks() -> None:
    metrics = quiet()
    jobs = {"queued": 1.0, "nonsense": 7.0}
    metrics.reads(table.JOBS, lambda: jobs)
    assert samples(metrics)["privacy_finetuner_jobs", "queued"] == 1

    jobs["queued"] = 5.0
    assert samples(metrics)["privacy_finetuner_jobs", "queued"] == 5
    assert ("privacy_finetuner_jobs", "nonsense") not in samples(metrics)


def test_readings_are_bounded_and_the_first_come_first() -> None:
    metrics = quiet()
    metrics.reads(table.EPSILON_SPENT, lambda: {f"a{n}": float(n) for n in range(1000)})

    found = [k for k in samples(metrics) if k[0] == "privacy_finetuner_ledger_epsilon_spent"]
    assert [key[1] for key in found] == [f"a{n}" for n in range(200)]


def test_a_reading_that_fails_hides_nothing_else() -> None:
    metrics = quiet()
    metrics.reads(table.QUEUE_AGE, lambda: 1 / 0)
    metrics.reads(table.LEDGER_ACCOUNTS, lambda: 3.0)

    found = samples(metrics)
    assert found["privacy_finetuner_ledger_accounts",] == 3
    assert ("privacy_finetuner_job_queue_age_seconds",) not in found
    assert found["privacy_finetuner_reading_failed", "job_queue_age_seconds"] == 1
    assert found["privacy_finetuner_reading_failed", "ledger_accounts"] == 0


def test_readings_are_kept_for_their_age() -> None:
    clock, calls = ManualClock(), []
    metrics = Metrics(process=False, clock=clock, reading_age_s=15.0)
    metrics.reads(table.LEDGER_ACCOUNTS, lambda: float(len(calls.append(1) or calls)))

    assert samples(metrics)["privacy_finetuner_ledger_accounts",] == 1
    clock.advance(14)
    assert samples(metrics)["privacy_finetuner_ledger_accounts",] == 1
    clock.advance(1)
    assert samples(metrics)["privacy_finetuner_ledger_accounts",] == 2


def test_budgets_and_step_times_are_the_operators() -> None:
    metrics = quiet()
    metrics.reads(table.EPSILON_SPENT, lambda: {"protection/o_1:notes/2026": 1.0})
    metrics.observe(table.STEP_SECONDS, 0.2)

    public = metrics.exposition(Audience.MONITORING)[0].decode()
    assert "protection/o_1" not in public
    assert "training_step_seconds" not in public
    assert "protection/o_1:notes/2026" in metrics.exposition(Audience.OPERATOR)[0].decode()
    for row in TABLE:
        if "epsilon" in row.name or any(label.name == "account" for label in row.labels):
            assert row.audience is Audience.OPERATOR


def test_two_sets_of_figures_share_nothing() -> None:
    one, other = quiet(), quiet()
    one.add(table.JOBS_FINISHED, state="failed")

    assert samples(other)["privacy_finetuner_jobs_finished_total", "failed"] == 0


def test_threads_lose_no_count() -> None:
    metrics = quiet()

    def count() -> None:
        for number in range(500):
            metrics.request(method="GET", route=f"/{number % 7}", status=200, seconds=0.001)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = samples(metrics)
    total = sum(v for k, v in found.items() if k[0] == "privacy_finetuner_http_requests_total")
    assert total == 2000


def test_the_port_serves_the_operators_figures() -> None:
    metrics = quiet()
    metrics.reads(table.EPSILON_SPENT, lambda: {"a": 1.0})
    server = MetricsServer(metrics, port=0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        server.close()

    assert 'ledger_epsilon_spent{account="a"} 1.0' in text


def test_processes_of_one_service_add_up(tmp_path: Path) -> None:
    child = (
        "from privacy_runtime.metrics import Metrics, table\n"
        "metrics = Metrics(process=False)\n"
        "metrics.add(table.JOBS_FINISHED, 2, state='failed')\n"
        "metrics.observe(table.STEP_SECONDS, 0.2)\n"
    )
    reader = (
        "from privacy_runtime.metrics import *\n"
        "metrics = Metrics(process=False)\n"
        "metrics.reads(table.QUEUE_AGE, lambda: 7.0)\n"
        "print(metrics.exposition(Audience.OPERATOR)[0].decode())\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for program in (child, child):
        subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    found = subprocess.run(
        [sys.executable, "-c", reader],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )

    assert 'jobs_finished_total{state="failed"} 4.0' in found.stdout
    assert "training_step_seconds_count 2.0" in found.stdout
    assert "job_queue_age_seconds 7.0" in found.stdout
