"""Who asks, as FastAPI dependencies.

@router.get("/training/{job}")
async def job(principal: Annotated[Principal, Depends(access.allowed(Scope.JOBS_READ))]): ...

Three ways in: `Authorization: Bearer` with an access token or an API key, `X-API-Key`, and a
browser's session cookie; the last needs the session's token on unsafe methods. Identity is
synchronous, so it is asked in threads, and argon2 in a small pool of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import anyio
import anyio.to_thread
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection
from starlette.responses import Response

from privacy_runtime.http import browsers
from privacy_runtime.http.browser_sessions import BrowserSessions, csrf_token
from privacy_runtime.http.credentials import Credentials, Kind, cookies_named, credentials_of
from privacy_runtime.http.limits import RateLimits
from privacy_runtime.http.openapi import BEARER
from privacy_runtime.http.policy import HttpPolicy
from privacy_runtime.http.principals import KEPT_S, VerifiedPrincipals
from privacy_runtime.http.refusals import Busy, Unauthenticated
from privacy_runtime.http.streams import Seats
from privacy_runtime.http.tables import prepare
from privacy_runtime.http.visits import visit_of
from privacy_runtime.identity import (
    Identity,
    Principal,
    Scope,
    Tokens,
    require,
    require_fresh,
)
from privacy_runtime.world import Clock, Entropy

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_R = TypeVar("_R")
_THREADS: Final = 8
_LOGIN_THREADS: Final = 2
_LOGINS_WAITING: Final = 64


class Guard(SecurityBase):
    """A dependency that returns the principal, if they may. OpenAPI lists the ways in."""

    def __init__(self, access: Access, *scopes: Scope, is_fresh: bool = False) -> None:
        self.model = HTTPBearer()
        self.scheme_name = BEARER
        self.scopes, self.is_fresh = scopes, is_fresh
        self._access = access

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Settle who asks, and whether they may."""
        access = self._access
        principal = await access.authenticate(connection)
        for scope in self.scopes:
            if self.is_fresh:
                now = access.clock.now()
                require_fresh(principal, scope, tenant=principal.tenant, now=now)
            else:
                require(principal, scope, tenant=principal.tenant)
        return principal


