"""The documents' load test, restated, through our gateway with everything on.

    python benchmarks/router_load.py --json [--seconds 20] [--rate 327.5] [--only equal,spike]

The documents give 327.5 requests a second for 100 users at an average of 0.847 s. That cannot be:
100 users with one request each under way at 0.847 s make 118 a second (Little's law). So here the
requests arrive at 327.5 a second, by a Poisson process, whatever comes back; how many are under way
is a result.

Four mock nodes, each a process with so many places; a request's service time is drawn from
LogNormal(median 0.779 s, sigma 0.25), by a fixed seed, and travels with the request, so the same
requests take the same time whoever routes them. Three rows each:

- `direct`: a fourth of the load at one node without a router: what clients and machine add;
- `ideal`: the same arrivals and service times through the same policy in a simulation at no cost;
- `live`: through the gateway, with its debits, audit and metrics.

`router_share` is (live - ideal) / ideal of the average; `added_ms` the difference of percentiles.
`is_quiet` is false when the direct row's 99th percentile is more than 15 % above its nominal value:
then the machine is measured, not the router.

`unequal` has nodes of speeds 1.3, 1.1, 0.9 and 0.5 with 90 places each; the gateway is not told the
speeds, it measures. `spike` is a simulation: 50 requests a second become 500; the queue is held at
the router, nodes of 16 places are started for the offered rate and to work off what waits, and
begin `start_s` after they were asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import math
import os
import platform
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import router_parts as parts

MEDIAN_S, SIGMA, SEED = 0.779, 0.25, 20
DOCUMENTED = {"requests_per_s": 327.5, "avg_s": 0.847, "p95_s": 1.234, "p99_s": 2.156}
SPEEDS = (1.3, 1.1, 0.9, 0.5)
Array = np.ndarray[Any, Any]


def service_times(count: int) -> Array:
    """Draws of the service time at speed 1, in seconds."""
    return np.random.default_rng(SEED).lognormal(math.log(MEDIAN_S), SIGMA, count)


def simulated(  # noqa: C901  one loop of events
    arrivals: Array, work: Array, speeds: Sequence[float], slots: int, policy: str
) -> Array:
    """Response times of a router that costs nothing.

    `fastest_free` and `least_loaded` hold requests until a place is free; `round_robin` and
    `random` choose at arrival, and the request waits at its node.
    """
    nodes = range(len(speeds))
    free, lines = [slots] * len(speeds), [deque[int]() for _ in nodes]
    held, ends = deque[int](), []
    chance = np.random.default_rng(SEED + 1)
    taken = np.zeros(len(arrivals))

    def begin(node: int, k: int, now: float) -> None:
        free[node] -= 1
        heapq.heappush(ends, (now + work[k] / speeds[node], node, k))

    def best() -> int | None:
        open_ = [n for n in nodes if free[n]]
        if not open_:
            return None
        if policy == "fastest_free":
            return max(open_, key=lambda n: speeds[n])
        return min(open_, key=lambda n: (slots - free[n] + 1) / speeds[n])

    def end() -> None:
        now, node, k = heapq.heappop(ends)
        taken[k] = now - arrivals[k]
        free[node] += 1
        if held:
            begin(node, held.popleft(), now)
        elif lines[node]:
            begin(node, lines[node].popleft(), now)

    for k, now in enumerate(arrivals):
        while ends and ends[0][0] <= now:
            end()
        if policy in {"round_robin", "random"}:
            node = k % len(speeds) if policy == "round_robin" else int(chance.integers(len(speeds)))
            if free[node]:
                begin(node, k, now)
            else:
                lines[node].append(k)
        elif (chosen := best()) is not None:
            begin(chosen, k, now)
        else:
            held.append(k)
    while ends:
        end()
    return taken


def row(taken: Array, rate: float) -> dict[str, float]:
    """Average and percentiles in seconds."""
    good = taken[~np.isnan(taken)]
    return {
        "requests": len(taken),
        "errors": int(np.isnan(taken).sum()),
        "avg_s": round(float(good.mean()), 4),
        "p50_s": round(float(np.percentile(good, 50)), 4),
        "p95_s": round(float(np.percentile(good, 95)), 4),
        "p99_s": round(float(np.percentile(good, 99)), 4),
        "in_flight": round(float(good.mean()) * rate, 1),
    }


def direct(rate: float, seconds: float) -> dict[str, Any]:
    """A fourth of the load at one node, without a router."""
    arrivals = parts.poisson(rate / 4, seconds, seed=3)
    work = service_times(len(arrivals))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "draws.npy", work)
        with parts.mocks(1, folder, draws=str(folder / "draws.npy"), slots=1 << 20) as ports:
            taken = asyncio.run(parts.open_loop(ports[0], "", arrivals_s=arrivals, seeds=True))
    nominal = float(np.percentile(work, 99))
    seen = row(taken, rate / 4)
    return {**seen, "nominal_p99_s": round(nominal, 4), "is_quiet": seen["p99_s"] < 1.15 * nominal}


def live(
    rate: float, seconds: float, *, speeds: Sequence[float], slots: int, strategy: str
) -> dict[str, Any]:
    """The load through the gateway, and what it would be at no cost."""
    arrivals = parts.poisson(rate, seconds, seed=5)
    work = service_times(len(arrivals))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "draws.npy", work)
        draws = str(folder / "draws.npy")
        with (
            parts.mocks(len(speeds), folder, draws=draws, speeds=speeds, slots=slots) as ports,
            parts.gateway(folder, ports, slots=slots, strategy=strategy) as target,
        ):
            before = target.cpu_s()
            taken = asyncio.run(
                parts.open_loop(target.port, target.token, arrivals_s=arrivals, seeds=True)
            )
            cpu_s = target.cpu_s() - before
    ideal = simulated(arrivals, work, speeds, slots, strategy)
    seen, best = row(taken, rate), row(ideal, rate)
    return {
        "live": seen,
        "ideal": best,
        "router_share": round(seen["avg_s"] / best["avg_s"] - 1, 4),
        "added_ms": {
            name: round((seen[f"{name}_s"] - best[f"{name}_s"]) * 1e3, 2)
            for name in ("p50", "p95", "p99")
        },
        "cpu_us_per_request": round(cpu_s / len(arrivals) * 1e6, 1),
        "error_share": seen["errors"] / len(arrivals),
    }


def unequal(rate: float, seconds: float) -> dict[str, Any]:
    """Nodes of different speeds, through the gateway; and policies that do not see it."""
    found = live(rate, seconds, speeds=SPEEDS, slots=90, strategy="fastest_free")
    arrivals = parts.poisson(rate, seconds, seed=5)
    work = service_times(len(arrivals))
    for policy in ("random", "round_robin", "least_loaded"):
        found[f"ideal_{policy}"] = row(simulated(arrivals, work, SPEEDS, 90, policy), rate)
    return found


def spike(  # noqa: C901  one loop of events
    start_s: float, *, deadline_s: float = 30.0, seconds: float = 180.0
) -> dict[str, Any]:
    """From 50 to 500 requests a second at 20 s; simulated, in ticks of two seconds for nodes."""
    slots, mean_s, tick_s, at_s = 16, MEDIAN_S * math.exp(SIGMA**2 / 2), 2.0, 20.0
    calm = parts.poisson(50.0, at_s, seed=11)
    rush = at_s + parts.poisson(500.0, seconds - at_s, seed=12)
    arrivals = np.concatenate([calm[calm < at_s], rush[rush < seconds]])
    work = service_times(len(arrivals))
    per_node = slots / mean_s
    places = math.ceil(50.0 / per_node * 1.25) * slots
    asked = places
    coming: list[tuple[float, int]] = []
    ends: list[float] = []
    held = deque[int]()
    waited = np.zeros(len(arrivals))
    dropped, peak, seen, next_tick = 0, places, 0, tick_s

    def advance(now: float) -> None:
        nonlocal places, dropped
        while True:
            end_s = ends[0] if ends else math.inf
            begin_s = coming[0][0] if coming else math.inf
            if not (ends or coming) or min(end_s, begin_s) > now:
                return
            if begin_s <= end_s:
                moment, more = heapq.heappop(coming)
                places += more
            else:
                moment = heapq.heappop(ends)
            while held and len(ends) < places:
                k = held.popleft()
                waited[k] = moment - arrivals[k]
                if waited[k] > deadline_s:
                    dropped += 1
                else:
                    heapq.heappush(ends, moment + work[k])

    for k, now in enumerate(arrivals):
        while next_tick <= now:
            advance(next_tick)
            rate = seen / tick_s
            wanted = rate / per_node * 1.1 + len(held) / (10.0 * per_node)  # drained in 10 s
            more = min(60 * slots, math.ceil(wanted) * slots) - asked
            if more > 0:
                heapq.heappush(coming, (next_tick + start_s, more))
                asked += more
                peak = max(peak, asked)
            seen, next_tick = 0, next_tick + tick_s
        advance(now)
        seen += 1
        if len(ends) < places:
            heapq.heappush(ends, now + work[k])
        else:
            held.append(k)
    advance(math.inf)
    late = arrivals[waited > 0.1]
    return {
        "start_s": start_s,
        "settled_after_s": round(float(late.max() - at_s), 1) if len(late) else 0.0,
        "dropped": dropped,
        "longest_wait_s": round(float(waited.max()), 2),
        "nodes_peak": peak // slots,
        "deadline_s": deadline_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=327.5)
    parser.add_argument("--only", default="direct,equal,unequal,spike")
    options = parser.parse_args()
    rate, seconds = options.rate, options.seconds
    parts_of = {
        "direct": lambda: direct(rate, seconds),
        "equal": lambda: live(rate, seconds, speeds=(1.0,) * 4, slots=96, strategy="least_loaded"),
        "unequal": lambda: unequal(rate, seconds),
        "spike": lambda: [spike(start_s) for start_s in (5.0, 15.0, 30.0)],
    }
    result: dict[str, Any] = {"documented": DOCUMENTED, "rate_per_s": rate}
    for name in options.only.split(","):
        result[name] = parts_of[name]()
    result |= {
        "load_average": os.getloadavg(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
