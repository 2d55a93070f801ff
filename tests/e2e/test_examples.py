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


def _epsilon_of_the_certificate(folder: Path) -> tuple[float, float]:
    """The stated epsilon, and the one that the stated event costs."""
    certificate = json.loads((folder / "certificate.json").read_text())
    stated = certificate["guarantee"]
    event = dp_events.from_json(certificate["event"])
    return stated["epsilon"], epsilon_of(event, stated["delta"], stated["accountant"])


def test_accounting_prints_the_documented_figures(tmp_path: Path) -> None:
    shown = _run("accounting.py", cwd=tmp_path)

    assert re.search(r"pld +epsilon 1\.828", shown)
    assert re.search(r"gdp +refused: ", shown)
    assert re.search(r"epsilon 8 over 1000 steps needs noise multiplier 0\.586", shown)


def test_fine_tune_leaves_a_model_and_a_certificate_that_prices_alike(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    size = ("--records", "40", "--epochs", "1", "--batch-size", "20")
    shown = _run("fine_tune.py", *size, "--output", str(folder), cwd=tmp_path)

    assert "verified to" in shown
    assert (folder / "model.safetensors").is_file()
    stated, recomputed = _epsilon_of_the_certificate(folder)
    assert stated <= 8
    assert stated == pytest.approx(recomputed, rel=1e-9)


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
    stated, recomputed = _epsilon_of_the_certificate(folder)
    assert stated == pytest.approx(recomputed, rel=1e-9)
    assert 7.9 < stated <= 8
