"""Second factors: enrolled with confirmation, recovered once a code, reset by somebody else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from privacy_runtime.identity import (
    AccountConflict,
    CodeRequired,
    EnrolmentRefused,
    LoginRefused,
    Method,
    NotAllowed,
    Principal,
    Role,
    Scope,
    StaleLogin,
    TokenRefused,
    WrongTenant,
)
from privacy_runtime.identity.codes import code_at, step_of


@pytest.fixture
def where(tmp_path: Path) -> str:
    """SQLite; `test_store.py` takes the same acts to PostgreSQL."""
    return str(tmp_path / "identity.db")


@pytest.fixture
def vera(house: Any, admin: Principal) -> Principal:
    """A viewer without a second factor."""
    return house.user(admin, "vera", Role.VIEWER)


def _confirmed(house: Any, principal: Principal, name: str) -> list[str]:
    import base64

    enrolment = house.identity.factors.begin(principal)
    house.seeds[name] = base64.b32decode(enrolment.seed.reveal())
    return [c.reveal() for c in house.identity.factors.confirm(principal, house.code(name))]


def _log_in(house: Any, name: str, code: str | None) -> Any:
    return house.identity.logins.log_in(name, house.password, source=house.address, code=code)


def test_a_factor_counts_once_it_is_confirmed(house: Any, vera: Principal) -> None:
    house.identity.factors.begin(vera)
    _log_in(house, "vera", None)
    _confirmed(house, vera, "vera")

    with pytest.raises(CodeRequired):
        _log_in(house, "vera", None)


def test_the_code_that_confirmed_does_not_log_in(house: Any, vera: Principal) -> None:
    _confirmed(house, vera, "vera")

    with pytest.raises(LoginRefused):
        _log_in(house, "vera", house.code("vera"))
    _log_in(house, "vera", house.code("vera", steps=1))


def test_enrolling_ends_the_sessions_that_had_one_factor(house: Any, vera: Principal) -> None:
    tokens = _log_in(house, "vera", None)
    _confirmed(house, vera, "vera")

    with pytest.raises(TokenRefused):
        house.identity.sessions.authenticate(tokens.access_token.reveal())


def test_a_wrong_code_enrols_nothing(house: Any, vera: Principal) -> None:
    with pytest.raises(EnrolmentRefused):
        house.identity.factors.confirm(vera, "000000")
    seed = house.identity.factors.begin(vera).seed
    import base64

    right = code_at(base64.b32decode(seed.reveal()), step_of(house.clock.now()) + 2)
    with pytest.raises(EnrolmentRefused):
        house.identity.factors.confirm(vera, right)
    _log_in(house, "vera", None)


def test_a_new_factor_replaces_the_old_only_when_confirmed(house: Any, vera: Principal) -> None:
    _confirmed(house, vera, "vera")
    old_seed = house.seeds["vera"]
    vera = house.log_in("vera")
    house.identity.factors.begin(vera)
    vera = house.log_in("vera")
    _confirmed(house, vera, "vera")
    house.clock.advance(60)

    with pytest.raises(LoginRefused):
        _log_in(house, "vera", code_at(old_seed, step_of(house.clock.now())))
    house.log_in("vera")


def test_an_old_login_does_not_enrol(house: Any, vera: Principal) -> None:
    house.clock.advance(601)

    with pytest.raises(StaleLogin):
        house.identity.factors.begin(vera)


def test_an_api_key_does_not_enrol(house: Any, vera: Principal) -> None:
    key = replace(vera, method=Method.API_KEY, scopes=frozenset({Scope.JOBS_READ}))

    with pytest.raises(NotAllowed):
        house.identity.factors.begin(key)


def test_each_recovery_code_works_once_and_for_its_owner(
    house: Any, admin: Principal, vera: Principal
) -> None:
    codes = _confirmed(house, vera, "vera")
    tokens = _log_in(house, "vera", codes[3].upper())

    assert tokens.principal.method is Method.PASSWORD_AND_CODE
    assert house.events("recovery_code_used")[-1]["remaining"] == 9
    with pytest.raises(LoginRefused):
        _log_in(house, "vera", codes[3])
    with pytest.raises(LoginRefused):
        _log_in(house, "root@example", codes[4])
    _log_in(house, "vera", codes[4])


def test_new_recovery_codes_void_the_old(house: Any, vera: Principal) -> None:
    old = _confirmed(house, vera, "vera")
    vera = house.log_in("vera")
    new = [code.reveal() for code in house.identity.factors.renew_recovery_codes(vera)]

    with pytest.raises(LoginRefused):
        _log_in(house, "vera", old[0])
    _log_in(house, "vera", new[0])


def test_without_a_factor_there_is_nothing_to_recover(house: Any, vera: Principal) -> None:
    with pytest.raises(EnrolmentRefused):
        house.identity.factors.renew_recovery_codes(vera)


def test_an_administrator_resets_a_factor_and_its_sessions(
    house: Any, admin: Principal, vera: Principal
) -> None:
    codes = _confirmed(house, vera, "vera")
    tokens = _log_in(house, "vera", codes[0])
    house.identity.factors.reset(admin, vera.subject)

    with pytest.raises(TokenRefused):
        house.identity.sessions.authenticate(tokens.access_token.reveal())
    assert _log_in(house, "vera", None).principal.method is Method.PASSWORD


def test_nobody_else_resets_and_nobody_their_own(
    house: Any, admin: Principal, vera: Principal
) -> None:
    reset = house.identity.factors.reset

    with pytest.raises(NotAllowed):
        reset(vera, admin.subject)
    with pytest.raises(AccountConflict):
        reset(admin, admin.subject)
    with pytest.raises(WrongTenant):
        reset(replace(admin, tenant="o_2"), vera.subject)
    with pytest.raises(WrongTenant):
        reset(admin, "u_nobody")


def test_an_officer_without_a_factor_may_only_enrol(house: Any, admin: Principal) -> None:
    _, first = house.identity.accounts.create_user(admin, "olga", Role.PRIVACY_OFFICER)
    house.identity.logins.change_password(
        "olga", first.reveal(), house.password, source=house.address
    )
    olga = house.log_in("olga")
    assert olga.scopes == {Scope.ACCOUNT_SELF}
    _confirmed(house, olga, "olga")

    assert Scope.BUDGETS_GRANT in house.log_in("olga").scopes
