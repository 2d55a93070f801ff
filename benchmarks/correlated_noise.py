"""What correlated noise is worth: the noise it leaves by calculation, and a real training.

    python benchmarks/correlated_noise.py --json                      # the tables; a few seconds
    python benchmarks/correlated_noise.py --data banking77 --model stories260k/hf --json

Without `--data` only the tables: root mean square of the noise in the prefix sums of the steps, at
the same (epsilon, delta) with the tightest accountant, and how long the plan took.

With `--data` (a folder with `train.csv` and `test.csv`, column `text`) the same model is trained at
the same epsilon with each kind of noise, `--seeds` times, for every learning rate of `--rates`;
what is compared is the exact held-out loss, kind against kind at the best rate of each. The
script's figures are on public data and outside any guarantee.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from privacy_core.mechanisms.matrix_factorization import optimise_banded, optimise_buffered
from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.training.noise_choice import Choice, Scenario

# examples, batch, steps, delta
SETTINGS = {
    "10 epochs": (50_000, 500, 1000, 1e-5),
    "3 epochs": (200_000, 1024, 600, 1e-6),
    "34 epochs": (60_000, 4096, 500, 1e-6),
    "10,000 steps": (50_000, 50, 10_000, 1e-6),
}
KINDS = ("independent", "auto", "blt", "lambda_cgd")


def choose(name: str, epsilon: float, noise: str) -> tuple[Choice, float]:
    """A plan's choice, and the seconds that it took from nothing."""
    examples, batch_size, steps, delta = SETTINGS[name]
    privacy = PrivacyConfig(epsilon=epsilon, delta=delta, accounting_mode="pld", noise=noise)  # type: ignore[arg-type]
    optimise_banded.cache_clear()
    optimise_buffered.cache_clear()
    start_s = time.perf_counter()
    choice = Scenario(privacy=privacy, sample_rate=batch_size / examples, steps=steps).choose()
    return choice, time.perf_counter() - start_s


def tables() -> list[dict[str, Any]]:
    """Noise left in the prefix sums, by setting and epsilon."""
    found = []
    for name in SETTINGS:
        for epsilon in (1.0, 4.0, 8.0):
            row: dict[str, Any] = {"setting": name, "epsilon": epsilon}
            for noise in KINDS:
                choice, wall_s = choose(name, epsilon, noise)
                row[noise] = {
                    "error": round(choice.error, 3),
                    "groups": choice.groups,
                    "plan_s": round(wall_s, 3),
                }
            row["auto over independent"] = round(
                row["auto"]["error"] / row["independent"]["error"], 4
            )
            found.append(row)
    return found


def texts(path: Path, most: int | None) -> list[dict[str, str]]:
    """The first records of a file; the order of the file is by class, so every k-th is taken."""
    with path.open(newline="") as file:
        rows = [{"text": row["text"]} for row in csv.DictReader(file)]
    stride = 1 if most is None else max(1, len(rows) // most)
    return rows[::stride][:most]


def train(options: argparse.Namespace, noise: str, rate: float, folder: Path) -> dict[str, Any]:
    """One training and its exact held-out loss."""
    privacy = PrivacyConfig(
        epsilon=options.epsilon,
        delta=options.delta,
        accounting_mode="pld",
        noise=noise,  # type: ignore[arg-type]
    )
    trainer = PrivateTrainer(options.model, privacy, device="cpu", enable_context_guard=False)
    start_s = time.perf_counter()
    result = trainer.train(
        texts(Path(options.data) / "train.csv", options.examples),
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=rate,
        save_steps=10**6,
        output_dir=str(folder),
        optimizer=options.optimizer,
        lr_schedule=options.lr_schedule,
        weight_average=options.weight_average,
    )
    wall_s = time.perf_counter() - start_s
    held_out = texts(Path(options.data) / "test.csv", options.held_out)
    score = trainer.evaluate(held_out, batch_size=64, privacy_safe=False)
    plan = json.loads((folder / "statement.json").read_text())["plan"]
    return {
        "loss": score.loss,
        "epsilon": result.privacy_spent.epsilon,
        "groups": plan["groups"],
        "noise_multiplier": plan["noise_multiplier"],
        "steps": result.steps,
        "wall_s": wall_s,
    }


def trainings(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every kind of noise at every rate, over seeds."""
    rows = []
    for noise in options.kinds:
        for rate in options.rates:
            with tempfile.TemporaryDirectory() as folder:
                cells = [
                    train(options, noise, rate, Path(folder) / str(seed))
                    for seed in range(options.seeds)
                ]
            losses = [cell["loss"] for cell in cells]
            rows.append(
                {
                    "noise": noise,
                    "groups": cells[0]["groups"],
                    "learning_rate": rate,
                    "epsilon": max(cell["epsilon"] for cell in cells),
                    "noise_multiplier": cells[0]["noise_multiplier"],
                    "steps": cells[0]["steps"],
                    "loss_mean": statistics.fmean(losses),
                    "loss_std": statistics.stdev(losses) if len(losses) > 1 else math.nan,
                    "losses": losses,
                    "wall_s": statistics.fmean(cell["wall_s"] for cell in cells),
                }
            )
            if not options.json:
                print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--data", help="folder with train.csv and test.csv")
    parser.add_argument("--model", help="folder of a causal model")
    parser.add_argument("--kinds", nargs="+", default=["independent", "auto"], choices=KINDS)
    parser.add_argument("--rates", nargs="+", type=float, default=[3e-3])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilon", type=float, default=4.0)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--examples", type=int, default=2500)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--batch-size", type=int, default=25)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--lr-schedule", default="constant")
    parser.add_argument("--weight-average", default="none")
    options = parser.parse_args()
    document: dict[str, Any] = {}
    if options.data:
        document["setting"] = {
            key: value for key, value in vars(options).items() if key not in ("data", "model")
        }
        document["trainings"] = trainings(options)
    else:
        document["prefix_sum_error"] = tables()
    if options.json:
        print(json.dumps(document, indent=1))
    elif not options.data:
        for row in document["prefix_sum_error"]:
            print(row)


if __name__ == "__main__":
    main()
