"""Who may open what: every page by every role, strangers, forged forms, other organisations."""

from __future__ import annotations

import html.parser
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from privacy_finetuner.dashboard.site import POLICY, inside
from privacy_finetuner.jobs import EventKind
from privacy_runtime.budget_store import Signature
from privacy_runtime.identity import ROLE_SCOPES, Role

if TYPE_CHECKING:
    from tests.privacy_finetuner.dashboard.conftest import Town

OPEN_PAGES = (
    "/", "/jobs", "/jobs/new", "/datasets", "/frontier", "/budgets", "/budgets/new", "/audits",
    "/certificates", "/certificates/verify", "/alerts", "/workers", "/parts", "/compliance",
    "/compliance/activities/new", "/trail", "/users", "/users/new", "/keys", "/account",
    "/account/second-factor",
)  # fmt: skip


@pytest.mark.parametrize("role", list(Role))
def test_a_page_opens_for_exactly_those_with_its_scope(quiet_town: Town, role: Role) -> None:
    person = quiet_town.person(role)
    for path in OPEN_PAGES:
        scope = quiet_town.pages.scopes["GET", path]
        expected = 200 if scope in ROLE_SCOPES[role] else 403
        assert person.open(path).status_code == expected, (path, role)


def test_every_page_without_parts_is_in_the_matrix(quiet_town: Town) -> None:
    known = {
        path
        for (method, path), scope in quiet_town.pages.scopes.items()
        if method == "GET" and "{" not in path and scope is not None
    }
    assert known - {"/jobs/plan"} == set(OPEN_PAGES)


