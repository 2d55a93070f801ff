"""What policies tell: one bus, from which metrics, the audit and event streams are fed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias


class Kind(StrEnum):
    """What happened."""

    STATE = "state"  # of a circuit: `from`, `to`, `reason`
    REJECTED = "rejected"  # a call did not run
    RETRIED = "retried"  # `attempt`, `delay_s`, `error` (a type's name)
    GAVE_UP = "gave_up"  # `attempts`, `reason`
    TIMED_OUT = "timed_out"  # `limit_s`
    HEDGED = "hedged"  # `after_s`
    FELL_BACK = "fell_back"  # `error`
    LIMIT = "limit"  # of an adaptive limit: `from`, `to`
    SWITCHED = "switched"  # of a failover: `from`, `to`
    DEGRADED = "degraded"  # of features: `from`, `to`


Body: TypeAlias = Mapping[str, str | float | int | None]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a policy did. Holds names, counts and times; never arguments or results."""

    policy: str
    kind: Kind
    body: Body = field(default_factory=dict)


Handler = Callable[[Event], None]


class EventBus:
    """Hands events to handlers, in the thread where they happened, outside every lock.

    A handler must be quick and must not raise: what it raises reaches the caller of the policy.
    """

    __slots__ = ("_handlers", "_lock")

    def __init__(self) -> None:
        self._handlers: tuple[Handler, ...] = ()
        self._lock = threading.Lock()

    def subscribe(self, handler: Handler) -> Callable[[], None]:
        """Call `handler` from now on; the answer ends that."""
        with self._lock:
            self._handlers = (*self._handlers, handler)
        return lambda: self._drop(handler)

    @property
    def has_handlers(self) -> bool:
        """Whether anybody listens: an event that nobody hears need not be made."""
        return bool(self._handlers)

    def emit(self, event: Event) -> None:
        """Tell everybody."""
        for handler in self._handlers:
            handler(event)

    def _drop(self, handler: Handler) -> None:
        with self._lock:
            self._handlers = tuple(h for h in self._handlers if h is not handler)


BUS = EventBus()
"""The bus of policies that were given none."""
