"""Documented import path; the room is `privacy_runtime.resilience`."""

from privacy_runtime.resilience import (
    Backoff,
    BreakerPolicy,
    CircuitBreaker,
    CircuitOpen,
    CircuitState,
    Retry,
    RobustExecutor,
)

__all__ = [
    "Backoff",
    "BreakerPolicy",
    "CircuitBreaker",
    "CircuitOpen",
    "CircuitState",
    "Retry",
    "RobustExecutor",
]
