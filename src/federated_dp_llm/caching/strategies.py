"""Which entry goes when a cache is full: the one not used for longest, least often, or oldest.

Source of LFU in constant time: Shah, Mitra and Matani 2010, "An O(1) algorithm for implementing the
LFU cache eviction scheme"; among equals the one that was not used for longest goes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Generic, Protocol, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock, SystemClock

V = TypeVar("V")

BYTES_MAX: Final = 1 << 26
TTL_S: Final = 3600.0


def size_of(key: str, value: object) -> int:
    """Bytes that an entry counts: of its key, and of a value that is bytes or text."""
    return len(key) + (len(value) if isinstance(value, bytes | str) else 64)


@dataclass(slots=True)
class Entry(Generic[V]):
    """One value. `until_s`: by the cache's clock; `uses`: since it was put."""

    value: V
    until_s: float
    size: int
    uses: int = 1


class Order(Protocol):
    """Who goes first."""

    def added(self, key: str, uses: int) -> None:
        """An entry came."""
        ...

    def used(self, key: str, uses: int) -> None:
        """An entry was used, for the `uses`-th time."""
        ...

    def gone(self, key: str, uses: int) -> None:
        """An entry left."""
        ...

    def first(self) -> str:
        """The next to go."""
        ...

    def keys(self) -> list[str]:
        """All, the next to go first."""
        ...


class ByArrival:
    """First come, first to go."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()

    def added(self, key: str, uses: int) -> None:
        """Last in the queue."""
        self._keys[key] = None

    def used(self, key: str, uses: int) -> None:
        """Being used does not save it."""

    def gone(self, key: str, uses: int) -> None:
        """Out of the queue."""
        del self._keys[key]

    def first(self) -> str:
        """The oldest."""
        return next(iter(self._keys))

    def keys(self) -> list[str]:
        """From the oldest."""
        return list(self._keys)


class ByUse:
    """The one that was not used for longest goes first."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()

    def added(self, key: str, uses: int) -> None:
        """Last in the queue."""
        self._keys[key] = None

    def used(self, key: str, uses: int) -> None:
        """Last in the queue again."""
        self._keys.move_to_end(key)

    def gone(self, key: str, uses: int) -> None:
        """Out of the queue."""
        del self._keys[key]

    def first(self) -> str:
        """The one unused for longest."""
        return next(iter(self._keys))

    def keys(self) -> list[str]:
        """From the one unused for longest."""
        return list(self._keys)


class ByCount:
    """The one that was used least often goes first; each step takes constant time."""

    def __init__(self) -> None:
        self._rows: dict[int, OrderedDict[str, None]] = {}
        self._least = 1

    def added(self, key: str, uses: int) -> None:
        """Among those used as often."""
        self._least = min(self._least, uses) if self._rows else uses
        self._rows.setdefault(uses, OrderedDict())[key] = None

    def used(self, key: str, uses: int) -> None:
        """One row up."""
        self._rows.setdefault(uses, OrderedDict())[key] = None
        self._leave(key, uses - 1, above=uses)

    def gone(self, key: str, uses: int) -> None:
        """Out of its row."""
        self._leave(key, uses, above=None)

    def first(self) -> str:
        """Of those used least often, the one unused for longest."""
        return next(iter(self._rows[self._least]))

    def keys(self) -> list[str]:
        """From the one used least often."""
        return [key for uses in sorted(self._rows) for key in self._rows[uses]]

    def _leave(self, key: str, uses: int, *, above: int | None) -> None:
        row = self._rows[uses]
        del row[key]
        if row:
            return
        del self._rows[uses]
        if uses == self._least and self._rows:
            # After a removal the next row may be anywhere; the next insertion is at 1 mostly.
            self._least = min(self._rows) if above is None else above


class BoundedCache(Generic[V]):
    """Entries within bounds of number, bytes and age. Its final classes differ in `order` alone.

    Args:
        max_size: entries.
        max_bytes: of keys and values together, as `sizes` counts them.
        ttl_s: after which an entry is too old, however often it is used.
        sizes: bytes of an entry.
        clock: tells the time.

    Raises:
        InvalidParameter: a bound is below 1, or the time not above 0.
    """

    order: ClassVar[type[Order]]

    def __init__(
        self,
        max_size: int = 1000,
        *,
        max_bytes: int = BYTES_MAX,
        ttl_s: float = TTL_S,
        sizes: Callable[[str, V], int] = size_of,
        clock: Clock | None = None,
    ) -> None:
        if min(max_size, max_bytes) < 1 or not ttl_s > 0:
            raise InvalidParameter(
                "max_size", found=(max_size, max_bytes, ttl_s), expected="sizes from 1, a time > 0"
            )
        self.max_size, self.max_bytes, self.ttl_s = max_size, max_bytes, ttl_s
        self._sizes = sizes
        self._now_s = (clock or SystemClock()).monotonic_s
        self._entries: dict[str, Entry[V]] = {}
        self._order = self.order()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def items(self) -> Iterator[tuple[str, Entry[V]]]:
        """What is kept, the next to go first."""
        for key in self._order.keys():  # noqa: SIM118  an order is no mapping
            yield key, self._entries[key]

    def get(self, key: str) -> V | None:
        """The value, if it is there and not too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until_s <= self._now_s():
            self.remove(key)
            return None
        entry.uses += 1
        self._order.used(key, entry.uses)
        return entry.value

    def put(self, key: str, value: V) -> bool:
        """Keep a value; whether it was: one that is larger than the cache is not."""
        entry = Entry(value, self._now_s() + self.ttl_s, self._sizes(key, value))
        return self.take(key, entry)

    def take(self, key: str, entry: Entry[V]) -> bool:
        """Keep an entry of another cache as it is: its age and its uses."""
        self.remove(key)
        if entry.size > self.max_bytes:
            return False
        self._make_room(1, entry.size)
        self._entries[key] = entry
        self.bytes += entry.size
        self._order.added(key, entry.uses)
        return True

    def remove(self, key: str) -> None:
        """Forget a value, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size
            self._order.gone(key, entry.uses)

    def resize(self, max_size: int) -> None:
        """Keep at most so many; what is too much goes at once."""
        if max_size < 1:
            raise InvalidParameter("max_size", found=max_size, expected="at least 1")
        self.max_size = max_size
        self._make_room(0, 0)

    def clear(self) -> None:
        """Forget everything."""
        for key in list(self._entries):
            self.remove(key)

    def _make_room(self, more: int, size: int) -> None:
        while self._entries and (
            len(self._entries) + more > self.max_size or self.bytes + size > self.max_bytes
        ):
            self.remove(self._order.first())


class LRUCache(BoundedCache[V]):
    """The one that was not used for longest goes: for questions that come in bursts."""

    order = ByUse


class LFUCache(BoundedCache[V]):
    """The one that was used least often goes: for a few questions that always come."""

    order = ByCount


class TTLCache(BoundedCache[V]):
    """The oldest goes: where neither is so."""

    order = ByArrival
