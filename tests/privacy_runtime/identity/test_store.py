"""What happened is in the journal, whatever dies when, and no secret is anywhere."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from privacy_runtime.database import Database
from privacy_runtime.identity import (
    AuditUnavailable,
    IdentityError,
    IdentityStoreUnavailable,
    LoginRefused,
    Principal,
    Role,
    Scope,
    bootstrap_admin,
)
from privacy_runtime.identity.schema import IDENTITY
from privacy_runtime.journal import Journal, StoreUnavailable
from privacy_runtime.testing import Crash, CrashingJournal, CrashPoint, MemoryHome


class _Switch:
    """A journal's home that can be turned off."""

    name = "memory"

    def __init__(self, home: MemoryHome) -> None:
        self._home, self.is_off = home, False
        self.commit, self.rollback, self.disconnect = home.commit, home.rollback, home.disconnect
        self.entries, self.documents, self.row = home.entries, home.documents, home.row

    def begin(self, *asked: Any) -> Any:
        if self.is_off:
            raise StoreUnavailable(self.name, reason="turned off")
        return self._home.begin(*asked)


@pytest.fixture
def switch(house: Any, admin: Principal) -> _Switch:
    """Puts a journal that can be turned off under the house."""
    home = _Switch(MemoryHome(house.rows))
    house.identity.close()
    house.identity = house.opened(home)
    return home


def test_every_act_is_in_the_chain_by_ids_only(house: Any, admin: Principal) -> None:
    """The whole life of a user, on each database, and then a search for every secret in it."""
    secrets = [house.password, house.another, house.address, "vera", "root@example", "wrong one"]
    identity = house.identity
    user, first = identity.accounts.create_user(admin, "vera", Role.ANALYST)
    identity.logins.change_password("vera", first.reveal(), house.password, source=house.address)
    vera = house.log_in("vera")
    enrolment = identity.factors.begin(vera)
    house.seeds["vera"] = __import__("base64").b32decode(enrolment.seed.reveal())
    recovery = identity.factors.confirm(vera, house.code("vera"))
    tokens = identity.logins.log_in(
        "vera", house.password, source=house.address, code=recovery[0].reveal()
    )
    renewed = identity.sessions.refresh(tokens.refresh_token.reveal())
    vera = identity.sessions.authenticate(renewed.access_token.reveal())
    key = identity.api_keys.issue(vera, label="ci", scopes=[Scope.JOBS_READ])
    identity.api_keys.authenticate(key.text.reveal())
    identity.api_keys.revoke(admin, key.key.id)
    with pytest.raises(LoginRefused):
        identity.logins.log_in("vera", "wrong one", source=house.address)
    identity.sessions.log_out(vera)
    identity.factors.reset(admin, user.id)
    identity.accounts.set_role(admin, user.id, Role.VIEWER)
    again = identity.accounts.reset_password(admin, user.id)
    identity.accounts.disable(admin, user.id)

    said = [event["type"].removeprefix("identity.") for event in house.events()]
    assert said[-16:] == [
        "user_created",
        "password_changed",
        "login",
        "enrolment_begun",
        "second_factor_enrolled",
        "recovery_code_used",
        "login",
        "refresh",
        "api_key_issued",
        "api_key_revoked",
        "login_refused",
        "logout",
        "second_factor_reset",
        "role_changed",
        "password_reset",
        "user_disabled",
    ]
    Journal(MemoryHome(house.rows), clock=house.clock).verify("audit")
    secrets += [first.reveal(), again.reveal(), enrolment.seed.reveal(), key.text.reveal()[20:]]
    secrets += [code.reveal() for code in recovery]
    secrets += [
        token.reveal()
        for each in (tokens, renewed)
        for token in (each.access_token, each.refresh_token)
    ]
    values = repr([tokens, renewed, key, enrolment, recovery, first, vera, user, identity])
    journal, disk = repr(house.rows.entries), house.dump()
    for secret in secrets:
        assert secret not in journal
        assert secret not in values
        assert secret in {"vera", "root@example"} or secret not in disk


def test_a_journal_that_refuses_hands_nothing_out_and_then_changes_nothing(
    house: Any, switch: _Switch
) -> None:
    house.clock.advance(60)
    switch.is_off = True
    with pytest.raises(AuditUnavailable, match="nothing was handed out"):
        house.identity.logins.log_in(
            "root@example", house.password, source=house.address, code=house.code("root@example")
        )
    before = house.dump()
    with pytest.raises(AuditUnavailable, match="nothing was changed"):
        house.identity.accounts.create_organisation("other")

    assert house.dump() == before
    switch.is_off = False
    house.identity.accounts.create_organisation("other")
    types = [event["type"] for event in house.events()]
    assert types[-2:] == ["identity.login", "identity.organisation_created"]


@pytest.mark.parametrize("crash", [CrashPoint.BEFORE, CrashPoint.UNDECIDED, CrashPoint.UNANSWERED])
def test_a_death_between_database_and_journal_loses_and_doubles_no_event(
    house: Any, crash: CrashPoint
) -> None:
    crashing = house.opened()
    crashing.store._journal = CrashingJournal(MemoryHome(house.rows), house.clock, [crash])
    with pytest.raises(Crash):
        crashing.accounts.create_organisation("first")
    crashing.close()
    house.rows.lock = __import__("threading").Lock()  # the lock died with its process
    house.identity.accounts.create_organisation("second")

    assert [event["type"] for event in house.events()] == ["identity.organisation_created"] * 2


def test_a_refusal_that_is_raised_undoes_everything(small_house: Any) -> None:
    before = small_house.dump()

    def work(under_way: Any) -> None:
        under_way.say("something")
        raise LoginRefused

    with pytest.raises(LoginRefused):
        small_house.identity.store.change(work)
    assert small_house.dump() == before


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.db"
    path.write_bytes(b"")
    path.chmod(0o644)

    with pytest.raises(IdentityStoreUnavailable, match="0644"):
        Database(path, IDENTITY)


def test_a_new_file_is_its_owners_alone(small_house: Any) -> None:
    assert os.stat(small_house.where).st_mode & 0o777 == 0o600


def test_a_database_of_a_newer_version_is_left_alone(small_house: Any) -> None:
    small_house.identity.close()
    with sqlite3.connect(small_house.where) as connection:
        connection.execute("UPDATE identity_schema SET version = 99")
    connection.close()

    with pytest.raises(IdentityStoreUnavailable, match="99"):
        small_house.opened()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.db"
    path.write_bytes(b"not a database" * 100)
    path.chmod(0o600)

    with pytest.raises(IdentityStoreUnavailable):
        Database(path, IDENTITY)


def test_a_server_that_is_gone_is_named_without_its_password() -> None:
    with pytest.raises(IdentityStoreUnavailable) as gone:
        Database("postgresql://someone:hunter2@127.0.0.1:1/nowhere", IDENTITY)

    assert "hunter2" not in str(gone.value)


def test_every_public_message_tells_a_stranger_nothing() -> None:
    leaves, found = [IdentityError], set()
    while leaves:
        leaf = leaves.pop()
        leaves += leaf.__subclasses__()
        assert leaf.__doc__
        assert leaf.code not in found, leaf
        assert leaf.public
        found.add(leaf.code)


def test_opening_twice_is_the_same_house(house: Any) -> None:
    bootstrap_admin(house.identity.accounts, password=house.password, development=True)
    other = house.opened()

    assert other.logins.log_in("admin", house.password, source=house.address)
    other.close()
