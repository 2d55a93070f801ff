"""What is shipped for running the service agrees with the service, and does what it says."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.main import get_command

from privacy_finetuner.cli.app import app
from privacy_finetuner.environment import EnvironmentConfig
from privacy_runtime.metrics.table import TABLE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SECRETS = {"DB_PASSWORD": "correct-horse-7", "GRAFANA_PASSWORD": "battery-staple-7"}
NAME = re.compile(r"\b(privacy_finetuner_[a-z0-9_]+|process_[a-z_]+)\b")
PROCESS = {
    *("process_resident_memory_bytes", "process_cpu_seconds_total"),
    "process_start_time_seconds",
}
EXPOSED = {row.name for row in TABLE} | PROCESS
for _row in TABLE:
    if _row.buckets:
        EXPOSED |= {f"{_row.name}_{part}" for part in ("bucket", "count", "sum")}
LABELS = {row.name: {label.name for label in row.labels} for row in TABLE}


def promtool(*words: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: install Prometheus to check the rules")
    found = subprocess.run(
        [program, *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]:
        yield from group["rules"]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboard", DEPLOY / "grafana/dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(DEPLOY / "grafana"))  # as when it is run: panels lie beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(DEPLOY / "grafana"))
    return module


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DEPLOY / "grafana/privacy-finetuner.json").read_text())
    return document


def queries() -> Iterator[tuple[str, str]]:
    """Every expression, with where it stands."""
    for rule in rules():
        yield f"alert {rule['alert']}", rule["expr"]
    found = dashboard()
    for panel in found["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for variable in found["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["definition"]
    for note in found["annotations"]["list"]:
        yield f"note {note['name']}", note["expr"]


def test_the_rules_are_rules_and_their_tests_pass() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_every_rule_is_tested_and_says_what_to_do() -> None:
    tests = (DEPLOY / "prometheus/alerts_test.yml").read_text()
    said = (ROOT / "docs/observability.md").read_text()

    for rule in rules():
        assert rule["alert"] in tests, rule["alert"]
        assert f"`{rule['alert']}`" in said, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.parametrize(("where", "query"), list(queries()), ids=lambda value: str(value)[:40])
def test_every_query_names_figures_of_the_table(where: str, query: str) -> None:
    names = NAME.findall(query)

    assert names or "up{" in query, where
    assert set(names) <= EXPOSED, where


def test_every_label_in_a_query_is_one_of_the_figure() -> None:
    selector = re.compile(r"(privacy_finetuner_[a-z0-9_]+)\{([^}]*)\}")
    for where, query in queries():
        for name, inside in selector.findall(query):
            base = re.sub(r"_(bucket|count|sum)$", "", name) if name not in LABELS else name
            used = set(re.findall(r"([a-z_]+)=~?", inside)) - {"instance", "job"}
            assert used <= LABELS[base], where


def test_every_figure_is_on_the_dashboard_or_in_a_rule() -> None:
    shown = " ".join(query for _, query in queries())

    assert [row.name for row in TABLE if row.name not in shown] == []


def test_the_dashboard_is_what_its_generator_writes() -> None:
    assert (DEPLOY / "grafana/privacy-finetuner.json").read_text() == generator().DASHBOARD.text()


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    ids = []
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        ids.append(panel["id"])
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
    assert len(ids) == len(set(ids))


def test_the_documented_table_is_the_table() -> None:
    text = (ROOT / "docs/observability.md").read_text()

    for row in TABLE:
        labels = ", ".join(f"`{label.name}`" for label in row.labels) or "none"
        line = f"| `{row.name}` | {row.kind} | {labels} | {row.help} |"
        assert line in text, line


@pytest.mark.parametrize("path", ["compose/service.yaml", "kubernetes/config.yaml"])
def test_the_configurations_can_be_used(path: str) -> None:
    found = EnvironmentConfig.from_file(DEPLOY / path, variables=SECRETS)

    assert found.environment == "production"
    assert found.unused == ()
    assert found.notes == ()
    target = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    address = target["scrape_configs"][0]["static_configs"][0]["targets"][0]
    assert address.endswith(f":{found.monitoring.prometheus.port}")
    assert target["global"]["scrape_interval"] == (
        f"{found.monitoring.prometheus.scrape_interval:g}s"
    )


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
    return document


def test_compose_publishes_on_the_loopback_only_and_keeps_figures_inside() -> None:
    document = compose()
    for name, service in document["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
            assert ":9464" not in port
        for secret in service.get("secrets", ()):
            assert secret in document["secrets"]
        for network in service["networks"]:
            assert network in document["networks"]
    assert document["networks"]["inside"]["internal"] is True
    assert document["networks"]["monitoring"]["internal"] is True
    for name in ("service", "worker"):
        assert document["services"][name]["read_only"] is True
        assert document["services"][name]["cap_drop"] == ["ALL"]


def words_of_commands() -> Iterator[tuple[str, list[str]]]:
    for name in ("service", "worker"):
        yield f"compose {name}", compose()["services"][name]["command"]
    for path in ("serve.yaml", "worker.yaml"):
        for document in yaml.safe_load_all((DEPLOY / "kubernetes" / path).read_text()):
            if document["kind"] == "Deployment":
                (container,) = document["spec"]["template"]["spec"]["containers"]
                yield f"kubernetes {path}", container["args"]
    for path in (DEPLOY / "systemd").glob("privacy-finetuner*"):
        (line,) = re.findall(r"^ExecStart=(.*)$", path.read_text(), re.M)
        yield f"systemd {path.name}", line.split()[1:]
    (line,) = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.M)
    yield "Dockerfile", json.loads(line)


@pytest.mark.parametrize(("where", "words"), list(words_of_commands()), ids=lambda v: str(v)[:30])
def test_every_command_is_one_that_the_program_has(where: str, words: list[str]) -> None:
    command = get_command(app)
    name, *rest = words
    verb = command.commands[name]  # type: ignore[attr-defined]  # a group

    context = verb.make_context(name, [str(word) for word in rest], resilient_parsing=False)

    assert context.params["home"] == Path("/var/lib/privacy-finetuner"), where


def test_pods_are_confined_and_probed() -> None:
    for path in ("serve.yaml", "worker.yaml"):
        for document in yaml.safe_load_all((DEPLOY / "kubernetes" / path).read_text()):
            if document["kind"] != "Deployment":
                continue
            pod = document["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["automountServiceAccountToken"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            if path == "serve.yaml":
                assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
                assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def test_the_image_runs_as_nobody_in_particular() -> None:
    text = (DEPLOY / "Dockerfile").read_text()

    assert re.search(r"^USER 10001:10001$", text, re.M)
    assert "HEALTHCHECK" in text
    assert "/health/live" in text
    for name in ("privacy-finetuner.service", "privacy-finetuner-worker@.service"):
        unit = (DEPLOY / "systemd" / name).read_text()
        assert "NoNewPrivileges=yes" in unit
        assert "ProtectSystem=strict" in unit