def test_only_the_door_is_open_to_strangers(quiet_town: Town) -> None:
    open_ones = {at for at, scope in quiet_town.pages.scopes.items() if scope is None}
    assert open_ones == {
        ("GET", "/sign-in"),
        ("POST", "/sign-in"),
        ("POST", "/sign-out"),
        ("POST", "/password"),
        ("POST", "/preferences"),
    }
    for path in OPEN_PAGES:
        answer = quiet_town.visitor().open(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")


def test_a_navigation_shows_only_what_opens(quiet_town: Town) -> None:
    for role in Role:
        person = quiet_town.person(role)
        text = person.open("/").text
        for path in set(re.findall(r'<li><a href="(/[a-z]*)"', text)):
            assert person.open(path).status_code == 200, (role, path)


class _Reader(html.parser.HTMLParser):
    """What a page is made of, as far as readers with other senses depend on it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def _require_readable(path: str, text: str) -> None:
    reader = _Reader()
    reader.feed(text)
    tags = reader.tags
    assert [tag for tag, _ in tags].count("h1") == 1, path
    assert next(a for tag, a in tags if tag == "html")["lang"] in {"en", "de"}
    ids = [a["id"] for _, a in tags if a.get("id")]
    assert len(ids) == len(set(ids)), (path, sorted(i for i in ids if ids.count(i) > 1))
    labelled = {a.get("for") for tag, a in tags if tag == "label"}
    wrapped = set(
        re.findall(
            r"<label[^>]*>(?:(?!</label>).)*?<(?:input|select)[^>]*name=\"([^\"]+)\"", text, re.S
        )
    )
    for tag, a in tags:
        assert "style" not in a, (path, tag)
        assert not [name for name in a if name.startswith("on")], (path, tag)
        if tag in {"input", "select", "textarea"} and a.get("type") != "hidden":
            named = a.get("id") in labelled or a.get("name") in wrapped or a.get("aria-label")
            assert named, (path, a)
        if tag == "script":
            assert str(a.get("src")).startswith("/static/"), path
    assert not re.search(r"<style|<script(?![^>]*src=)", text), path
    levels = [int(tag[1]) for tag, _ in tags if tag in {"h1", "h2", "h3"}]
    assert all(b - a <= 1 or a == 2 for a, b in pairwise(levels)), path


def test_pages_are_readable_and_hold_no_inline_code(quiet_town: Town) -> None:
    for role in (Role.TRAINER, Role.PRIVACY_OFFICER, Role.ADMIN):
        person = quiet_town.person(role)
        for path in OPEN_PAGES:
            answer = person.open(path, **{"accept-language": "de"})
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["cache-control"] == "no-store"
            _require_readable(path, answer.text)
    _require_readable("/sign-in", quiet_town.visitor().open("/sign-in").text)


def test_an_unknown_address_is_a_page_with_the_request_id(quiet_town: Town) -> None:
    for person in (quiet_town.visitor(), quiet_town.person(Role.VIEWER)):
        answer = person.open("/no/such/page")
        assert answer.status_code == 404
        assert answer.headers["x-request-id"] in answer.text
        assert answer.headers["content-security-policy"] == POLICY


def test_errors_of_the_api_are_no_pages(quiet_town: Town) -> None:
    for path in ("/api/v1/nothing", "/metrics/x", "/health/x", "/static/nothing.js"):
        answer = quiet_town.visitor().open(path)
        assert answer.status_code == 404
        assert "text/html" not in answer.headers["content-type"]


def test_an_act_needs_the_token_of_its_session(quiet_town: Town) -> None:
    trainer = quiet_town.person(Role.TRAINER)
    job = quiet_town.job()
    acts = [at for at, scope in quiet_town.pages.scopes.items() if at[0] == "POST" and scope]
    assert len(acts) >= 12
    for _, pattern in acts:
        path = re.sub(r"\{job\}", job.id, re.sub(r"\{(?!job)[^}]*\}", "x", pattern))
        for token in ("", "A" * 86):
            assert trainer.send(path, {}, token=token).status_code == 403, path
    assert quiet_town.service.jobs.get(job.id, tenant=trainer.tenant).state == "queued"


def test_another_site_cannot_send_our_forms(quiet_town: Town) -> None:
    trainer = quiet_town.person(Role.TRAINER)
    token = re.search(r'csrf_token" value="([^"]+)"', trainer.open("/account").text).group(1)
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        for path in ("/sign-out", "/preferences", "/keys", "/sign-in"):
            answer = trainer.http.post(path, data={"csrf_token": token}, headers=headers)
            assert answer.status_code == 403, path


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "", None],
)
def test_nobody_is_sent_elsewhere(target: str | None) -> None:
    assert inside(target) == "/"


def test_an_address_of_ours_is_kept() -> None:
    assert inside("/jobs?state=running") == "/jobs?state=running"


def _paths_of(job: Any) -> list[str]:
    return [
        f"/jobs/{job.id}",
        f"/jobs/{job.id}/events",
        f"/jobs/{job.id}/cancel",
        f"/jobs/{job.id}/report",
        f"/jobs/{job.id}/files/report.html",
        f"/certificates/{job.id}",
        "/budgets/letters/1999",
    ]


def test_another_organisation_s_objects_are_not_there(quiet_town: Town) -> None:
    job = quiet_town.job(name="a northern secret")
    quiet_town.leave(job, "report.html", b"<h1>northern</h1>")
    quiet_town.account("letters/1999")
    stranger = quiet_town.person(Role.TRAINER, at="south")
    for path in _paths_of(job):
        answer = stranger.open(path)
        assert answer.status_code == 404, path
        assert "northern" not in answer.text
    assert stranger.send(f"/jobs/{job.id}/cancel", {}).status_code == 404
    assert quiet_town.service.jobs.get(job.id, tenant=job.tenant).state == "queued"
    for path in ("/", "/jobs", "/budgets", "/frontier", "/audits", "/certificates", "/jobs/new"):
        text = stranger.open(path).text
        assert job.id not in text, path
        assert "northern" not in text, path
        assert "letters/1999" not in text, path


def test_another_organisation_s_people_and_trail_are_not_there(quiet_town: Town) -> None:
    quiet_town.person(Role.TRAINER, at="north")
    northern = quiet_town.person(Role.VIEWER, at="north").id
    admin = quiet_town.person(Role.ADMIN, at="south")
    for path in ("/users", "/trail", "/alerts", "/keys"):
        text = admin.open(path).text
        assert "@north" not in text, path
        assert northern not in text, path
    assert admin.open(f"/users/{northern}").status_code == 404
    assert admin.send(f"/users/{northern}", {"act": "disable"}).status_code == 404


def test_exact_figures_are_for_their_scope_alone(town: Town) -> None:
    job = town.job()
    for step, loss in ((1, 7.654321), (2, 6.543217)):
        town.tell(job, EventKind.EXACT, step=step, loss=loss)
    town.leave(job, "training_result.json", b'{"duration_s": 12.345}', outside=True)
    trainer, officer = town.person(Role.TRAINER), town.person(Role.PRIVACY_OFFICER)
    shown, hidden = officer.open(f"/jobs/{job.id}").text, trainer.open(f"/jobs/{job.id}").text
    assert "7.654" in shown
    assert "7.654" not in hidden
    assert "training_result.json" in shown
    assert "training_result.json" not in hidden
    file = f"/jobs/{job.id}/files/training_result.json"
    assert trainer.open(file).status_code == 404
    town.service.jobs.cancel(job.id, tenant=job.tenant, by=trainer.id)
    streamed = trainer.open(f"/jobs/{job.id}/events").text
    assert "event: state" in streamed
    assert "7.654" not in streamed
    assert "7.654" in officer.open(f"/jobs/{job.id}/events").text


def test_an_account_of_one_person_is_outside_the_guarantee(town: Town) -> None:
    town.account("notes/2026/patient-7")
    trainer, officer = town.person(Role.TRAINER), town.person(Role.PRIVACY_OFFICER)
    assert "patient-7" in officer.open("/budgets").text
    for path in ("/budgets", "/", "/jobs/new"):
        assert "patient-7" not in trainer.open(path).text
    assert trainer.open("/budgets/notes/2026/patient-7").status_code == 404
    assert officer.open("/budgets/notes/2026/patient-7").status_code == 200


def test_what_was_typed_is_text_everywhere(town: Town) -> None:
    evil = '<script>alert("x")</script>'
    job = town.job(name=evil)
    officer = town.person(Role.PRIVACY_OFFICER)
    account = town.account("notes/2026", reason=evil)
    town.service.ledger.grant(
        "g", account, epsilon=1.0, signature=Signature(person=officer.id, reason=evil)
    )
    for path in ("/", "/jobs", f"/jobs/{job.id}", "/budgets/notes/2026", "/trail"):
        assert evil not in officer.open(path).text, path
    assert "&lt;script&gt;" in officer.open(f"/jobs/{job.id}").text
