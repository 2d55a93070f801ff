"""Every example runs as a user would run it, and shows what its first line says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from privacy_core import dp_events
from privacy_core.accounting import epsilon_of

EXAMPLES = Path(__file__).parents[2] / "examples"


def _run(script: str, *options: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *options],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _epsilon_of_the_statement(folder: Path) -> tuple[float, float]:
    """The stated epsilon, and the one that the stated event costs."""
    statement = json.loads((folder / "statement.json").read_text())
    stated = statement["guarantee"]
    event = dp_events.from_json(statement["event"])
    return stated["epsilon"], epsilon_of(event, stated["delta"], stated["accountant"])


def test_accounting_prints_the_documented_figures(tmp_path: Path) -> None:
    shown = _run("accounting.py", cwd=tmp_path)

    assert re.search(r"pld +epsilon 1\.828", shown)
    assert re.search(r"gdp +refused: ", shown)
    assert re.search(r"epsilon 8 over 1000 steps needs noise multiplier 0\.586", shown)


def test_fine_tune_leaves_a_model_and_a_statement_that_prices_alike(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    size = ("--records", "40", "--epochs", "1", "--batch-size", "20")
    shown = _run("fine_tune.py", *size, "--output", str(folder), cwd=tmp_path)

    assert "verified to" in shown
    assert (folder / "model.safetensors").is_file()
    stated, recomputed = _epsilon_of_the_statement(folder)
    assert stated <= 8
    assert stated == pytest.approx(recomputed, rel=1e-9)


def test_budget_refuses_what_no_longer_fits_and_its_ledger_is_intact(tmp_path: Path) -> None:
    shown = _run("budget.py", "--output", str(tmp_path / "budget"), cwd=tmp_path)

    assert "two figures cost epsilon 0.750" in shown
    # Ten whole trainings beside the one that stopped: basic composition would admit three.
    assert re.search(
        r"after 10 more trainings: protection/sample-notes/2026 has epsilon 0\.3", shown
    )
    assert "the chain of 28 entries is intact" in shown


@pytest.mark.slow
def test_callbacks_stop_a_run_that_still_costs_its_whole_plan(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shown = _run("callbacks.py", "--output", str(folder), cwd=tmp_path)

    # Measured: each of the two evaluations gains 0.2, by which a gain of 0.5 is far away.
    assert "12 of 24 steps" in shown
    assert re.search(r"public loss \d\.\d+, certainty \d+", shown)
    stated, _ = _epsilon_of_the_statement(folder)
    assert 7.9 < stated <= 8


def test_correlated_noise_leaves_less_in_the_sums_at_the_same_epsilon(tmp_path: Path) -> None:
    shown = _run("correlated_noise.py", cwd=tmp_path)

    rows = dict(re.findall(r"  (\w+) +epsilon (?:3\.9999|4\.0000) .* (\d\.\d+) of indep", shown))
    assert rows.keys() == {"independent", "auto", "banded", "blt", "lambda_cgd"}
    assert float(rows["auto"]) <= 0.64


@pytest.mark.slow
def test_fine_tune_takes_the_whole_sample_by_default(tmp_path: Path) -> None:
    shown = _run("fine_tune.py", cwd=tmp_path)

    losses = [float(loss) for loss in re.findall(r"loss (\d+\.\d+)", shown)]
    # Measured: they fall by 1.8. The noise of a difference has deviation 0.2: 1.3 is 6.5 of those,
    # a false alarm in 10^10 runs.
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.slow
def test_resume_charges_the_lost_steps_and_reports_the_planned_epsilon(tmp_path: Path) -> None:
    folder = tmp_path / "resumed"
    shown = _run("resume.py", "--output", str(folder), cwd=tmp_path)

    assert (
        "killed after step 6: 12 steps are charged, the newest checkpoint is checkpoint-4" in shown
    )
    assert "count as spent and are not repeated" in shown
    stated, recomputed = _epsilon_of_the_statement(folder)
    assert stated == pytest.approx(recomputed, rel=1e-9)
    assert 7.9 < stated <= 8
