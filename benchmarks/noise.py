"""Nanoseconds per sample of the noise, next to torch's own generator.

    python benchmarks/noise.py --json [--samples 10000000] [--repeats 5]

Wall time and processor time (all threads together), the best of several rounds; the cases take
turns, so that a busy machine slows all of them alike. Processor time is what one core pays.
`torch.randn` is listed as the yardstick only: it is neither unpredictable nor unbounded in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable

import torch

from privacy_finetuner.training.noise import GaussianNoise
from privacy_runtime.keystream import KeyStream
from privacy_runtime.world import SystemEntropy


def cases(samples: int) -> dict[str, Callable[[], object]]:
    entropy = SystemEntropy()
    secure, fast = GaussianNoise.secure(entropy), GaussianNoise.fast(entropy)
    stream, generator = KeyStream.fresh(entropy), torch.Generator()
    sums = [torch.zeros(samples)]
    buffer = memoryview(bytearray(2**18))

    def read_key_stream() -> None:
        for span in stream.reserve([len(buffer)] * (8 * samples // len(buffer))):
            span.read_into(buffer)

    float32_N, float64_N = torch.empty(samples), torch.empty(samples, dtype=torch.float64)
    lattice = {"sensitivity": 1.0, "noise_multiplier": 1.0}
    return {
        "torch.randn float32": lambda: float32_N.normal_(generator=generator),
        "torch.randn float64": lambda: float64_N.normal_(generator=generator),
        "key stream, 8 bytes": read_key_stream,
        "secure standard_normal float64": lambda: secure.standard_normal(samples),
        "secure privatize (lattice) float32": lambda: secure.privatize(sums, **lattice),
        "secure privatize_ (in place) float32": lambda: secure.privatize_(sums, **lattice),
        "fast privatize (lattice) float32": lambda: fast.privatize(sums, **lattice),
    }


def measure(samples: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return nanoseconds per sample by case, kind of time and number of threads."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(repeats):
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for name, run in cases(samples).items():
                wall_s, cpu_s = time.perf_counter(), time.process_time()
                run()
                times_s = {
                    f"wall, {threads} threads": time.perf_counter() - wall_s,
                    f"cpu, {threads} threads": time.process_time() - cpu_s,
                }
                kept = best.setdefault(name, {})
                for kind, seconds in times_s.items():
                    kept[kind] = min(kept.get(kind, float("inf")), seconds * 1e9 / samples)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    result = {
        "unit": "ns per sample, best of rounds",
        "samples": options.samples,
        "repeats": options.repeats,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "ns_per_sample": {
            name: {kind: round(ns, 2) for kind, ns in figures.items()}
            for name, figures in measure(options.samples, options.repeats).items()
        },
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, figures in result["ns_per_sample"].items():
        shown = "  ".join(f"{kind} {ns:6.2f}" for kind, ns in figures.items())
        print(f"{name:36s} {shown}")


if __name__ == "__main__":
    main()
