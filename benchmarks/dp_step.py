"""Time and memory of one private step, next to the same step without privacy and to Opacus.

    python benchmarks/dp_step.py --config bert --threads 2 --json
    python benchmarks/dp_step.py --all --threads 2
    python benchmarks/dp_step.py --config llama --scaling length=64,256,1024 --plot curve.png

Every method lives in its own process with the same random-weight model and the same batch. One
process at a time takes one whole step (forward, backward, clip, noise, AdamW), in turn, so that a
busy machine slows all of them alike. The time ratio is the median over rounds of (method / plain)
of the same round; the memory ratio is peak resident memory of the whole process over plain's,
start-up checks included. Beside each figure: the relative error of the clipped sum, without
noise, on a small padded batch, against a plain loop over its examples in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("dp_step_worker.py")
METHODS = ("plain", "ours", "opacus_hooks", "opacus_functorch", "opacus_ghost")
PACKAGES = ("torch", "transformers", "peft", "opacus")
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "gpt2-tied": {
        "family": "gpt2",
        "layers": 6,
        "vocabulary": 50257,
        "batch": 8,
        "length": 128,
        "tied": True,
    },
    "gpt2": {"family": "gpt2", "layers": 6, "vocabulary": 50257, "batch": 8, "length": 128},
    "llama": {"family": "llama", "layers": 8, "vocabulary": 32000, "batch": 8, "length": 256},
    "llama-lora": {
        "family": "llama",
        "layers": 8,
        "vocabulary": 32000,
        "batch": 8,
        "length": 256,
        "lora": True,
    },
    "bert": {"family": "bert", "layers": 4, "vocabulary": 30522, "batch": 32, "length": 64},
    "llama-long": {"family": "llama", "layers": 2, "vocabulary": 8000, "batch": 4, "length": 1024},
}
SIZES = {"length": "seq_len", "batch": "batch", "vocabulary": "vocab", "layers": "layers"}
SMALL = {"layers": 2, "vocabulary": 1000, "batch": 4, "length": 32}


@dataclass
class Worker:
    """A method's process, and the reason why it stopped, if it did."""

    method: str
    process: subprocess.Popen[str]
    failure: str | None = None

    def ask(self, word: str | None = None) -> dict[str, Any]:
        """Send a word and read the answer; an empty answer when the method cannot run."""
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: S101, PT018
        if self.failure is None and word is not None:
            try:
                print(word, file=self.process.stdin, flush=True)
            except BrokenPipeError:
                self.failure = "its process ended"
        line = "" if self.failure else self.process.stdout.readline()
        if not self.failure and not line:
            self.failure = f"its process ended with status {self.process.wait()}"
        answer: dict[str, Any] = json.loads(line) if line else {}
        if "failed" in answer:
            self.failure = answer["failed"]
        return {} if self.failure else answer

    def stop(self) -> None:
        """Close the process's input, which ends it."""
        assert self.process.stdin is not None  # noqa: S101
        self.process.stdin.close()
        self.process.wait()


def start(method: str, shape: dict[str, Any], options: argparse.Namespace) -> Worker:
    request = {"method": method, "shape": shape, "threads": options.threads}
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    return Worker(
        method,
        subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if options.verbose else subprocess.DEVNULL,
            text=True,
            env=environment,
        ),
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def shape_of(config: str, options: argparse.Namespace) -> dict[str, Any]:
    shape = dict(CONFIGURATIONS[config])
    if options.scale == "small":
        shape |= SMALL
    asked = {
        "layers": options.layers,
        "vocabulary": options.vocab,
        "batch": options.batch,
        "length": options.seq_len,
    }
    return shape | {name: value for name, value in asked.items() if value is not None}


