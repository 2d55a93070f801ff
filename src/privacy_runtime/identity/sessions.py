"""Sessions: tokens are issued, renewed, checked and revoked.

A login founds a session (a family of refresh tokens). Access tokens carry its id, so ending it ends
them at once and not in fifteen minutes: each check reads one row.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity.access_tokens import AccessTokens, Claims
from privacy_runtime.identity.errors import (
    IdentityError,
    RefreshRaced,
    RefreshRefused,
    RefreshReused,
    SessionOver,
    TokenRevoked,
    WrongTenant,
)
from privacy_runtime.identity.refresh_families import Family, Held, SessionPolicy, Verdict, judge
from privacy_runtime.identity.schema import (
    FAMILIES,
    ORGANISATIONS,
    REFRESH_TOKENS,
    REVOKED_TOKENS,
    USERS,
)
from privacy_runtime.identity.scopes import Method, Principal, Role, Scope, scopes_of
from privacy_runtime.identity.store import Store, Work, from_us, to_us
from privacy_runtime.identity.user_rows import end_all, held_user, is_id, is_open, select_user
from privacy_runtime.secret import Secret

NEEDS_CODE: Final = frozenset({Role.ADMIN, Role.PRIVACY_OFFICER})
_REFRESH_BYTES: Final = 32
_REFRESH_MAX: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a login or a refresh hands out, once."""

    access_token: Secret = field(repr=False)
    refresh_token: Secret = field(repr=False)
    expires_in_s: int
    principal: Principal

    def to_json(self) -> dict[str, Any]:
        """The documented answer of `POST /auth/login`, secrets included."""
        return {
            "access_token": self.access_token.reveal(),
            "token_type": "bearer",
            "expires_in": self.expires_in_s,
            "refresh_token": self.refresh_token.reveal(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSession:
    """A session as its owner sees it; `is_this`: the one that asks."""

    id: str
    method: Method
    founded_at: datetime
    used_at: datetime
    is_this: bool


class Sessions:
    """Founds, renews, checks and ends sessions.

    Args:
        store: where they are kept.
        tokens: signs and verifies access tokens.
        policy: how long a session lasts.
        needs_code: roles that may nothing but enrol until they have a second factor.

    Raises:
        InvalidParameter: sessions would end before their access tokens do.
    """

    def __init__(
        self,
        store: Store,
        tokens: AccessTokens,
        *,
        policy: SessionPolicy | None = None,
        needs_code: frozenset[Role] = NEEDS_CODE,
    ) -> None:
        self._store, self._tokens = store, tokens
        self.policy, self.needs_code = policy or SessionPolicy(), needs_code
        if self.policy.idle_s <= tokens.policy.lifetime_s:
            raise InvalidParameter(
                "idle_s",
                found=self.policy.idle_s,
                expected=f"more than an access token's {tokens.policy.lifetime_s} s",
            )

    def found(self, work: Work, user: sa.Row[Any], method: Method) -> Tokens:
        """Found a session for a user whose row is held and who showed who they are."""
        session = self._store.new_id("s")
        refresh = _new_refresh(work)
        now = work.now_us
        work.run(
            sa.insert(FAMILIES).values(
                id=session,
                user=user.id,
                method=str(method),
                newest=_hash(refresh),
                founded_us=now,
                used_us=now,
            )
        )
        work.run(sa.insert(REFRESH_TOKENS).values(hash=_hash(refresh), family=session))
        work.say("login", subject=user.id, tenant=user.tenant, session=session, method=str(method))
        return self._handed_out(user, session, method, from_us(now), refresh)

    def refresh(self, token: str) -> Tokens:
        """Spend a refresh token; hand out its successor and an access token.

        Guarantee: of any number of requests with one token, at most one is answered.

        Raises:
            RefreshRaced: spent moments ago; nothing was revoked.
            RefreshReused: spent before; the whole family is revoked.
            SessionOver: ended, idle, or too old.
            RefreshRefused: no token of ours.
        """
        digest = _hash(token)
        return self._store.change(lambda work: self._refresh(work, digest))

    def authenticate(self, access_token: str) -> Principal:
        """Say who bears a token, and what they may now.

        Scopes are those of the token that the user's role still has: a role that was lowered counts
        at once.

        Raises:
            TokenRefused: one of its leaves.
        """
        claims = self._tokens.verify(access_token)
        row = self._store.read(
            lambda connection: connection.execute(_standing(claims)).one_or_none()
        )
        if row is None or not _stands(row, claims):
            raise TokenRevoked("the token, its session or its owner was revoked")
        role = Role(row.role)
        return Principal(
            subject=claims.subject,
            tenant=claims.tenant,
            scopes=claims.scopes & scopes_of(role, claims.method, self.needs_code),
            method=claims.method,
            authenticated_at=claims.authenticated_at,
            session=claims.session,
        )

    def own(self, by: Principal) -> list[OwnSession]:
        """One's own sessions that can still be used, the newest first."""
        now_us = to_us(self._store.clock.now())
        query = (
            sa.select(FAMILIES)
            .where(
                FAMILIES.c.user == by.subject,
                FAMILIES.c.ended_us.is_(None),
                FAMILIES.c.used_us > now_us - int(self.policy.idle_s * 1_000_000),
                FAMILIES.c.founded_us > now_us - int(self.policy.absolute_s * 1_000_000),
            )
            .order_by(FAMILIES.c.founded_us.desc(), FAMILIES.c.id)
        )
        rows = self._store.read(lambda connection: connection.execute(query).all())
        return [
            OwnSession(
                id=row.id,
                method=Method(row.method),
                founded_at=from_us(row.founded_us),
                used_at=from_us(row.used_us),
                is_this=row.id == by.session,
            )
            for row in rows
        ]

    def end_own(self, by: Principal, session: str) -> None:
        """End one of one's own sessions: its refresh tokens and its access tokens.

        Raises:
            WrongTenant: there is none of this id that is one's own and goes on.
        """

        def end(work: Work) -> None:
            living = sa.update(FAMILIES).where(
                FAMILIES.c.id == session,
                FAMILIES.c.user == by.subject,
                FAMILIES.c.ended_us.is_(None),
            )
            if (
                not is_id(session)
                or not work.run(
                    living.values(ended_us=work.now_us, ended_by="ended_by_owner")
                ).rowcount
            ):
                raise WrongTenant(by.subject, scope=Scope.ACCOUNT_SELF)
            work.say("session_ended", subject=by.subject, session=session, reason="by_owner")

        self._store.change(end)

    def log_out(self, principal: Principal) -> None:
        """End the session of a principal: its refresh tokens and its access tokens."""

        def end(work: Work) -> None:
            living = sa.update(FAMILIES).where(
                FAMILIES.c.id == principal.session,
                FAMILIES.c.user == principal.subject,
                FAMILIES.c.ended_us.is_(None),
            )
            if work.run(living.values(ended_us=work.now_us, ended_by="log_out")).rowcount:
                work.say("logout", subject=principal.subject, session=principal.session)

        self._store.change(end)

    def revoke_subject(self, by: Principal, user: str) -> int:
        """End every session of a user: one's own, or as an administrator. Returns how many.

        Raises:
            NotAllowed, WrongTenant: as `require`; an unknown user is one of another tenant.
        """

        def revoke(work: Work) -> int:
            scope = Scope.ACCOUNT_SELF if by.subject == user else Scope.USERS_WRITE
            held_user(work, by, user, scope)
            ended = end_all(work, user, reason="revoked")
            work.say("sessions_revoked", by=by.subject, subject=user, sessions=ended)
            return ended

        return self._store.change(revoke)

    def revoke_token(self, access_token: str) -> None:
        """Refuse one access token from now on; its session goes on.

        Raises:
            TokenRefused: it does not verify.
        """
        claims = self._tokens.verify(access_token)
        ends_us = to_us(claims.expires_at) + self._tokens.policy.skew_s * 1_000_000

        def revoke(work: Work) -> None:
            known = sa.select(REVOKED_TOKENS.c.id).where(REVOKED_TOKENS.c.id == claims.token_id)
            if work.connection.execute(known).one_or_none() is None:
                row = {"id": claims.token_id, "ends_us": ends_us}
                work.run(sa.insert(REVOKED_TOKENS).values(row))
                work.say("token_revoked", subject=claims.subject, token=claims.token_id)

        self._store.change(revoke)

    def purge(self) -> int:
        """Delete sessions and revocations whose time is over; returns how many sessions."""

        def delete(work: Work) -> int:
            work.run(sa.delete(REVOKED_TOKENS).where(REVOKED_TOKENS.c.ends_us < work.now_us))
            oldest = work.now_us - int((self.policy.absolute_s + 86_400) * 1_000_000)
            old = sa.select(FAMILIES.c.id).where(FAMILIES.c.founded_us < oldest)
            work.run(sa.delete(REFRESH_TOKENS).where(REFRESH_TOKENS.c.family.in_(old)))
            return work.run(sa.delete(FAMILIES).where(FAMILIES.c.founded_us < oldest)).rowcount

        return self._store.change(delete)

    def _refresh(self, work: Work, digest: str) -> Tokens | IdentityError:
        where = sa.select(REFRESH_TOKENS).where(REFRESH_TOKENS.c.hash == digest)
        known = work.connection.execute(where).one_or_none()
        if known is None:
            return RefreshRefused("no refresh token of ours")
        family = work.one(sa.select(FAMILIES).where(FAMILIES.c.id == known.family), lock=FAMILIES)
        # Read again under the family's lock: another request may have spent it meanwhile.
        token = work.one(where, lock=REFRESH_TOKENS)
        if family is None or token is None:
            return RefreshRefused("no refresh token of ours")
        user = work.connection.execute(select_user(user=family.user)).one()
        verdict = judge(_family(family, user), _held(token, family), self.policy, work.now)
        if verdict is not Verdict.RENEW:
            return self._refused(work, verdict, family)
        return self._renewed(work, digest, family, user)

    def _renewed(self, work: Work, digest: str, family: sa.Row[Any], user: sa.Row[Any]) -> Tokens:
        refresh = _new_refresh(work)
        spent = {"spent_us": work.now_us, "successor": _hash(refresh)}
        work.run(sa.update(REFRESH_TOKENS).where(REFRESH_TOKENS.c.hash == digest).values(spent))
        work.run(sa.insert(REFRESH_TOKENS).values(hash=_hash(refresh), family=family.id))
        used = {"newest": _hash(refresh), "used_us": work.now_us}
        work.run(sa.update(FAMILIES).where(FAMILIES.c.id == family.id).values(used))
        work.say("refresh", subject=user.id, session=family.id)
        founded = from_us(family.founded_us)
        return self._handed_out(user, family.id, Method(family.method), founded, refresh)

    def _refused(self, work: Work, verdict: Verdict, family: sa.Row[Any]) -> RefreshRefused:
        if verdict.ends_family:
            over = {"ended_us": work.now_us, "ended_by": str(verdict)}
            work.run(sa.update(FAMILIES).where(FAMILIES.c.id == family.id).values(over))
            work.say("session_ended", subject=family.user, session=family.id, reason=str(verdict))
        match verdict:
            case Verdict.RACED:
                return RefreshRaced("the token was spent moments ago; nothing was revoked")
            case Verdict.REUSED:
                return RefreshReused("the token was spent before; its family is revoked")
            case _:
                return SessionOver(f"the session has ended: {verdict}")

    def _handed_out(
        self, user: sa.Row[Any], session: str, method: Method, founded: datetime, refresh: Secret
    ) -> Tokens:
        principal = Principal(
            subject=user.id,
            tenant=user.tenant,
            scopes=scopes_of(Role(user.role), method, self.needs_code),
            method=method,
            authenticated_at=founded,
            session=session,
        )
        ends = Family(founded=founded, used=founded).ends(self.policy)
        access, claims = self._tokens.issue(principal, ends=ends)
        return Tokens(
            access_token=Secret(access),
            refresh_token=refresh,
            expires_in_s=int((claims.expires_at - claims.issued_at).total_seconds()),
            principal=principal,
        )


def _standing(claims: Claims) -> sa.Select[Any]:
    """What a token rests on: its session, user and organisation, and whether it was revoked."""
    revoked = REVOKED_TOKENS.c.id == claims.token_id
    return (
        sa.select(
            FAMILIES.c.ended_us,
            FAMILIES.c.method,
            USERS.c.tenant,
            USERS.c.role,
            USERS.c.disabled_us,
            USERS.c.not_before_us,
            ORGANISATIONS.c.disabled_us.label("tenant_disabled_us"),
            REVOKED_TOKENS.c.id.label("revoked"),
        )
        .select_from(FAMILIES)
        .join(USERS, USERS.c.id == FAMILIES.c.user)
        .join(ORGANISATIONS, ORGANISATIONS.c.id == USERS.c.tenant)
        .outerjoin(REVOKED_TOKENS, revoked)
        .where(FAMILIES.c.id == claims.session, USERS.c.id == claims.subject)
    )


def _stands(row: sa.Row[Any], claims: Claims) -> bool:
    """Whether nothing that a token rests on has ended. `iat` is in whole seconds, rounded down."""
    issued_before_us = to_us(claims.issued_at) + 1_000_000
    return (
        row.ended_us is None
        and row.revoked is None
        and is_open(row)
        and row.method == claims.method
        and row.tenant == claims.tenant
        and issued_before_us > row.not_before_us
    )


def _family(family: sa.Row[Any], user: sa.Row[Any]) -> Family:
    is_over = family.ended_us is not None or not is_open(user)
    return Family(
        founded=from_us(family.founded_us),
        used=from_us(family.used_us),
        ended=is_over or family.founded_us < user.not_before_us,
    )


def _held(token: sa.Row[Any], family: sa.Row[Any]) -> Held:
    spent = None if token.spent_us is None else from_us(token.spent_us)
    return Held(spent=spent, is_last_but_one=token.successor == family.newest)


def _new_refresh(work: Work) -> Secret:
    raw = work.entropy.token_bytes(_REFRESH_BYTES)
    return Secret("pr_" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode())


def _hash(token: Secret | str) -> str:
    """What is kept of a token: SHA-256, since 256 random bits leave nothing to guess."""
    text = token.reveal() if isinstance(token, Secret) else token
    if len(text) > _REFRESH_MAX:
        text = ""
    return hashlib.sha256(b"identity refresh|" + text.encode("utf-8", "surrogatepass")).hexdigest()
