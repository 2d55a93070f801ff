from __future__ import annotations

import json
import os
import stat
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.client.house import House

from privacy_finetuner.client import (
    Client,
    CredentialsFile,
    CredentialsUnsafe,
    Grant,
    NotAllowed,
    NotLoggedIn,
    Profile,
    RetryPolicy,
    Settings,
    Unauthenticated,
)
from privacy_finetuner.client.credentials import default_file
from privacy_runtime.identity import Role
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock

QUICK = RetryPolicy(tries=3, pause_s=0.01, pause_max_s=0.05)


class Later(SystemClock):
    """The machine's clock, until it is set ahead."""

    ahead = timedelta(0)

    def now(self) -> Any:
        return super().now() + self.ahead


def grant(text: str = "one", *, clock: Any = None) -> Grant:
    return Grant(
        access_token=Secret(f"access-{text}"),
        refresh_token=Secret(f"refresh-{text}"),
        expires_at=(clock or ManualClock()).now() + timedelta(minutes=15),
    )


def profile(text: str = "one") -> Profile:
    return Profile(url="https://privacy.example.org", username="ada", grant=grant(text))


@pytest.fixture
def file(tmp_path: Path) -> CredentialsFile:
    return CredentialsFile(tmp_path / "conf" / "credentials.json")


def test_a_kept_profile_is_found_again(file: CredentialsFile) -> None:
    file.save("clinic", profile())

    assert file.load() == ("clinic", profile())
    assert file.load("clinic")[1].grant.refresh_token.reveal() == "refresh-one"


def test_the_file_and_its_folder_are_for_the_owner_alone(file: CredentialsFile) -> None:
    before = os.umask(0)
    try:
        file.save("clinic", profile())
    finally:
        os.umask(before)

    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in file.path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_refused(file: CredentialsFile, mode: int) -> None:
    file.save("clinic", profile())
    file.path.chmod(mode)

    with pytest.raises(CredentialsUnsafe, match="0600"):
        file.load("clinic")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"x"', '{"version": 2}', '{"version": 1, "default": "a", "profiles": []}',
     '{"version": 1, "default": "a", "profiles": {"a": {"url": "x"}}}',
     '{"version": 1, "default": "a", "profiles": {"a": 3}}', "\x00\xff"],
)  # fmt: skip
def test_a_damaged_file_is_refused_and_not_quoted(file: CredentialsFile, text: str) -> None:
    file.save("clinic", profile())
    file.path.write_text(text)

    with pytest.raises(CredentialsUnsafe, match="log in again"):
        file.load("a")


def test_an_empty_file_holds_no_profiles(file: CredentialsFile) -> None:
    file.path.parent.mkdir()
    file.path.touch(mode=0o600)

    assert not file.profiles()


def test_the_first_profile_is_the_default_until_it_is_removed(file: CredentialsFile) -> None:
    file.save("b", profile())
    file.save("a", profile("two"))
    assert file.default == "b"
    file.remove("b")

    assert file.default == "a"
    file.remove("a")
    with pytest.raises(NotLoggedIn, match="privacy-finetuner login"):
        file.load()


def test_nothing_that_prints_shows_a_token(file: CredentialsFile) -> None:
    file.save("clinic", profile())
    shown = repr(file.profiles()) + repr(profile()) + str(profile())

    assert "access-one" not in shown
    assert "refresh-one" not in shown


def test_many_threads_that_change_the_file_lose_nothing(file: CredentialsFile) -> None:
    def save(number: int) -> None:
        CredentialsFile(file.path).save(f"p{number}", profile(str(number)))

    threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert set(file.profiles()) == {f"p{number}" for number in range(8)}


def test_the_file_is_where_the_environment_says(tmp_path: Path) -> None:
    assert default_file({"PRIVACY_FINETUNER_CREDENTIALS": "/x/y"}) == Path("/x/y")
    assert default_file({"XDG_CONFIG_HOME": "/c"}) == Path("/c/privacy-finetuner/credentials.json")


def test_a_client_renews_an_old_token_by_itself(house: House) -> None:
    clock = Later()
    with house.client(clock=clock) as client:
        before = client.grant
        clock.ahead = timedelta(hours=1)
        assert client.account.me().method == "password"

        assert client.grant != before


def test_a_refused_token_is_renewed_once_and_the_call_goes_through(house: House) -> None:
    with house.client() as client:
        kept = client.grant
        assert kept is not None
        client._credentials.home.save(  # type: ignore[union-attr]  # a person's, here
            Grant(
                access_token=Secret("not-a-token"),
                refresh_token=kept.refresh_token,
                expires_at=kept.expires_at,
            )
        )

        assert client.account.me().id
        assert client.grant != kept


