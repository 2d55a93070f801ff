"""What the guard itself costs: processor time, memory and start, with many checks.

    python benchmarks/guard_loop.py --checks 200 --interval 1 --seconds 30 --json

A process of its own runs the real guard with real threads and its real state file; every check is
a function that returns at once, so that what is measured is the guard and not what it looks at.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

_WORKER = """
import asyncio, json, resource, sys, time
began = time.perf_counter()
from pathlib import Path
from pipeline_guard.config import GuardConfig, StoreSettings
from pipeline_guard.guard import SelfHealingPipelineGuard
from pipeline_guard.model import Reading, Verdict

checks, (interval, seconds), folder = int(sys.argv[1]), map(float, sys.argv[2:4]), sys.argv[4]
looks = [0]

def look():
    looks[0] += 1
    return Reading(verdict=Verdict.OK, summary="well", measurements={"value": 1.0})

async def main():
    store = StoreSettings(path=Path(folder) / "g.db")
    guard = SelfHealingPipelineGuard(config=GuardConfig(store=store))
    for number in range(checks):
        guard._add_custom_health_check(f"component{number % 20}", f"check{number}", look, interval)
    started = asyncio.ensure_future(guard.start_monitoring())
    while not looks[0]:
        await asyncio.sleep(0.001)
    start_s = time.perf_counter() - began
    await started
    await asyncio.sleep(2)
    usage, at, before = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter(), looks[0]
    await asyncio.sleep(seconds)
    after, took = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - at
    cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    print(json.dumps({
        "checks": checks,
        "interval_s": interval,
        "start_s": round(start_s, 3),
        "cpu_share_of_one_core": round(cpu / took, 4),
        "rss_mib": round(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20, 1),
        "looks_per_s": round((looks[0] - before) / took, 1),
        "loop_lag_s": guard.get_system_status()["guard"]["loop_lag_seconds"],
        "heavy_imports": sorted({"pandas", "scipy", "torch", "pydantic"} & set(sys.modules)),
    }))
    guard.stop_monitoring()
    await guard.wait_stopped()

asyncio.run(main())
"""


def measure(checks: int, interval_s: float, seconds: float) -> dict[str, object]:
    """Run the guard in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", _WORKER, str(checks), str(interval_s), str(seconds), folder]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(folder))
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checks", type=int, default=200)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long it is measured")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.checks, options.interval, options.seconds)
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{name:24} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
