"""What a router says is read by its own types; whatever else it says breaks nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from federated_dp_llm.api import shapes
from privacy_finetuner.environment.neighbours import Router
from privacy_finetuner.service.neighbour import AGAIN_S
from privacy_finetuner.service.router_reading import RouterReading
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock

LINE = shapes.BudgetLine(total_budget=10.0, consumed=2.0, remaining=7.5, percentage_used=25.0)
LOW = LINE.model_copy(update={"consumed": 9.0, "remaining": 1.0})
BUDGETS = shapes.BudgetStatus(
    delta=1e-5, users={"ada": LINE, "bo": LOW}, departments={"radiology": LINE}
)
NODE = shapes.NodeAnswer(
    node_id="clinic-a",
    endpoint="https://clinic-a:8443",
    slots=32,
    compute_capacity="",
    specializations=[],
    security_level="",
    state="healthy",
    tls_group="X25519MLKEM768",
)
HEALTH = shapes.Health(
    status="healthy",
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    version="1",
    components={"database": "healthy"},
    metrics={
        "requests_per_second": 2.5,
        "average_response_time": 0.2,
        "error_rate": 0.0,
        "cache_hit_rate": 0.1,
    },
)
ANSWERS = {
    "/health": (200, HEALTH.model_dump_json()),
    "/v1/admin/nodes": (200, json.dumps([NODE.model_dump(mode="json")])),
    "/v1/privacy/budget/status": (200, BUDGETS.model_dump_json()),
}


class Said(BaseHTTPRequestHandler):
    """Answers from `answers`, to whoever has the key."""

    answers: ClassVar[dict[str, tuple[int, str]]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        status, body = type(self).answers.get(self.path, (404, "{}"))
        if self.headers["authorization"] != "Bearer the-key-of-the-page":
            status, body = 401, "{}"
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def router() -> Iterator[str]:
    Said.answers, Said.asked = dict(ANSWERS), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Said)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def reading(url: str, clock: ManualClock, key: str = "the-key-of-the-page") -> RouterReading:
    return RouterReading(Router(url=Secret(url), key=Secret(key), limit_s=5.0), clock)


def test_a_router_as_it_says_it_is(router: str) -> None:
    clock = ManualClock()
    desk = reading(router, clock)
    view = desk.view()

    assert (view.fault, view.status, view.delta) == ("", "healthy", 1e-5)
    (node,) = view.nodes
    assert (node.name, node.state, node.tls_group) == ("clinic-a", "healthy", "X25519MLKEM768")
    assert [each.name for each in view.users] == ["bo", "ada"]  # the least left first
    assert view.departments[0].held == pytest.approx(2.5)
    assert view.figures["requests_per_second"] == 2.5
    desk.view()
    assert len(Said.asked) == 3  # kept for a while
    clock.advance(AGAIN_S)
    desk.view()
    assert len(Said.asked) == 6


def test_a_figure_that_is_not_known_yet_is_left_out(router: str) -> None:
    fresh = HEALTH.model_copy(update={"metrics": {"cache_hit_rate": None, "error_rate": 0.0}})
    Said.answers["/health"] = (200, fresh.model_dump_json())

    view = reading(router, ManualClock()).view()
    assert (view.fault, view.figures) == ("", {"error_rate": 0.0})


def test_another_key_shows_nothing(router: str) -> None:
    view = reading(router, ManualClock(), "another").view()

    assert (view.fault, view.nodes, view.users) == ("refused", (), ())


@pytest.mark.parametrize(
    ("path", "answer", "fault"),
    [
        ("/v1/admin/nodes", (403, "{}"), "refused"),
        ("/v1/admin/nodes", (200, "no json"), "unexpected"),
        ("/v1/admin/nodes", (200, '[{"node_id": 1}]'), "unexpected"),
        ("/v1/admin/nodes", (200, "{}"), "unexpected"),
        ("/v1/admin/nodes", (302, ""), "unexpected"),
        ("/v1/privacy/budget/status", (200, '{"users": {"a": {}}}'), "unexpected"),
        ("/health", (200, "x" * (5 << 20)), "unexpected"),
        ("/health", (200, '{"metrics": {"error_rate": NaN}}'), "unexpected"),
        ("/health", (200, '{"metrics": {"error_rate": 1e999}}'), "unexpected"),
        ("/health", (200, "[" * 100_000), "unexpected"),
        ("/health", (503, HEALTH.model_dump_json()), ""),
    ],
)
def test_what_it_says_otherwise_is_a_fault_and_no_error(
    router: str, path: str, answer: tuple[int, str], fault: str
) -> None:
    Said.answers[path] = answer

    assert reading(router, ManualClock()).view().fault == fault


def test_a_router_that_is_away_is_said_to_be() -> None:
    assert reading("http://127.0.0.1:1", ManualClock()).view().fault == "unreachable"
