"""What a guard says is read from its real server; whatever else is said there breaks nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.privacy_finetuner.watching import answering, configured, served, token, until, watching

from pipeline_guard.app.tokens import WRITE
from pipeline_guard.config import GuardConfig
from privacy_finetuner.environment.neighbours import Guard
from privacy_finetuner.service.guard_reading import GuardReading, GuardRecovery, GuardView
from privacy_finetuner.service.neighbour import AGAIN_S
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock

STATUS, ALERTS = "/api/v1/status", "/api/v1/alerts"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> GuardConfig:
    return configured(tmp_path_factory.mktemp("guard"))


@pytest.fixture(scope="module")
def address(config: GuardConfig) -> Iterator[str]:
    with watching(config), served(config) as found:
        yield found


def reading(url: str, key: str, clock: Any = None, limit_s: float = 5.0) -> GuardReading:
    place = Guard(url=Secret(url), key=Secret(key), limit_s=limit_s)
    return GuardReading(place, clock or ManualClock())


@pytest.fixture(scope="module")
def said(address: str, config: GuardConfig) -> dict[str, Any]:
    """What the real server answers, by path."""
    headers = {"Authorization": f"Bearer {token(config)}"}
    with httpx2.Client(base_url=address, headers=headers) as client:
        return {path: client.get(path).json() for path in (STATUS, ALERTS)}


class Saying:
    """Answers by path: status, headers, body; with a wait before and between bytes."""

    def __init__(self, answers: dict[str, tuple[int, bytes]]) -> None:
        self.answers, self.headers = answers, [(b"content-type", b"application/json")]
        self.asked: list[str] = []
        self.wait_s = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.asked.append(scope["path"])
        status, body = self.answers[scope["path"]]
        start = {"type": "http.response.start", "status": status, "headers": self.headers}
        await send(start)
        pieces = [body] if not self.wait_s else [body[n : n + 1] for n in range(len(body))]
        for piece in pieces:
            await asyncio.sleep(self.wait_s)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def other(said: dict[str, Any]) -> Iterator[tuple[Saying, str]]:
    """Something at the guard's address whose answers the test chooses."""
    saying = Saying({path: (200, json.dumps(body).encode()) for path, body in said.items()})
    with answering(saying) as found:
        yield saying, found


def test_a_guard_as_it_says_it_is(address: str, config: GuardConfig) -> None:
    view = reading(address, token(config)).view()

    assert (view.fault, view.health, view.mode) == ("", "critical", "suggest")
    assert (view.is_silent, view.is_killed) == (False, False)
    assert view.age_s is not None
    assert view.age_s < 30
    assert view.lag_s is not None
    assert [(each.name, each.health) for each in view.components] == [
        ("storage", "critical"), ("trainer", "healthy"),
    ]  # fmt: skip
    assert view.components[0].checks[0].name == "disk"
    (recovery,) = view.recoveries
    assert (recovery.name, recovery.mode, recovery.runs) == ("storage.disk_full", "suggest", 0)
    assert view.alerts is not None
    (alert,) = view.alerts
    assert (alert.component, alert.check, alert.fault) == ("storage", "disk", "disk_full")
    assert alert.runbook == "docs/runbooks/disk_full.md"
    assert alert.message
    assert dict(alert.evidence)["path"] == "."
    assert dict(alert.evidence)["free_bytes"].isdigit()
    assert alert.since <= SystemClock().now()
    assert [each.kind for each in alert.actions] == ["suggested"]
    assert alert.actions[0].text.startswith("would ")


def test_a_guard_that_ended_is_critical_and_so_is_one_that_never_was(tmp_path: Path) -> None:
    config = configured(tmp_path)
    clock = ManualClock(SystemClock().now())
    with served(config, clock) as address:
        desk = reading(address, token(config), clock)
        assert (desk.view().fault, desk.view().health) == ("blind", "critical")
        assert desk.view().alerts is None
        with watching(config):
            pass
        clock.advance(3600)
        view = desk.view()
        assert (view.fault, view.health, view.is_silent) == ("", "critical", True)
        assert view.age_s is not None
        assert view.age_s > 3000


def test_the_kill_switch_is_said(tmp_path: Path) -> None:
    config = configured(tmp_path)
    with served(config) as address:
        with watching(config) as guard:
            (tmp_path / "guard.stop").touch()
            until(lambda: guard.get_system_status()["is_killed"])
        assert reading(address, token(config)).view().is_killed


def test_only_a_token_that_may_read_shows_anything(address: str, config: GuardConfig) -> None:
    for key in ("another", token(config, WRITE), "ü", "a b"):
        view = reading(address, key).view()
        assert (view.fault, view.health, view.alerts) == ("refused", "unknown", None), key


def test_it_is_asked_every_five_seconds_at_most(other: tuple[Saying, str]) -> None:
    saying, address = other
    clock = ManualClock()
    desk = reading(address, "key", clock)

    for _ in range(3):
        desk.view()
    assert sorted(saying.asked) == [ALERTS, STATUS]
    clock.advance(AGAIN_S)
    desk.view()
    assert len(saying.asked) == 4


