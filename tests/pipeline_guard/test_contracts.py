"""Every probe and remedy keeps its contract, built in or added; the pages say what they take."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline_guard import probes, remedies
from pipeline_guard.config import build
from pipeline_guard.model import (
    Applied,
    Case,
    Fault,
    Moment,
    PipelineComponent,
    Reading,
    Verdict,
)
from pipeline_guard.probes import PROBES
from pipeline_guard.probes import contract as probe_contract
from pipeline_guard.remedies import REMEDIES
from pipeline_guard.remedies import contract as remedy_contract
from privacy_runtime.plugins import DuplicatePlugin, Plugin, PluginMetadata, PluginRegistry

ROOT = Path(__file__).parents[2]
NOWHERE = "/nowhere/at-all"

LOOKS: dict[str, dict[str, Any]] = {
    "certificate": {"path": NOWHERE},
    "checkpoint": {"run": NOWHERE},
    "command": {"command": ["/bin/sh", "-c", "echo fine"]},
    "disk": {"path": "/"},
    "drift": {"reference": NOWHERE, "current": NOWHERE},
    "export": {"artefact": NOWHERE, "command": ["true"], "expected": NOWHERE},
    "freshness": {"path": NOWHERE, "crit": "1m"},
    "gpu": {},
    "heartbeat": {"path": NOWHERE},
    "http": {"url": "http://127.0.0.1:1/"},
    "memory": {},
    "metric": {"metric": "loss", "crit_above": 1},
    "nagios": {"command": ["/bin/sh", "-c", "echo 'OK|x=1s'"]},
    "pressure": {},
    "process": {"pid_file": NOWHERE},
    "python": {"function": "os:getcwd"},
    "quality": {"path": NOWHERE, "field": "accuracy", "crit": 0.5},
    "queue": {"folder": NOWHERE},
    "straggler": {"folder": NOWHERE},
    "tcp": {"host": "127.0.0.1", "port": 1},
    "xid": {"source": "file", "path": NOWHERE},
}
CASE = Case(
    id="a_1",
    component=PipelineComponent.COMPUTE,
    fault=Fault.CRASH,
    check="it",
    since=datetime(2026, 11, 22, tzinfo=UTC),
    reading=Reading(verdict=Verdict.CRITICAL, summary="gone"),
    settings={
        "command": ["true"], "resume_command": ["true"], "recovery_command": ["true"],
        "pid_file": NOWHERE, "run": NOWHERE, "root": NOWHERE, "link": NOWHERE,
        "versions": NOWHERE, "standby": NOWHERE, "job_url": "http://127.0.0.1:1/",
        "unit": "x", "container": "x", "workload": "deployment/x", "node": "x",
    },
)  # fmt: skip


def test_every_kind_has_a_look_in_this_table() -> None:
    assert sorted(LOOKS) == sorted(PROBES)


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_a_probe_keeps_its_contract(kind: str) -> None:
    assert probe_contract.violations(PROBES[kind], LOOKS[kind]) == []


@pytest.mark.parametrize("kind", sorted(set(PROBES) - {"command", "disk", "memory", "nagios"}))
def test_what_is_not_there_is_never_well(kind: str) -> None:
    if kind == "pressure":
        pytest.skip("whether the kernel has it differs")
    probe = build(kind, LOOKS[kind], PROBES, "test")
    reading = probe.look(Moment(datetime(2026, 11, 22, tzinfo=UTC), 0.0))
    if inspect.isawaitable(reading):

        async def awaited() -> Any:
            return await reading

        reading = asyncio.run(awaited())
    assert reading.verdict is not Verdict.OK


@pytest.mark.parametrize("kind", sorted(REMEDIES))
def test_a_remedy_keeps_its_contract(kind: str) -> None:
    parameters = {"program": "true"} if "program" in REMEDIES[kind].__dataclass_fields__ else {}  # type: ignore[attr-defined]  # dataclasses

    assert remedy_contract.violations(REMEDIES[kind], parameters, CASE) == []


@dataclass(frozen=True, kw_only=True)
class LoudProbe:
    """Says everything wrong that can be said."""

    unsaid: int = 1

    def look(self, moment: Moment) -> Reading:
        return Reading(
            verdict=Verdict.OK,
            summary="two\nlines",
            fault=Fault.CRASH,
            measurements={"Not Plain": 1.0, "nan": float("nan"), "whole": 1},
            evidence={"path": Path("/")},
        )


@dataclass
class GreedyRemedy:
    """Would change the price: noise_multiplier."""

    noise_multiplier: float = 0.0

    def objection(self, case: Case) -> str | None:
        return None

    def intent(self, case: Case) -> str:
        return "two\nlines"

    def apply(self, case: Case, within_s: float) -> Applied:
        raise AssertionError


def test_a_probe_that_breaks_the_contract_is_told_each_breach() -> None:
    found = "\n".join(probe_contract.violations(LoudProbe, {}, looks=1))

    for words in ("'unsaid'", "one line", "names a fault", "Not Plain", "'nan'", "'whole'", "JSON"):
        assert words in found


def test_a_remedy_that_would_change_the_price_is_refused() -> None:
    found = "\n".join(remedy_contract.violations(GreedyRemedy, {}, CASE))

    for words in ("has no say", "not frozen", "intent"):
        assert words in found


def other(name: str, factory: type, group: str) -> Plugin:
    made = PluginMetadata(name=name, version="1", requires=">=0")
    return Plugin(group=group, metadata=made, factory=factory, distribution="other")


def test_plugins_come_through_the_same_door() -> None:
    registry = PluginRegistry(version="0.1.0", entry_points=lambda _: ())
    registry.register(other("loud", LoudProbe, probes.GROUP))
    registry.register(other("greedy", GreedyRemedy, remedies.GROUP))

    assert probes.probe_kinds(registry) == {**PROBES, "loud": LoudProbe}
    assert remedies.remedy_kinds(registry) == {**REMEDIES, "greedy": GreedyRemedy}


def test_a_plugin_does_not_take_the_name_of_what_is_built_in() -> None:
    registry = PluginRegistry(version="0.1.0", entry_points=lambda _: ())
    registry.register(other("disk", LoudProbe, probes.GROUP))

    with pytest.raises(DuplicatePlugin):
        probes.probe_kinds(registry)


def test_all_of_them_load_without_what_is_heavy() -> None:
    code = (
        "import sys, json, pipeline_guard.probes, pipeline_guard.remedies\n"
        "heavy = ('pandas', 'scipy', 'torch', 'pydantic', 'numpy', 'cryptography', 'sqlalchemy')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "guard_reference", ROOT / "scripts" / "guard_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["guard_checks.md", "guard_recoveries.md"])
def test_a_page_says_what_the_program_takes(page: str) -> None:
    written = reference().page_with_reference(page)

    assert (ROOT / "docs" / page).read_text() == written, "run scripts/guard_reference.py --write"
    assert "| |" not in written, "a parameter has no meaning"


def test_every_fault_has_a_runbook() -> None:
    folder = ROOT / "docs" / "runbooks"

    assert {path.stem for path in folder.glob("*.md")} == {str(fault) for fault in Fault}
