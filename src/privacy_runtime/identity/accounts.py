"""Organisations and users: made, given a role, disabled, and given a password for one use."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity.errors import AccountConflict, UnknownAccount
from privacy_runtime.identity.logins import ONE_TIME_VALID_S
from privacy_runtime.identity.passwords import Passwords, one_time_password
from privacy_runtime.identity.schema import ORGANISATIONS, SCHEMA, USERS
from privacy_runtime.identity.scopes import Principal, Role, Scope, require
from privacy_runtime.identity.second_factors import NO_STEP
from privacy_runtime.identity.store import Store, Work
from privacy_runtime.identity.user_rows import (
    User,
    end_all,
    held_user,
    is_id,
    require_name,
    select_user,
    user_of,
)
from privacy_runtime.secret import Secret

NAME_MAX: Final = 128
HOST: Final = "host"
"""Who did it when the operator of the machine did: nobody is logged in yet."""


class Accounts:
    """Makes and changes users.

    Every act of a person takes their `Principal` and checks it here, not in the caller. Nobody
    changes their own role or disables themselves; the last administrator of an organisation stays.

    Args:
        store: where users are kept.
        passwords: for one-time passwords.
    """

    def __init__(self, store: Store, passwords: Passwords) -> None:
        self._store, self._passwords = store, passwords

    def create_organisation(self, name: str) -> str:
        """Make an organisation and return its id: an act of the machine's operator.

        Raises:
            InvalidParameter: the name is empty, too long or not printable.
            AccountConflict: the name is taken.
        """
        return self._store.change(lambda work: self._new_organisation(work, name))

    def create_first_admin(
        self, *, organisation: str, name: str, password: str | None, development: bool
    ) -> tuple[User, Secret | None]:
        """Make the first organisation and administrator; `bootstrap.bootstrap_admin` is the door.

        Raises:
            AccountConflict: there are users already; nothing was changed.
        """
        name = require_name(name)
        first = one_time_password(self._store.entropy) if password is None else password
        if password is not None and not development:
            self._passwords.require_usable(password, about=name)
        hashed = self._passwords.hash(first)

        def create(work: Work) -> User:
            # One row that every first start holds: of two at once, one sees the other's user.
            work.one(sa.select(SCHEMA), lock=SCHEMA)
            if work.connection.execute(sa.select(USERS.c.id).limit(1)).first() is not None:
                raise AccountConflict("there are users already; no administrator was made")
            tenant = self._new_organisation(work, organisation)
            once = password is None or not development
            return self._new_user(work, HOST, tenant, name, Role.ADMIN, hashed, once=once)

        user = self._store.change(create)
        return user, Secret(first) if password is None else None

    def create_user(self, by: Principal, name: str, role: Role) -> tuple[User, Secret]:
        """Make a user in the administrator's organisation; returns their one-time password.

        Raises:
            NotAllowed: `by` may not.
            InvalidParameter: the name has another form.
            AccountConflict: the name is taken, here or in another organisation.
        """
        require(by, Scope.USERS_WRITE, tenant=by.tenant)
        name = require_name(name)
        first = one_time_password(self._store.entropy)
        hashed = self._passwords.hash(first)
        user = self._store.change(
            lambda work: self._new_user(work, by.subject, by.tenant, name, role, hashed, once=True)
        )
        return user, Secret(first)

    def users(self, by: Principal) -> list[User]:
        """The users of the organisation, by name."""
        require(by, Scope.USERS_READ, tenant=by.tenant)
        query = _users_of(by.tenant)
        return self._store.read(lambda c: [user_of(row) for row in c.execute(query)])

    def set_role(self, by: Principal, user: str, role: Role) -> None:
        """Give a user another role. Their sessions end.

        Raises:
            NotAllowed, WrongTenant: as `require`; an unknown user is one of another tenant.
            AccountConflict: one's own role, or the last administrator's.
        """

        def change(work: Work) -> None:
            row = self._other(work, by, user)
            if role is not Role.ADMIN:
                self._require_another_admin(work, row)
            _set(work, user, role=str(role))
            end_all(work, user, reason="role_changed")
            work.say("role_changed", by=by.subject, subject=user, old=row.role, new=str(role))

        self._store.change(change)

    def disable(self, by: Principal, user: str) -> None:
        """Keep a user out: logins, sessions, tokens and API keys, at once.

        Raises:
            NotAllowed, WrongTenant: as `set_role`.
            AccountConflict: oneself, or the last administrator.
        """

        def change(work: Work) -> None:
            row = self._other(work, by, user)
            self._require_another_admin(work, row)
            _set(work, user, disabled_us=work.now_us)
            end_all(work, user, reason="disabled")
            work.say("user_disabled", by=by.subject, subject=user)

        self._store.change(change)

    def enable(self, by: Principal, user: str) -> None:
        """Let a user in again.

        Raises:
            NotAllowed, WrongTenant: as `set_role`.
        """

        def change(work: Work) -> None:
            self._other(work, by, user)
            _set(work, user, disabled_us=None)
            work.say("user_enabled", by=by.subject, subject=user)

        self._store.change(change)

    def reset_password(self, by: Principal, user: str) -> Secret:
        """Give a user a one-time password, shown once. Their sessions end; the factor stays.

        Raises:
            NotAllowed, WrongTenant: as `set_role`.
        """
        first = one_time_password(self._store.entropy)
        hashed = self._passwords.hash(first)

        def change(work: Work) -> Secret:
            self._other(work, by, user)
            _set(work, user, password_hash=hashed, one_time_until_us=_one_time_until(work))
            end_all(work, user, reason="password_reset")
            work.say("password_reset", by=by.subject, subject=user)
            return Secret(first)

        return self._store.change(change)

    def disable_organisation(self, organisation: str) -> None:
        """Keep everybody of an organisation out: an act of the machine's operator.

        Raises:
            UnknownAccount: there is none with this id.
        """

        def change(work: Work) -> None:
            if not is_id(organisation):
                raise UnknownAccount("there is no such organisation; nothing was changed")
            closing = sa.update(ORGANISATIONS).where(ORGANISATIONS.c.id == organisation)
            if not work.run(closing.values(disabled_us=work.now_us)).rowcount:
                raise UnknownAccount("there is no such organisation; nothing was changed")
            work.say("organisation_disabled", by=HOST, tenant=organisation)

        self._store.change(change)

    def _new_organisation(self, work: Work, name: str) -> str:
        if not 0 < len(name) <= NAME_MAX or not name.isprintable():
            raise InvalidParameter(
                "organisation", found="another form", expected=f"1 to {NAME_MAX} printable signs"
            )
        tenant = self._store.new_id("o")
        row = {"id": tenant, "name": name, "created_us": work.now_us}
        work.run(sa.insert(ORGANISATIONS).values(row))
        work.say("organisation_created", by=HOST, tenant=tenant)
        return tenant

    def _new_user(
        self, work: Work, by: str, tenant: str, name: str, role: Role, hashed: str, *, once: bool
    ) -> User:
        user = self._store.new_id("u")
        work.run(
            sa.insert(USERS).values(
                id=user,
                tenant=tenant,
                name=name,
                role=str(role),
                password_hash=hashed,
                one_time_until_us=_one_time_until(work) if once else None,
                created_us=work.now_us,
                not_before_us=work.now_us,
                step_used=NO_STEP,
            )
        )
        work.say("user_created", by=by, subject=user, tenant=tenant, role=str(role))
        return user_of(work.connection.execute(select_user(user=user)).one())

    def _other(self, work: Work, by: Principal, user: str) -> sa.Row[Any]:
        """A user of the same organisation who is not `by`, their row held."""
        # The organisation first: two administrators who remove each other take turns.
        work.one(
            sa.select(ORGANISATIONS).where(ORGANISATIONS.c.id == by.tenant), lock=ORGANISATIONS
        )
        row = held_user(work, by, user, Scope.USERS_WRITE)
        if by.subject == user:
            raise AccountConflict("nobody does this to themselves; nothing was changed")
        return row

    def _require_another_admin(self, work: Work, row: sa.Row[Any]) -> None:
        if row.role != Role.ADMIN or row.disabled_us is not None:
            return
        others = sa.select(USERS.c.id).where(
            USERS.c.tenant == row.tenant,
            USERS.c.role == str(Role.ADMIN),
            USERS.c.disabled_us.is_(None),
            USERS.c.id != row.id,
        )
        if work.connection.execute(others.limit(1)).first() is None:
            raise AccountConflict("nobody would be left in charge; nothing was changed")


def _users_of(tenant: str) -> sa.Select[Any]:
    query = sa.select(USERS, ORGANISATIONS.c.disabled_us.label("tenant_disabled_us"))
    joined = query.join(ORGANISATIONS, ORGANISATIONS.c.id == USERS.c.tenant)
    return joined.where(USERS.c.tenant == tenant).order_by(USERS.c.name)


def _one_time_until(work: Work) -> int:
    return work.now_us + ONE_TIME_VALID_S * 1_000_000


def _set(work: Work, user: str, **values: object) -> None:
    work.run(sa.update(USERS).where(USERS.c.id == user).values(values))
