"""A first configuration, from what is found on this machine: it works, and it only observes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from privacy_runtime.settings.templates import written as quoted

DEFAULT_FILE: Final = "pipeline_guard.yaml"
VARIABLE: Final = "PIPELINE_GUARD_CONFIG"
"""The file that is meant where none is named: what this variable says, else that name, here."""
_DEPTH: Final = 3
_MOST_RUNS: Final = 20
_HEARTBEAT: Final = "heartbeat.json"

_HEAD: Final = """\
# What the pipeline guard watches, and what it may do. Every key: pipeline-guard config schema.
#
#   pipeline-guard config check        is this file right? Every fault at once.
#   pipeline-guard check --once        look at everything once
#   pipeline-guard run                 guard
#
# Durations are 10s, 5m, 1h; ${NAME} is filled in from the environment.
version: 1

# observe: write down what would be done. suggest: tell people as well. act: do it. This is the most
# that any recovery may do; `pipeline-guard promote NAME` raises one that was right often enough.
mode: observe

defaults:
  interval: 10s            # from one look to the next
  timeout: 5s              # a look that takes longer is unknown, which is not well
  for: 3                   # bad looks in a row that confirm a fault
  clear_after: 2           # good looks in a row that end it
  grace_after_start: 60s   # nothing is done so soon after a start

kill_switch: guard.stop    # while this file exists, nothing is done
rate: {actions: 3, per: 10m}   # of all recoveries on this host
"""

_TAIL: Final = """
# Who is told. Without destinations, `pipeline-guard status` and the journal say it.
# notify:
#   destinations:
#     oncall: {kind: slack, url: "${SLACK_WEBHOOK_URL}"}

# When people work on something.
# maintenance:
#   - {name: patches, days: [sun], from: "02:00", to: "04:00", timezone: Europe/Berlin}

store: {path: pipeline_guard.db}
"""


def sample(folder: Path) -> str:
    """The text of a configuration for what is below a folder: runs with heartbeats, and the disk.

    What is not found stands as a comment to be filled in.
    """
    runs = list(runs_below(folder))
    return "\n".join([_HEAD, _components(runs), _checks(folder, runs), _recoveries(runs), _TAIL])


def runs_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Folders with a heartbeat, at most three levels down, as `(component, file)`."""
    found: dict[str, Path] = {}
    for place, folders, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if depth < _DEPTH else []
        if _HEARTBEAT in files and len(found) < _MOST_RUNS:
            stem = "".join(c if c.isalnum() or c in "_-" else "_" for c in Path(place).name)
            name = stem.lstrip("_-") or "training"
            while name in found or name in ("storage", "compute"):
                name += "_run"
            found[name] = Path(place) / _HEARTBEAT
    yield from found.items()


def _components(runs: list[tuple[str, Path]]) -> str:
    lines = ["components:", "  storage: {description: the disk that runs are written to}"]
    lines += ["  compute: {description: this machine}"]
    for name, file in runs:
        limits = "{setup: 15m, step: auto*5, checkpoint: 10m}"
        beat = f"{{path: {quoted(str(file))}, sections: {limits}}}"
        lines += [f"  {name}:", "    depends_on: [storage, compute]", f"    heartbeat: {beat}"]
    if not runs:
        lines += [
            "  # trainer:",
            "  #   depends_on: [storage, compute]   # their fault explains the trainer's",
            "  #   heartbeat: {path: runs/a/heartbeat.json, sections: {step: auto*5}}",
        ]
    return "\n".join(lines) + "\n"


def _checks(folder: Path, runs: list[tuple[str, Path]]) -> str:
    place = quoted(str(folder))
    lines = [
        "checks:",
        f"  - {{id: disk, component: storage, type: disk, path: {place}, warn: 60m, crit: 15m}}",
        "  - {id: memory, component: compute, type: memory}",
    ]
    lines += [
        f"  - {{id: {name}.checkpoints, component: {name}, type: checkpoint,"
        f" run: {quoted(str(file.parent))}, interval: 5m, timeout: 60s, for: 1}}"
        for name, file in runs
    ]
    return "\n".join(lines) + "\n"


def _recoveries(runs: list[tuple[str, Path]]) -> str:
    name = runs[0][0] if runs else "trainer"
    lines = [
        "# What is done about a fault. Each step is a remedy: pipeline-guard remedies",
        "# recoveries:",
        f"#   - on: {{component: {name}, fault: hang}}",
        "#     steps:",
        "#       - {restart_unit: {unit: trainer.service}}",
        f"#     verify: {{check: {name}.progress, within: 120s}}",
        "#     limits: {cooldown: 5m, max_attempts: 3, window: 1h, no_progress: 3}",
        "#     runbook: docs/runbooks/hang.md",
    ]
    return "\n".join(lines)
