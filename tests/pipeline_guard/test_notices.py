"""Notices: on the disk before they are sent, grouped by root, repeated, and sent until received."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline_guard.config import Destination, NotifySettings
from pipeline_guard.model import Alert, Fault, HealthStatus, PipelineComponent
from pipeline_guard.notices import Notices, alertmanager_body, lines_of, slack_body
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock

SLACK = Destination(kind="slack", url=Secret("https://hooks.example/x"))


class Sent:
    """What was sent; refuses as long as it is told to."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.attempts = 0
        self.refuses = False

    def __call__(self, destination: Destination, message: dict[str, Any], name: str) -> bool:
        self.attempts += 1
        if not self.refuses:
            self.messages.append(message)
        return not self.refuses


def alert(name: str = "inc_1", *, root: str | None = None, **more: Any) -> Alert:
    clock = ManualClock()
    return Alert(
        component=PipelineComponent.STORAGE,
        severity=HealthStatus.CRITICAL,
        message="the disk is full",
        timestamp=clock.now(),
        since=clock.now(),
        id=name,
        root=root,
        fault=Fault.DISK_FULL,
        check="disk",
        **more,
    )


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    made: list[Notices] = []

    def make(sent: Sent, clock: ManualClock, **more: Any) -> Notices:
        values = {"destinations": {"oncall": SLACK}, "group_wait_s": 30.0} | more
        settings = NotifySettings(**values)
        found = Notices(settings, tmp_path / "outbox.db", clock=clock, send=sent)
        made.append(found)
        return found

    yield make
    for each in made:
        each.close()


def told(notices: Notices, clock: ManualClock, *, after_s: float = 0.0) -> None:
    """One round of the thread, on this one."""
    from contextlib import closing

    while not notices._news.empty():
        news = notices._news.get()
        with closing(notices._open()) as connection:
            assert news is not None
            notices._queue(connection, news)
    clock.advance(after_s)
    with closing(notices._open()) as connection:
        notices._deliver(connection)


def still(notices: Notices) -> None:
    """End the thread: the test takes its rounds itself."""
    notices.close()


Opened = Callable[..., Notices]


def test_what_hangs_on_one_root_is_one_message_with_the_root_first(opened: Opened) -> None:
    sent, clock = Sent(), ManualClock()
    notices = opened(sent, clock)
    still(notices)
    notices.tell("opened", alert("child", root="root"))
    notices.tell("opened", alert("root"))

    told(notices, clock, after_s=29)
    assert sent.messages == []
    told(notices, clock, after_s=2)
    assert len(sent.messages) == 1
    assert "(root)" in lines_of(sent.messages[0])[0]
    assert "(child)" in lines_of(sent.messages[0])[1]


def test_the_same_news_is_told_once_also_after_a_restart(opened: Opened) -> None:
    sent, clock = Sent(), ManualClock()
    for _ in range(2):
        notices = opened(sent, clock)
        still(notices)
        notices.tell("opened", alert())
        told(notices, clock, after_s=31)

    assert len(sent.messages) == 1


def test_what_was_refused_is_kept_and_sent_again_by_the_next_process(opened: Opened) -> None:
    sent, clock = Sent(), ManualClock()
    first = opened(sent, clock)
    still(first)
    first.tell("escalated", alert())
    sent.refuses = True
    told(first, clock)
    assert first.standing() == {"waiting": 1, "delivered": 0, "dead": 0}

    sent.refuses = False
    second = opened(sent, clock)
    still(second)
    told(second, clock, after_s=6)

    assert [m["alerts"][0]["event"] for m in sent.messages] == ["escalated"]
    assert second.standing()["delivered"] == 1


def test_after_twelve_refusals_it_is_given_up_and_counted(opened: Opened) -> None:
    sent, clock = Sent(), ManualClock()
    sent.refuses = True
    notices = opened(sent, clock)
    still(notices)
    notices.tell("resolved", alert())
    for _ in range(20):
        told(notices, clock, after_s=5 * 3_600)

    assert sent.attempts == 12
    assert notices.standing()["dead"] == 1


def test_what_stands_is_repeated_and_what_is_over_is_not(opened: Opened) -> None:
    sent, clock = Sent(), ManualClock()
    notices = opened(sent, clock, repeat_s=3_600.0)
    still(notices)
    notices.tell("opened", alert())
    told(notices, clock, after_s=31)
    told(notices, clock, after_s=3_601)
    assert len(sent.messages) == 2
    notices.tell("resolved", alert(resolved=True))
    told(notices, clock)
    told(notices, clock, after_s=7_200)

    assert [m["alerts"][0]["event"] for m in sent.messages] == ["opened", "opened", "resolved"]


def test_only_those_who_are_named_hear_an_escalation(opened: Opened) -> None:
    sent, clock = Sent(), ManualClock()
    quiet = Destination(kind="slack", url=Secret("https://q.example"), events=("resolved",))
    notices = opened(sent, clock, destinations={"oncall": SLACK, "quiet": quiet})
    still(notices)
    notices.tell("escalated", alert(), only=["oncall"])
    told(notices, clock)

    assert sent.attempts == 1


def test_slack_gets_the_documented_form_and_alertmanager_its_own() -> None:
    message = {"root": "inc_1", "alerts": [
        {"event": "opened", "id": "inc_1", "component": "storage", "severity": "critical",
         "fault": "disk_full", "check": "disk", "message": "<full> & more", "runbook": "https://r",
         "since": (ManualClock().now() - timedelta(hours=1)).isoformat()},
    ]}  # fmt: skip
    slack = json.loads(slack_body(message))
    found, other = json.loads(alertmanager_body(message, ManualClock().now(), 60.0))

    assert slack["text"].startswith("Pipeline Alert: OPENED critical")
    assert slack["attachments"][0]["color"] == "danger"
    assert slack["attachments"][0]["fields"][1]["value"] == "&lt;full&gt; &amp; more"
    assert found["labels"]["alertname"] == "PipelineGuard_disk_full"
    assert found["annotations"]["runbook_url"] == "https://r"
    assert found["startsAt"] == "2025-12-31T23:00:00+00:00"
    assert found["endsAt"] == "2026-01-01T00:01:00+00:00"
    assert other["labels"] == found["labels"] | {"severity": "warning"}
    assert other["endsAt"] == "2026-01-01T00:00:00+00:00"
