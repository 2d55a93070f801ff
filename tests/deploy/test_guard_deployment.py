"""What is shipped for running the guard agrees with what the guard exposes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_guard.app.exposition import TABLE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
NAME = re.compile(r"\bpipeline_guard_[a-z_]+\b")


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / "prometheus/guard_alerts.yml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DEPLOY / "grafana/pipeline-guard.json").read_text())
    return document


def queries() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


@pytest.mark.parametrize(
    "words", [("check", "rules", "guard_alerts.yml"), ("test", "rules", "guard_alerts_test.yml")]
)
def test_the_rules_are_rules_and_their_tests_pass(words: tuple[str, ...]) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: install Prometheus to check the rules")
    found = subprocess.run(
        [program, *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
    )

    assert found.returncode == 0, found.stdout + found.stderr


def test_every_rule_is_tested_and_says_what_to_do() -> None:
    tests = (DEPLOY / "prometheus/guard_alerts_test.yml").read_text()
    said = (ROOT / "docs/guard_http.md").read_text()

    for rule in rules():
        assert rule["alert"] in tests, rule["alert"]
        assert f"`{rule['alert']}`" in said, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.parametrize("query", list(queries()), ids=lambda query: str(query)[:40])
def test_every_query_names_figures_that_are_exposed(query: str) -> None:
    names = set(NAME.findall(query))

    assert names or "up{" in query
    assert names <= set(TABLE)


def test_every_figure_is_shown_and_documented() -> None:
    shown, said = " ".join(queries()), (ROOT / "docs/guard_http.md").read_text()

    assert [name for name in TABLE if name not in shown] == []
    assert [name for name, says in TABLE.items() if f"| `{name}` | {says} |" not in said] == []


def test_the_dashboard_is_what_its_generator_writes(tmp_path: Path) -> None:
    for name in ("guard.py", "panels.py"):
        shutil.copy(DEPLOY / "grafana" / name, tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "guard.py")], check=True)
    written = (tmp_path / "pipeline-guard.json").read_text()

    assert written == (DEPLOY / "grafana/pipeline-guard.json").read_text()
    assert all(p["description"].endswith(".") for p in dashboard()["panels"] if p["type"] != "row")


@pytest.mark.parametrize("unit", ["pipeline-guard.service", "pipeline-guard-http.service"])
def test_systemd_knows_every_word_of_the_units(unit: str, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze")
    for name in ("pipeline-guard.service", "pipeline-guard-http.service"):
        text = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(
            text.replace("/opt/privacy-finetuner/bin/pipeline-guard", sys.executable)
        )
    found = subprocess.run(
        [program, "verify", str(tmp_path / unit)], capture_output=True, text=True, check=False
    )

    assert found.stderr.replace(str(tmp_path), "") == ""