def take_turns(workers: Sequence[Worker], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Steps by method, the first round dropped; the starting method changes from round to round."""
    steps: dict[str, list[dict[str, float]]] = {w.method: [] for w in workers}
    for number in range(rounds + 1):
        first = number % len(workers)
        for worker in (*workers[first:], *workers[:first]):
            took = worker.ask("step") if worker.failure is None else {}
            if took and number > 0:
                steps[worker.method].append(took)
        if steps["plain"]:
            shown = {m: f"{s[-1]['wall_s']:.2f}" for m, s in steps.items() if s}
            say(f"  round {number} of {rounds}: seconds {shown}")
    return steps


def measure(config: str, options: argparse.Namespace) -> dict[str, Any]:
    shape = shape_of(config, options)
    say(f"{config}: {shape}; load average before {os.getloadavg()[0]:.2f}")
    if shape["family"] != "llama":
        say("Opacus gets position (and type) ids with a row per example: it crashes on [1, T]")
    workers: list[Worker] = []
    for method in options.methods:  # each is ready before the next one starts
        workers.append(start(method, shape, options))
        workers[-1].ask()
    load_before = os.getloadavg()[0]
    steps = take_turns(workers, options.rounds)
    load = {"before": round(load_before, 2), "after": round(os.getloadavg()[0], 2)}
    memory, errors = {}, {}
    for worker in workers:
        memory[worker.method] = worker.ask("memory") if worker.failure is None else {}
        if worker.failure:
            say(f"{worker.method}: {worker.failure}")
        elif worker.method != "plain":
            errors[worker.method] = worker.ask("check").get("max_rel_error")
        worker.stop()
    return {"config": config, "shape": shape, **summary(steps, memory), **surroundings(options)} | {
        "max_rel_error": {m: errors.get(m) for m in options.methods if m != "plain"},
        "load_average_1_min": load,
        "not_run": {w.method: w.failure for w in workers if w.failure},
    }


def summary(
    steps: dict[str, list[dict[str, float]]], memory: dict[str, dict[str, float]]
) -> dict[str, Any]:
    plain, held = steps["plain"], memory["plain"]
    result: dict[str, dict[str, Any]] = {
        name: {}
        for name in (
            "time_ratio",
            "time_ratio_range",
            "time_ratio_of_minima",
            "cpu_ratio",
            "memory_ratio",
            "step_memory_ratio",
            "step_s",
            "peak_mib",
        )
    }
    for method, taken in steps.items():
        if not taken or not memory[method]:
            for column in result.values():
                column[method] = None
            continue
        walls = [a["wall_s"] / b["wall_s"] for a, b in zip(taken, plain, strict=True)]
        cpus = [a["cpu_s"] / b["cpu_s"] for a, b in zip(taken, plain, strict=True)]
        least = min(s["wall_s"] for s in taken) / min(s["wall_s"] for s in plain)
        peak, plain_peak = max(memory[method].values()), max(held.values())
        result["time_ratio"][method] = round(statistics.median(walls), 3)
        result["time_ratio_range"][method] = [round(min(walls), 3), round(max(walls), 3)]
        result["time_ratio_of_minima"][method] = round(least, 3)
        result["cpu_ratio"][method] = round(statistics.median(cpus), 3)
        result["memory_ratio"][method] = round(peak / plain_peak, 3)
        result["step_memory_ratio"][method] = round(
            memory[method]["step_mib"] / held["step_mib"], 3
        )
        result["step_s"][method] = round(statistics.median(s["wall_s"] for s in taken), 4)
        result["peak_mib"][method] = round(peak)
    return {**result, "plain_step_s": result["step_s"]["plain"]}


def surroundings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "rounds": options.rounds,
        "threads": options.threads,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
    }


def show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{result['config']}: plain {result['plain_step_s']:.2f} s per step"
    table = Table("method", "time", "range", "cpu", "memory", "error of the sum", title=title)
    for method, ratio in result["time_ratio"].items():
        error = result["max_rel_error"].get(method)
        if ratio is None:
            table.add_row(method, "cannot run", "", "", "", "")
            continue
        low, high = result["time_ratio_range"][method]
        table.add_row(
            method,
            f"{ratio:.2f}",
            f"{low:.2f}-{high:.2f}",
            f"{result['cpu_ratio'][method]:.2f}",
            f"{result['memory_ratio'][method]:.2f}",
            "" if error is None else f"{error:.1e}",
        )
    Console().print(table)


def scale(config: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One measurement for each size of the curve, small ones first."""
    name, sizes = options.scaling
    curve = []
    for size in sizes:
        setattr(options, SIZES[name], size)
        curve.append(measure(config, options))
    return curve


def plot(curve: Sequence[dict[str, Any]], name: str, path: Path) -> None:
    """Draw time and memory over plain PyTorch against the size that varies."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    panels = ("time_ratio", "time per step"), ("memory_ratio", "peak memory")
    for axis, (column, title) in zip(axes, panels, strict=True):
        for method in curve[0][column]:
            ratios = [result[column][method] for result in curve]
            heights = [float("nan") if ratio is None else ratio for ratio in ratios]
            axis.plot([result["shape"][name] for result in curve], heights, "o-", label=method)
        axis.set(xscale="log", xlabel=name, ylabel=f"{title}, over plain", ylim=(0.5, None))
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.suptitle(f"{curve[0]['config']}, {curve[0]['threads']} threads")
    figure.savefig(path)


def scaling(text: str) -> tuple[str, list[int]]:
    """Read `length=64,256`: what varies, and its sizes."""
    name, _, sizes = text.partition("=")
    if name not in SIZES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SIZES)}")
    return name, sorted(int(size) for size in sizes.split(","))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", choices=list(CONFIGURATIONS))
    which.add_argument("--all", action="store_true", help="every configuration, one after another")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="after one round that is dropped")
    parser.add_argument("--seq-len", type=int, help="positions, instead of the configuration's")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--scaling", type=scaling, metavar="WHAT=N,N", help=f"of {list(SIZES)}")
    parser.add_argument("--plot", type=Path, help="draw the curve of --scaling into this file")
    parser.add_argument("--scale", choices=["full", "small"], default="full")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--verbose", action="store_true", help="show what the methods print")
    options = parser.parse_args()
    if options.scaling and not options.config:
        parser.error("--scaling takes one --config")
    if options.plot and not options.scaling:
        parser.error("--plot takes --scaling")
    options.methods = ["plain", *(m for m in options.methods if m != "plain")]
    return options


def main() -> int:
    options = arguments()
    names = list(CONFIGURATIONS) if options.all else [options.config]
    results = []
    for name in names:
        found = scale(name, options) if options.scaling else [measure(name, options)]
        results += found
        if not options.json:
            for result in found:
                show(result)
    if options.plot:
        plot(results, options.scaling[0], options.plot)
    if options.json:
        print(json.dumps({"results": results} if len(results) > 1 else results[0], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
