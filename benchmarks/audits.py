"""What audits and attacks find, and what carrying canaries costs.

    python benchmarks/audits.py --table --data banking77 --model stories260k/hf --cache runs/audits
    python benchmarks/audits.py --table ... --cells 1        # the next missing cell, then stop
    python benchmarks/audits.py --table ... --show           # what is finished, nothing is run
    python benchmarks/audits.py --overhead                   # time of the demo's training

`--table`: fine-tunes of real text without privacy and at epsilon 8, 3 and 1, three seeds each,
attacked alike (see `audit_cells.py`): held-out perplexity, membership inference, exposure of
planted secrets, extraction in excess of texts that nobody trained on. A cell is one model; those
done are kept in the cache folder, so the table can be made in pieces. Exit code 3: some are
missing. It writes `table.json`, `table.md` and `table.svg` into the cache folder. Intervals: t
over seeds, 95 %.

`--overhead`: seconds of the demo's private training without and with 1000 canaries, alternating, in
one process: of the processor, and on the clock where the machine is quiet.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

T_QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
FIGURES = ("perplexity", "auc", "tpr", "exposure", "extraction")
HEADINGS = (
    "held-out perplexity",
    "AUC",
    "TPR at 1 % FPR",
    "exposure, bits",
    "extracted in excess",
)


def finished(folder: Path) -> dict[str, Any] | None:
    """A cell's training and attacks, if both are done."""
    trained, attacked = folder / "cell.json", folder / "attacks.json"
    if not (trained.is_file() and attacked.is_file()):
        return None
    return {**json.loads(trained.read_text())["result"], **json.loads(attacked.read_text())}


def run_cell(cell: Mapping[str, Any], data: Path, model: Path, folder: Path) -> None:
    """Do what is missing of a cell, each part on the disk before the next."""
    from audit_cells import attack_cell, train_cell

    folder.mkdir(parents=True, exist_ok=True)
    trained, attacked = folder / "cell.json", folder / "attacks.json"
    if not trained.is_file():
        found = train_cell(cell, data, model, folder)
        trained.write_text(json.dumps({"cell": cell, "result": found}))
    if not attacked.is_file():
        attacked.write_text(json.dumps(attack_cell(cell, data, model, folder)))


