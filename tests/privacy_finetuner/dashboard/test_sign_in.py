"""The door: one message for whatever is wrong, secrets shown once, sessions that end."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

import pytest

from privacy_runtime.identity import Role
from privacy_runtime.identity.codes import code_at, step_of

if TYPE_CHECKING:
    from tests.privacy_finetuner.dashboard.conftest import Town

PASSWORD = "glacier-umbrella-tundra-42"  # noqa: S105  as in conftest
OTHER = "walnut-harbour-sleeve-77"


def test_whatever_is_wrong_looks_the_same(town: Town) -> None:
    town.person(Role.VIEWER)
    known = town.visitor().send("/sign-in", {"name": "viewer@north", "password": "wrong"})
    unknown = town.visitor().send("/sign-in", {"name": "nobody", "password": "wrong"})
    assert known.status_code == unknown.status_code == 401
    strip = re.compile(r"viewer@north|nobody|req_[0-9a-f]+")
    assert strip.sub("", known.text) == strip.sub("", unknown.text)
    assert "set-cookie" not in known.headers


def test_no_password_is_ever_sent_back(town: Town) -> None:
    town.person(Role.ADMIN)
    _, first = town.new_user("new", Role.VIEWER)
    visitor = town.visitor()
    for form in (
        {"name": "admin@north", "password": PASSWORD},
        {"name": "new", "password": first},
        {"name": "new", "password": "wrong-but-typed"},
    ):
        answer = visitor.send("/sign-in", form)
        assert form["password"] not in answer.text
    answer = visitor.send(
        "/password", {"name": "new", "password": first, "new": OTHER, "again": "another"}
    )
    assert answer.status_code == 422
    assert OTHER not in answer.text


def test_a_password_for_one_use_opens_its_own_change_alone(town: Town) -> None:
    _, first = town.new_user("new", Role.VIEWER)
    visitor = town.visitor()
    answer = visitor.send("/sign-in", {"name": "new", "password": first})
    assert answer.status_code == 200
    assert "for one use" in answer.text
    assert visitor.open("/jobs").status_code == 303
    weak = {"name": "new", "password": first, "new": "password1234", "again": "password1234"}
    assert visitor.send("/password", weak).status_code == 422
    good = {"name": "new", "password": first, "new": OTHER, "again": OTHER}
    assert visitor.send("/password", good).status_code == 303
    answer = visitor.send("/sign-in", {"name": "new", "password": OTHER})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert visitor.open("/jobs").status_code == 200


def test_who_must_have_a_second_factor_gets_nowhere_without(town: Town) -> None:
    _, first = town.new_user("boss", Role.ADMIN)
    town.service.identity.logins.change_password("boss", first, PASSWORD, source="t")
    visitor = town.visitor()
    visitor.send("/sign-in", {"name": "boss", "password": PASSWORD})
    for path in ("/", "/users", "/jobs"):
        answer = visitor.open(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/account/second-factor")
    page = visitor.open("/account/second-factor").text
    assert "otpauth" not in page
    assert '<svg class="qr"' not in page, "opening an address makes no secret"
    begun = visitor.send("/account/second-factor/begin", {}).text
    assert '<svg class="qr"' in begun
    seed = re.search(r'id="seed">([A-Z2-7 ]+)<', begun).group(1).replace(" ", "")
    assert visitor.send("/account/second-factor", {"code": "000000"}).status_code == 422
    code = code_at(base64.b32decode(seed), step_of(town.clock.now()))
    done = visitor.send("/account/second-factor", {"code": code})
    codes = re.findall(r"<li>([a-z2-7-]{27})</li>", done.text)
    assert len(codes) == 10
    assert done.headers["cache-control"] == "no-store"
    assert visitor.open("/users").status_code == 303, "every session has ended"
    again = town.visitor()
    assert again.send("/sign-in", {"name": "boss", "password": PASSWORD}).status_code == 200
    form = {"name": "boss", "password": PASSWORD, "code": codes[0]}
    assert again.send("/sign-in", form).status_code == 303
    assert again.open("/users").status_code == 200
    assert town.visitor().send("/sign-in", form).status_code == 401, "a code opens once"


def test_too_many_failures_are_held_up(town: Town) -> None:
    town.person(Role.VIEWER)
    for _ in range(6):
        answer = town.visitor().send("/sign-in", {"name": "viewer@north", "password": "wrong"})
    assert answer.status_code == 429
    assert "try again in" in answer.text


def test_signing_out_ends_the_session(town: Town) -> None:
    viewer = town.person(Role.VIEWER)
    cookie = viewer.http.cookies["session"]
    assert viewer.send("/sign-out", {}).status_code == 303
    viewer.http.cookies.set("session", cookie)
    answer = viewer.open("/jobs?state=running")
    assert answer.status_code == 303
    assert "next=%2Fjobs%3Fstate%3Drunning" in answer.headers["location"]
    assert "said=session-over" in answer.headers["location"]


def test_an_idle_session_is_over(town: Town) -> None:
    viewer = town.person(Role.VIEWER)
    town.clock.advance(31 * 60)
    assert viewer.open("/").status_code == 303


def test_a_lowered_role_counts_at_the_next_page(town: Town) -> None:
    trainer, admin = town.person(Role.TRAINER), town.person(Role.ADMIN)
    answer = admin.send(f"/users/{trainer.id}", {"act": "role", "role": "viewer"})
    assert answer.status_code == 303
    assert trainer.open("/jobs/new").status_code == 303, "their sessions have ended"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("locale", "de", True),
        ("locale", "xx", False),
        ("theme", "dark", True),
        ("theme", "x", False),
    ],
)
def test_preferences_are_kept_in_cookies(
    quiet_town: Town, name: str, value: str, kept: bool
) -> None:
    visitor = quiet_town.visitor()
    answer = visitor.send("/preferences", {name: value, "next": "/sign-in"})
    assert answer.headers["location"] == "/sign-in"
    cookies = [c for c in answer.headers.get_list("set-cookie") if c.startswith(f"pf_{name}=")]
    assert bool(cookies) is kept
    assert all("HttpOnly" in cookie for cookie in cookies)
    if kept and name == "locale":
        assert "Anmelden" in visitor.open("/sign-in").text


def test_a_message_is_one_of_ours(quiet_town: Town) -> None:
    page = quiet_town.visitor().open("/sign-in?said=<b>you+won</b>").text
    assert "you won" not in page
    assert "signed out" in quiet_town.visitor().open("/sign-in?said=signed-out").text


def test_people_and_keys_are_made_and_shown_once(town: Town) -> None:
    admin = town.person(Role.ADMIN)
    made = admin.send("/users", {"name": "omar", "role": "trainer"}).text
    secret = re.search(r'id="one-time">([^<]+)<', made).group(1)
    assert secret not in admin.open("/users").text
    assert admin.send("/users", {"name": "omar", "role": "trainer"}).status_code == 422
    assert admin.send("/users", {"name": "O ' mar", "role": "trainer"}).status_code == 422
    assert admin.send("/users", {"name": "eve", "role": "root"}).status_code == 422
    trainer = town.person(Role.TRAINER)
    answer = trainer.send("/keys", {"label": "nightly", "days": "30", "scope:jobs:read": "1"})
    key = re.search(r'id="key">(pf_[^<]+)<', answer.text).group(1)
    page = trainer.open("/keys").text
    assert key not in page
    assert "nightly" in page
    assert town.visitor().open("/jobs", authorization=f"Bearer {key}").status_code == 200
    held = re.search(r"/keys/([a-z2-7]+)/revoke", page).group(1)
    assert trainer.send(f"/keys/{held}/revoke", {}).status_code == 303
    assert town.visitor().open("/jobs", authorization=f"Bearer {key}").status_code == 303
    refused = trainer.send("/keys", {"label": "x", "scope:budgets:grant": "1"})
    assert refused.status_code == 403
    assert trainer.send("/keys", {"label": "x"}).status_code == 422
