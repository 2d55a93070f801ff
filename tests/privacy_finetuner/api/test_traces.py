"""One request, one trace, one story: API, worker and training child tell of it together.

Three real processes: this one answers the request, a worker of the command line takes the job, and
its child trains the shipped sample. A collector of OTLP over HTTP stands beside them.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import House

from privacy_finetuner.cli import worker as worker_command
from privacy_finetuner.jobs import JobState
from privacy_runtime import tracing
from privacy_runtime.identity import Role

TRACE = "a" * 32
PARENT = f"00-{TRACE}-{'b' * 16}-01"
PLANTED = "Pt. c/o chest pain since Tuesday"


class Collector:
    """Takes spans over HTTP, as a collector of the operator's does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        taken = self.spans

        class Door(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                said = ExportTraceServiceRequest.FromString(body)
                for resource in said.resource_spans:
                    for scope in resource.scope_spans:
                        taken.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def submitted(house: House, **training: Any) -> tuple[str, str]:
    """Start a job over the real API; its id and the request's."""
    body = {
        "model_name": "sample:model",
        "dataset_path": "sample:heldout",
        "name": PLANTED,
        "privacy_config": {"epsilon": 8.0, "delta": 1e-4},
        "training_config": {"epochs": 1, "batch_size": 40, "max_length": 24} | training,
    }
    headers = {**house.member(Role.TRAINER).headers, "traceparent": PARENT}
    with TestClient(house.app, base_url="http://testserver") as client:
        answer = client.post("/api/v1/training/start", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"], answer.headers["x-request-id"]


def worker(house: House, config: Path, *words: str) -> subprocess.Popen[str]:
    command = [*worker_command.command(house.service.home, config), *words]
    command.remove("--supervised")
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def documents(text: str) -> list[dict[str, Any]]:
    """Every line is JSON, or this fails."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.timeout(300)
def test_one_trace_and_one_story_hold_request_job_and_steps(
    own_house: House, collector: Collector, tmp_path: Path
) -> None:
    config = tmp_path / "environment.yaml"
    config.write_text(
        f"environment: testing\ntracing: {{endpoint: '{collector.address}', every_step: true}}\n"
    )
    running = tracing.install(collector.address, service="privacy-finetuner")
    try:
        job, request = submitted(own_house)
    finally:
        running.close()
    with worker(own_house, config, "--until-idle") as process:
        said = process.stderr.read()

    assert own_house.service.jobs.get(job, tenant=own_house.tenant("north")).state is (
        JobState.SUCCEEDED
    )
    lines = documents(said)
    about = [line for line in lines if line.get("job_id") == job]
    events = [line["event"] for line in about]
    assert [e for e in events if e in ("a job has begun", "training begins", "training ended",
                                       "a job has ended")] == [
        "a job has begun", "training begins", "training ended", "a job has ended",
    ]  # fmt: skip
    assert {line["request_id"] for line in about} == {request}
    assert {line["tenant"] for line in about} == {own_house.tenant("north")}
    assert {line["trace_id"] for line in about} == {TRACE}
    assert PLANTED not in said

    spans = collector.spans
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    (asked,), (run,) = collector.named("http.request"), collector.named("job.run")
    (train,), steps = collector.named("job.train"), collector.named("training.step")
    assert asked.parent_span_id.hex() == "b" * 16
    assert run.parent_span_id == asked.span_id
    assert train.parent_span_id == run.span_id
    assert {step.parent_span_id for step in steps} == {train.span_id}
    numbers = sorted(int(_attribute(step, "step")) for step in steps)
    assert numbers == list(range(2, int(_attribute(steps[0], "steps")) + 1))
    assert PLANTED.encode() not in b"".join(span.SerializeToString() for span in spans)


@pytest.mark.timeout(300)
def test_a_worker_that_is_told_to_stop_writes_its_last_line(
    own_house: House, tmp_path: Path
) -> None:
    config = tmp_path / "environment.yaml"
    config.write_text("environment: testing\n")
    with worker(own_house, config) as process:
        assert process.stderr is not None
        first = json.loads(process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        rest = documents(process.stderr.read())

    assert first["event"] == "a worker waits for jobs"
    assert first["worker"].startswith("worker_")
    assert [line["event"] for line in rest][-1] == "a worker has stopped"
    assert rest[0]["signal"] == "SIGTERM"
    assert process.returncode == 0


def _attribute(span: Any, name: str) -> int:
    (value,) = (a.value.int_value for a in span.attributes if a.key.endswith(f".{name}"))
    return int(value)
