"""The page of what stands beside the service, over a guard that really runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.privacy_finetuner.dashboard.conftest import town_in
from tests.privacy_finetuner.service.test_router_reading import ANSWERS
from tests.privacy_finetuner.watching import answering, configured, served, token, watching

from privacy_finetuner.dashboard.guard import GuardPart
from privacy_finetuner.service.guard_reading import GuardView
from privacy_runtime.identity import Role
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock

if TYPE_CHECKING:
    from tests.privacy_finetuner.dashboard.conftest import Town

NOW = ManualClock().now()


@contextmanager
def beside(home: Path, url: str, key: str) -> Iterator[Town]:
    """A deployment that knows a guard; its operator is the organisation in the north."""
    service, town = town_in(home, guard={"url": url, "key": key})
    with service:
        town.tenant("north")
        yield town


def shown(text: str) -> str:
    """The words of a page."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("guarded")
    config = configured(folder)
    with (
        watching(config),
        served(config) as address,
        beside(folder / "home", address, token(config)) as town,
    ):
        yield town


def test_the_operator_sees_what_is_wrong_since_when_and_what_would_be_done(guarded: Town) -> None:
    text = shown(guarded.person(Role.TRAINER).open("/parts").text)

    assert "storage: " in text
    assert "of bytes" in text
    assert "disk full" in text
    assert "docs/runbooks/disk_full.md" in text
    assert "Suggested storage.disk_full" in text
    assert "would remove 0 entries" in text
    assert "It tells people what it would do, and does nothing." in text
    assert re.search(r"Kill switch\s+off", text)
    assert re.search(r"trainer\s+healthy", text)
    assert re.search(r"Lag of its loop [0-9.,]+ m?s", text)
    assert "looked" in text
    assert "The guard is silent" not in text


def test_it_is_said_in_german(guarded: Town) -> None:
    page = guarded.person(Role.TRAINER).open("/parts", **{"accept-language": "de"})
    text = shown(page.text)

    for words in ("Wächter der Verarbeitung", "kritisch", "Vorgeschlagen", "gesund", "Notaus"):
        assert words in text
    for words in ("healthy", "Standing", "Suggested", "looked"):
        assert words not in text


def test_another_organisation_sees_nothing_of_it(guarded: Town) -> None:
    guarded.person(Role.TRAINER)
    answer = guarded.person(Role.TRAINER, at="south").open("/parts")

    assert answer.status_code == 200
    assert "The guard is the operator" in answer.text
    for secret in ("storage", "trainer.", "disk", "suggest", "critical", "pipeline-guard token"):
        assert secret not in shown(answer.text), secret


def test_a_guard_that_fell_silent_is_critical_and_what_stood_is_said_to_be_old(
    tmp_path: Path,
) -> None:
    config = configured(tmp_path)
    with watching(config):
        pass
    clock = ManualClock(SystemClock().now())
    clock.advance(3 * 3600)
    with (
        served(config, clock) as address,
        beside(tmp_path / "home", address, token(config)) as town,
    ):
        text = shown(town.person(Role.TRAINER).open("/parts").text)

    assert "The guard is silent: it has ended, hangs, or cannot write." in text
    assert "It last looked 3 hours ago. Nobody looks now" in text
    assert re.search(r"Guard\s+critical", text)


@pytest.mark.parametrize(
    ("key", "away", "said"),
    [
        ("another", False, "The guard does not take the configured token"),
        ("another", True, "does not answer"),
    ],
)
def test_why_nothing_is_known_is_said(tmp_path: Path, key: str, away: bool, said: str) -> None:
    config = configured(tmp_path)
    with served(config) as address:
        url = "http://127.0.0.1:1" if away else address
        with beside(tmp_path / "home", url, key) as town:
            text = shown(town.person(Role.TRAINER).open("/parts").text)

    assert said in text
    assert "None stood" not in text
    assert "Nothing was found" not in text


def test_without_one_the_page_says_how_to_connect_it(quiet_town: Town) -> None:
    quiet_town.tenant("north")
    page = quiet_town.person(Role.TRAINER).open("/parts").text

    assert "No guard is connected" in page
    assert "--subject dashboard --scope guard:read" in page
    assert "key: ${GUARD_TOKEN}" in page


def test_a_router_s_ready_nodes_are_counted_and_its_words_translated(tmp_path: Path) -> None:
    async def router(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            status, body = ANSWERS[scope["path"]]
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": body.encode()})

    with answering(router) as address:
        service, town = town_in(tmp_path, router={"url": address, "key": "k"})
        with service:
            person = town.person(Role.TRAINER)
            english = shown(person.open("/parts").text)
            german = shown(person.open("/parts", **{"accept-language": "de"}).text)

    assert re.search(r"Nodes 1 1 ready", english)
    assert "clinic-a" in english
    assert "radiology" in english
    assert "gesund" in german
    assert "healthy" not in german


def part(**changes: Any) -> GuardPart:
    return GuardPart(replace(GuardView(), **changes), True, NOW)


def test_a_look_just_now_was_not_in_the_future() -> None:
    at = part(age_s=0.0).looked_at
    assert at is not None
    assert at < NOW


def test_a_word_of_a_newer_guard_is_shown_as_it_is() -> None:
    assert part().did("quarantined_twice") == ("quarantined twice", "")
    assert part().tone("puzzled") == "warn"


@pytest.mark.parametrize(("lag_s", "is_late"), [(None, False), (0.01, False), (5.0, True)])
def test_a_loop_is_late_from_five_seconds(lag_s: float | None, is_late: bool) -> None:
    assert part(lag_s=lag_s).is_late is is_late
