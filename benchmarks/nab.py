"""The recall profile of the guard on the Numenta Anomaly Benchmark.

    python benchmarks/nab.py --data DIR [--json]

DIR is a copy of numenta/NAB (`data/`, `labels/`). Every series is watched point by point with one
setting for all, by the code that the guard runs: no look-ahead, no labels, no length of the series.
What NAB scores is the score of the points that pass the hold-off.

    standard            the threshold that scores best on all 58 files, as the scoreboard does it
    standard_held_out   the threshold tuned on the AWS and artificial files (28), scored on the
                        other 30
    low_fp, low_fn      as `standard`, with the weights of the profiles reward_low_FP/reward_low_FN
    us_per_point        microseconds of processor time for a point, on one core

The scorer is `nab_score.py`. On stderr: windows hit, false rows, thresholds, scores by folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import nab_score

from pipeline_guard.detection import watch

TUNED_ON = ("artificialNoAnomaly", "artificialWithAnomaly", "realAWSCloudwatch")
PROFILE = "recall"
TRIES = 3


def seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).replace(tzinfo=UTC).timestamp()


def watched(series: nab_score.Series, profile: str) -> tuple[list[float], float]:
    """The scores that NAB sees, and the processor time they took."""
    times = [seconds(stamp) for stamp in series.timestamps]
    points = list(zip(times, series.values, strict=True))
    best_s = float("inf")
    for _ in range(TRIES):
        update = watch(profile).update
        start = time.process_time()
        outcomes = [update(at, value) for at, value in points]
        best_s = min(best_s, time.process_time() - start)
    return [each.score if each.stands_out else 0.0 for each in outcomes], best_s


def best(
    series: Sequence[nab_score.Series], scores: Mapping[str, Sequence[float]], name: str
) -> nab_score.Result:
    profile = nab_score.PROFILES[name]
    return nab_score.best(nab_score.ladder(series, scores, profile), profile)


def held_out(
    series: Sequence[nab_score.Series], scores: Mapping[str, Sequence[float]]
) -> tuple[nab_score.Result, nab_score.Result]:
    """The result on the files of `TUNED_ON`, and on the others at its threshold."""
    profile = nab_score.PROFILES["standard"]
    tuned_on = [each for each in series if each.name.split("/")[0] in TUNED_ON]
    others = [each for each in series if each not in tuned_on]
    tuned = best(tuned_on, scores, "standard")
    rungs = nab_score.ladder(others, scores, profile)
    return tuned, nab_score.at_threshold(rungs, profile, tuned.threshold)


def say(label: str, result: nab_score.Result) -> None:
    print(
        f"{label:24} {result.score:6.2f}  threshold {result.threshold:.4f}  "
        f"{result.windows_hit}/{result.windows} windows, {result.false_rows} false rows",
        file=sys.stderr,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a copy of numenta/NAB")
    parser.add_argument("--profile", default=PROFILE, help="of the guard: recall or precision")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    chosen = parser.parse_args()

    series = list(nab_score.read(chosen.data).values())
    scores: dict[str, list[float]] = {}
    took_s = 0.0
    for each in series:
        scores[each.name], seconds_here = watched(each, chosen.profile)
        took_s += seconds_here
    points = sum(len(each.values) for each in series)
    results = {name: best(series, scores, name) for name in nab_score.PROFILES}
    tuned, other = held_out(series, scores)
    for name, result in results.items():
        say(name, result)
    say("standard, tuned on", tuned)
    say("standard, held out", other)
    threshold = results["standard"].threshold
    for folder in sorted({each.name.split("/")[0] for each in series}):
        inside = [each for each in series if each.name.startswith(folder + "/")]
        profile = nab_score.PROFILES["standard"]
        rungs = nab_score.ladder(inside, scores, profile)
        say(f"  {folder}", nab_score.at_threshold(rungs, profile, threshold))
    figures = {
        "standard": round(results["standard"].score, 2),
        "standard_held_out": round(other.score, 2),
        "low_fp": round(results["reward_low_FP"].score, 2),
        "low_fn": round(results["reward_low_FN"].score, 2),
        "us_per_point": round(took_s / points * 1e6, 2),
    }
    if chosen.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name:20} {figure}")


if __name__ == "__main__":
    main()
