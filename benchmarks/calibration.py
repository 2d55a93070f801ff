"""Time, tightness and soundness of the accountants, against targets: the benchmark of calibration.

    python benchmarks/calibration.py [--json] [--peers] [--tries N]

What is measured, all for DP-SGD on Poisson batches under add-or-remove-one:

- `calibration`: the noise multiplier of C1 to C8. `cold_s` is the first call of a fresh process,
  which loads parts of SciPy, the median of --tries; `warm_s` the median of --tries later calls.
  `over_reference` compares with dp-accounting's PLD at 1e-4, `over_finest` with its finest grid
  that was run (both in `tests/vectors`). Its figures are upper bounds of the best multiplier.
- `epsilon`: G1 to G10, with the acceptance rule of `tests/vectors/accounting_epsilon.json`.
- `user`: the price for a user who owns up to 16 records.
- `small_delta`: epsilon down to 1e-14, with a certified interval where another library has one.
- `dominating_gaussian`: what the sound mu costs over the tight price.
- `import_s`: importing `privacy_core.accounting` in a fresh process, the median of --tries;
  `interpreter_s` is what Python needs to start and do nothing.

`targets` says which of the promised figures hold. `--peers` adds dp-accounting's and Opacus' noise
for C1 to C8, and dp-accounting's price of *our* noise, an independent check of it: minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from privacy_core.accounting import (
    calibrate_noise_multiplier,
    dp_sgd_event,
    epsilon_of,
    gdp_epsilon_bound,
)

VECTORS = Path(__file__).parents[1] / "tests" / "vectors"
TYPICAL_S, WORST_S, PRICE_TYPICAL_S, USER_S, IMPORT_S = 0.06, 0.3, 0.03, 0.2, 0.3
TIGHT, NEVER_BELOW = 1.001, 1 - 1e-5
SMALL = ((1.0, 0.01, 1000), (0.6, 1e-4, 200_000))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cases(name: str) -> list[dict[str, Any]]:
    document = json.loads((VECTORS / f"accounting_{name}.json").read_text(encoding="utf-8"))
    return list(document["cases"])


def event_of(case: dict[str, Any]) -> Any:
    names = ("noise_multiplier", "sample_rate", "steps", "max_examples_per_user")
    return dp_sgd_event(**{name: case[name] for name in names if name in case})


def noise_of(case: dict[str, Any]) -> float:
    names = ("epsilon", "delta", "sample_rate", "steps")
    return calibrate_noise_multiplier(**{name: case[name] for name in names})


def timed(act: Callable[[], float], tries: int) -> tuple[float, float]:
    """The value and the median of its times."""
    times, value = [], float("nan")
    for _ in range(tries):
        start = time.perf_counter()
        value = act()
        times.append(time.perf_counter() - start)
    return value, statistics.median(times)


def in_fresh_processes(code: str, tries: int) -> float:
    """The median of what `code` prints, seconds, in as many new processes."""
    found = []
    for _ in range(tries):
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        found.append(float(done.stdout))
    return statistics.median(found)


def cold_seconds(case: dict[str, Any], tries: int) -> float:
    target = {name: case[name] for name in ("epsilon", "delta", "sample_rate", "steps")}
    return in_fresh_processes(
        "import time; from privacy_core.accounting import calibrate_noise_multiplier as c;"
        f"t = time.perf_counter(); c(**{target!r}); print(time.perf_counter() - t)",
        tries,
    )


def import_seconds(tries: int) -> dict[str, float]:
    def whole(code: str) -> float:
        def run() -> float:
            subprocess.run([sys.executable, "-c", code], check=True)
            return 0.0

        return timed(run, tries)[1]

    inside = in_fresh_processes(
        "import time; t = time.perf_counter(); import privacy_core.accounting;"
        "print(time.perf_counter() - t)",
        tries,
    )
    has_torch = in_fresh_processes(
        "import sys, privacy_core.accounting; print(float('torch' in sys.modules))", 1
    )
    return {"import_s": inside, "interpreter_s": whole("pass"), "loads_torch": has_torch}


def calibrations(tries: int) -> dict[str, Any]:
    table = {}
    for case in cases("noise"):
        noise, warm_s = timed(lambda case=case: noise_of(case), tries)
        found = event_of({**case, "noise_multiplier": noise})
        table[case["name"]] = {
            "noise_multiplier": noise,
            "reference": case["noise_multiplier"],
            "over_reference": noise / case["noise_multiplier"],
            "over_finest": noise / case.get("finer_reference", case["noise_multiplier"]),
            "epsilon": epsilon_of(found, case["delta"]),
            "target": case["epsilon"],
            "cold_s": cold_seconds(case, tries),
            "warm_s": warm_s,
        }
    return table


def epsilons(tries: int) -> dict[str, Any]:
    table = {}
    for case in cases("epsilon"):
        event, delta = event_of(case), case["delta"]
        value, warm_s = timed(lambda e=event, d=delta: epsilon_of(e, d), tries)
        bound, bound_s = timed(lambda e=event, d=delta: gdp_epsilon_bound(e, d), tries)
        accepted = (
            value >= case["certified_lower"]
            and case["estimate"] - 2e-4 <= value <= case["estimate"] * 1.002 + 1e-4
        )
        table[case["name"]] = {
            "epsilon": value,
            "estimate": case["estimate"],
            "accepted": accepted,
            "warm_s": warm_s,
            "dominating_gaussian": bound,
            "dominating_over_tight": bound / value,
            "dominating_s": bound_s,
        }
    return table


def users(tries: int) -> dict[str, Any]:
    table = {}
    for case in cases("user"):
        event, delta = event_of(case), case["delta"]
        value, warm_s = timed(lambda e=event, d=delta: epsilon_of(e, d), tries)
        table[str(case["max_examples_per_user"])] = {
            "epsilon": value,
            "reference": case["epsilon"],
            "over_reference": value / case["epsilon"],
            "warm_s": warm_s,
        }
    return table


def small_deltas() -> list[dict[str, Any]]:
    known = {(c["noise_multiplier"], c["delta"]): c for c in cases("small_delta")}
    rows = []
    for noise, rate, steps in SMALL:
        event = dp_sgd_event(noise_multiplier=noise, sample_rate=rate, steps=steps)
        for exponent in range(9, 15):
            delta = 10.0**-exponent
            case = known.get((noise, delta), {})
            rows.append(
                {
                    "noise_multiplier": noise,
                    "delta": delta,
                    "epsilon": epsilon_of(event, delta),
                    "rdp": epsilon_of(event, delta, "rdp"),
                    "certified": [case["lower"], case["upper"]] if case else None,
                }
            )
    return rows


def peers() -> dict[str, Any]:
    """What the others return for C1 to C8, and what one of them thinks of ours."""
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    def pld() -> Any:
        return PLDAccountant(value_discretization_interval=1e-4)

    def their_event(noise: float, case: dict[str, Any]) -> Any:
        return dp_accounting.SelfComposedDpEvent(
            dp_accounting.PoissonSampledDpEvent(
                case["sample_rate"], dp_accounting.GaussianDpEvent(noise)
            ),
            case["steps"],
        )

    table: dict[str, Any] = {}
    for case in cases("noise"):
        say(f"{case['name']}: peers")
        ours = noise_of(case)
        theirs, theirs_s = timed(
            lambda case=case: dp_accounting.calibrate_dp_mechanism(
                pld, lambda noise: their_event(noise, case), case["epsilon"], case["delta"]
            ),
            1,
        )
        accountant = pld().compose(their_event(ours, case))
        table[case["name"]] = {
            "dp_accounting_pld_1e-4": {"noise_multiplier": theirs, "seconds": theirs_s},
            "dp_accounting_epsilon_of_our_noise": accountant.get_epsilon(case["delta"]),
            "opacus_rdp": opacus(case),
        }
    return table


def opacus(case: dict[str, Any]) -> dict[str, float] | None:
    if importlib.util.find_spec("opacus") is None:
        return None
    from opacus.accountants.utils import get_noise_multiplier

    noise, seconds = timed(
        lambda: get_noise_multiplier(
            target_epsilon=case["epsilon"],
            target_delta=case["delta"],
            sample_rate=case["sample_rate"],
            steps=case["steps"],
            accountant="rdp",
        ),
        1,
    )
    return {"noise_multiplier": float(noise), "seconds": seconds}


def targets_met(result: dict[str, Any]) -> dict[str, bool]:
    noises = result["calibration"].values()
    prices, small = result["epsilon"].values(), result["small_delta"]
    times = [max(row["cold_s"], row["warm_s"]) for row in noises]
    in_order = all(
        a["epsilon"] <= b["epsilon"]
        for a, b in itertools.pairwise(small)
        if a["noise_multiplier"] == b["noise_multiplier"]
    )
    return {
        "calibration_typical": statistics.median(row["warm_s"] for row in noises) <= TYPICAL_S,
        "calibration_worst_cold_or_warm": max(times) <= WORST_S,
        "noise_keeps_the_target": all(row["epsilon"] <= row["target"] for row in noises),
        "noise_at_most_0.1_percent_above": all(r["over_finest"] <= TIGHT for r in noises),
        "noise_never_below": all(row["over_finest"] >= NEVER_BELOW for row in noises),
        "epsilon_accepted": all(row["accepted"] for row in prices),
        "epsilon_typical": statistics.median(r["warm_s"] for r in prices) <= PRICE_TYPICAL_S,
        "user_each": all(row["warm_s"] <= USER_S for row in result["user"].values()),
        "small_delta_monotone_and_below_rdp": in_order
        and all(row["epsilon"] <= row["rdp"] for row in small),
        "small_delta_certified": all(
            row["certified"][0] <= row["epsilon"] <= row["certified"][1]
            for row in small
            if row["certified"]
        ),
        "import": result["import"]["import_s"] < IMPORT_S and not result["import"]["loads_torch"],
    }


def show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    def table(title: str, rows: dict[str, dict[str, Any]], columns: Sequence[str]) -> Table:
        shown = Table("run", *(c.replace("_", " ") for c in columns), title=title)
        for name, row in rows.items():
            cells = (row[c] for c in columns)
            shown.add_row(name, *(f"{c:.6g}" if isinstance(c, float) else str(c) for c in cells))
        return shown

    console = Console()
    noise = ("noise_multiplier", "over_reference", "epsilon", "cold_s", "warm_s")
    price = ("epsilon", "estimate", "accepted", "warm_s", "dominating_over_tight", "dominating_s")
    console.print(table("calibration", result["calibration"], noise))
    console.print(table("epsilon", result["epsilon"], price))
    console.print(table("user", result["user"], ("epsilon", "over_reference", "warm_s")))
    small = {f"{r['noise_multiplier']}, {r['delta']:g}": r for r in result["small_delta"]}
    console.print(table("small delta", small, ("epsilon", "rdp", "certified")))
    for name in ("import", "targets", "peers"):
        if name in result:
            console.print(name, result[name])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--peers", action="store_true", help="add the other libraries: minutes")
    parser.add_argument("--tries", type=int, default=5, help="repetitions of every measurement")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    result: dict[str, Any] = {
        "calibration": calibrations(options.tries),
        "epsilon": epsilons(options.tries),
        "user": users(options.tries),
        "small_delta": small_deltas(),
        "import": import_seconds(options.tries),
    }
    result["targets"] = targets_met(result)
    if options.peers:
        result["peers"] = peers()
    result["machine"] = {
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{package: version(package) for package in ("numpy", "scipy")},
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
