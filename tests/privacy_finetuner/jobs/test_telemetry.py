"""A job knows the request it came from, and its steps are spans at a bearable pace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from privacy_finetuner.jobs import Jobs
from privacy_finetuner.jobs.lines import Task
from privacy_finetuner.jobs.schema import JOBS, SCHEMA
from privacy_finetuner.jobs.telemetry import StepSpans, Telemetry
from privacy_finetuner.training.loop import StepRecord
from privacy_runtime import logs, tracing
from privacy_runtime.logs.correlation import VARIABLE
from privacy_runtime.testing import ManualClock

PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
REQUEST = "req_0123456789abcdef"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    running = tracing.install(None, exporter=exporter)
    yield exporter
    running.close()


def origin(yard: Any) -> dict[str, str]:
    """Submit a job and claim it; what its claim knows of where it came from."""
    yard.submit()
    return dict(yard.leases().claim("worker_1").origin)


def test_a_claim_knows_the_request_and_the_span_that_submitted_its_job(
    yard: Any, spans: InMemorySpanExporter
) -> None:
    with (
        tracing.incoming("http.request", {"traceparent": PARENT}),
        logs.bound(request_id=REQUEST),
    ):
        handed = tracing.carried()
        found = origin(yard)

    assert found == {VARIABLE: f'{{"request_id":"{REQUEST}"}}', **handed}
    assert found["TRACEPARENT"].split("-")[1] == "a" * 32


def test_without_a_request_there_is_nothing_to_know(yard: Any) -> None:
    assert origin(yard) == {}


def test_what_is_sent_twice_is_one_job_whatever_request_it_came_with(yard: Any) -> None:
    with logs.bound(request_id=REQUEST):
        first = yard.submit(key="order-17")
    with logs.bound(request_id=REQUEST.replace("0", "9")):
        again = yard.submit(key="order-17")

    assert first.id == again.id


def test_a_database_of_the_version_before_is_brought_to_this_one(yard: Any) -> None:
    """Jobs that waited when the program was renewed are worked on; they came from nowhere."""
    job = yard.submit()

    def older(connection: sa.Connection) -> None:
        for column in ("origin", "place"):
            connection.execute(sa.text(f"ALTER TABLE {JOBS.name} DROP COLUMN {column}"))
        connection.execute(sa.update(SCHEMA).values(version=1))

    yard.jobs.store.database.change(older)
    newer: Jobs = yard.opened()
    claim = yard.leases().claim("worker_1")

    assert (claim.job.id, dict(claim.origin)) == (job.id, {})
    assert newer.store.read(lambda c: c.execute(sa.select(SCHEMA.c.version)).scalar_one()) == 3


def step(number: int) -> StepRecord:
    return StepRecord(step=number, steps=9, epoch=1, clip_norm=1.0, learning_rate=0.1)


@pytest.mark.parametrize(("every", "expected"), [(True, list(range(2, 10))), (False, [2, 6])])
def test_steps_are_spans_one_a_second_or_all_of_them(
    spans: InMemorySpanExporter, every: bool, expected: list[int]
) -> None:
    clock, told = ManualClock(), []
    seen = StepSpans(told.append, every_step=every, clock=clock)
    for number in range(1, 10):
        seen(step(number))
        clock.advance(0.25)
    tracing._here.opens.__self__._provider.force_flush()  # type: ignore[union-attr]

    found = [s.attributes["privacy_finetuner.step"] for s in spans.get_finished_spans()]
    assert found == expected
    assert [each.step for each in told] == list(range(1, 10))


def test_without_tracing_steps_are_passed_on_and_nothing_else() -> None:
    told: list[StepRecord] = []
    seen = StepSpans(told.append, every_step=True, clock=ManualClock())
    seen(step(1))
    seen(step(2))

    assert [each.step for each in told] == [1, 2]


def test_an_address_with_a_password_shows_in_no_repr_of_a_task(small_yard: Any) -> None:
    task = Task(
        job="job_x",
        spec=small_yard.spec(),
        model="m",
        dataset="d",
        eval_dataset=None,
        folder="f",
        keys="k",
        ledger=None,
        worker_process=1,
        telemetry=Telemetry(endpoint="https://user:word@collector.example:4318"),
    )

    assert "word@" not in repr(task)
    assert Task.parse(task.line()) == task
    assert replace(task, telemetry=None).telemetry is None
