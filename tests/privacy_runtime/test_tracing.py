"""Traces hang together across processes, hold nothing private, and cost nothing when off."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from privacy_core.errors import InvalidParameter
from privacy_runtime import tracing


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    running = tracing.install(None, exporter=exporter)
    yield exporter
    running.close()


def finished(exporter: InMemorySpanExporter) -> dict[str, Any]:
    provider_flush()
    return {span.name: span for span in exporter.get_finished_spans()}


def provider_flush() -> None:
    installed = tracing._here.opens
    installed.__self__._provider.force_flush()  # type: ignore[union-attr]


def test_off_it_is_nothing_and_loads_nothing() -> None:
    program = (
        "import sys\n"
        "from privacy_runtime import tracing\n"
        "with tracing.span('x', job_id='job_1') as span:\n"
        "    span.note(step=1)\n"
        "assert tracing.carried() == {} and tracing.current_ids() == {}\n"
        "tracing.adopt({'TRACEPARENT': '00-' + 'a' * 32 + '-' + 'b' * 16 + '-01'})\n"
        "print(any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == "False"


def test_off_every_span_is_the_same_object() -> None:
    assert tracing.span("a") is tracing.span("b", step=1)
    assert tracing.incoming("a", {}) is tracing.span("b")


def test_a_job_hangs_on_the_request_that_submitted_it(spans: InMemorySpanExporter) -> None:
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    with tracing.incoming("request", {"traceparent": parent}, route="/training/start"):
        handed = tracing.carried()
    with tracing.adopted(handed), tracing.span("job", job_id="job_1"), tracing.span("step", step=3):
        pass

    found = finished(spans)
    assert {span.context.trace_id for span in found.values()} == {int("a" * 32, 16)}
    assert found["request"].parent.span_id == int("b" * 16, 16)
    assert found["job"].parent.span_id == found["request"].context.span_id
    assert found["step"].parent.span_id == found["job"].context.span_id
    assert found["step"].attributes == {"privacy_finetuner.step": 3}


def test_a_child_process_continues_the_trace(spans: InMemorySpanExporter) -> None:
    program = (
        "import os\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "from privacy_runtime import tracing\n"
        "exporter = InMemorySpanExporter()\n"
        "running = tracing.install(None, exporter=exporter)\n"
        "tracing.adopt(os.environ)\n"
        "with tracing.span('child'):\n"
        "    pass\n"
        "running.close()\n"
        "(span,) = exporter.get_finished_spans()\n"
        "print(format(span.context.trace_id, '032x'), format(span.parent.span_id, '016x'))\n"
    )
    with tracing.span("parent"):
        ids = tracing.current_ids()
        handed = tracing.carried()
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **handed},
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout.split() == [ids["trace_id"], ids["span_id"]]


def fail_in_a_span(text: str) -> None:
    with tracing.span("x", prompt=text, job_id=text, tenant="o_1", epsilon=0.5) as span:
        span.note(code=text, state="failed", note="hunter2")
        raise ValueError(text)


def test_nothing_private_is_an_attribute(spans: InMemorySpanExporter) -> None:
    text = "the patient complains of chest pain"
    with pytest.raises(ValueError, match="chest"):
        fail_in_a_span(text)

    (found,) = finished(spans).values()
    assert dict(found.attributes) == {
        "privacy_finetuner.tenant": "o_1",
        "privacy_finetuner.epsilon": 0.5,
        "privacy_finetuner.state": "failed",
        "error.type": "ValueError",
    }
    assert found.events == ()
    assert found.status.description is None


@pytest.mark.parametrize(
    "parent",
    ["", "x", "00-" + "0" * 32 + "-" + "b" * 16 + "-01", "00-" + "A" * 32 + "-" + "b" * 16 + "-01"],
)
def test_a_parent_that_is_none_begins_a_trace(spans: InMemorySpanExporter, parent: str) -> None:
    with tracing.incoming("request", {"traceparent": parent}):
        pass

    assert finished(spans)["request"].parent is None


@pytest.mark.parametrize(
    ("endpoint", "ratio"), [("otel:4318", 1.0), ("http://h", 1.5), ("http://h", -0.1)]
)
def test_what_cannot_be_is_refused(endpoint: str, ratio: float) -> None:
    with pytest.raises(InvalidParameter):
        tracing.install(endpoint, ratio=ratio)


def test_without_an_endpoint_it_stays_off() -> None:
    tracing.install(None).close()

    assert tracing.span("a") is tracing.span("b")


class _Collector(http.server.BaseHTTPRequestHandler):
    taken: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_spans_arrive_at_a_collector() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    running = tracing.install(f"http://127.0.0.1:{server.server_port}/", service="pf-tests")
    with tracing.span("job.run", job_id="job_1"):
        pass
    running.close()
    server.shutdown()
    thread.join()
    server.server_close()

    ((path, body),) = _Collector.taken
    assert path == "/v1/traces"
    assert b"job.run" in body
    assert b"pf-tests" in body