def figures(result: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one cell. The attacker picks the best score afterwards, so a little high."""
    attacks = result["membership"]["attacks"]
    return {
        "perplexity": result["perplexity"],
        "auc": max(attack["auc"]["estimate"] for attack in attacks),
        "tpr": max(attack["tpr_at_fpr_1%"]["tpr"]["estimate"] for attack in attacks),
        "exposure": statistics.fmean(result["exposure_bits"]),
        "extraction": result["extraction"]["excess_over_unseen"]["n=100"]["estimate"],
    }


def row(values: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and half-width of the interval of each figure, over seeds."""
    found = {}
    for name in FIGURES:
        numbers = [value[name] for value in values]
        spread = math.nan
        if len(numbers) > 1:
            spread = (
                T_QUANTILES[len(numbers) - 1] * statistics.stdev(numbers) / math.sqrt(len(numbers))
            )
        found[name] = {"mean": statistics.fmean(numbers), "half_width": spread}
    return found


def table(cache: Path) -> tuple[dict[str, Any], int]:
    """The rows that are finished, and how many cells are missing."""
    from audit_cells import EPSILONS, SEEDS, folder_of

    rows, missing = {}, 0
    for epsilon in EPSILONS:
        done = [
            finished(folder_of(cache, {"epsilon": epsilon, "seed": seed})) for seed in range(SEEDS)
        ]
        missing += done.count(None)
        values = [figures(result) for result in done if result is not None]
        if values:
            name = "without privacy" if epsilon is None else f"epsilon {epsilon:g}"
            blind = [r["membership"]["blind_auc"]["estimate"] for r in done if r is not None]
            void = sum(r["membership"]["void"] for r in done if r is not None)
            rows[name] = {
                "seeds": len(values),
                "blind_auc": statistics.fmean(blind),
                "void": void,
                **row(values),
            }
    return rows, missing


def markdown(rows: Mapping[str, Any]) -> str:
    """The table as it stands in docs/benchmarks.md."""
    lines = [f"| model | {' | '.join(HEADINGS)} |", "|---" * (len(HEADINGS) + 1) + "|"]
    for name, values in rows.items():
        cells = [_shown(figure, **values[figure]) for figure in FIGURES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown(figure: str, mean: float, half_width: float) -> str:
    if figure in ("tpr", "extraction"):
        return f"{100 * mean:.2f} ± {100 * half_width:.2f} %"
    digits = 3 if figure == "auc" else 2
    return f"{mean:.{digits}f} ± {half_width:.{digits}f}"


def plot(rows: Mapping[str, Any], target: Path) -> None:
    """Five small panels, one a figure; dotted: what an attacker gets without the model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.8), layout="constrained")
    names = list(rows)
    lines = {"auc": 0.5, "tpr": 0.01, "exposure": math.log2(math.e), "extraction": 0.0}
    for axes, name, heading in zip(
        figure.subplots(1, len(FIGURES)), FIGURES, HEADINGS, strict=True
    ):
        means = [rows[model][name]["mean"] for model in names]
        bars = [rows[model][name]["half_width"] for model in names]
        axes.errorbar(range(len(names)), means, yerr=bars, fmt="o", capsize=4, color="#0b6e66")
        if name in lines:
            axes.axhline(lines[name], color="#888888", lw=1, ls=":")
        axes.set_title(heading, fontsize=9)
        axes.set_xticks(range(len(names)), [n.replace(" ", "\n") for n in names], fontsize=8)
        axes.set_xlim(-0.5, len(names) - 0.5)
    figure.savefig(target)


def overhead(repeats: int, epochs: float) -> dict[str, Any]:
    """Seconds of the demo's private training without canaries and with each kind."""
    from privacy_finetuner.demo import ASSETS, DemoSettings

    settings = DemoSettings()
    lines = (ASSETS / "records.jsonl").read_text().splitlines()
    records = [{"text": json.loads(line)["text"]} for line in lines]
    cases: dict[str, dict[str, Any]] = {
        "none": {},
        "random-token": {"audit_canaries": 1000},
        "white-box": {"audit_canaries": 1000, "audit_scores": "white-box"},
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    _demo_training(records, settings, 0.25, {})  # what is loaded and computed once
    for _ in range(repeats):
        for name, options in cases.items():
            seconds[name].append(_demo_training(records, settings, epochs, options))
            cpu_s, clock_s = seconds[name][-1]
            print(f"{name}: {cpu_s:.1f} s of processor, {clock_s:.1f} s", file=sys.stderr)
    return {
        unit: {
            "seconds": {name: [pair[k] for pair in pairs] for name, pairs in seconds.items()},
            "overhead": {
                name: round(
                    statistics.median(pair[k] for pair in pairs)
                    / statistics.median(pair[k] for pair in seconds["none"])
                    - 1,
                    4,
                )
                for name, pairs in seconds.items()
            },
        }
        for k, unit in enumerate(("processor", "clock"))
    }


def _demo_training(
    records: Sequence[Mapping[str, str]], settings: Any, epochs: float, options: Mapping[str, Any]
) -> tuple[float, float]:
    from privacy_finetuner import PrivacyConfig, PrivateTrainer
    from privacy_finetuner.demo import ASSETS

    trainer = PrivateTrainer(
        str(ASSETS / "model"),
        PrivacyConfig(epsilon=settings.epsilon, delta=1e-5, accounting_mode="pld"),
        "cpu",
        enable_context_guard=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time(), time.perf_counter()
        trainer.train(
            list(records),
            epochs=epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            max_length=settings.max_length,
            output_dir=folder,
            **options,
        )
        return (
            round(time.process_time() - started[0], 2),
            round(time.perf_counter() - started[1], 2),
        )


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--cells", type=int, help="run at most so many missing cells")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=6.0, help="of --overhead")
    asked = parser.parse_args()
    if asked.overhead:
        print(json.dumps(overhead(asked.repeats, asked.epochs), indent=1))
        return 0
    if not asked.table or asked.cache is None:
        parser.error("--table with --cache, or --overhead")
    if not asked.show:
        _run_missing(parser, asked)
    rows, missing = table(asked.cache)
    if rows:
        (asked.cache / "table.json").write_text(json.dumps(rows, indent=1))
        (asked.cache / "table.md").write_text(markdown(rows))
        plot(rows, asked.cache / "table.svg")
        print(markdown(rows))
    print(f"{missing} cells are missing", file=sys.stderr)
    return 3 if missing else 0


def _run_missing(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    from audit_cells import cells, folder_of

    if asked.data is None or asked.model is None:
        parser.error("--table needs --data and --model, or --show")
    missing = [cell for cell in cells() if finished(folder_of(asked.cache, cell)) is None]
    for cell in missing[: asked.cells]:
        run_cell(cell, asked.data, asked.model, folder_of(asked.cache, cell))
        print(f"done: {cell}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
