from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from privacy_finetuner.cli.app import app

FILE = """\
privacy:
  epsilon: 2.5
  delta: 1e-6
  max_grad_norm: 0.7
  accounting_mode: rdp
  adaptive_clipping: false
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "production.yaml"
    path.write_text(FILE)
    return path


def run(records: Path, *more: object) -> Any:
    arguments = ["train", "--model", "m", "--data", records, "--output", "out", "--dry-run", *more]
    return CliRunner().invoke(app, [str(each) for each in arguments])


def plan(records: Path, *more: object) -> dict[str, Any]:
    result = run(records, *more, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


def test_the_file_says_what_no_option_says(records: Path, config: Path) -> None:
    found = plan(records, "--config", config)

    assert found["epsilon"] <= 2.5
    assert found["epsilon"] > 2.0
    assert (found["delta"], found["clip_norm"], found["accountant"]) == (1e-6, 0.7, "rdp")


def test_an_option_outweighs_the_file(records: Path, config: Path) -> None:
    found = plan(records, "--config", config, "--epsilon", 1, "--accountant", "pld")

    assert found["epsilon"] <= 1
    assert found["accountant"] == "pld"
    assert found["delta"] == 1e-6


def test_an_option_outweighs_the_file_with_the_value_of_its_default(
    records: Path, config: Path
) -> None:
    assert plan(records, "--config", config, "--clip-norm", 1.0)["clip_norm"] == 1.0


def test_the_environment_outweighs_the_file_and_not_an_option(
    records: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVACY_ML_PRIVACY__EPSILON", "4")
    monkeypatch.setenv("PRIVACY_ML_PRIVACY__DELTA", "1e-7")
    found = plan(records, "--config", config, "--delta", "1e-5")

    assert 2.5 < found["epsilon"] <= 4
    assert found["delta"] == 1e-5


def test_without_a_file_the_environment_is_not_asked(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVACY_ML_PRIVACY__DELTA", "1e-7")

    assert plan(records, "--epsilon", 1)["delta"] == 1e-5


def test_a_default_of_the_configuration_changes_nothing(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("privacy: {epsilon: 3.0}\n")
    found = plan(records, "--config", path)

    assert found["accountant"] == "pld"
    assert found["clip_norm"] == 1.0


def test_what_is_from_where_is_said(records: Path, config: Path) -> None:
    said = " ".join(run(records, "--config", config).stderr.split())

    assert "epsilon 2.5 is from" in said
    assert "production.yaml:2" in said or "line 2" in said


def test_nobody_said_epsilon(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("log_level: info\n")

    for more in ([], ["--config", str(path)]):
        result = run(records, *more, "--json")
        assert result.exit_code == 2
        assert "--epsilon" in json.loads(result.stdout)["error"]["message"]


def test_a_faulty_file_names_every_fault_and_starts_nothing(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("privacy:\n  epsilon: -1\n  detla: 1e-5\n")
    result = run(records, "--config", path, "--json")
    message = json.loads(result.stdout)["error"]["message"]

    assert result.exit_code == 2
    assert "epsilon" in message
    assert "delta" in message
    assert "nothing was started" in message


def test_what_train_does_not_use_is_said(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "federated.yaml"
    path.write_text("privacy:\n  epsilon: 2\n  federated: {min_clients: 7}\n")

    assert "privacy.federated.min_clients" in run(records, "--config", path).stderr
