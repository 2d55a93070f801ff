"""What was released before, kept for whoever may see it: strategies, and the cache of answers."""

from __future__ import annotations

from federated_dp_llm.caching.adaptive import AdaptiveCache, CacheStrategy
from federated_dp_llm.caching.homes import MemoryHome, RedisHome
from federated_dp_llm.caching.released import ReleasedAnswers
from federated_dp_llm.caching.strategies import LFUCache, LRUCache, TTLCache

__all__ = [
    "AdaptiveCache",
    "CacheStrategy",
    "LFUCache",
    "LRUCache",
    "MemoryHome",
    "RedisHome",
    "ReleasedAnswers",
    "TTLCache",
]
