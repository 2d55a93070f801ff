"""A cache that changes its strategy with the way it is used, and keeps what it has.

Locality is measured on the last accesses, in reuse distances: how many *different* keys were asked
for since the same key last time (Mattson et al. 1970, "Evaluation techniques for storage
hierarchies"; counted here over a window, so a far reuse counts as none).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from federated_dp_llm.caching.strategies import (
    BYTES_MAX,
    TTL_S,
    BoundedCache,
    LFUCache,
    LRUCache,
    TTLCache,
    size_of,
)
from privacy_runtime.world import Clock

V = TypeVar("V")

_LOCAL: Final = 0.8
"""The documented threshold of both kinds of locality."""
_WINDOW: Final = 512
_NEAR: Final = 32
"""A reuse is near in time when fewer different keys than this came in between."""
_HOT: Final = 0.2
"""Share of the keys that is called the frequent ones."""


class CacheStrategy(StrEnum):
    """Which entry goes when the cache is full."""

    LRU = "lru"
    LFU = "lfu"
    TTL = "ttl"


_CLASSES: Final[Mapping[CacheStrategy, type[BoundedCache[object]]]] = MappingProxyType(
    {CacheStrategy.LRU: LRUCache, CacheStrategy.LFU: LFUCache, CacheStrategy.TTL: TTLCache}
)


class AdaptiveCache(Generic[V]):
    """A bounded cache with a strategy that can change; entries keep their age and their uses.

    Args:
        max_size: entries.
        max_bytes, ttl_s, sizes, clock: as of `BoundedCache`.
        adapt_every: accesses after which it adapts to what it measured; 0: only when told to.
    """

    def __init__(
        self,
        max_size: int = 1000,
        *,
        max_bytes: int = BYTES_MAX,
        ttl_s: float = TTL_S,
        sizes: Callable[[str, V], int] = size_of,
        clock: Clock | None = None,
        adapt_every: int = 0,
    ) -> None:
        self.current_strategy = CacheStrategy.LRU
        self._made = {"max_bytes": max_bytes, "ttl_s": ttl_s, "sizes": sizes, "clock": clock}
        self._cache: BoundedCache[V] = self._new(CacheStrategy.LRU, max_size)
        self._adapt_every = adapt_every
        self._window: deque[str] = deque(maxlen=_WINDOW)
        self.hits = self.misses = self.switches = 0

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def max_size(self) -> int:
        """How many entries are kept at most."""
        return self._cache.max_size

    def get(self, key: str) -> V | None:
        """The value, if it is there and not too old."""
        value = self._cache.get(key)
        self.hits += value is not None
        self.misses += value is None
        self._window.append(key)
        if self._adapt_every and (self.hits + self.misses) % self._adapt_every == 0:
            self.adapt_strategy(self.localities())
        return value

    def put(self, key: str, value: V) -> bool:
        """Keep a value; whether it was."""
        return self._cache.put(key, value)

    def remove(self, key: str) -> None:
        """Forget a value, if it is there."""
        self._cache.remove(key)

    def clear(self) -> None:
        """Forget everything that is kept; the statistics stay."""
        self._cache.clear()

    def resize(self, max_size: int) -> None:
        """Keep at most so many; what is too much goes at once."""
        self._cache.resize(max_size)

    def set_strategy(self, strategy: CacheStrategy) -> None:
        """Choose another order; what is kept stays."""
        strategy = CacheStrategy(strategy)
        if strategy is self.current_strategy:
            return
        old, self.current_strategy = self._cache, strategy
        self._cache = self._new(strategy, old.max_size)
        self.switches += 1
        for key, entry in old.items():
            self._cache.take(key, entry)

    def adapt_strategy(self, access_patterns: Mapping[str, float]) -> None:
        """Follow measured localities: LRU above 0.8 in time, else LFU above 0.8 in frequency.

        Args:
            access_patterns: `temporal_locality` and `frequency_locality`, as `localities` says.
        """
        if access_patterns["temporal_locality"] > _LOCAL:
            self.set_strategy(CacheStrategy.LRU)
        elif access_patterns["frequency_locality"] > _LOCAL:
            self.set_strategy(CacheStrategy.LFU)
        else:
            self.set_strategy(CacheStrategy.TTL)

    def localities(self) -> dict[str, float]:
        """How the last 512 accesses were spread.

        `temporal_locality`: share of them that asked for a key again before 32 others came.
        `frequency_locality`: share that asked for one of the fifth of the keys that is most asked.
        """
        window = list(self._window)
        if not window:
            return {"temporal_locality": 0.0, "frequency_locality": 0.0}
        near, recent = 0, dict[str, None]()
        for key in window:  # `recent`: the different keys, the latest last
            if key in recent:
                distance = len(recent) - 1 - list(recent).index(key)
                near += distance < _NEAR
                del recent[key]
            recent[key] = None
        counts = Counter(window)
        hot = max(1, round(_HOT * len(counts)))
        frequent = sum(count for _, count in counts.most_common(hot))
        return {
            "temporal_locality": near / len(window),
            "frequency_locality": frequent / len(window),
        }

    def get_statistics(self) -> dict[str, float | int | str]:
        """Counts since the start, what is kept now, and the localities of late."""
        asked = self.hits + self.misses
        return {
            "hits": self.hits,
            "misses": self.misses,
            "hit_rate": self.hits / asked if asked else 0.0,
            "current_size": len(self._cache),
            "max_size": self._cache.max_size,
            "bytes": self._cache.bytes,
            "strategy": self.current_strategy.value,
            "strategy_changes": self.switches,
            **self.localities(),
        }

    def _new(self, strategy: CacheStrategy, max_size: int) -> BoundedCache[V]:
        made: type[BoundedCache[V]] = _CLASSES[strategy]  # type: ignore[assignment]  # generic
        return made(max_size, **self._made)  # type: ignore[arg-type]  # the four of `__init__`
