"""Logging in: who gets in, who waits, and what a stranger learns."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from privacy_runtime.identity import (
    CodeRequired,
    LoginDelayed,
    LoginRefused,
    Method,
    PasswordChangeRequired,
    PasswordRefused,
    Principal,
    Role,
    SessionOver,
    TokenRefused,
)
from privacy_runtime.identity.passwords import Argon2Cost, Passwords
from privacy_runtime.world import SystemEntropy


@pytest.fixture
def vera(house: Any, admin: Principal) -> Principal:
    """A viewer without a second factor."""
    return house.user(admin, "vera", Role.VIEWER)


def _try(
    house: Any, name: str, password: str, source: str = "203.0.113.9", code: str | None = None
) -> Any:
    return house.identity.logins.log_in(name, password, source=source, code=code)


def test_a_user_logs_in_in_any_case_of_the_name(house: Any, vera: Principal) -> None:
    tokens = _try(house, " VERA ", house.password)

    assert tokens.principal.subject == vera.subject
    assert tokens.principal.method is Method.PASSWORD


def test_whatever_is_wrong_the_answer_is_the_same(house: Any, vera: Principal) -> None:
    wrong = [("vera", "wrong password"), ("nobody", "x"), ("", ""), ("vera", ""), ("a\x00", "\x00")]
    for name, password in [*wrong, ("\ud800", "\ud800")]:
        with pytest.raises(LoginRefused) as refused:
            _try(house, name, password)

        assert str(refused.value) == "user name, password or code is wrong"


def test_a_disabled_user_gets_the_same_answer_as_a_wrong_password(
    house: Any, admin: Principal, vera: Principal
) -> None:
    house.identity.accounts.disable(admin, vera.subject)

    with pytest.raises(LoginRefused):
        _try(house, "vera", house.password)
    house.identity.accounts.enable(admin, vera.subject)
    _try(house, "vera", house.password)


@pytest.mark.parametrize("name", ["vera", "nobody"])
def test_known_and_unknown_names_are_locked_alike(house: Any, vera: Principal, name: str) -> None:
    seen = []
    for attempt in range(9):
        with pytest.raises((LoginRefused, LoginDelayed)) as refused:
            _try(house, name, "wrong password", source=f"203.0.113.{attempt}")
        seen.append(getattr(refused.value, "retry_after_s", 0))
        if seen[-1]:
            house.clock.advance(seen[-1])

    assert seen == [0, 0, 0, 0, 0, 30, 0, 60, 0]


def test_the_right_password_does_not_open_a_locked_account(house: Any, vera: Principal) -> None:
    for attempt in range(5):
        with pytest.raises(LoginRefused):
            _try(house, "vera", "wrong password", source=f"203.0.113.{attempt}")

    with pytest.raises(LoginDelayed) as delayed:
        _try(house, "vera", house.password)
    house.clock.advance(delayed.value.retry_after_s)
    _try(house, "vera", house.password)
    with pytest.raises(LoginRefused):  # the count began afresh
        _try(house, "vera", "wrong password")


def test_hammering_a_lock_does_not_prolong_it(house: Any, vera: Principal) -> None:
    for _ in range(5):
        with pytest.raises(LoginRefused):
            _try(house, "vera", "wrong password")
    for _ in range(6):
        house.clock.advance(5)
        if house.clock.monotonic_s():
            try:
                _try(house, "vera", "wrong password")
            except (LoginDelayed, LoginRefused) as refused:
                last = refused

    assert isinstance(last, LoginRefused)


def test_a_source_is_locked_whatever_names_it_tries(house: Any, vera: Principal) -> None:
    for attempt in range(20):
        with pytest.raises(LoginRefused):
            _try(house, f"name{attempt}", "wrong password")

    with pytest.raises(LoginDelayed):
        _try(house, "vera", house.password)
    _try(house, "vera", house.password, source="198.51.100.200")


def test_a_login_of_ones_own_does_not_clear_the_source(house: Any, vera: Principal) -> None:
    for attempt in range(20):
        if attempt % 4 == 3:
            _try(house, "vera", house.password)
        with pytest.raises(LoginRefused):
            _try(house, f"name{attempt}", "wrong password")

    with pytest.raises(LoginDelayed):
        _try(house, "vera", house.password)


def test_guesses_at_the_same_time_are_all_counted(house: Any, vera: Principal) -> None:
    start = threading.Barrier(12)
    outcomes: list[type[Exception]] = []

    def guess(number: int) -> None:
        start.wait()
        try:
            _try(house, "vera", "wrong password", source=f"203.0.113.{number}")
        except (LoginRefused, LoginDelayed) as refused:
            outcomes.append(type(refused))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count(LoginRefused) == 5
    assert outcomes.count(LoginDelayed) == 7


def test_locks_outlive_the_process(house: Any, vera: Principal) -> None:
    for _ in range(5):
        with pytest.raises(LoginRefused):
            _try(house, "vera", "wrong password")
    other = house.opened()

    with pytest.raises(LoginDelayed):
        other.logins.log_in("vera", house.password, source="198.51.100.200")
    other.close()


def test_a_code_is_asked_for_and_then_used_once(house: Any, admin: Principal) -> None:
    house.clock.advance(60)
    code = house.code("root@example")
    with pytest.raises(CodeRequired):
        _try(house, "root@example", house.password)
    tokens = _try(house, "root@example", house.password, code=code)

    assert tokens.principal.method is Method.PASSWORD_AND_CODE
    with pytest.raises(LoginRefused):
        _try(house, "root@example", house.password, code=code)


def test_asking_for_the_code_does_not_clear_wrong_codes(house: Any, admin: Principal) -> None:
    house.clock.advance(60)
    for _ in range(5):
        with pytest.raises(CodeRequired):
            _try(house, "root@example", house.password)
        with pytest.raises(LoginRefused):
            _try(house, "root@example", house.password, code="000000")

    with pytest.raises(LoginDelayed):
        _try(house, "root@example", house.password, code=house.code("root@example"))


def test_a_wrong_password_with_a_right_code_spends_no_code(house: Any, admin: Principal) -> None:
    house.clock.advance(60)
    code = house.code("root@example")
    with pytest.raises(LoginRefused):
        _try(house, "root@example", "wrong password", code=code)

    _try(house, "root@example", house.password, code=code)


def test_one_code_at_the_same_time_opens_one_session(house: Any, admin: Principal) -> None:
    house.clock.advance(60)
    code, start = house.code("root@example"), threading.Barrier(4)
    outcomes: list[object] = []

    def enter() -> None:
        start.wait()
        try:
            outcomes.append(_try(house, "root@example", house.password, code=code))
        except LoginRefused:
            outcomes.append(None)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count(None) == 3


def test_a_one_time_password_opens_nothing_but_its_change(house: Any, admin: Principal) -> None:
    _, first = house.identity.accounts.create_user(admin, "vera", Role.VIEWER)
    with pytest.raises(PasswordChangeRequired):
        _try(house, "vera", first.reveal())
    house.identity.logins.change_password(
        "vera", first.reveal(), house.another, source=house.address
    )

    with pytest.raises(LoginRefused):
        _try(house, "vera", first.reveal())
    _try(house, "vera", house.another)


def test_a_one_time_password_lasts_three_days(house: Any, admin: Principal) -> None:
    _, first = house.identity.accounts.create_user(admin, "vera", Role.VIEWER)
    house.clock.advance(timedelta(days=3).total_seconds())

    with pytest.raises(LoginRefused):
        house.identity.logins.change_password(
            "vera", first.reveal(), house.another, source=house.address
        )


def test_changing_a_password_ends_every_session(house: Any, vera: Principal) -> None:
    tokens = _try(house, "vera", house.password)
    house.identity.logins.change_password(
        "vera", house.password, house.another, source=house.address
    )

    with pytest.raises(TokenRefused):
        house.identity.sessions.authenticate(tokens.access_token.reveal())
    with pytest.raises(SessionOver):
        house.identity.sessions.refresh(tokens.refresh_token.reveal())
    assert house.log_in("vera", house.another).subject == vera.subject


def test_changing_a_password_asks_for_the_second_factor(house: Any, admin: Principal) -> None:
    house.clock.advance(60)
    change = house.identity.logins.change_password
    with pytest.raises(CodeRequired):
        change("root@example", house.password, house.another, source=house.address)

    code = house.code("root@example")
    change("root@example", house.password, house.another, source=house.address, code=code)


def test_a_password_that_cannot_be_used_changes_nothing(house: Any, vera: Principal) -> None:
    for new in ("short", "password1234", house.password, "x" * 1025):
        with pytest.raises(PasswordRefused):
            house.identity.logins.change_password("vera", house.password, new, source=house.address)

    _try(house, "vera", house.password)


def test_a_wrong_old_password_is_counted(house: Any, vera: Principal) -> None:
    for _ in range(5):
        with pytest.raises(LoginRefused):
            house.identity.logins.change_password(
                "vera", "wrong password", house.another, source=house.address
            )

    with pytest.raises(LoginDelayed):
        _try(house, "vera", house.password)


def test_a_login_raises_the_cost_of_an_old_hash(house: Any, vera: Principal) -> None:
    stronger = Passwords(SystemEntropy(), Argon2Cost(memory_kib=16, passes=1))
    house.identity.logins._passwords = stronger
    before = house.dump().count("m=16,t=1")
    _try(house, "vera", house.password)

    assert before == 0
    assert house.dump().count("m=16,t=1") == 1
    _try(house, "vera", house.password)


def test_refusals_are_recorded_by_id_with_their_reason(house: Any, vera: Principal) -> None:
    for name, password in (("vera", "wrong password"), ("nobody", "wrong password")):
        with pytest.raises(LoginRefused):
            _try(house, name, password)

    known, unknown = house.events("login_refused")[-2:]
    assert (known["subject"], known["reason"]) == (vera.subject, "wrong_password")
    assert (unknown["subject"], unknown["reason"]) == (None, "unknown_user")
    assert known["source"] == unknown["source"]
