from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
PUBLISHED = "NAB_REPOSITORY"
SCOREBOARD = {
    # detector of `results/`: the row of the scoreboard (standard, low FP, low FN)
    "ARTime": (74.9, 65.1, 80.4),
    "numenta": (70.1, 63.1, 74.3),
    "contextOSE": (69.9, 67.0, 73.2),
    "earthgeckoSkyline": (58.2, 46.2, 63.9),
    "knncad": (58.0, 43.4, 64.8),
    "relativeEntropy": (54.6, 47.6, 58.8),
    "randomCutForest": (51.7, 38.4, 59.7),
    "twitterADVec": (47.1, 33.6, 53.5),
    "windowedGaussian": (39.6, 20.9, 47.4),
    "bayesChangePt": (17.7, 3.2, 32.2),
    "null": (0.0, 0.0, 0.0),
}


def _scorer():
    spec = importlib.util.spec_from_file_location("nab_score", BENCHMARKS / "nab_score.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nab_score"] = module
    spec.loader.exec_module(module)
    return module


nab = _scorer()
STANDARD = nab.PROFILES["standard"]


def series(rows: int = 100, windows=((40, 49),)):
    return nab.Series("one", [str(at) for at in range(rows)], [0.0] * rows, windows)


def result(scores, windows=((40, 49),), profile=STANDARD):
    one = series(len(scores), windows)
    return nab.best(nab.ladder([one], {"one": scores}, profile), profile)


def at(*rows: int, count: int = 100) -> list[float]:
    return [1.0 if row in rows else 0.0 for row in range(count)]


def reference(scores, windows, threshold, profile):
    """The rule of the paper, row by row."""
    total = 0.0
    probation = nab.probation_rows(len(scores))

    def sigma(position: float) -> float:
        return -1.0 if position > 3.0 else 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0

    for start, end in windows:
        if end < probation:
            continue
        hits = [row for row in range(max(start, probation), end + 1) if scores[row] >= threshold]
        if not hits:
            total -= profile.false_negative
            continue
        position = -(end - hits[0] + 1) / (end - start + 1)
        total += profile.true_positive * sigma(position) / sigma(-1.0)
    for row in range(probation, len(scores)):
        if scores[row] < threshold or any(start <= row <= end for start, end in windows):
            continue
        before = [(start, end) for start, end in windows if end < row]
        weight = -1.0
        if before:
            start, end = before[-1]
            weight = sigma((row - end) / (end - start))
        total += profile.false_positive * weight
    return total


def test_the_first_row_of_every_window_and_nothing_else_is_100():
    assert result(at(40)).score == pytest.approx(100.0)


def test_no_detection_is_0():
    found = result([0.0] * 100)

    assert (found.score, found.windows_hit, found.false_rows) == (0.0, 0, 0)


def test_a_late_detection_earns_less_and_later_ones_in_the_window_nothing():
    late = result(at(49)).score

    assert 50.0 < late < 75.0
    assert result(at(40, 45, 49)).score == pytest.approx(100.0)


@pytest.mark.parametrize(("name", "cost"), [("standard", 5.5), ("reward_low_FP", 11.0)])
def test_a_false_alarm_far_from_a_window_costs_the_whole_weight(name, cost):
    profile = nab.PROFILES[name]

    assert result(at(30, 40), profile=profile).score == pytest.approx(100.0 - cost)


def test_rows_in_the_probation_count_for_nothing():
    assert result(at(3, 14, 40)).score == pytest.approx(100.0)
    assert result(at(40), windows=((2, 9), (40, 49))).windows == 1


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), min_size=60, max_size=60),
    st.sampled_from([((20, 25),), ((12, 18), (30, 41)), ((9, 11), (20, 22), (23, 30)), ()]),
    st.sampled_from(sorted(nab.PROFILES)),
)
@settings(max_examples=30)
def test_the_score_is_the_best_of_the_rule_row_by_row(scores, windows, name):
    profile = nab.PROFILES[name]
    found = nab.ladder([series(60, windows)], {"one": scores}, profile)
    totals = [reference(scores, windows, each, profile) for each in [*set(scores), 2.0]]

    count = sum(end >= nab.probation_rows(60) for _, end in windows)
    best = nab.best(found, profile)
    if count:
        worst = -profile.false_negative * count
        expected = 100.0 * (max(totals) - worst) / (count * profile.true_positive - worst)
        assert best.score == pytest.approx(expected)
    assert best.windows == count
    assert nab.at_threshold(found, profile, best.threshold) == best


def test_scores_that_are_not_numbers_are_no_detections():
    scores = at(40)
    scores[60] = math.nan

    assert result(scores).score == pytest.approx(100.0)


def repository() -> Path:
    folder = os.environ.get(PUBLISHED)
    if not folder:
        pytest.skip(f"{PUBLISHED} names no checkout of numenta/NAB (with data/, labels/, results/)")
    return Path(folder)


@pytest.fixture(scope="module")
def published():
    folder = repository()
    return folder, nab.read(folder)


def _scores(folder: Path, detector: str, name: str) -> list[float]:
    group, file = name.split("/")
    path = folder / "results" / detector / group / f"{detector}_{file}"
    with path.open(encoding="utf-8", newline="") as lines:
        return [float(row["anomaly_score"]) for row in csv.DictReader(lines)]


@pytest.mark.slow
@pytest.mark.parametrize("detector", SCOREBOARD)
def test_published_results_score_as_on_the_scoreboard(published, detector):
    """At the published thresholds all three profiles; with our search never less."""
    folder, files = published
    thresholds = json.loads((folder / "config" / "thresholds.json").read_text("utf-8"))[detector]
    scores = {name: _scores(folder, detector, name) for name in files}
    names = {"standard": "standard", "low_FP": "reward_low_FP", "low_FN": "reward_low_FN"}
    for place, name in enumerate(names.values()):
        profile = nab.PROFILES[name]
        key = name if name == "standard" else f"{name}_rate"
        rungs = nab.ladder(list(files.values()), scores, profile)
        row = SCOREBOARD[detector][place]

        there = nab.at_threshold(rungs, profile, thresholds[key]["threshold"])
        assert there.score == pytest.approx(row, abs=0.11)
        assert nab.best(rungs, profile).score >= there.score - 1e-9
    standard = nab.best(nab.ladder(list(files.values()), scores, STANDARD), STANDARD)
    assert standard.score == pytest.approx(SCOREBOARD[detector][0], abs=0.1)


def test_the_sigmoid_is_that_of_the_paper():
    values = nab.scaled_sigmoid(np.array([-1.0, 0.0, 1.0, 3.1]))

    assert values == pytest.approx([0.98661, 0.0, -0.98661, -1.0], abs=1e-5)