@pytest.mark.parametrize("path", [STATUS, ALERTS])
@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ((200, b"<!doctype html><title>Sign in</title>"), "unexpected"),
        ((200, b'{"age_seconds": NaN}'), "unexpected"),
        ((200, b"[]"), "unexpected"),
        ((200, b"null"), "unexpected"),
        ((200, b"{}"), "unexpected"),
        ((200, b"[" * 100_000), "unexpected"),
        ((200, b"9" * 5000), "unexpected"),
        ((200, b"\xff\xfe"), "unexpected"),
        ((200, b" " * (5 << 20)), "unexpected"),
        ((302, b""), "unexpected"),
        ((500, b"{}"), "unexpected"),
        ((401, b"{}"), "refused"),
        ((403, b"{}"), "refused"),
        ((503, b'{"error": {"type": "MonitoringError"}}'), "blind"),
    ],
)
def test_what_is_said_otherwise_is_a_fault_and_no_error(
    other: tuple[Saying, str], path: str, answer: tuple[int, bytes], fault: str
) -> None:
    saying, address = other
    saying.headers.append((b"location", b"http://127.0.0.1:1/"))
    saying.answers[path] = answer

    assert reading(address, "key").view().fault == fault


def _changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The document with one value replaced, by its place, such as `alerts.0.since`."""
    made = deepcopy(document)
    *places, last = (int(part) if part.isdigit() else part for part in path.split("."))
    at: Any = made
    for place in places:
        at = at[place]
    at[last] = value
    return made


@pytest.mark.parametrize(
    ("at", "place", "value"),
    [
        (STATUS, "age_seconds", "soon"),
        (STATUS, "age_seconds", True),
        (STATUS, "is_silent", 0),
        (STATUS, "components", [1]),
        (STATUS, "components", {"a": {"health": "healthy"}}),
        (STATUS, "guard", 7),
        (STATUS, "guard.hanging_probes", 10**310),
        (STATUS, "recoveries", {"a": None}),
        (ALERTS, "alerts", {"a": 1}),
        (ALERTS, "alerts", [None]),
        (ALERTS, "alerts.0.since", "2026-01-01T00:00:00"),
        (ALERTS, "alerts.0.since", "0001-01-01T00:00:00+23:59"),
        (ALERTS, "alerts.0.since", 5),
        (ALERTS, "alerts.0.metadata", "none"),
        (ALERTS, "alerts.0.actions", [{"at": "now"}]),
    ],
)
def test_a_form_that_is_not_known_is_unexpected(
    other: tuple[Saying, str], said: dict[str, Any], at: str, place: str, value: Any
) -> None:
    saying, address = other
    saying.answers[at] = (200, json.dumps(_changed(said[at], place, value)).encode())

    view = reading(address, "key").view()
    assert (view.fault, view.health, view.alerts) == ("unexpected", "unknown", None)


def test_a_text_that_no_page_can_hold_and_one_without_end(
    other: tuple[Saying, str], said: dict[str, Any]
) -> None:
    saying, address = other
    document = _changed(said[ALERTS], "alerts.0.message", "\ud800" + "x" * 9999)
    document = _changed(document, "alerts.0.metadata.evidence", {"\udfff": {"a": [1, "é"]}})
    saying.answers[ALERTS] = (200, json.dumps(document).encode())

    alerts = reading(address, "key").view().alerts
    assert alerts is not None
    assert alerts[0].message == "?" + "x" * 499
    assert ("?", '{"a": [1, "é"]}') in alerts[0].evidence
    assert alerts[0].evidence[0][0].encode()


def test_what_unfolds_beyond_the_limit_is_not_unfolded(other: tuple[Saying, str]) -> None:
    saying, address = other
    saying.headers.append((b"content-encoding", b"gzip"))
    saying.answers[STATUS] = (200, gzip.compress(b" " * (50 << 20)))

    assert reading(address, "key").view().fault == "unexpected"


def test_one_who_never_comes_to_an_end_is_given_up(other: tuple[Saying, str]) -> None:
    saying, address = other
    saying.wait_s = 0.05  # each byte in time, and hundreds of them
    clock = SystemClock()
    began_s = clock.monotonic_s()

    view = reading(address, "key", clock, limit_s=0.4).view()
    assert (view.fault, view.health) == ("unreachable", "critical")
    assert clock.monotonic_s() - began_s < 4


def test_a_guard_whose_server_is_away_is_critical() -> None:
    for url in ("http://127.0.0.1:1", "http://127.0.0.1:1/guard", "https://127.0.0.1:1"):
        view = reading(url, "key").view()
        assert (view.fault, view.health, view.alerts) == ("unreachable", "critical", None)


def test_an_authority_that_is_no_file_reaches_nobody(tmp_path: Path) -> None:
    for name in ("absent.pem", "empty.pem"):
        (tmp_path / "empty.pem").write_text("none")
        place = Guard(
            url=Secret("https://127.0.0.1:1"), key=Secret("k"), authority=str(tmp_path / name)
        )
        assert GuardReading(place, ManualClock()).view().fault == "unreachable"


@pytest.mark.parametrize(
    ("modes", "most"),
    [
        ((), ""),
        (("observe", "suggest"), "suggest"),
        (("act", "observe"), "act"),
        (("act", "destroy"), "destroy"),
    ],
)
def test_the_mode_is_the_most_that_any_recovery_may_do(modes: tuple[str, ...], most: str) -> None:
    recoveries = tuple(
        GuardRecovery(name=mode, mode=mode, right_in_a_row=0, runs=0) for mode in modes
    )

    assert GuardView(recoveries=recoveries).mode == most
