"""Sessions of browsers: an opaque cookie that stands for a session of identity.

A browser gets no access token and no refresh token: a script could not read them, but a request
that is aborted could lose a rotation. It gets 256 random bits in a cookie. Kept are their SHA-256
and which session they stand for; idle time, end and role are read from identity's rows at each
check, so a logout, a disabled user or a lowered role counts at once.

Only what a person does counts as activity: a page that polls does not keep a session alive.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Final

import sqlalchemy as sa

from privacy_runtime.http.tables import BROWSER_SESSIONS
from privacy_runtime.identity import Identity, Method, Principal, Role, SessionOver, Tokens
from privacy_runtime.identity.schema import FAMILIES, ORGANISATIONS, USERS
from privacy_runtime.identity.scopes import scopes_of
from privacy_runtime.identity.store import from_us, to_us
from privacy_runtime.identity.user_rows import is_open
from privacy_runtime.secret import Secret

_COOKIE_BYTES: Final = 32
_COOKIE_TEXT: Final = 43
_TOUCH_US: Final = 60_000_000
_MASK_BYTES: Final = 32
_CSRF_TEXT: Final = 86


class BrowserSessions:
    """Opens, checks and ends browser sessions. Synchronous: call it in a thread.

    Args:
        identity: whose sessions they stand for; `tables.prepare` ran on its database.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity, self._store = identity, identity.store

    def open(self, tokens: Tokens, *, instead_of: str | None = None) -> Secret:
        """Make the cookie of a login. The login's tokens need not be kept.

        Args:
            tokens: of the login.
            instead_of: the cookie that the browser had; it stands for nothing any more.

        Raises:
            IdentityStoreUnavailable: the database cannot do it.
        """
        raw = self._store.entropy.token_bytes(_COOKIE_BYTES)
        text = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        now_us = to_us(self._store.clock.now())
        ends_us = now_us + int(self._identity.sessions.policy.absolute_s * 1e6)
        row = {"hash": _hash(text), "family": tokens.principal.session, "ends_us": ends_us}

        def keep(connection: sa.Connection) -> None:
            connection.execute(
                sa.delete(BROWSER_SESSIONS).where(BROWSER_SESSIONS.c.ends_us < now_us)
            )
            if instead_of is not None:
                connection.execute(
                    sa.delete(BROWSER_SESSIONS).where(BROWSER_SESSIONS.c.hash == _hash(instead_of))
                )
            connection.execute(sa.insert(BROWSER_SESSIONS).values(row))

        self._store.database.change(keep)
        return Secret(text)

    def principal(self, cookie: str, *, is_activity: bool) -> Principal:
        """Say whose session a cookie stands for, and what they may now.

        Args:
            cookie: its value.
            is_activity: whether a person did this; it puts the automatic logoff off.

        Raises:
            SessionOver: no session of ours, or it has ended: logged out, idle, too old, disabled.
        """
        if len(cookie) != _COOKIE_TEXT:
            raise SessionOver("the cookie is no session of ours")
        row = self._store.read(lambda c: c.execute(_standing(_hash(cookie))).one_or_none())
        now_us = to_us(self._store.clock.now())
        if row is None or not self._stands(row, now_us):
            raise SessionOver("the session has ended")
        if is_activity and now_us - row.used_us >= _TOUCH_US:
            self._touch(row.family, now_us)
        role, method = Role(row.role), Method(row.method)
        return Principal(
            subject=row.user,
            tenant=row.tenant,
            scopes=scopes_of(role, method, self._identity.sessions.needs_code),
            method=method,
            authenticated_at=from_us(row.founded_us),
            session=row.family,
        )

    def end(self, principal: Principal) -> None:
        """Forget the cookies of a session. `identity.sessions.log_out` ends the session itself."""
        gone = sa.delete(BROWSER_SESSIONS).where(BROWSER_SESSIONS.c.family == principal.session)
        self._store.database.change(lambda connection: connection.execute(gone))

    def _stands(self, row: sa.Row[Any], now_us: int) -> bool:
        policy = self._identity.sessions.policy
        return (
            row.ended_us is None
            and is_open(row)
            and row.founded_us >= row.not_before_us
            and now_us - row.founded_us < policy.absolute_s * 1e6
            and now_us - row.used_us < policy.idle_s * 1e6
        )

    def _touch(self, family: str, now_us: int) -> None:
        living = sa.update(FAMILIES).where(FAMILIES.c.id == family, FAMILIES.c.used_us < now_us)
        self._store.database.change(lambda c: c.execute(living.values(used_us=now_us)))


def csrf_token(cookie: str, mask: bytes) -> str:
    """The token that a page of this session must send back with unsafe requests.

    It is an HMAC under the cookie itself, which no script and no other site can read, behind a
    mask that is new each time, so that a compressed page does not give it away.

    Args:
        cookie: value of the session's cookie.
        mask: 32 fresh random bytes.
    """
    hidden = bytes(a ^ b for a, b in zip(_csrf(cookie), mask, strict=True))
    return base64.urlsafe_b64encode(mask + hidden).rstrip(b"=").decode()


def is_csrf_token(cookie: str, token: str) -> bool:
    """Whether a token belongs to the session of a cookie."""
    if len(token) != _CSRF_TEXT or not token.isascii():
        return False
    try:
        raw = base64.b64decode(token + "==", altchars=b"-_", validate=True)
    except ValueError:
        return False
    shown = bytes(a ^ b for a, b in zip(raw[:_MASK_BYTES], raw[_MASK_BYTES:], strict=True))
    return hmac.compare_digest(shown, _csrf(cookie))


def _csrf(cookie: str) -> bytes:
    key = cookie.encode("utf-8", "surrogatepass")
    return hmac.digest(key, b"csrf token of a browser session", "sha256")


def _hash(cookie: str) -> str:
    text = cookie.encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"http browser session|" + text).hexdigest()


def _standing(digest: str) -> sa.Select[Any]:
    return (
        sa.select(
            BROWSER_SESSIONS.c.family,
            FAMILIES.c.user,
            FAMILIES.c.method,
            FAMILIES.c.founded_us,
            FAMILIES.c.used_us,
            FAMILIES.c.ended_us,
            USERS.c.tenant,
            USERS.c.role,
            USERS.c.disabled_us,
            USERS.c.not_before_us,
            ORGANISATIONS.c.disabled_us.label("tenant_disabled_us"),
        )
        .select_from(BROWSER_SESSIONS)
        .join(FAMILIES, FAMILIES.c.id == BROWSER_SESSIONS.c.family)
        .join(USERS, USERS.c.id == FAMILIES.c.user)
        .join(ORGANISATIONS, ORGANISATIONS.c.id == USERS.c.tenant)
        .where(BROWSER_SESSIONS.c.hash == digest)
    )
