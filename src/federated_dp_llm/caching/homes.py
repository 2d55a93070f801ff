"""Where released answers are kept: this process, or Redis, where they lie encrypted."""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from federated_dp_llm.caching.adaptive import AdaptiveCache, CacheStrategy
from federated_dp_llm.caching.strategies import BYTES_MAX, TTL_S
from privacy_core.errors import InvalidParameter
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, Entropy, SystemEntropy

if TYPE_CHECKING:
    from redis.asyncio import Redis

_NONCE: Final = 12
_TENANTS_MAX: Final = 1024


class Home(Protocol):
    """Keeps bytes by tenant and key. What is not there is None; being lost is no error."""

    async def get(self, tenant: str, key: str) -> bytes | None:
        """What is kept."""
        ...

    async def put(self, tenant: str, key: str, value: bytes) -> None:
        """Keep it for a while."""
        ...

    async def forget(self, tenant: str) -> None:
        """Forget all of one tenant: consent was withdrawn, say."""
        ...


class MemoryHome:
    """One adaptive cache for each tenant: nobody can drive out what another one keeps.

    Args:
        max_size: entries of one tenant.
        max_bytes: of one tenant.
        ttl_s: after which an answer is asked for anew.
        tenants: that are kept; the one unused for longest goes.
    """

    def __init__(
        self,
        max_size: int = 1000,
        *,
        max_bytes: int = BYTES_MAX >> 4,
        ttl_s: float = TTL_S,
        tenants: int = _TENANTS_MAX,
        clock: Clock | None = None,
    ) -> None:
        self.max_size, self._max_bytes, self._ttl_s = max_size, max_bytes, ttl_s
        self._tenants, self._clock = tenants, clock
        self._strategy: CacheStrategy | None = None
        self.caches: OrderedDict[str, AdaptiveCache[bytes]] = OrderedDict()

    async def get(self, tenant: str, key: str) -> bytes | None:
        """What is kept."""
        return self._of(tenant).get(key)

    async def put(self, tenant: str, key: str, value: bytes) -> None:
        """Keep it."""
        self._of(tenant).put(key, value)

    async def forget(self, tenant: str) -> None:
        """Forget all of one tenant."""
        self.caches.pop(tenant, None)

    def resize(self, max_size: int) -> None:
        """Entries of each tenant."""
        for cache in self.caches.values():
            cache.resize(max_size)
        self.max_size = max_size

    def set_strategy(self, strategy: CacheStrategy) -> None:
        """Of each tenant, from now on; nothing adapts by itself then."""
        self._strategy = CacheStrategy(strategy)
        for tenant, cache in list(self.caches.items()):
            cache.set_strategy(self._strategy)
            self.caches[tenant] = cache

    def _of(self, tenant: str) -> AdaptiveCache[bytes]:
        cache = self.caches.get(tenant)
        if cache is None:
            while len(self.caches) >= self._tenants:
                self.caches.popitem(last=False)
            cache = self.caches[tenant] = AdaptiveCache(
                self.max_size,
                max_bytes=self._max_bytes,
                ttl_s=self._ttl_s,
                clock=self._clock,
                adapt_every=0 if self._strategy else 1000,
            )
            if self._strategy:
                cache.set_strategy(self._strategy)
        self.caches.move_to_end(tenant)
        return cache


class RedisHome:
    """Redis, shared by several routers. Sees neither question, tenant nor answer.

    Keys are HMAC-SHA256 under a key derived from `key`, values AES-256-GCM with their place as
    associated data, so that one tenant's answer cannot be put in another's place. A Redis that
    fails is a cache miss.

    Args:
        client: `redis.asyncio`; its `maxmemory` bounds the whole.
        key: 32 bytes, of the routers that share it.
        ttl_s: after which Redis forgets.
        entropy: of nonces.
    """

    def __init__(
        self, client: Redis, key: Secret, *, ttl_s: float = TTL_S, entropy: Entropy | None = None
    ) -> None:
        raw = bytes.fromhex(key.reveal())
        if len(raw) != 32:
            raise InvalidParameter("key", found=f"{len(raw)} bytes", expected="32, hexadecimal")
        self._client, self._ttl_ms = client, max(1, int(ttl_s * 1000))
        self._names = hmac.digest(raw, b"names of released answers", "sha256")
        self._box = AESGCM(hmac.digest(raw, b"released answers", "sha256"))
        self._entropy = entropy or SystemEntropy()
        self.failures = 0

    async def get(self, tenant: str, key: str) -> bytes | None:
        """What is kept; None also where Redis fails or holds something that we did not write."""
        from redis.exceptions import RedisError  # noqa: PLC0415  an extra

        name = self._name(tenant, key)
        try:
            sealed = await self._client.get(name)
        except (RedisError, OSError):
            self.failures += 1
            return None
        if not isinstance(sealed, bytes) or len(sealed) <= _NONCE:
            return None
        try:
            return self._box.decrypt(sealed[:_NONCE], sealed[_NONCE:], name)
        except InvalidTag:
            self.failures += 1
            return None

    async def put(self, tenant: str, key: str, value: bytes) -> None:
        """Keep it for `ttl_s`."""
        from redis.exceptions import RedisError  # noqa: PLC0415  an extra

        name, nonce = self._name(tenant, key), self._entropy.token_bytes(_NONCE)
        try:
            await self._client.set(
                name, nonce + self._box.encrypt(nonce, value, name), px=self._ttl_ms
            )
        except (RedisError, OSError):
            self.failures += 1

    async def forget(self, tenant: str) -> None:
        """Forget all of one tenant."""
        async for name in self._client.scan_iter(match=self._prefix(tenant) + b"*"):
            await self._client.delete(name)

    def _prefix(self, tenant: str) -> bytes:
        digest = hmac.new(self._names, b"tenant\0" + tenant.encode(), hashlib.sha256)
        return b"answers:" + digest.hexdigest()[:32].encode() + b":"

    def _name(self, tenant: str, key: str) -> bytes:
        digest = hmac.new(self._names, tenant.encode() + b"\0" + key.encode(), hashlib.sha256)
        return self._prefix(tenant) + digest.hexdigest().encode()
