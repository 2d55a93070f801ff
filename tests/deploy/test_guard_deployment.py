"""What is shipped for running the guard agrees with what the guard exposes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
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


DASHBOARDS = ("pipeline-guard", "privacy-finetuner")
UNKNOWN_TO_THE_TYPES = (
    ".annotations.list[].titleFormat",  # of the Prometheus data source, which has types of its own
    ".templating.list[].definition",  # what the editor shows; `query` is what is asked
)


def lost(ours: Any, theirs: Any, place: str = "") -> Iterator[str]:
    """Where a document differs from what official types made of it."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key in theirs:
                yield from lost(value, theirs[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}"
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for one, other in zip(ours, theirs, strict=True):
            yield from lost(one, other, f"{place}[]")
    elif ours != theirs:
        yield place


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafanas_own_types_read_the_dashboards_and_lose_nothing(name: str) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="a dependency of `dev`")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()  # panels and queries are read by the types of their plugins
    ours = json.loads((DEPLOY / f"grafana/{name}.json").read_text())
    read = Dashboard.from_json(ours)
    theirs = json.loads(JSONEncoder().encode(read))

    assert read.title
    assert len(read.panels or ()) == len(ours["panels"])
    assert set(lost(ours, theirs)) <= set(UNKNOWN_TO_THE_TYPES)
    broken = json.loads(json.dumps(ours))
    broken["panels"][1]["fieldConfg"] = broken["panels"][1].pop("fieldConfig")
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(broken)))
    assert ".panels[].fieldConfg" in set(lost(broken, again)), "a wrong word would be seen"


def expressions(name: str) -> list[str]:
    """Every PromQL expression of a dashboard, with its variables filled in."""
    found = json.loads((DEPLOY / f"grafana/{name}.json").read_text())
    asked = [t["expr"] for panel in found["panels"] for t in panel.get("targets", ())]
    asked += [note["expr"] for note in found["annotations"]["list"]]
    for each in found["templating"]["list"]:
        if each["type"] == "query":
            inside = re.fullmatch(r"label_values\((.+), *[a-z_]+\)", each["definition"])
            assert inside, each["definition"]
            asked.append(inside[1])
    filled = [re.sub(r"\$__(rate_interval|interval|range)", "5m", text) for text in asked]
    return [re.sub(r"\$\w+", "x", text) for text in filled]


def promtool_reads(expressions: Iterable[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: install Prometheus to check the queries")
    rows = [{"record": f"a:b{k}", "expr": text} for k, text in enumerate(expressions)]
    place = folder / "rules.yml"
    place.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rows}]}))
    return subprocess.run(
        [program, "check", "rules", str(place)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", DASHBOARDS)
def test_prometheus_reads_every_query_of_the_dashboards(name: str, tmp_path: Path) -> None:
    asked = expressions(name)
    found = promtool_reads(asked, tmp_path)

    assert len(asked) > 10
    assert found.returncode == 0, found.stdout + found.stderr
    assert promtool_reads([*asked, "sum(rate(x[5m])"], tmp_path).returncode != 0


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
