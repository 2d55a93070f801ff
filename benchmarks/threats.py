"""Which attacks are seen, how soon, and what ordinary use is taken for one.

    python benchmarks/threats.py [--json] [--seeds 20] [--quick | --models] [--calibrate]

Each attack is carried out in a fresh sandbox for every seed, at intensity 0.5 (`--intensity`), and
as many working weeks with nothing wrong in them are lived through (`operations.drills.ordinary`).
`--calibrate` carries every attack out to its end, at intensities from 0.1 to 1, and prints the
curves of `operations.confidence` instead of who was seen. `--quick` leaves out the attacks that
need a model and `--models` the others.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import beta

from privacy_finetuner.operations import drills
from privacy_finetuner.operations.drills import ATTACKS, AttackSimulationResult, Settings, ordinary
from privacy_finetuner.operations.drills.private_runs import PrivateRuns
from privacy_finetuner.operations.drills.sandbox import opened
from privacy_finetuner.operations.generation import Generators
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemClock

REFERENCES = 3
PRIOR_STD = 10.0
"""Of intercept and slope: keeps a rule that separated everything from being infinitely sure."""
UNREACHED = 1.1
"""A confidence that no alert has: the attack goes on to its end."""
CALM = {
    "accuracy": 0.9, "accuracy_std": 0.06, "epsilon": 8.0, "mean_gradient_norm": 0.9,
    "mean_gradient_norm_std": 0.05, "clip_norm": 1.0,
}  # fmt: skip
"""Stands for a run's figures in `--quick`, where no run is made."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--intensity", type=float, default=0.5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", action="store_true")
    parser.add_argument("--calibrate", action="store_true")
    asked = parser.parse_args()
    seeds = range(asked.seeds)
    wanted = {True: not asked.models, False: not asked.quick}
    names = [name for name, attack in ATTACKS.items() if wanted[attack.is_quick]]
    generators = None if asked.quick else Generators(SystemClock())
    runs = PrivateRuns()
    calm = [CALM] * (REFERENCES + asked.seeds) if asked.quick else clean_runs(runs, asked.seeds)
    settings = Settings(generators=generators, runs=runs, references=tuple(calm[:REFERENCES]))
    attacked = replace(settings, least_confidence=UNREACHED) if asked.calibrate else settings
    try:
        weeks = [week(seed, settings, calm) for seed in seeds]
        drilled = {name: series(name, seeds, attacked, asked) for name in names}
    finally:
        runs.close()
        if generators is not None:
            generators.close()
    document = {
        "seeds": asked.seeds,
        "intensity": "0.1 to 1" if asked.calibrate else asked.intensity,
        "attacks": {name: row(found) for name, found in drilled.items()},
        "ordinary": {
            "weeks": len(weeks),
            "false_alarms": sum(len(alarms) for alarms, _ in weeks),
            "weeks_with_one": sum(bool(alarms) for alarms, _ in weeks),
            "rate_95": interval(sum(bool(alarms) for alarms, _ in weeks), len(weeks)),
            "by_rule": count_rules(alarms for alarms, _ in weeks),
        },
    }
    if asked.calibrate:
        document["curves"] = curves(drilled, [strengths for _, strengths in weeks])
    print(json.dumps(document, indent=1) if asked.json else table(document))
    return 0


def clean_runs(runs: PrivateRuns, count: int) -> list[Mapping[str, float]]:
    """Released figures of private runs on untouched records: the references, then one a week."""
    found = []
    for number in range(REFERENCES + count):
        found.append(runs.ask(seed=10_000 + number, flipped=0.0))
        progress(f"clean run {number}: accuracy {found[-1]['accuracy']:.2f}")
    return found


def week(
    seed: int, settings: Settings, calm: Sequence[Mapping[str, float]]
) -> tuple[list[str], Mapping[str, float]]:
    """The rules that raised a false alarm, and how near each came."""
    with opened(settings, SeededEntropy(1_000 + seed)) as sandbox:
        alarms = ordinary.week(sandbox, calm[REFERENCES + seed], calm[:REFERENCES])
        progress(f"week {seed}: {len(alarms)} false alarms")
        return [alarm.rule for alarm in alarms], dict(sandbox.strengths)


