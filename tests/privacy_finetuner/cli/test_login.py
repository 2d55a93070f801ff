from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.client.house import PASSWORD, House, house_in
from typer.testing import CliRunner

from privacy_finetuner.cli.app import app
from privacy_finetuner.client import CredentialsFile
from privacy_runtime.identity import Role
from privacy_runtime.identity.codes import code_at, step_of


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house_in(tmp_path_factory.mktemp("service") / "home") as made:
        yield made


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "conf" / "credentials.json"
    monkeypatch.setenv("PRIVACY_FINETUNER_CREDENTIALS", str(file))
    for name in ("PRIVACY_FINETUNER_API_KEY", "PRIVACY_FINETUNER_URL", "PRIVACY_FINETUNER_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return file


def run(*arguments: object, typed: str = "") -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments], input=typed)


def log_in(house: House, *more: object, role: Role = Role.TRAINER, password: str = PASSWORD) -> Any:
    name = house.user(role)
    arguments = ("login", "--url", house.url, "--username", name, "--password-stdin", *more)
    return run(*arguments, typed=f"{password}\n")


def test_a_login_is_kept_for_the_owner_alone_and_shows_no_secret(house: House, kept: Path) -> None:
    result = log_in(house, "--json")
    document = json.loads(result.stdout)
    tokens = CredentialsFile(kept).load("default")[1].grant

    assert result.exit_code == 0, result.output
    assert document["username"] == house.user(Role.TRAINER)
    assert "jobs:write" in document["scopes"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    for secret in (PASSWORD, tokens.access_token.reveal(), tokens.refresh_token.reveal()):
        assert secret not in result.output


def test_the_password_is_asked_for_without_being_shown(house: House, kept: Path) -> None:
    name = house.user(Role.TRAINER)
    result = run("login", "--url", house.url, typed=f"{name}\n{PASSWORD}\n")

    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    assert CredentialsFile(kept).load("default")[1].username == name


def test_a_wrong_password_ends_with_a_code_and_keeps_nothing(house: House, kept: Path) -> None:
    result = log_in(house, "--json", password="wrong")  # noqa: S106

    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "login_refused"
    assert not kept.exists()


def test_an_empty_password_sends_nothing(kept: Path) -> None:
    result = run(
        "login", "--url", "http://127.0.0.1:1", "--username", "ada", "--password-stdin", typed=""
    )

    assert result.exit_code == 2
    assert "no password" in result.stderr


def test_a_password_does_not_go_over_an_open_way(kept: Path) -> None:
    result = run(
        "login", "--url", "http://privacy.example.org", "--username", "ada", "--password-stdin",
        "--json", typed="x\n",
    )  # fmt: skip

    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "credentials_unsafe"


def test_a_second_factor_is_passed_on(house: House, kept: Path) -> None:
    name = house.user(Role.VIEWER)
    with house.client(Role.VIEWER) as client:
        enrolment = client.account.enrol_mfa()
        seed = _seed(enrolment.secret.reveal())
        client.account.confirm_mfa(code_at(seed, step_of(house.service.clock.now()) - 1))
    without = log_in(house, "--json", role=Role.VIEWER)
    code = code_at(seed, step_of(house.service.clock.now()))
    result = run(
        "login", "--url", house.url, "--username", name, "--mfa-token", code, "--password-stdin",
        typed=f"{PASSWORD}\n",
    )  # fmt: skip

    assert without.exit_code == 2
    assert "code_required" in without.output
    assert result.exit_code == 0, result.output


def _seed(text: str) -> bytes:
    import base64

    return base64.b32decode(text + "=" * (-len(text) % 8))


def test_several_profiles_are_kept_side_by_side(house: House, kept: Path) -> None:
    log_in(house, "--profile", "one")
    log_in(house, "--profile", "two", role=Role.ANALYST)

    assert set(CredentialsFile(kept).profiles()) == {"one", "two"}
    assert CredentialsFile(kept).default == "one"


def test_logging_out_ends_the_session(house: House, kept: Path) -> None:
    log_in(house)
    result = run("logout", "--json")
    again = run("jobs", "list", "--json")

    assert json.loads(result.stdout) == {"profiles": [{"profile": "default", "ended": True}]}
    assert again.exit_code == 2
    assert json.loads(again.stdout)["error"]["code"] == "not_logged_in"


def test_logging_out_of_a_service_that_is_gone_forgets_the_tokens(house: House, kept: Path) -> None:
    log_in(house)
    file = CredentialsFile(kept)
    name, profile = file.load()
    from dataclasses import replace

    file.save(name, replace(profile, url="http://127.0.0.1:1"))
    result = run("logout")

    assert result.exit_code == 0
    assert "here only" in result.stdout
    assert not file.profiles()
