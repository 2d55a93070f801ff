"""How much one client may ask: sliding windows by address and by principal.

The figures, each in a window of a minute:

======================  =====  ==========================================================
rate                    most   counts
======================  =====  ==========================================================
`address`               1,200  every request of an address; of IPv6, of a /64
`login`                    20  passwords, codes and refresh tokens shown by an address
`reads`                 1,200  GET and HEAD of a principal
`writes`                  120  everything else of a principal
`starts`                   30  acts that cost: training, generation, reports; of a principal
======================  =====  ==========================================================

One process counts in memory; several count together in Redis. Without Redis, each goes on counting
by itself, with the same figures, and says so: nobody is let in for want of a counter.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from limits.aio.storage import RedisStorage

from privacy_runtime.http.refusals import TooManyRequests
from privacy_runtime.http.visits import Visit
from privacy_runtime.http.window_counts import Window, WindowCounts
from privacy_runtime.world import Clock

_log = logging.getLogger(__name__)
_RETRY_S: Final = 5.0
_REDIS_TIMEOUT_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` requests in any `window_s` seconds (a sliding window, weighted)."""

    name: str
    most: int
    window_s: int = 60


ADDRESS: Final = Rate("address", 1200)
LOGIN: Final = Rate("login", 20)
READS: Final = Rate("reads", 1200)
WRITES: Final = Rate("writes", 120)
STARTS: Final = Rate("starts", 30)
RATES: Final[Mapping[str, Rate]] = {
    rate.name: rate for rate in (ADDRESS, LOGIN, READS, WRITES, STARTS)
}


class Counts(Protocol):
    """What keeps windows for several processes: the part of `limits`' storages that is used."""

    async def acquire_sliding_window_entry(
        self, key: str, limit: int, expiry: int, amount: int = 1
    ) -> bool:
        """Count `amount` if the weighted count stays within `limit`."""
        ...

    async def get_sliding_window(self, key: str, expiry: int) -> Window:
        """Counts and remaining seconds of the previous and the current window."""
        ...


class RateLimits:
    """Counts requests and refuses those above a rate.

    Args:
        clock: measures windows in memory, and when to try Redis again.
        rates: by name; those not given have the documented figures.
        redis_url: where Redis is; `None` for one process.
        prefix: of the keys in Redis.
        on_change: told `"redis"`, `"memory"` or `"degraded"` when the state changes: for a metric.
        shared: in the place of Redis, in tests.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        rates: Mapping[str, Rate] | None = None,
        redis_url: str | None = None,
        prefix: str = "pf-limits",
        on_change: Callable[[str], None] | None = None,
        shared: Counts | None = None,
    ) -> None:
        self.rates: Mapping[str, Rate] = {**RATES, **(rates or {})}
        self._clock, self._on_change = clock, on_change
        self._local = WindowCounts(clock)
        self._shared = shared or (None if redis_url is None else _redis(redis_url, prefix))
        self._away_until = 0.0
        self.restraint: Callable[[str], int | None] = _nobody
        """From an address or a principal to how few requests a window it may make for now."""
        self.state = "memory" if self._shared is None else "redis"

    async def admit(self, name: str, who: str, visit: Visit) -> None:
        """Count a request.

        The answer will say what is left, in the headers `RateLimit` and `RateLimit-Policy`.

        Args:
            name: of the rate.
            who: an address or a principal.
            visit: of the request.

        Raises:
            TooManyRequests: it is one too many; it was not counted.
        """
        rate = self.rates[name]
        if (fewer := self.restraint(who)) is not None:
            rate = replace(rate, most=min(rate.most, fewer))
        passed, window = await self._count(rate, f"{name}/{who}")
        previous, previous_ttl_s, current, _ = window
        used = previous * previous_ttl_s / rate.window_s + current
        wait_s = _wait_s(rate, window)
        visit.headers[:] = [pair for pair in visit.headers if pair[0] not in _HEADERS]
        visit.headers += [
            (_POLICY, f'"{name}";q={rate.most};w={rate.window_s}'.encode()),
            (_LEFT, f'"{name}";r={max(0, math.floor(rate.most - used))};t={wait_s}'.encode()),
        ]
        if not passed:
            raise TooManyRequests(name, retry_after_s=max(1, wait_s))

    async def is_healthy(self) -> bool:
        """Whether counts are kept where they should be."""
        return self.state != "degraded"

    async def close(self) -> None:
        """Let go of Redis."""
        bridge = getattr(self._shared, "bridge", None)
        if bridge is not None:
            await bridge.storage.aclose()

    async def _count(self, rate: Rate, key: str) -> tuple[bool, Window]:
        shared = self._shared
        if shared is None or self._clock.monotonic_s() < self._away_until:
            return self._local.hit(key, rate.most, rate.window_s)
        try:
            counted = await _hit(shared, rate, key)
        except Exception as error:  # noqa: BLE001  whatever Redis has, the count goes on here
            self._away_until = self._clock.monotonic_s() + _RETRY_S
            self._become("degraded", error)
            return self._local.hit(key, rate.most, rate.window_s)
        self._become("redis", None)
        return counted

    def _become(self, state: str, error: Exception | None) -> None:
        if state == self.state:
            return
        self.state = state
        if error is not None:
            _log.warning("rate limits are counted by this process alone", exc_info=error)
        if self._on_change is not None:
            self._on_change(state)


_POLICY: Final = b"ratelimit-policy"
_LEFT: Final = b"ratelimit"
_HEADERS: Final = frozenset({_POLICY, _LEFT})


def _nobody(_: str) -> None:
    """Nobody is restrained."""


async def _hit(counts: Counts, rate: Rate, key: str) -> tuple[bool, Window]:
    passed = await counts.acquire_sliding_window_entry(key, rate.most, rate.window_s)
    return passed, await counts.get_sliding_window(key, rate.window_s)


def _wait_s(rate: Rate, window: Window) -> int:
    """In how many whole seconds the next request passes; 0 if it would now.

    The weighted count is `previous * ttl / window + current`; its first part falls linearly to the
    end of the window, then what is current becomes previous.
    """
    previous, previous_ttl_s, current, current_ttl_s = window
    room = rate.most - 1
    if previous * previous_ttl_s / rate.window_s + current <= room:
        return 0
    if current <= room and previous:
        return math.ceil(previous_ttl_s - (room - current) * rate.window_s / previous)
    rolls_s = max(0.0, current_ttl_s - rate.window_s)
    return math.ceil(rolls_s + rate.window_s * (1 - room / max(1, current)))


def _redis(url: str, prefix: str) -> Counts:
    options: dict[str, Any] = {
        "socket_timeout": _REDIS_TIMEOUT_S,
        "socket_connect_timeout": _REDIS_TIMEOUT_S,
    }
    return RedisStorage(f"async+{url}", implementation="redispy", key_prefix=prefix, **options)