def series(
    name: str, seeds: range, settings: Settings, asked: argparse.Namespace
) -> list[AttackSimulationResult]:
    """An attack, once for each seed."""
    found = []
    for seed in seeds:
        intensity = (
            0.1 + 0.9 * seed / max(1, len(seeds) - 1) if asked.calibrate else asked.intensity
        )
        found.append(
            drills.carry_out(
                name, intensity, settings, clock=SystemClock(), entropy=SeededEntropy(seed)
            )
        )
        progress(f"{name} {seed}: {'seen' if found[-1].detected else 'not seen'}")
    return found


def row(found: Sequence[AttackSimulationResult]) -> dict[str, Any]:
    """What a series came to."""
    seen = [each for each in found if each.detected]
    delays = [each.delay_s for each in seen if each.delay_s is not None]
    acts = [each.acts_until_detected for each in seen if each.acts_until_detected is not None]
    return {
        "threat_type": found[0].threat_type.value,
        "true_positive_rate": len(seen) / len(found),
        "rate_95": interval(len(seen), len(found)),
        "delay_s_median": statistics.median(delays) if delays else None,
        "acts_median": statistics.median(acts) if acts else None,
        "rules": sorted({each.rule for each in seen if each.rule}),
    }


def interval(count: int, of: int) -> tuple[float, float]:
    """Where a share lies, with 95 % confidence (Clopper and Pearson 1934)."""
    least = beta.ppf(0.025, count, of - count + 1) if count else 0.0
    most = beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    return round(float(least), 3), round(float(most), 3)


def count_rules(weeks: Any) -> dict[str, int]:
    rules = [rule for alarms in weeks for rule in alarms]
    return {rule: rules.count(rule) for rule in sorted(set(rules))}


def curves(
    drilled: Mapping[str, Sequence[AttackSimulationResult]],
    weeks: Sequence[Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    """A logistic curve over the logarithm of the strength, for each rule that both sides saw."""
    fitted = {}
    attacks = [each.strengths for found in drilled.values() for each in found]
    for rule in sorted({rule for strengths in attacks for rule in strengths}):
        bad = [strengths[rule] for strengths in attacks if rule in strengths]
        good = [strengths[rule] for strengths in weeks if rule in strengths]
        if bad and good:
            intercept, slope = logistic(bad, good)
            fitted[rule] = {
                "intercept": round(intercept, 2), "slope": round(slope, 2),
                "attacks": len(bad), "ordinary": len(good),
                "at_threshold": round(1 / (1 + math.exp(-intercept)), 3),
            }  # fmt: skip
    return fitted


def logistic(bad: Sequence[float], good: Sequence[float]) -> tuple[float, float]:
    """Penalised maximum likelihood; the slope is not negative."""
    places = np.log(np.maximum([*bad, *good], 0.05))
    signs = np.array([1.0] * len(bad) + [-1.0] * len(good))
    weights = np.where(signs > 0, 1 / len(bad), 1 / len(good)) * len(signs) / 2

    def loss(curve: Any) -> float:
        margins = signs * (curve[0] + curve[1] * places)
        penalty = float(np.sum(np.square(curve))) / (2 * PRIOR_STD**2)
        return float(np.sum(weights * np.logaddexp(0, -margins))) + penalty

    found = minimize(loss, x0=[0.0, 1.0], bounds=[(None, None), (0.0, None)])
    return float(found.x[0]), float(found.x[1])


def table(document: Mapping[str, Any]) -> str:
    """The same as Markdown."""
    lines = ["| Attack | Seen | Median delay | Acts before | Rule |", "|---|---|---|---|---|"]
    for name, found in document["attacks"].items():
        delay = found["delay_s_median"]
        lines.append(
            f"| `{name}` | {found['true_positive_rate']:.0%} ({spoken(found['rate_95'])}) | "
            f"{'' if delay is None else f'{delay:.0f} s'} | {found['acts_median'] or ''} | "
            f"{', '.join(found['rules'])} |"
        )
    calm = document["ordinary"]
    lines.append(
        f"\n{calm['weeks']} ordinary weeks: {calm['false_alarms']} false alarms "
        f"{calm['by_rule']}; a week has one with {spoken(calm['rate_95'])}"
    )
    lines += [f"{rule}: {curve}" for rule, curve in document.get("curves", {}).items()]
    return "\n".join(lines)


def spoken(share: Sequence[float]) -> str:
    """An interval in per cent."""
    return f"{share[0]:.0%} to {share[1]:.0%}"


def progress(text: str) -> None:
    """How far it is; a run takes a quarter of an hour."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
