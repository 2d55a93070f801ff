"""What audits of a given size can certify: ceilings of ideal attackers, by method and protocol.

    python benchmarks/audit_bounds.py [--json] [--quick]
    python benchmarks/audit_bounds.py --notes          # the notes' figures in their own law

Nothing is trained: an ideal attacker's scores are simulated, and go through the bounds of
`privacy_core.auditing`. 95 % confidence, delta 1e-5, mean over the trials with its standard error.

- `ideal`: independent Gaussian scores at exactly the mu of each epsilon. `ours` guesses on both
  sides and a quarter of the canaries choose; `published` guesses one side only and half of them
  choose, which is how the audits of the literature and the research notes count.
- `white_box`: canaries with orthogonal gradients of full norm in the real Poisson-sampled run,
  scored by the likelihood ratio of every step, and by the plain sum of projections.
- `seconds`: one bound, once, at that size.

`--notes` makes the ceilings of the research notes again, by the protocol that they were made with
(`published_audits.py`): the mean with its error, the middle 95 % of single audits, and where in it
the notes' figure lies.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from typing import Any

import numpy as np
import scipy

from privacy_core.accounting import dp_sgd_event, epsilon_of
from privacy_core.auditing import (
    Ceiling,
    Method,
    Split,
    WhiteBox,
    ceiling,
    clopper_pearson_epsilon,
    gaussian_estimate,
    one_run_epsilon,
    one_run_f_dp_epsilon,
    white_box_ceiling,
)
from privacy_core.auditing.ceilings import ideal_scores, mu_of_claim
from privacy_core.auditing.chance import Chance

DELTA = 1e-5
CHOICES = {"ours": Split(), "published": Split(fraction=0.5, abstain_out=True)}
RUNS = ((0.01, 1000, 0.735), (0.01, 1000, 0.586), (0.1, 200, 1.13))
BOUNDS = {
    Method.ONE_RUN: one_run_epsilon,
    Method.F_DP: one_run_f_dp_epsilon,
    Method.CLOPPER_PEARSON: clopper_pearson_epsilon,
    Method.GAUSSIAN_ESTIMATE: gaussian_estimate,
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def short(found: Ceiling) -> dict[str, float]:
    return {"expected": round(found.expected, 3), "error": round(found.standard_error, 3)}


def ideal(trials: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = []
    for epsilon in (1.0, 2.0, 4.0, 8.0):
        for canaries in sizes:
            mu = mu_of_claim(epsilon, DELTA)
            row: dict[str, Any] = {
                "epsilon": epsilon,
                "canaries": canaries,
                "auc": round(float(scipy.special.ndtr(mu / math.sqrt(2))), 3),
                "tpr_at_1_percent": round(
                    float(scipy.special.ndtr(scipy.special.ndtri(0.01) + mu)), 3
                ),
            }
            for name, choice in CHOICES.items():
                row[name] = {
                    method.value: short(
                        ceiling(
                            epsilon, DELTA, canaries, method=method, choice=choice, trials=trials
                        )
                    )
                    for method in Method
                }
            say(f"ideal {row}")
            rows.append(row)
    return rows


def white_box(trials: int, canaries: int) -> list[dict[str, Any]]:
    rows = []
    for rate, steps, noise in RUNS:
        event = dp_sgd_event(noise_multiplier=noise, sample_rate=rate, steps=steps)
        epsilon = epsilon_of(event, DELTA)
        row: dict[str, Any] = {
            "sample_rate": rate,
            "steps": steps,
            "noise_multiplier": noise,
            "epsilon": round(epsilon, 3),
            "canaries": canaries,
        }
        for method in (Method.ONE_RUN, Method.F_DP, Method.GAUSSIAN_ESTIMATE):
            both = [
                short(
                    white_box_ceiling(
                        WhiteBox(
                            noise_multiplier=noise,
                            sample_rate=rate,
                            steps=steps,
                            epsilon=epsilon,
                            likelihood_ratio=ratio,
                        ),
                        DELTA,
                        canaries,
                        method=method,
                        trials=trials,
                    )
                )
                for ratio in (True, False)
            ]
            row[method.value] = {
                "likelihood_ratio": both[0],
                "plain_sum": both[1],
                "times": round(both[0]["expected"] / max(both[1]["expected"], 1e-9), 2),
            }
        say(f"white box {row}")
        rows.append(row)
    return rows


def seconds(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = []
    for canaries in sizes:
        scores, included = ideal_scores(
            canaries, mu_of_claim(8.0, DELTA), Chance(1, purpose="benchmark")
        )
        row: dict[str, Any] = {"canaries": canaries}
        for method, bound in BOUNDS.items():
            start = time.perf_counter()
            bound(scores, included, delta=DELTA)
            row[method.value] = round(time.perf_counter() - start, 4)
        rows.append(row)
    return rows


def notes(count: int) -> list[dict[str, Any]]:
    """Each figure of the notes beside the law of one audit by their protocol."""
    from published_audits import IDEAL, WHITE_BOX, audits

    rows = []
    for cell in (*IDEAL, *WHITE_BOX):
        found = audits(cell, count)
        low, high = np.quantile(found, [0.025, 0.975])
        row = {
            "epsilon": cell.epsilon,
            "canaries": cell.canaries,
            "column": cell.column,
            "score": "one Gaussian"
            if cell.run is None
            else f"q {cell.run.sample_rate:g}, T {cell.run.steps}, "
            + ("likelihood ratio" if cell.run.likelihood_ratio else "plain sum"),
            "notes": cell.stated,
            "mean": round(float(np.mean(found)), 3),
            "error": round(float(np.std(found, ddof=1) / math.sqrt(count)), 3),
            "middle_95": [round(float(low), 3), round(float(high), 3)],
            "share_below": round(float(np.mean(found < cell.stated)), 3),
            "inside": bool(low - 0.005 <= cell.stated <= high + 0.005),
        }
        say(f"notes {row}")
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="few trials: a minute")
    parser.add_argument("--notes", action="store_true", help="the notes' table, nothing else")
    options = parser.parse_args()
    if options.notes:
        print(json.dumps(notes(40 if options.quick else 200), indent=None if options.json else 2))
        return
    sizes = (200, 1000) if options.quick else (200, 1000, 5000)
    document = {
        "delta": DELTA,
        "confidence": 0.95,
        "ideal": ideal(20 if options.quick else 60, sizes),
        "white_box": white_box(20 if options.quick else 100, 1000 if options.quick else 5000),
        "seconds": seconds(sizes),
    }
    print(json.dumps(document, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
