"""Every kind of alert reaches the audit trail, the figures, and the people who are named."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from federated_dp_llm.api.service import Service
from federated_dp_llm.config import RouterConfig
from federated_dp_llm.security import AuthEvent, InputValidator, PrivacyEvent
from privacy_runtime.notify import Posting
from privacy_runtime.settings.faults import SettingsRefused

KINDS = ("brute_force", "unusual_consumption", "suspicious_input", "certificate")


class Channel:
    """A Slack incoming webhook of a test."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.several = threading.Semaphore(0)
        channel = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["content-length"])
                channel.heard.append(json.loads(self.rfile.read(size)))
                channel.several.release()
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/T/B/x"


@pytest.fixture
def channel() -> Iterator[Channel]:
    opened = Channel()
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


def opened(home: Path, **notices: Any) -> Service:
    config = RouterConfig.read(
        None, variables={}, environment="testing", store={"home": str(home)}, notices=notices
    )
    posting = Posting(allowed=[ip_network("127.0.0.0/8")], allow_http=True)
    return Service.open(config, posting=posting)


def raised(service: Service) -> None:
    """One alert of each kind."""
    monitor = service.monitor
    for _ in range(6):
        monitor.monitor_authentication(AuthEvent("doctor", success=False))
    monitor.monitor_privacy_access(PrivacyEvent("doctor", 9.0, 1.0), day="2026-01-02")
    monitor.suspicious_input("doctor", InputValidator.signs("<script>alert(1)</script>"))
    monitor.certificate("renewed files were not taken (ValueError); the old ones stay")


def test_each_alert_is_in_the_trail_counted_and_told(tmp_path: Path, channel: Channel) -> None:
    with opened(tmp_path, slack_url=channel.url) as service:
        raised(service)
        for _ in KINDS:
            assert channel.several.acquire(timeout=30)
        entries = [e.body for e in service.journal.read("security") if e.type == "security.alert"]
        figures = service.figures.exposition()[0].decode()

    assert [body["kind"] for body in entries] == list(KINDS)
    assert all(f'security_alerts_total{{kind="{kind}"}} 1.0' in figures for kind in KINDS)
    told = json.dumps(channel.heard)
    assert all(kind in told for kind in KINDS)
    assert "doctor" not in told
    assert "script" not in told


def test_a_department_that_spends_unusually_is_an_alert_once_a_day(tmp_path: Path) -> None:
    with opened(tmp_path) as service:
        watch = service.monitor.monitor_department
        assert not watch("surgery", 5.0, None, day="1")
        assert not watch("surgery", 3.0, 1.0, day="1")
        assert watch("surgery", 3.1, 1.0, day="1")
        assert not watch("surgery", 9.0, 1.0, day="1")
        assert watch("surgery", 9.0, 1.0, day="2")
        assert watch("er", 9.0, 1.0, day="1")
        entries = [e.body for e in service.journal.read("security")]
    assert [body["department"] for body in entries] == ["surgery", "surgery", "er"]


def test_mail_needs_a_server(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="mail_host"):
        opened(tmp_path, mail_to=("it@clinic.example",))
