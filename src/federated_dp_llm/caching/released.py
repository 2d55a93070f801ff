"""Answers that were released: the same question of the same tenant costs nothing again.

Guarantee: what is kept was paid for and shown before; showing it again is post-processing, and adds
nothing for any patient. A tenant is a department and a cohort: no answer passes from one to
another, so that nobody learns what was asked elsewhere. Within a department, `cached` in an answer
says that somebody asked the same before.
"""

from __future__ import annotations

import unicodedata
from typing import Final

import msgspec

from federated_dp_llm.caching.adaptive import CacheStrategy
from federated_dp_llm.caching.homes import Home, MemoryHome
from federated_dp_llm.core.query import Answer, Query

_DECODER: Final = msgspec.msgpack.Decoder(Answer)
_SEPARATOR: Final = "\x1f"


def normalised(text: str) -> str:
    """A question without what does not change it: runs of spaces, composed letters (NFC)."""
    return " ".join(unicodedata.normalize("NFC", text).split())


class ReleasedAnswers:
    """The cache of a router.

    Args:
        home: where it is; None: this process.
    """

    def __init__(self, home: Home | None = None) -> None:
        self.home: Home = MemoryHome() if home is None else home
        self.hits = self.misses = 0

    async def get(self, query: Query) -> Answer | None:
        """What was released for this question, as it was."""
        kept = await self.home.get(_tenant(query), _key(query))
        answer = None if kept is None else _decoded(kept)
        self.hits += answer is not None
        self.misses += answer is None
        return answer

    async def put(self, query: Query, answer: Answer) -> None:
        """Keep an answer that was told to the end."""
        await self.home.put(_tenant(query), _key(query), msgspec.msgpack.encode(answer))

    async def forget(self, department: str, cohort: str) -> None:
        """Forget what one department was told about one cohort."""
        await self.home.forget(department + _SEPARATOR + cohort)

    def resize(self, max_size: int) -> None:
        """Entries of each tenant; a home outside this process has its own bound."""
        if isinstance(self.home, MemoryHome):
            self.home.resize(max_size)

    def set_strategy(self, strategy: CacheStrategy) -> None:
        """Which entry goes when a tenant's part is full; as `resize`."""
        if isinstance(self.home, MemoryHome):
            self.home.set_strategy(strategy)

    def get_statistics(self) -> dict[str, float | int | str]:
        """Hits and misses since the start; sizes and localities over all tenants."""
        asked = self.hits + self.misses
        told: dict[str, float | int | str] = {
            "hits": self.hits,
            "misses": self.misses,
            "hit_rate": self.hits / asked if asked else 0.0,
        }
        if isinstance(self.home, MemoryHome):
            parts = [cache.get_statistics() for cache in self.home.caches.values()]
            for name in ("current_size", "bytes"):
                told[name] = sum(int(part[name]) for part in parts)
            told["max_size"], told["tenants"] = self.home.max_size, len(parts)
            weights = [int(part["hits"]) + int(part["misses"]) for part in parts]
            for name in ("temporal_locality", "frequency_locality"):
                weighted = sum(
                    float(part[name]) * weight for part, weight in zip(parts, weights, strict=True)
                )
                told[name] = weighted / sum(weights) if sum(weights) else 0.0
        return told


def _tenant(query: Query) -> str:
    return query.department + _SEPARATOR + query.cohort


def _key(query: Query) -> str:
    """Everything that an answer depends on."""
    parts = (
        normalised(query.prompt),
        query.context,
        query.max_tokens,
        float(query.temperature),
        float(query.privacy_budget),
        query.require_consensus,
        query.public_tail,
        query.labels,
    )
    return msgspec.json.encode(parts).decode()


def _decoded(kept: bytes) -> Answer | None:
    """None: another version of this program wrote it."""
    try:
        return _DECODER.decode(kept)
    except msgspec.ValidationError:
        return None
