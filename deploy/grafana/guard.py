"""The guard's Grafana dashboard: `python deploy/grafana/guard.py` writes `pipeline-guard.json`.

The order is that of questions: does anybody look; what is wrong; what was done about it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from panels import (
    BLUE,
    GREEN,
    NONE_IS_GOOD,
    OK_IS_ONE,
    RED,
    YELLOW,
    Dashboard,
    Panel,
    lines,
    stat,
)

P: Final = "pipeline_guard_"
HERE: Final = 'instance=~"$instance"'
OF: Final = f'{{{HERE}, component=~"$component"}}'
FILE: Final = Path(__file__).with_name("pipeline-guard.json")

NOW: Final = [
    stat(
        "Guard looks",
        "1 while the guard writes its status; 0 when it is silent: then nothing below is news.",
        f"min({P}up{{{HERE}}})",
        steps=OK_IS_ONE,
    ),
    stat(
        "Age of the status",
        "How long ago the guard last said how things stand.",
        f"max({P}status_age_seconds{{{HERE}}})",
        steps=((None, GREEN), (15, YELLOW), (60, RED)),
        unit="s",
    ),
    stat(
        "Failed",
        "Alerts whose recovery was given up: a person was called.",
        f'sum({P}alerts{{{HERE}, severity="failed"}})',
        steps=NONE_IS_GOOD,
    ),
    stat(
        "Critical",
        "Standing critical alerts.",
        f'sum({P}alerts{{{HERE}, severity="critical"}})',
        steps=NONE_IS_GOOD,
    ),
    stat(
        "Degraded",
        "Standing alerts that are not critical.",
        f'sum({P}alerts{{{HERE}, severity="degraded"}})',
        steps=((None, GREEN), (1, YELLOW)),
    ),
    stat(
        "Kill switch",
        "1 while the kill switch holds every recovery.",
        f"max({P}killed{{{HERE}}})",
        steps=((None, GREEN), (1, YELLOW)),
    ),
]
COMPONENTS: Final = [
    Panel(
        title="Component health",
        says="The health of each component over time; a gap is a silent guard.",
        kind="state-timeline",
        queries=[("{{component}}: {{status}}", f"{P}component_health{OF} == 1")],
        width=24,
        height=9,
        options={"showValue": "never", "mergeValues": True, "legend": {"showLegend": False}},
        custom={"fillOpacity": 70, "lineWidth": 0},
        steps=((None, BLUE),),
    ),
    lines(
        "Looks that are not well",
        "Newest verdict of each check that is not OK: 1 warning, 2 critical, 3 unknown.",
        ("{{component}}/{{check}}", f"{P}check_verdict{OF} > 0"),
    ),
    lines(
        "Flapping checks",
        "Checks that swing; their recoveries are held back until they settle.",
        ("{{component}}/{{check}}", f"{P}check_flapping{OF} > 0"),
    ),
]
DEEDS: Final = [
    lines(
        "What happened",
        "Events of the guard an hour, by kind.",
        ("{{kind}}", f"sum by (kind) (increase({P}events_total{{{HERE}}}[1h]))"),
        stacked=True,
    ),
    lines(
        "Recoveries",
        "Runs that the guard remembers, by recovery and what it may do.",
        (
            "{{recovery}} ({{mode}})",
            f"sum by (recovery, mode) ({P}recovery_runs{{{HERE}}})",
        ),
    ),
    lines(
        "Loop lag",
        "How late the guard's own loop is.",
        ("{{instance}}", f"{P}loop_lag_seconds{{{HERE}}}"),
        unit="s",
    ),
    lines(
        "Hanging probes",
        "Looks that were given up at their limit and have not come back.",
        ("{{instance}}", f"{P}hanging_probes{{{HERE}}}"),
    ),
]
DASHBOARD: Final = Dashboard(
    uid="pipeline-guard",
    title="Pipeline Guard Monitoring",
    says="Whether anybody looks, what is wrong, and what was done about it.",
    rows=(("Now", NOW), ("Components", COMPONENTS), ("What was done", DEEDS)),
    variables=(
        ("instance", "Instance", f"label_values({P}up, instance)"),
        ("component", "Component", f"label_values({P}component_health, component)"),
    ),
    notes=(
        (
            "Escalations",
            f'increase({P}events_total{{{HERE}, kind="escalated"}}[2m]) > 0',
            "red",
            "a person was called",
        ),
    ),
)


if __name__ == "__main__":
    FILE.write_text(DASHBOARD.text(), encoding="utf-8")