class Access:
    """The door between requests and identity. One for a process.

    Args:
        identity: who may what.
        clock, entropy: the world.
        policy: of the plumbing; the same that `install` got.
        limits: rates of principals; `None` counts nothing.
        kept_s: for how long a verified principal is believed without asking again, at most 1 s.
        threads: how many of identity's calls run at once.
        seats: how many streams may be open.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        clock: Clock,
        entropy: Entropy,
        policy: HttpPolicy | None = None,
        limits: RateLimits | None = None,
        kept_s: float = KEPT_S,
        threads: int = _THREADS,
        seats: Seats | None = None,
    ) -> None:
        self.identity, self.clock, self.limits = identity, clock, limits
        self.policy = policy or HttpPolicy()
        prepare(identity.store.database)
        self.sessions = BrowserSessions(identity)
        self.principal = Guard(self)
        """Dependency: whoever is logged in."""
        self.seats = seats or Seats()
        self._entropy = entropy
        self._kept = VerifiedPrincipals(clock, kept_s=kept_s)
        self._threads = anyio.CapacityLimiter(threads)
        self._logins = anyio.CapacityLimiter(_LOGIN_THREADS)

    def allowed(self, *scopes: Scope) -> Guard:
        """Dependency: a principal with all of these scopes."""
        return Guard(self, *scopes)

    def fresh(self, scope: Scope) -> Guard:
        """Dependency: one who logged in within five minutes with a second factor."""
        return Guard(self, scope, is_fresh=True)

    def limited(self, name: str) -> Callable[[HTTPConnection], Any]:
        """Dependency: count the request under a further rate: `login` by address, others by who."""

        async def count(connection: HTTPConnection) -> None:
            visit = visit_of(connection)
            if self.limits is None:
                return
            if name == "login":
                await self.limits.admit(name, visit.network, visit)
            else:
                principal = await self.authenticate(connection)
                await self.limits.admit(name, principal.subject, visit)

        return count

    async def same_site(self, connection: HTTPConnection) -> None:
        """Dependency for forms before there is a session: our own pages sent this."""
        browsers.require_same_site(connection, self.policy)

    async def authenticate(self, connection: HTTPConnection) -> Principal:
        """Say who asks; each request is looked at once.

        Raises:
            Unauthenticated: no credentials, or more than one.
            TokenRefused, ApiKeyRefused, SessionOver: they do not count.
            CrossSiteRefused: a cookie on an unsafe request that no page of ours sent.
            TooManyRequests: the principal's rate.
        """
        visit = visit_of(connection)
        if visit.principal is not None:
            return visit.principal
        shown = credentials_of(connection.headers, browsers.cookie_name(visit, self.policy))
        if shown is None:
            raise Unauthenticated("credentials are needed")
        if shown.kind is Kind.COOKIE:
            if browsers.has_files(connection):
                await self.verified(shown)  # files are read for people only
            await browsers.require_own_page(connection, shown.text, self.policy)
        principal = await self.verified(shown, is_activity=browsers.is_activity(connection))
        if self.limits is not None and connection.scope["type"] == "http":
            safe = connection.scope["method"] in browsers.SAFE
            await self.limits.admit("reads" if safe else "writes", principal.subject, visit)
        visit.principal = principal
        return principal

    async def again(self, connection: HTTPConnection) -> Principal:
        """Who asked, verified again: for streams that outlast what they were opened with.

        Raises:
            TokenRefused, ApiKeyRefused, SessionOver: the credentials do not count any more.
            NotAllowed: a scope that the principal had is gone.
        """
        visit = visit_of(connection)
        shown = credentials_of(connection.headers, browsers.cookie_name(visit, self.policy))
        if shown is None:
            raise Unauthenticated("credentials are needed")
        principal = await self.verified(shown)
        if visit.principal is not None:
            for scope in visit.principal.scopes:
                require(principal, scope, tenant=visit.principal.tenant)
        return principal

    def subject_of(self, connection: HTTPConnection) -> str:
        """Whose request a guard has let in."""
        principal = visit_of(connection).principal
        if principal is None:
            raise Unauthenticated("no guard has let this request in")
        return principal.subject

    async def optional(self, connection: HTTPConnection) -> Principal | None:
        """Dependency for pages that also show themselves to strangers."""
        visit = visit_of(connection)
        name = browsers.cookie_name(visit, self.policy)
        if credentials_of(connection.headers, name) is None:
            return None
        return await self.authenticate(connection)

    async def verified(self, shown: Credentials, *, is_activity: bool = False) -> Principal:
        """The principal of a credential, verified less than a second ago."""
        return await self._kept.get(shown, partial(self._verify, shown, is_activity))

    def known(self, shown: Credentials) -> Principal | None:
        """The principal of a credential that needs no look now; None: ask `verified`."""
        return self._kept.known(shown, partial(self._verify, is_activity=False))

    async def run(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run a synchronous call of a store in a thread."""
        return await anyio.to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._threads)

    async def run_login(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run a call that hashes a password: two at once, for each takes 19 MiB and a core.

        Raises:
            Busy: too many wait already; nothing was checked.
        """
        if self._logins.statistics().tasks_waiting >= _LOGINS_WAITING:
            raise Busy("too many logins at once; nothing was checked")
        return await anyio.to_thread.run_sync(partial(call, *args, **kwargs), limiter=self._logins)

    async def open_session(
        self, connection: HTTPConnection, response: Response, tokens: Tokens
    ) -> None:
        """Give a browser the session of a login. The cookie is new; what it had before is void."""
        visit = visit_of(connection)
        had = cookies_named(connection.headers, browsers.cookie_name(visit, self.policy))
        instead_of = had[0] if len(had) == 1 else None
        cookie = await self.run(self.sessions.open, tokens, instead_of=instead_of)
        if instead_of is not None:
            self._kept.forget_credential(Credentials(Kind.COOKIE, instead_of))
        browsers.set_cookie(response, visit, self.policy, cookie.reveal())

    async def log_out(
        self, connection: HTTPConnection, response: Response, principal: Principal
    ) -> None:
        """End a session here and in identity, and take the cookie away."""
        self.forget(principal.session)
        await self.run(self.identity.sessions.log_out, principal)
        await self.run(self.sessions.end, principal)
        self.forget(principal.session)
        browsers.clear_cookie(response, visit_of(connection), self.policy)
        response.headers["Clear-Site-Data"] = '"cache", "storage"'  # a browser heeds it over TLS

    def csrf_token(self, connection: HTTPConnection) -> str:
        """The token for forms and scripts of a page; empty without a session cookie."""
        name = browsers.cookie_name(visit_of(connection), self.policy)
        shown = credentials_of(connection.headers, name)
        if shown is None or shown.kind is not Kind.COOKIE:
            return ""
        return csrf_token(shown.text, self._entropy.token_bytes(32))

    def forget(self, session: str) -> None:
        """Believe nothing about a session or API key that was kept: it was ended."""
        self._kept.forget(session)

    def forget_subject(self, subject: str) -> None:
        """Believe nothing about a user that was kept: their role, password or state changed."""
        self._kept.forget_subject(subject)

    async def _verify(self, shown: Credentials, is_activity: bool) -> Principal:
        match shown.kind:
            case Kind.TOKEN:
                return await self.run(self.identity.sessions.authenticate, shown.text)
            case Kind.API_KEY:
                return await self.run(self.identity.api_keys.authenticate, shown.text)
            case Kind.COOKIE:
                return await self.run(self.sessions.principal, shown.text, is_activity=is_activity)
