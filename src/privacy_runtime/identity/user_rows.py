"""Users and organisations as rows: how they are found, and what a name may be."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity.errors import WrongTenant
from privacy_runtime.identity.schema import FAMILIES, ORGANISATIONS, USERS
from privacy_runtime.identity.scopes import Principal, Role, Scope, require
from privacy_runtime.identity.store import Work, from_us

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as administrators see one."""

    id: str
    tenant: str
    name: str = field(repr=False)
    role: Role
    is_disabled: bool
    has_code: bool
    must_change_password: bool
    created_at: datetime


def spelled(name: str) -> str:
    """The one spelling of a user name; whatever was typed comes out, valid or not."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def is_name(spelled_name: str) -> bool:
    """Whether a user could be called so."""
    return _NAME.fullmatch(spelled_name) is not None


def require_name(name: str) -> str:
    """Return the one spelling of a new user name.

    Raises:
        InvalidParameter: letters, digits and `._@+-` are taken, 128 at most: two names that look
            alike would be two users. It is not quoted.
    """
    if not is_name(spelled(name)):
        raise InvalidParameter(
            "user name", found="another form", expected="1 to 128 of a-z 0-9 . _ @ + -"
        )
    return spelled(name)


def is_id(text: str) -> bool:
    """Whether a text may be asked for as an id: one that a database could hold."""
    return text.isascii() and text.isprintable()


def select_user(*, name: str | None = None, user: str | None = None) -> sa.Select[Any]:
    """A user's row, with whether the organisation is disabled."""
    query = sa.select(USERS, ORGANISATIONS.c.disabled_us.label("tenant_disabled_us")).join(
        ORGANISATIONS, ORGANISATIONS.c.id == USERS.c.tenant
    )
    return query.where(USERS.c.name == name if user is None else USERS.c.id == user)


def held_user(work: Work, by: Principal, user: str, scope: Scope) -> sa.Row[Any]:
    """A user's row, held, if `by` may do this to it.

    Raises:
        WrongTenant: another organisation's, or there is none: one answer for both.
        NotAllowed: the scope is missing.
    """
    row = work.one(select_user(user=user), lock=USERS) if is_id(user) else None
    if row is None:
        raise WrongTenant(by.subject, scope=scope)
    require(by, scope, tenant=row.tenant)
    return row


def is_open(row: sa.Row[Any]) -> bool:
    """Whether neither the user nor the organisation is disabled."""
    return row.disabled_us is None and row.tenant_disabled_us is None


def user_of(row: sa.Row[Any]) -> User:
    """Read a row."""
    return User(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        role=Role(row.role),
        is_disabled=not is_open(row),
        has_code=row.seed is not None,
        must_change_password=row.one_time_until_us is not None,
        created_at=from_us(row.created_us),
    )


def end_all(work: Work, user: str, *, reason: str) -> int:
    """Revoke a subject: every session and every access token before now. Returns how many sessions.

    The caller holds the user's row, so no login can slip in between.
    """
    work.run(sa.update(USERS).where(USERS.c.id == user).values(not_before_us=work.now_us))
    living = sa.update(FAMILIES).where(FAMILIES.c.user == user, FAMILIES.c.ended_us.is_(None))
    return work.run(living.values(ended_us=work.now_us, ended_by=reason)).rowcount
