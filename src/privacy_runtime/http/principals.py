"""Principals that were verified moments ago, so that a busy client costs one look a second.

What is lost: a token that was revoked by another process, or a role lowered there, counts for up to
`KEPT_S` longer in this one. What this process revokes itself is gone at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from privacy_runtime.http.credentials import Credentials
from privacy_runtime.identity import Principal
from privacy_runtime.world import Clock

KEPT_S: Final = 1.0
MOST: Final = 10_000


class VerifiedPrincipals:
    """Keeps principals by a digest of their credentials. For one event loop.

    Guarantee: nothing is returned `KEPT_S` after its verification *began*, nor after `forget` was
    called for it, even if a verification was under way then. Refusals are not kept. A credential in
    use is verified again when half of its time is over, while requests go on.

    Args:
        clock: measures.
        kept_s: for how long; 0 keeps nothing.
    """

    def __init__(self, clock: Clock, *, kept_s: float = KEPT_S, most: int = MOST) -> None:
        self._clock, self._kept_s, self._most = clock, min(kept_s, KEPT_S), most
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._asked: dict[bytes, asyncio.Future[Principal]] = {}
        self._ahead: dict[bytes, asyncio.Task[None]] = {}
        self._generation = 0

    async def get(
        self, shown: Credentials, verify: Callable[[], Awaitable[Principal]]
    ) -> Principal:
        """The principal of a credential; of requests at once, one verifies and the others wait."""
        key, now_s = shown.digest, self._clock.monotonic_s()
        known, asked = self._known.get(key), self._asked.get(key)
        if asked is not None and asked.get_loop().is_closed():
            asked = None
        if known is not None and now_s < known[0]:
            if asked is None and known[0] - now_s < self._kept_s / 2:
                self._look_ahead(key, verify)
            return known[1]
        if asked is not None:
            return await asyncio.shield(asked)
        return await self._verified(key, verify)

    def known(
        self, shown: Credentials, verify: Callable[[Credentials], Awaitable[Principal]]
    ) -> Principal | None:
        """The principal of a credential that is known now, without waiting; None: ask `get`.

        As there, it is verified again while it still counts, so that nobody has to wait.
        """
        key = shown.digest
        known = self._known.get(key)
        if known is None:
            return None
        left_s = known[0] - self._clock.monotonic_s()
        if left_s <= 0:
            return None
        if left_s < self._kept_s / 2 and key not in self._asked:
            self._look_ahead(key, partial(verify, shown))
        return known[1]

    def forget_credential(self, shown: Credentials) -> None:
        """Drop what belongs to one credential."""
        self._generation += 1
        self._asked.pop(shown.digest, None)
        self._known.pop(shown.digest, None)

    def forget(self, session: str) -> None:
        """Drop what belongs to a session or API key: it was ended."""
        self._drop(lambda principal: principal.session == session)

    def forget_subject(self, subject: str) -> None:
        """Drop what belongs to a user: disabled, another role, another password."""
        self._drop(lambda principal: principal.subject == subject)

    def _look_ahead(self, key: bytes, verify: Callable[[], Awaitable[Principal]]) -> None:
        """Verify again before the time is over, so that nobody has to wait for it."""
        before = self._ahead.get(key)
        if before is not None and not before.get_loop().is_closed():
            return  # it is about to be asked

        async def look() -> None:
            try:
                await self._verified(key, verify)
            except Exception:  # noqa: BLE001  who asks next hears it for themselves
                self._known.pop(key, None)

        self._ahead[key] = task = asyncio.get_running_loop().create_task(look())
        task.add_done_callback(lambda _: self._ahead.pop(key, None))

    async def _verified(self, key: bytes, verify: Callable[[], Awaitable[Principal]]) -> Principal:
        begun, generation = self._clock.monotonic_s(), self._generation
        asked: asyncio.Future[Principal] = asyncio.get_running_loop().create_future()
        self._asked[key] = asked
        try:
            principal = await verify()
        except BaseException as error:
            asked.set_exception(error if isinstance(error, Exception) else _abandoned())
            asked.exception()  # somebody has looked: nobody may be waiting
            raise
        finally:
            if self._asked.get(key) is asked:
                del self._asked[key]
        asked.set_result(principal)
        if generation == self._generation:
            self._known[key] = (begun + self._kept_s, principal)
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return principal

    def _drop(self, is_gone: Callable[[Principal], bool]) -> None:
        self._generation += 1
        self._asked.clear()
        for key in [key for key, (_, one) in self._known.items() if is_gone(one)]:
            del self._known[key]


def _abandoned() -> Exception:
    """What those learn who waited for a request that was cancelled."""
    return ConnectionAbortedError("the request that verified was cancelled")
