"""Calls that may fail: held back, repeated, limited, bounded in time, answered in another way.

Every policy serves threads and tasks (`call`, `acall`), tells one event bus, and takes clock and
chance as arguments. `policy` puts them together in the one order that this product uses.
"""

from __future__ import annotations

from privacy_runtime.resilience.breaker import BreakerPolicy, CircuitBreaker, CircuitState
from privacy_runtime.resilience.bulkhead import Bulkhead
from privacy_runtime.resilience.deadlines import TimeLimit, deadline, remaining_s
from privacy_runtime.resilience.errors import (
    BulkheadFull,
    CircuitOpen,
    DeadlineExceeded,
    RateExceeded,
    ResilienceError,
)
from privacy_runtime.resilience.events import BUS, Event, EventBus, Kind
from privacy_runtime.resilience.executor import RobustExecutor
from privacy_runtime.resilience.failover import Failover, NoTarget
from privacy_runtime.resilience.fallback import Fallback
from privacy_runtime.resilience.features import FeatureOff, Features
from privacy_runtime.resilience.hedge import Hedge
from privacy_runtime.resilience.limits import AdaptiveLimit, AdditiveIncrease, Gradient2
from privacy_runtime.resilience.policy import Policy
from privacy_runtime.resilience.rates import RateLimit
from privacy_runtime.resilience.retry import Retry, RetryBudget, is_transient
from privacy_runtime.resilience.schedules import Backoff, Growth, Jitter
from privacy_runtime.resilience.trends import Trend, trend

__all__ = [
    "BUS",
    "AdaptiveLimit",
    "AdditiveIncrease",
    "Backoff",
    "BreakerPolicy",
    "Bulkhead",
    "BulkheadFull",
    "CircuitBreaker",
    "CircuitOpen",
    "CircuitState",
    "DeadlineExceeded",
    "Event",
    "EventBus",
    "Failover",
    "Fallback",
    "FeatureOff",
    "Features",
    "Gradient2",
    "Growth",
    "Hedge",
    "Jitter",
    "Kind",
    "NoTarget",
    "Policy",
    "RateExceeded",
    "RateLimit",
    "ResilienceError",
    "Retry",
    "RetryBudget",
    "RobustExecutor",
    "TimeLimit",
    "Trend",
    "deadline",
    "is_transient",
    "remaining_s",
    "trend",
]
