"""Renews a session's tokens: once at a time, across tasks and across processes.

A refresh token counts once. Whoever wants to renew takes the lock of this client, then the lock of
the file; by then somebody else may have renewed, and the new tokens are used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from privacy_finetuner.client.access import Headers, bearer
from privacy_finetuner.client.asynchronous.waiting import Lock, sleep
from privacy_finetuner.client.credentials import Grant, GrantHome
from privacy_finetuner.client.errors import Conflict, NotLoggedIn, Unauthenticated, Unreachable
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock

_LOOK_S: Final = 0.05
_PATIENCE_S: Final = 30.0


class AsyncRenewal:
    """The tokens of one session.

    Args:
        home: where they are kept.
        renew: asks the service for the next ones.
        clock: tells when they are old.
    """

    def __init__(
        self, home: GrantHome, renew: Callable[[Secret], Awaitable[Grant]], clock: Clock
    ) -> None:
        self._home = home
        self._renew = renew
        self._clock = clock
        self._lock = Lock()
        self._grant: Grant | None = None

    async def shown(self) -> Headers:
        """What to show now; renewed first if it is about to expire."""
        if self._grant is None:
            self._grant = self._home.load()
        if self._grant.is_fresh(self._clock):
            return bearer(self._grant.access_token)
        return await self.after(bearer(self._grant.access_token))

    async def after(self, refused: Headers) -> Headers:
        """What to show after this was refused.

        Raises:
            NotLoggedIn: the session is over. Log in again.
        """
        async with self._lock:
            await self._take()
            try:
                grant = self._home.load()
                if bearer(grant.access_token) == refused or not grant.is_fresh(self._clock):
                    grant = await self._next(grant)
                    self._home.save(grant)
                self._grant = grant
            finally:
                self._home.give_back()
            return bearer(self._grant.access_token)

    async def _next(self, grant: Grant) -> Grant:
        try:
            return await self._renew(grant.refresh_token)
        except (Unauthenticated, Conflict) as error:  # a conflict: somebody else renewed just now
            raise NotLoggedIn(f"the session is over ({error.code}); log in again") from error

    async def _take(self) -> None:
        waited_s = 0.0
        while not self._home.taken():
            if waited_s >= _PATIENCE_S:
                raise Unreachable(
                    "the credentials", reason="another process has held them for half a minute"
                )
            await sleep(_LOOK_S)
            waited_s += _LOOK_S
