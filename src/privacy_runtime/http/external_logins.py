"""Sessions of people who logged in at another issuer.

Such a person is a user row without a password: the id is made of issuer and subject, the name is
the id, the role is what the issuer's groups say, at each login anew. From then on everything that
holds for users holds for them: lists, disabling, revoking, API keys, the audit trail.

The session begins when the person authenticated *there*. So a login that only had the issuer
remember somebody is not fresh, and one that is older than a revocation here opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from privacy_runtime.identity import (
    ExternalIssuer,
    ExternalLoginRefused,
    Identity,
    Principal,
    Role,
    Tokens,
    principal_of,
)
from privacy_runtime.identity.schema import FAMILIES, ORGANISATIONS, USERS
from privacy_runtime.identity.second_factors import NO_STEP
from privacy_runtime.identity.store import Work, to_us
from privacy_runtime.identity.user_rows import is_open, select_user

_ISSUER = "issuer"


def open_external(identity: Identity, claims: Mapping[str, Any], known: ExternalIssuer) -> Tokens:
    """Found a session for verified claims. Synchronous: call it in a thread.

    Args:
        identity: where users and sessions are.
        claims: of an ID token whose signature, nonce and issuer were verified.
        known: the issuer's configuration.

    Raises:
        ExternalLoginRefused: the claims make no principal, the organisation or the user is
            disabled, or everything of before was revoked here.
        IdentityStoreUnavailable, AuditUnavailable: nothing was opened.
    """
    principal = principal_of(claims, known, now=identity.store.clock.now(), session="none yet")
    role = _role(claims, known)

    def work(under_way: Work) -> Tokens:
        return _opened(under_way, identity, principal, role)

    return identity.store.change(work)


def _opened(work: Work, identity: Identity, principal: Principal, role: Role) -> Tokens:
    user = work.one(select_user(user=principal.subject), lock=USERS)
    if user is None:
        _create(work, principal, role)
    elif user.tenant != principal.tenant or user.password_hash is not None:
        raise ExternalLoginRefused("the user is another organisation's, or has a password here")
    elif user.role != role:
        _change_role(work, user, role)
    user = work.connection.execute(select_user(user=principal.subject)).one()
    since_us = to_us(principal.authenticated_at)
    if not is_open(user):
        raise ExternalLoginRefused("the user or the organisation is disabled")
    if since_us < user.not_before_us:
        raise ExternalLoginRefused("everything before now was revoked: authenticate there again")
    tokens = identity.sessions.found(work, user, principal.method)
    founded = sa.update(FAMILIES).where(FAMILIES.c.id == tokens.principal.session)
    work.run(founded.values(founded_us=min(since_us, work.now_us)))
    return tokens


def _role(claims: Mapping[str, Any], known: ExternalIssuer) -> Role:
    """The one role that `principal_of` found."""
    groups = claims[known.groups_claim]
    (role,) = {known.roles[g] for g in groups if isinstance(g, str) and g in known.roles}
    return role


def _create(work: Work, principal: Principal, role: Role) -> None:
    tenant = sa.select(ORGANISATIONS.c.id).where(ORGANISATIONS.c.id == principal.tenant)
    if work.connection.execute(tenant).first() is None:
        raise ExternalLoginRefused("the issuer is configured for an organisation that is not here")
    work.run(
        sa.insert(USERS).values(
            id=principal.subject,
            tenant=principal.tenant,
            name=principal.subject,
            role=str(role),
            created_us=work.now_us,
            not_before_us=0,
            step_used=NO_STEP,
        )
    )
    who = {"subject": principal.subject, "tenant": principal.tenant, "role": str(role)}
    work.say("user_created", by=_ISSUER, **who)


def _change_role(work: Work, user: sa.Row[Any], role: Role) -> None:
    """The issuer says another role than at the last login: what was opened with that one ends."""
    living = sa.update(FAMILIES).where(FAMILIES.c.user == user.id, FAMILIES.c.ended_us.is_(None))
    work.run(living.values(ended_us=work.now_us, ended_by="role_changed"))
    work.run(sa.update(USERS).where(USERS.c.id == user.id).values(role=str(role)))
    work.say("role_changed", by=_ISSUER, subject=user.id, old=user.role, new=str(role))
