"""What a policy costs a call that succeeds, in microseconds, beside tenacity in the same run.

    python benchmarks/resilience.py [--json]

Each figure is the median of seven rounds of 100,000 calls of an empty function, less the call
itself, in processor time of one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import tenacity

from privacy_runtime.resilience import (
    AdaptiveLimit,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Policy,
    RateLimit,
    Retry,
    RetryBudget,
    TimeLimit,
)

CALLS, ROUNDS = 100_000, 7


def nothing() -> None:
    """Return at once."""


def microseconds(call: Callable[[], object], calls: int = CALLS) -> float:
    rounds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(calls):
            call()
        rounds.append((time.process_time() - begun) / calls * 1e6)
    return statistics.median(rounds)


def refused(breaker: CircuitBreaker) -> None:
    try:
        breaker.call(nothing)
    except CircuitOpen:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    four = (
        Policy.retry(budget=RetryBudget())
        | Policy.breaker("pipeline")
        | Policy.timeout(60)
        | Policy.bulkhead(25)
    )
    parts = {
        "circuit breaker": CircuitBreaker("one"),
        "retry": Retry(),
        "retry with a budget": Retry(budget=RetryBudget()),
        "bulkhead": Bulkhead(),
        "rate limit": RateLimit(1e9, burst=10**9),
        "time limit": TimeLimit(60),
        "adaptive limit": AdaptiveLimit(),
        "fallback": Fallback(str),
        "retry | breaker | time limit | bulkhead": four,
    }
    bare = microseconds(nothing)
    figures = {
        name: microseconds(lambda part=part: part.call(nothing)) - bare  # type: ignore[misc]
        for name, part in parts.items()
    }
    isolated = CircuitBreaker("isolated")
    isolated.isolate("benchmark")
    figures["an isolated circuit refuses"] = microseconds(lambda: refused(isolated)) - bare
    peer = tenacity.Retrying(stop=tenacity.stop_after_attempt(3))
    figures["tenacity retry"] = microseconds(lambda: peer(nothing), CALLS // 10) - bare
    if asked.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:42}{figure:6.2f}")


if __name__ == "__main__":
    main()
