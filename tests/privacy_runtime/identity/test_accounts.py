"""Users and organisations, and the first start."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity import (
    ROLE_SCOPES,
    AccountConflict,
    LoginRefused,
    NotAllowed,
    PasswordChangeRequired,
    PasswordRefused,
    Principal,
    Role,
    Scope,
    UnknownAccount,
    WrongTenant,
    bootstrap_admin,
)
from privacy_runtime.identity.user_rows import require_name

MANAGED = [Role.VIEWER, Role.ANALYST, Role.TRAINER, Role.PRIVACY_OFFICER]


def test_the_first_start_makes_an_administrator_with_a_password_for_one_use(house: Any) -> None:
    user, first = bootstrap_admin(house.identity.accounts)

    assert (user.name, user.role, user.must_change_password) == ("admin", Role.ADMIN, True)
    with pytest.raises(PasswordChangeRequired):
        house.identity.logins.log_in("admin", first.reveal(), source=house.address)
    house.identity.logins.change_password(
        "admin", first.reveal(), house.password, source=house.address
    )
    assert house.log_in("admin").scopes == {Scope.ACCOUNT_SELF}
    assert Scope.USERS_WRITE in house.enrolled("admin", house.password).scopes


def test_a_second_start_makes_nobody(house: Any, admin: Principal) -> None:
    with pytest.raises(AccountConflict):
        bootstrap_admin(house.identity.accounts, organisation="other", name="other")

    assert len(house.identity.accounts.users(admin)) == 1


def test_of_two_first_starts_at_once_one_makes_the_administrator(house: Any) -> None:
    processes = [house.opened() for _ in range(3)]
    start, outcomes = threading.Barrier(3), []

    def begin(number: int) -> None:
        start.wait()
        try:
            bootstrap_admin(
                processes[number].accounts, organisation=f"o{number}", name=f"admin{number}"
            )
            outcomes.append(True)
        except AccountConflict:
            outcomes.append(False)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.close()

    assert sorted(outcomes) == [False, False, True]


@pytest.mark.parametrize("password", ["admin", "changeme", "admin1234567", "password1234"])
def test_a_configured_default_password_is_refused_outside_development(
    small_house: Any, password: str
) -> None:
    with pytest.raises(PasswordRefused):
        bootstrap_admin(small_house.identity.accounts, password=password)

    user, nothing = bootstrap_admin(
        small_house.identity.accounts, password=password, development=True
    )
    assert (user.must_change_password, nothing) == (False, None)
    small_house.identity.logins.log_in("admin", password, source=small_house.address)


def test_a_configured_password_must_be_changed_outside_development(house: Any) -> None:
    user, _ = bootstrap_admin(house.identity.accounts, password=house.password)

    assert user.must_change_password


@pytest.mark.parametrize(
    "name", ["", "a b", "ve\nra", "-x", "x" * 129, "v\u0435ra", "\ud800", "../x"]
)
def test_names_that_look_like_others_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        require_name(name)

    assert not name or name not in str(refused.value)


def test_a_name_is_taken_once_in_any_case(house: Any, admin: Principal) -> None:
    house.identity.accounts.create_user(admin, "vera", Role.VIEWER)

    with pytest.raises(AccountConflict) as taken:
        house.identity.accounts.create_user(admin, "VERA", Role.VIEWER)
    assert "vera" not in str(taken.value).lower()


@pytest.mark.parametrize("role", MANAGED)
def test_only_administrators_change_users(small_house: Any, role: Role) -> None:
    admin = small_house.admin()
    someone = replace(admin, subject="u_someone", scopes=ROLE_SCOPES[role])
    accounts = small_house.identity.accounts

    for act in (
        lambda: accounts.create_user(someone, "x", Role.ADMIN),
        lambda: accounts.set_role(someone, admin.subject, Role.VIEWER),
        lambda: accounts.disable(someone, admin.subject),
        lambda: accounts.enable(someone, admin.subject),
        lambda: accounts.reset_password(someone, admin.subject),
    ):
        with pytest.raises(NotAllowed):
            act()


def test_another_organisations_users_do_not_exist(house: Any, admin: Principal) -> None:
    accounts = house.identity.accounts
    stranger = replace(admin, tenant=accounts.create_organisation("other"), subject="u_stranger")

    assert accounts.users(stranger) == []
    for act in (
        lambda: accounts.set_role(stranger, admin.subject, Role.VIEWER),
        lambda: accounts.disable(stranger, admin.subject),
        lambda: accounts.reset_password(stranger, admin.subject),
        lambda: accounts.disable(admin, "u_nobody"),
    ):
        with pytest.raises(WrongTenant):
            act()


def test_nobody_changes_themselves(house: Any, admin: Principal) -> None:
    accounts = house.identity.accounts

    for act in (
        lambda: accounts.set_role(admin, admin.subject, Role.PRIVACY_OFFICER),
        lambda: accounts.disable(admin, admin.subject),
    ):
        with pytest.raises(AccountConflict):
            act()


def test_two_administrators_who_remove_each_other_leave_one(house: Any, admin: Principal) -> None:
    other = house.user(admin, "second", Role.ADMIN)
    processes = [house.opened(), house.opened()]
    start, outcomes = threading.Barrier(2), []

    def remove(number: int, by: Principal, user: str) -> None:
        start.wait()
        try:
            processes[number].accounts.disable(by, user)
            outcomes.append(True)
        except AccountConflict:
            outcomes.append(False)

    pairs = [(0, admin, other.subject), (1, other, admin.subject)]
    threads = [threading.Thread(target=remove, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.close()

    assert sorted(outcomes) == [False, True]


def test_the_last_administrator_keeps_the_role(house: Any, admin: Principal) -> None:
    other = house.user(admin, "second", Role.ADMIN)
    house.identity.accounts.set_role(admin, other.subject, Role.VIEWER)
    demoted = replace(other, scopes=admin.scopes)  # a token from before

    with pytest.raises(AccountConflict):
        house.identity.accounts.set_role(demoted, admin.subject, Role.VIEWER)


def test_a_reset_password_is_for_one_use_and_the_old_one_is_void(
    house: Any, admin: Principal
) -> None:
    vera = house.user(admin, "vera", Role.VIEWER)
    first = house.identity.accounts.reset_password(admin, vera.subject)

    with pytest.raises(LoginRefused):
        house.identity.logins.log_in("vera", house.password, source=house.address)
    with pytest.raises(PasswordChangeRequired):
        house.identity.logins.log_in("vera", first.reveal(), source=house.address)


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb"])
def test_an_organisation_has_a_printable_name(house: Any, name: str) -> None:
    with pytest.raises(InvalidParameter):
        house.identity.accounts.create_organisation(name)


def test_an_unknown_organisation_is_not_disabled(house: Any) -> None:
    with pytest.raises(UnknownAccount):
        house.identity.accounts.disable_organisation("o_nobody")
