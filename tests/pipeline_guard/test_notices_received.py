"""Notices, sent for real and read by those who get them: HTTP and SMTP servers on this machine."""

from __future__ import annotations

import email
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, FormatChecker

from pipeline_guard.config import Destination, NotifySettings
from pipeline_guard.config.settings import Mail
from pipeline_guard.model import Alert, Fault, HealthStatus, PipelineComponent
from pipeline_guard.notices import Notices
from privacy_runtime.notify.signatures import new_secret, verify
from privacy_runtime.secret import Secret
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemClock

LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
TIME = {"type": "string", "format": "date-time"}
POSTABLE_ALERTS = {
    # `postableAlerts` of Alertmanager's API, version 2, written down from its OpenAPI document.
    "type": "array",
    "items": {
        "type": "object",
        "required": ["labels"],
        "properties": {
            "labels": LABELS,
            "annotations": LABELS,
            "startsAt": TIME,
            "endsAt": TIME,
            "generatorURL": {"type": "string", "format": "uri"},
        },
    },
}


class Received:
    """What arrived: HTTP bodies with their headers by path, and mails."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.mails: list[Message] = []
        self.web = self.mail = 0

    def at(self, path: str) -> list[tuple[dict[str, str], bytes]]:
        return [(heads, body) for where, heads, body in self.posts if where == path]


class Post(BaseHTTPRequestHandler):
    """Takes everything."""

    received: Received

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        heads = {name.lower(): value for name, value in self.headers.items()}
        self.received.posts.append((self.path, heads, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Smtp(socketserver.StreamRequestHandler):
    """As much of RFC 5321 as takes a mail."""

    received: Received

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.received.mails.append(email.message_from_bytes(b"".join(lines)))
            if word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 well\r\n")


@contextmanager
def served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def received() -> Iterator[Received]:
    found = Received()
    web = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Post,), {"received": found}))
    mail = socketserver.ThreadingTCPServer(
        ("127.0.0.1", 0), type("Here", (Smtp,), {"received": found})
    )
    found.web, found.mail = web.server_address[1], mail.server_address[1]
    with ExitStack() as stack:
        stack.enter_context(served(web))
        stack.enter_context(served(mail))
        yield found


def alert(**more: Any) -> Alert:
    now = SystemClock().now()
    values: dict[str, Any] = {"severity": HealthStatus.CRITICAL, "message": "the disk is full"}
    return Alert(
        component=PipelineComponent.STORAGE,
        timestamp=now,
        since=now - timedelta(minutes=2),
        id="inc_1",
        fault=Fault.DISK_FULL,
        check="disk",
        **(values | more),
    )


def until(condition: Any) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s, "nothing arrived"
        time.sleep(0.02)


def test_every_kind_of_destination_gets_what_it_can_read(
    received: Received, tmp_path: Path
) -> None:
    secret = new_secret(SeededEntropy(4))
    base = f"http://127.0.0.1:{received.web}"
    settings = NotifySettings(
        destinations={
            "chat": Destination(kind="slack", url=Secret(f"{base}/slack")),
            "hook": Destination(kind="webhook", url=Secret(f"{base}/hook"), secret=secret),
            "wrong": Destination(kind="webhook", url=Secret(f"{base}/x"), secret=Secret("short")),
            "pager": Destination(kind="alertmanager", url=Secret(f"{base}/api/v2/alerts")),
            "desk": Destination(kind="email", url=Secret("oncall@example.org")),
        },
        group_wait_s=0.0,
        mail=Mail(host="127.0.0.1", port=received.mail, sender="guard@example.org",
                  security="none"),
        allow_networks=("127.0.0.0/8",),
        allow_http=True,
    )  # fmt: skip
    notices = Notices(settings, tmp_path / "outbox.db")
    try:
        notices.tell("opened", alert())
        until(lambda: notices.standing() == {"waiting": 1, "delivered": 4, "dead": 0})
        first = json.loads(received.at("/api/v2/alerts")[0][1])
        notices.tell("resolved", alert(severity=HealthStatus.HEALTHY, resolved=True))
        until(lambda: notices.standing()["delivered"] == 8)
    finally:
        notices.close()

    heads, body = received.at("/hook")[0]
    said = verify(heads, body, secret)
    assert said["data"]["alerts"][0]["fault"] == "disk_full"
    assert json.loads(received.at("/slack")[0][1])["attachments"][0]["color"] == "danger"
    mail = received.mails[0]
    assert (mail["From"], mail["To"]) == ("guard@example.org", "oncall@example.org")
    assert "disk_full of storage" in mail["Subject"]
    assert "the disk is full" in str(mail.get_payload())

    last = json.loads(received.at("/api/v2/alerts")[-1][1])
    for document in (first, last):
        Draft7Validator(POSTABLE_ALERTS, format_checker=FormatChecker()).validate(document)
    now = SystemClock().now().isoformat()
    assert {a["labels"]["severity"]: a["endsAt"] > now for a in first} == {
        "critical": True,
        "warning": False,
    }
    assert [a["endsAt"] > now for a in last] == [False, False]
    assert {json.dumps(a["labels"]) for a in first} == {json.dumps(a["labels"]) for a in last}
