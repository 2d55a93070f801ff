"""Who may pass: identity's door, or none at all on a machine where somebody tries things out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.requests import HTTPConnection

from privacy_runtime.http import visit_of
from privacy_runtime.identity import Method, Principal, Scope
from privacy_runtime.world import Clock


class Door(Protocol):
    """What routes ask for their checks. `privacy_runtime.http.Access` is one."""

    def allowed(self, *scopes: Scope) -> Callable[..., Any]:
        """A dependency: a principal with all of these scopes."""
        ...

    def fresh(self, scope: Scope) -> Callable[..., Any]:
        """A dependency: one who logged in moments ago with a second factor."""
        ...

    def limited(self, name: str) -> Callable[[HTTPConnection], Any]:
        """A dependency: count the request under a further rate."""
        ...


class OpenDoor:
    """Lets everybody in with every scope: `security.authentication: none`.

    The configuration refuses it in production and on any address but a loopback one.

    Args:
        access: counts rates all the same.
        clock: dates the principal.
    """

    def __init__(self, access: Door, clock: Clock) -> None:
        self._access, self._clock = access, clock

    def allowed(self, *scopes: Scope) -> Callable[[HTTPConnection], Awaitable[Principal]]:
        """Let in."""
        del scopes
        return self._let_in

    def fresh(self, scope: Scope) -> Callable[[HTTPConnection], Awaitable[Principal]]:
        """Let in."""
        del scope
        return self._let_in

    def limited(self, name: str) -> Callable[[HTTPConnection], Any]:
        """Count logins by address; others have nobody to be counted for."""
        return self._access.limited(name) if name == "login" else self._let_in

    async def _let_in(self, connection: HTTPConnection) -> Principal:
        principal = Principal(
            subject="anonymous",
            tenant="local",
            scopes=frozenset(Scope),
            method=Method.PASSWORD_AND_CODE,
            authenticated_at=self._clock.now(),
            session="none",
        )
        visit_of(connection).principal = principal
        return principal
