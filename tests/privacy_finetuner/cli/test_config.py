"""`config init | check | show`, as a user types them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.environment.readings import KEYS


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "correct-horse")


@pytest.mark.parametrize("environment", ["development", "production"])
def test_init_then_check_then_show(cli: Any, tmp_path: Path, environment: str) -> None:
    path = tmp_path / "c.yaml"
    written = cli.document("config", "init", path, "--environment", environment)
    checked = cli.document("config", "check", path)
    shown = cli.document("config", "show", path)

    assert written["keys"] == len(KEYS)
    assert checked["usable"]
    assert checked["faults"] == checked["notes"] == []
    settings = {row["key"]: row for row in shown["settings"]}
    assert set(settings) == set(KEYS)
    assert settings["environment"]["value"] == environment
    assert settings["environment"]["source"].startswith(f"{path}:")
    assert settings["i18n.default_locale"]["source"] == "default"
    unused = {row["key"] for row in checked["unused"]}
    assert "database.url" not in unused
    assert "privacy.epsilon" not in unused


def test_init_leaves_a_file_that_is_there_alone(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("debug: true\n")

    document = cli.document("config", "init", path, code=1)

    assert "File exists" in document["error"]["message"]
    assert path.read_text() == "debug: true\n"


def test_check_lists_every_fault_and_ends_with_1(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("debug: maybe\nlog_levle: info\ndatabase: {pool_size: 0}\n")

    document = cli.document("config", "check", path, code=1)
    text = cli("config", "check", path)

    assert not document["usable"]
    assert [(f["path"], f["line"]) for f in document["faults"]] == [
        ("debug", 1), ("log_levle", 2), ("database.pool_size", 3),
    ]  # fmt: skip
    assert document["faults"][0]["value"] == "'maybe'"
    assert document["faults"][0]["expected"] == "true or false"
    assert document["faults"][1]["nearest"] == "log_level"
    assert text.exit_code == 1
    assert "3 faults; nothing was started" in text.stdout


def test_check_names_a_file_that_is_not_there(cli: Any, tmp_path: Path) -> None:
    document = cli.document("config", "check", tmp_path / "none.yaml", code=1)

    assert "No such file" in document["faults"][0]["message"]


def test_check_prices_a_planned_training(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("privacy: {epsilon: 1, noise_multiplier: 0.5}\n")
    plan = ("--sample-rate", 0.01, "--steps", 100)

    assert "both set" in cli.document("config", "check", path)["notes"][0]
    (fault,) = cli.document("config", "check", path, *plan, code=1)["faults"]
    half = cli.document("config", "check", path, "--steps", 100, code=2)

    assert "cost epsilon" in fault["message"]
    assert fault["expected"].startswith("at least ")
    assert "both, or neither" in half["error"]["message"]


def test_show_names_sources_and_masks_secrets(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.yaml"
    cli.document("config", "init", path, "--environment", "production")
    monkeypatch.setenv("PRIVACY_ML_DATABASE__POOL_SIZE", "7")
    monkeypatch.setenv("PRIVACY_ML_MONITORING__GRAFANA__ADMIN_PASSWORD", "battery-staple")

    text = cli("config", "show", path).stdout
    rows = {
        row["key"]: row
        for row in cli.document("config", "show", path, "--key", "database")["settings"]
    }
    (word,) = cli.document("config", "show", path, "--key", "monitoring.grafana.admin_password")[
        "settings"
    ]

    assert set(rows) == {"database.url", "database.pool_size", "database.max_overflow"}
    assert rows["database.pool_size"]["value"] == 7
    assert rows["database.pool_size"]["source"] == "variable PRIVACY_ML_DATABASE__POOL_SIZE"
    assert rows["database.url"]["source"].endswith("(variable DB_PASSWORD)")
    assert word["value"] == "Secret(***)"
    for output in (text, str(rows), str(word)):
        assert "correct-horse" not in output
        assert "battery-staple" not in output


def test_show_without_a_file_reads_the_environment(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_LOG_LEVEL", "error")

    (row,) = cli.document("config", "show", "--prefix", "APP_", "--key", "log_level")["settings"]

    assert (row["value"], row["source"]) == ("error", "variable APP_LOG_LEVEL")


def test_show_refuses_a_key_that_is_none_and_a_file_with_faults(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("debug: maybe\n")

    unknown = cli.document("config", "show", "--key", "database.pool_sise", code=2)
    refused = cli.document("config", "show", path, code=1)

    assert "database.pool_size" in unknown["error"]["message"]
    assert refused["error"]["code"] == "settings_refused"
