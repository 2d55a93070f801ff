"""What the guard may look with, and how often it looks where nobody says."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from pipeline_guard.config import parse_config
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.guard.kinds import ALLOWED_VARIABLE, registries
from pipeline_guard.guard.plan import Check, make_plan
from pipeline_guard.model import Moment, Pace, Reading, Verdict

CONFIG = """
defaults: {{interval: 30s, for: 3}}
components: {{trainer: {{}}}}
checks:
  - {{id: it, component: trainer, type: process, pid_file: run.pid{more}}}
  - {{id: other, component: trainer, type: tcp, host: localhost, port: 9}}
"""


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Always well."""

    def look(self, moment: Moment) -> Reading:
        return Reading(verdict=Verdict.OK, summary="well")


class Distribution(metadata.Distribution):
    """Another distribution, with one probe."""

    def __init__(self, folder: Path, probe: str) -> None:
        self.folder, self.probe = folder, probe

    def read_text(self, filename: str) -> str | None:
        return {
            "METADATA": "Metadata-Version: 2.1\nName: acme-probes\nVersion: 1\n",
            "entry_points.txt": f"[pipeline_guard.probes]\n{self.probe} = {__name__}:Foreign\n",
        }.get(filename)

    def locate_file(self, path: object) -> Path:
        return self.folder / str(path)


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A distribution beside ours; its probe's name may be set."""
    name = ["acme"]
    true = metadata.entry_points

    def both(*, group: str) -> list[metadata.EntryPoint]:
        foreign = Distribution(tmp_path, name[0]).entry_points
        return [*true(group=group), *(p for p in foreign if p.group == group)]

    monkeypatch.setattr(metadata, "entry_points", both)
    return name


def checks_of(text: str) -> dict[str, Check]:
    known = registries()
    return make_plan(parse_config(text, "it", known), known.probes or {}, {}).checks


def test_a_fact_is_believed_at_once_and_a_figure_is_looked_at_again() -> None:
    checks = checks_of(CONFIG.format(more=""))

    process, tcp = checks["it"], checks["other"]
    assert (process.interval_s, process.rule.for_, process.rule.of) == (1.0, 1, 1)
    assert (tcp.interval_s, tcp.rule.for_) == (30.0, 3)
    assert type(process.probe).pace == Pace(1.0)  # type: ignore[attr-defined]


def test_what_a_check_says_stands_above_the_pace_of_its_kind() -> None:
    check = checks_of(CONFIG.format(more=", interval: 7s, for: 2, of: 4"))["it"]

    assert (check.interval_s, check.rule.for_, check.rule.of) == (7.0, 2, 4)


def test_a_foreign_plugin_is_let_in_by_the_environment_only(
    acme: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "acme" not in (registries().probes or {})
    monkeypatch.setenv(ALLOWED_VARIABLE, "others, acme-probes")
    assert "acme" in (registries().probes or {})


def test_a_foreign_plugin_takes_no_name_of_ours(acme: list[str]) -> None:
    acme[0] = "process"
    with pytest.raises(ConfigurationError, match="'process' of acme-probes is taken"):
        registries(["acme-probes"])
