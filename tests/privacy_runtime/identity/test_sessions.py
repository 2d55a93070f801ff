"""Sessions on both databases: renewed, raced, reused, ended."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity import (
    IdentityError,
    NotAllowed,
    Principal,
    RefreshRaced,
    RefreshRefused,
    RefreshReused,
    Role,
    Scope,
    SessionOver,
    SessionPolicy,
    TokenRefused,
    Tokens,
    WrongTenant,
)


def _tokens(house: Any, admin: Principal, name: str = "vera") -> Tokens:
    house.user(admin, name, Role.VIEWER)
    return house.identity.logins.log_in(name, house.password, source=house.address)


def _bearer(house: Any, tokens: Tokens) -> Principal:
    return house.identity.sessions.authenticate(tokens.access_token.reveal())


def _refresh(house: Any, tokens: Tokens) -> Tokens:
    return house.identity.sessions.refresh(tokens.refresh_token.reveal())


def test_a_login_answers_as_documented(house: Any, admin: Principal) -> None:
    answer = _tokens(house, admin).to_json()

    assert set(answer) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (answer["token_type"], answer["expires_in"]) == ("bearer", 900)


def test_a_refresh_keeps_who_and_since_when(house: Any, admin: Principal) -> None:
    tokens = _tokens(house, admin)
    before = _bearer(house, tokens)
    house.clock.advance(600)

    after = _bearer(house, _refresh(house, tokens))
    assert after == before


def test_a_spent_token_within_the_grace_is_refused_and_revokes_nothing(
    house: Any, admin: Principal
) -> None:
    tokens = _tokens(house, admin)
    renewed = _refresh(house, tokens)
    house.clock.advance(9.9)

    with pytest.raises(RefreshRaced):
        _refresh(house, tokens)
    _refresh(house, renewed)


@pytest.mark.parametrize("successor_used", [True, False])
def test_a_spent_token_that_comes_back_revokes_the_family(
    house: Any, admin: Principal, successor_used: bool
) -> None:
    tokens = _tokens(house, admin)
    newest = _refresh(house, tokens)
    if successor_used:
        newest = _refresh(house, newest)
    else:
        house.clock.advance(10)

    with pytest.raises(RefreshReused):
        _refresh(house, tokens)
    with pytest.raises(SessionOver):
        _refresh(house, newest)
    with pytest.raises(TokenRefused):
        _bearer(house, newest)
    assert house.events("session_ended")[-1]["reason"] == "reused"


def test_reuse_in_one_session_leaves_the_other_sessions_of_the_user(
    house: Any, admin: Principal
) -> None:
    stolen = _tokens(house, admin)
    other = house.identity.logins.log_in("vera", house.password, source=house.address)
    _refresh(house, _refresh(house, stolen))

    with pytest.raises(RefreshReused):
        _refresh(house, stolen)
    _refresh(house, other)


@pytest.mark.parametrize("grace_s", [10.0, 0.0])
def test_of_refreshes_at_the_same_time_exactly_one_wins(
    where: str, tmp_path: Path, request: pytest.FixtureRequest, grace_s: float
) -> None:
    house = request.getfixturevalue("house_class")(
        where, tmp_path, sessions=SessionPolicy(grace_s=grace_s)
    )
    tokens = _tokens(house, house.admin())
    processes = [house.opened() for _ in range(3)]  # connections of their own
    start = threading.Barrier(len(processes))
    outcomes: list[Tokens | IdentityError] = []

    def race(identity: Any) -> None:
        start.wait()
        try:
            outcomes.append(identity.sessions.refresh(tokens.refresh_token.reveal()))
        except IdentityError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=race, args=(each,)) for each in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.close()

    (winner,) = [each for each in outcomes if isinstance(each, Tokens)]
    losers = [type(each) for each in outcomes if not isinstance(each, Tokens)]
    if grace_s:
        assert losers == [RefreshRaced] * 2
        _refresh(house, winner)
    else:
        assert set(losers) <= {RefreshReused, SessionOver}
        assert RefreshReused in losers
        with pytest.raises(SessionOver):
            _refresh(house, winner)
    house.identity.close()


def test_a_session_that_idles_is_logged_off(house: Any, admin: Principal) -> None:
    tokens = _tokens(house, admin)
    house.clock.advance(1799)
    tokens = _refresh(house, tokens)
    house.clock.advance(1800)

    with pytest.raises(SessionOver):
        _refresh(house, tokens)
    assert house.events("session_ended")[-1]["reason"] == "idle"


def test_a_busy_session_ends_after_twelve_hours_with_its_access_tokens(
    house: Any, admin: Principal
) -> None:
    tokens = _tokens(house, admin)
    for _ in range(43_200 // 1700):
        house.clock.advance(1700)
        tokens = _refresh(house, tokens)

    assert tokens.expires_in_s == 700
    house.clock.advance(700)
    with pytest.raises(SessionOver):
        _refresh(house, tokens)


def test_logging_out_ends_access_tokens_at_once(house: Any, admin: Principal) -> None:
    tokens = _tokens(house, admin)
    principal = _bearer(house, tokens)
    house.identity.sessions.log_out(principal)
    house.identity.sessions.log_out(principal)

    with pytest.raises(TokenRefused):
        _bearer(house, tokens)
    with pytest.raises(SessionOver):
        _refresh(house, tokens)
    assert len(house.events("logout")) == 1


def test_a_token_is_revoked_by_its_id_and_its_session_goes_on(house: Any, admin: Principal) -> None:
    tokens = _tokens(house, admin)
    house.identity.sessions.revoke_token(tokens.access_token.reveal())
    house.identity.sessions.revoke_token(tokens.access_token.reveal())

    with pytest.raises(TokenRefused):
        _bearer(house, tokens)
    _bearer(house, _refresh(house, tokens))


def test_a_subject_is_revoked_and_may_log_in_again(house: Any, admin: Principal) -> None:
    tokens = _tokens(house, admin)
    subject = tokens.principal.subject

    assert house.identity.sessions.revoke_subject(admin, subject) == 2
    with pytest.raises(TokenRefused):
        _bearer(house, tokens)
    with pytest.raises(SessionOver):
        _refresh(house, tokens)
    house.log_in("vera")


def test_one_revokes_oneself_but_nobody_else(house: Any, admin: Principal) -> None:
    vera = _bearer(house, _tokens(house, admin))

    with pytest.raises(NotAllowed):
        house.identity.sessions.revoke_subject(vera, admin.subject)
    with pytest.raises(WrongTenant):
        house.identity.sessions.revoke_subject(replace(admin, tenant="o_2"), vera.subject)
    with pytest.raises(WrongTenant):
        house.identity.sessions.revoke_subject(admin, "u_nobody")
    house.identity.sessions.revoke_subject(vera, vera.subject)


def test_a_lower_role_counts_at_once(house: Any, admin: Principal) -> None:
    officer = house.user(admin, "olga", Role.PRIVACY_OFFICER)
    assert Scope.RESULTS_OUTSIDE_GUARANTEE in officer.scopes
    house.identity.accounts.set_role(admin, officer.subject, Role.VIEWER)

    assert Scope.RESULTS_OUTSIDE_GUARANTEE not in house.log_in("olga").scopes


def test_a_disabled_organisation_opens_nothing(house: Any, admin: Principal) -> None:
    tokens = _tokens(house, admin)
    house.identity.accounts.disable_organisation(admin.tenant)

    with pytest.raises(TokenRefused):
        _bearer(house, tokens)
    with pytest.raises(SessionOver):
        _refresh(house, tokens)


@pytest.mark.parametrize("text", ["", "pr_x", "pr_" + "A" * 43, "x" * 10_000, "\ud800", "\x00"])
def test_what_is_no_refresh_token_is_refused(small_house: Any, text: str) -> None:
    with pytest.raises(RefreshRefused):
        small_house.identity.sessions.refresh(text)


def test_an_access_token_does_not_refresh_nor_a_refresh_token_authenticate(
    house: Any, admin: Principal
) -> None:
    tokens = _tokens(house, admin)

    with pytest.raises(RefreshRefused):
        house.identity.sessions.refresh(tokens.access_token.reveal())
    with pytest.raises(TokenRefused):
        house.identity.sessions.authenticate(tokens.refresh_token.reveal())


def test_purging_forgets_what_has_no_meaning_any_more(house: Any, admin: Principal) -> None:
    tokens = _tokens(house, admin)
    house.identity.sessions.revoke_token(tokens.access_token.reveal())
    house.clock.advance(43_200 + 86_401)
    assert house.identity.sessions.purge() > 0
    house.identity.purge()

    with pytest.raises(RefreshRefused):
        _refresh(house, tokens)
    house.log_in("vera")


@pytest.mark.parametrize(
    "numbers", [{"idle_s": 0}, {"absolute_s": 60}, {"grace_s": 61}, {"grace_s": float("nan")}]
)
def test_limits_that_are_none_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(InvalidParameter):
        SessionPolicy(**numbers)


def test_sessions_that_end_before_their_tokens_are_refused(
    tmp_path: Path, house_class: Any
) -> None:
    with pytest.raises(InvalidParameter):
        house_class(str(tmp_path / "db"), tmp_path, sessions=SessionPolicy(idle_s=900))