def test_threads_that_find_the_token_old_renew_it_once(house: House) -> None:
    renewals: list[Grant] = []
    failures: list[BaseException] = []
    clock = Later()
    with house.client(clock=clock) as client:
        home = client._credentials.home  # type: ignore[union-attr]  # a person's, here
        save = home.save
        home.save = lambda new: (renewals.append(new), save(new))
        clock.ahead = timedelta(hours=1)

        def ask() -> None:
            try:
                client.account.me()
            except BaseException as error:  # noqa: BLE001  shown below
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    assert not failures
    assert len(renewals) == 1


def test_two_processes_with_one_profile_renew_one_after_the_other(
    house: House, file: CredentialsFile
) -> None:
    with house.client() as first:
        kept = first.grant
    old = Grant(
        access_token=kept.access_token,
        refresh_token=kept.refresh_token,
        expires_at=SystemClock().now() - timedelta(minutes=1),
    )
    file.save("p", Profile(url=house.url, username="ada", grant=old))
    failures: list[BaseException] = []

    def process() -> None:
        try:
            with Client.from_profile("p", file=file.path, settings=Settings(retries=QUICK)) as one:
                one.account.me()
        except BaseException as error:  # noqa: BLE001  shown below
            failures.append(error)

    threads = [threading.Thread(target=process) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert not failures
    assert file.load("p")[1].grant != old


def test_a_session_that_is_over_says_log_in_again(house: House) -> None:
    with house.client() as client, house.client() as other:
        kept = client.grant
        assert kept is not None
        with Client(house.url, api_key=kept.access_token) as same:
            same._session.content(_logout())
        with pytest.raises(NotLoggedIn, match="log in again"):
            client.account.me()
        assert other.account.me()


def _logout() -> Any:
    from privacy_finetuner.client.calls import Call, place

    return Call(method="POST", path=place("auth", "logout"))


def test_logging_out_ends_the_session_here_and_there(house: House) -> None:
    client = house.client()
    kept = client.grant
    client.logout()

    with pytest.raises(NotLoggedIn, match="nothing was sent"):
        client.account.me()
    with Client(house.url, api_key=kept.access_token) as again, pytest.raises(Unauthenticated):
        again.account.me()


def test_a_wrong_password_is_refused_with_a_code(house: House) -> None:
    with pytest.raises(Unauthenticated) as refused:
        Client.login(house.url, house.user(Role.TRAINER), "wrong")

    assert refused.value.code == "login_refused"


def test_an_api_key_of_the_environment_is_used(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with house.client() as person:
        issued = person.api_keys.create_api_key("a program", ["jobs:read"], valid_days=1)
    monkeypatch.setenv("PRIVACY_FINETUNER_API_KEY", issued.key.reveal())

    with Client(house.url) as program:
        assert isinstance(list(program.jobs.list_training()), list)
        with pytest.raises(NotAllowed):
            program.jobs.start_training("sample:model", "sample:records")
        assert program.grant is None
        assert issued.key.reveal() not in repr(program) + repr(issued) + repr(vars(program))


@pytest.mark.parametrize("key", [None, "", "two words", "línea", "a\nb"])
def test_no_key_or_a_broken_one_sends_nothing(key: str | None) -> None:
    with pytest.raises(NotLoggedIn):
        Client("http://127.0.0.1:1", api_key=key)


@pytest.mark.parametrize(
    "url",
    ["http://privacy.example.org", "http://10.0.0.1", "ftp://a", "privacy.example.org", "https://",
     "https://ada:secret@privacy.example.org", "https://a?b=c", "https://a#b", "https://a:99999",
     "http://127.0.0.1.example.org", "http://localhost.example.org", ""],
)  # fmt: skip
def test_an_address_that_gives_credentials_away_is_refused(url: str) -> None:
    with pytest.raises(CredentialsUnsafe, match="nothing was sent") as refused:
        Client(url, api_key="pf_a_b")

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://a.example", "http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost/x"]
)
def test_a_private_way_is_taken(url: str) -> None:
    assert Client(f"{url}/", api_key="pf_a_b").url == url


def test_another_machine_over_http_needs_a_word_of_the_caller() -> None:
    assert Client("http://10.0.0.1", api_key="pf_a_b", allow_http=True).url == "http://10.0.0.1"


def test_what_lies_in_the_file_is_what_the_service_gave(
    house: House, file: CredentialsFile
) -> None:
    with house.client() as client:
        file.save("p", Profile(url=client.url, username="ada", grant=client.grant))
    document = json.loads(file.path.read_text())

    assert set(document["profiles"]["p"]) == {
        "url", "username", "access_token", "refresh_token", "expires_at", "allow_http",
    }  # fmt: skip
