"""The Grafana dashboard, written as a list of panels: `python deploy/grafana/dashboard.py`.

It writes `privacy-finetuner.json` beside itself; a test compares the two, and every name in a query
with the table of metrics. What a panel shows is a sentence in its description.

The order is that of questions: can it work; how much privacy is left and who spends it; how do jobs
go; what do clients see; do messages arrive; who tries to get in; how is the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from panels import (
    BLUE,
    GREEN,
    GREY,
    NONE_IS_GOOD,
    OK_IS_ONE,
    RED,
    YELLOW,
    Dashboard,
    Panel,
    lines,
    stat,
)

P: Final = "privacy_finetuner_"
HERE: Final = '{instance=~"$instance"}'
ACCOUNT: Final = '{instance=~"$instance", account=~"$account"}'
FILE: Final = Path(__file__).with_name("privacy-finetuner.json")

OVERVIEW: Final = [
    stat(
        "Ready",
        "1 when every readiness check passes: database, ledger, disk, and where configured Redis.",
        f"min({P}health_check_ok{HERE})",
        steps=OK_IS_ONE,
    ),
    stat(
        "Jobs running",
        "Training jobs that a worker has.",
        f'max({P}jobs{{instance=~"$instance", state="running"}})',
        steps=((None, BLUE),),
    ),
    stat(
        "Longest wait",
        "How long the longest waiting job has waited for a worker.",
        f"max({P}job_queue_age_seconds{HERE})",
        steps=((None, GREEN), (900, YELLOW), (3600, RED)),
        unit="s",
    ),
    stat(
        "Least budget left",
        "The account that is nearest to its end: its share of epsilon that is left.",
        f"min({P}ledger_epsilon_remaining{HERE} / {P}ledger_epsilon_granted{HERE})",
        steps=((None, RED), (0.001, YELLOW), (0.1, GREEN)),
        unit="percentunit",
    ),
    stat(
        "Failed answers",
        "Share of requests that the service could not answer, over five minutes.",
        f'(sum(rate({P}http_requests_total{{instance=~"$instance", status="5xx"}}[5m]))'
        " or vector(0))"
        f" / clamp_min(sum(rate({P}http_requests_total{HERE}[5m])), 1e-9)",
        steps=((None, GREEN), (0.001, YELLOW), (0.01, RED)),
        unit="percentunit",
    ),
    stat(
        "Messages given up",
        "Webhooks, Slack and e-mail that ten attempts could not deliver.",
        f"max({P}notify_outbox_dead{HERE})",
        steps=NONE_IS_GOOD,
    ),
]

BUDGETS: Final = [
    Panel(
        title="Budget spent, by account",
        says="Spent and set aside, as a share of what was granted. The ten nearest to their end.",
        kind="bargauge",
        queries=[
            (
                "{{account}}",
                f"topk(10, 1 - {P}ledger_epsilon_remaining{ACCOUNT}"
                f" / {P}ledger_epsilon_granted{ACCOUNT})",
            )
        ],
        width=12,
        height=9,
        unit="percentunit",
        steps=((None, GREEN), (0.75, YELLOW), (0.9, RED)),
        instant=True,
        most=1,
        options={
            "displayMode": "gradient",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
        },
    ),
    lines(
        "Epsilon spent",
        "What each account has spent so far. It falls only when two persons strike an entry out.",
        ("{{account}}", f"{P}ledger_epsilon_spent{ACCOUNT}"),
    ),
    Panel(
        title="Accounts",
        says="Epsilon by account: granted, spent, and left once all that is reserved commits.",
        kind="table",
        queries=[
            ("granted", f"sum by (account) ({P}ledger_epsilon_granted{ACCOUNT})"),
            ("spent", f"sum by (account) ({P}ledger_epsilon_spent{ACCOUNT})"),
            ("left", f"sum by (account) ({P}ledger_epsilon_remaining{ACCOUNT})"),
        ],
        width=16,
        unit="short",
        instant=True,
        options={
            "footer": {"show": False},
            "showHeader": True,
            "sortBy": [{"displayName": "left"}],
        },
        custom={"align": "auto", "filterable": True},
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "renameByName": {
                        "Value #A": "granted",
                        "Value #B": "spent",
                        "Value #C": "left",
                    },
                },
            },
        ],
    ),
    stat(
        "Accounts in the ledger",
        "Also those that are not shown above: 200 are.",
        f"max({P}ledger_accounts{HERE})",
        steps=((None, BLUE),),
    ),
    stat(
        "Ledger writable",
        "0 after its chain was found broken: then nothing can be spent until it is repaired.",
        f"min({P}ledger_writable{HERE})",
        steps=OK_IS_ONE,
    ),
]

JOB_COLOURS: Final = {
    "queued": YELLOW,
    "running": BLUE,
    "succeeded": GREEN,
    "failed": RED,
    "cancelled": GREY,
}
JOBS: Final = [
    lines(
        "Jobs waiting and running",
        "Jobs that have not ended, by state.",
        (
            "{{state}}",
            f'max by (state) ({P}jobs{{instance=~"$instance", state=~"queued|running"}})',
        ),
        width=8,
        stacked=True,
        colours=JOB_COLOURS,
    ),
    lines(
        "Jobs ended per hour",
        "By how they ended. What a failed job had charged stays charged.",
        ("{{state}}", f"sum by (state) (increase({P}jobs_finished_total{HERE}[1h]))"),
        width=8,
        stacked=True,
        colours=JOB_COLOURS,
    ),
    lines(
        "Workers",
        "Idle, busy, and not heard of any more.",
        ("{{state}}", f"max by (state) ({P}workers{HERE})"),
        width=8,
        stacked=True,
        colours={"idle": GREEN, "busy": BLUE, "lost": RED},
    ),
    lines(
        "Step time",
        "Of all running jobs. It varies with what was drawn, so it is for operators only.",
        *(
            (
                name,
                f"histogram_quantile({share}, sum by (le) "
                f"(rate({P}training_step_seconds_bucket{HERE}[15m])))",
            )
            for name, share in (("median", 0.5), ("95 %", 0.95))
        ),
        width=8,
        unit="s",
    ),
    lines(
        "Job time",
        "From a job's first start to its end, by how it ended: the median of a day.",
        (
            "{{state}}",
            f"histogram_quantile(0.5, sum by (le, state) (rate({P}job_seconds_bucket{HERE}[1d])))",
        ),
        width=8,
        unit="s",
        colours=JOB_COLOURS,
    ),
    lines(
        "Messages of the queue",
        "Jobs that came through the queue in ten minutes, by how their messages ended.",
        ("{{outcome}}", f"sum by (outcome) (increase({P}intake_messages_total{HERE}[10m]))"),
        width=8,
        stacked=True,
    ),
    lines(
        "Slow jobs and waiting time",
        "Running jobs below the configured share of their best speed; the longest wait.",
        ("slow jobs", f"max({P}training_slow_jobs{HERE})"),
        ("longest wait, minutes", f"max({P}job_queue_age_seconds{HERE}) / 60"),
        width=8,
    ),
]

CLIENTS: Final = [
    lines(
        "Requests",
        "A second, by class of status.",
        ("{{status}}", f"sum by (status) (rate({P}http_requests_total{HERE}[$__rate_interval]))"),
        width=8,
        unit="reqps",
        stacked=True,
        colours={"2xx": GREEN, "3xx": BLUE, "4xx": YELLOW, "5xx": RED},
    ),
    lines(
        "Time to answer",
        "All routes, without streams.",
        *(
            (
                name,
                f"histogram_quantile({share}, sum by (le) "
                f"(rate({P}http_request_seconds_bucket{HERE}[$__rate_interval])))",
            )
            for name, share in (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99))
        ),
        width=8,
        unit="s",
    ),
    lines(
        "Refused",
        "A second, by status: 401 not logged in, 403 not allowed, 422 faults, 429 too many.",
        (
            "{{status}}",
            f"sum by (status) (rate({P}http_refused_total{HERE}[$__rate_interval])) > 0",
        ),
        width=8,
        unit="reqps",
    ),
    Panel(
        title="Slowest routes",
        says="The time that 99 in 100 requests stay below, over the chosen range.",
        kind="bargauge",
        queries=[
            (
                "{{method}} {{route}}",
                "topk(8, histogram_quantile(0.99, sum by (le, method, route) "
                f"(rate({P}http_request_seconds_bucket{HERE}[$__range]))))",
            )
        ],
        width=12,
        unit="s",
        steps=((None, GREEN), (0.1, YELLOW), (0.5, RED)),
        instant=True,
        options={
            "displayMode": "basic",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
        },
    ),
    lines(
        "Live followers and requests under way",
        "Clients that follow jobs by WebSocket or server-sent events, and open requests.",
        ("{{transport}}", f"sum by (transport) ({P}event_streams_open{HERE})"),
        ("requests", f"sum({P}http_requests_open{HERE})"),
        width=12,
    ),
]

MESSAGES: Final = [
    lines(
        "Attempts",
        "An hour, by how they ended: failed ones are tried again, dead ones are not.",
        ("{{outcome}}", f"sum by (outcome) (increase({P}notify_attempts_total{HERE}[1h]))"),
        width=8,
        stacked=True,
        colours={"delivered": GREEN, "failed": YELLOW, "dead": RED},
    ),
    lines(
        "Waiting",
        "Messages that were accepted and neither delivered nor given up.",
        ("{{sink}}", f"max by (sink) ({P}notify_outbox_waiting{HERE})"),
        width=8,
        stacked=True,
    ),
    lines(
        "Oldest waiting message",
        "A receiver that is away holds up only its own queue.",
        ("age", f"max({P}notify_outbox_age_seconds{HERE})"),
        width=8,
        unit="s",
    ),
]

SECURITY: Final = [
    lines(
        "Refused logins",
        "Ten minutes, by reason. `reused`: a refresh token came twice, its session was ended.",
        ("{{reason}}", f"sum by (reason) (increase({P}login_failures_total{HERE}[10m]))"),
        stacked=True,
        colours={"reused": RED},
    ),
    lines(
        "Security alerts",
        "Raised in an hour, by threat.",
        ("{{threat}}", f"sum by (threat) (increase({P}security_alerts_total{HERE}[1h])) > 0"),
        stacked=True,
    ),
    lines(
        "Suspicious inputs",
        "Fields of requests in an hour that read like an injection, by family. None is refused.",
        ("{{family}}", f"sum by (family) (increase({P}suspicious_inputs_total{HERE}[1h]))"),
        stacked=True,
    ),
]

PROCESS: Final = [
    lines(
        "Memory",
        "Resident memory of the serving process.",
        ("{{instance}}", f"process_resident_memory_bytes{HERE}"),
        width=6,
        unit="bytes",
    ),
    lines(
        "Processor",
        "Cores that the serving process uses; training runs in processes of its own.",
        ("{{instance}}", f"rate(process_cpu_seconds_total{HERE}[$__rate_interval])"),
        width=6,
    ),
    lines(
        "Database connections",
        "Of this process's pools.",
        ("{{state}}", f"sum by (state) ({P}database_connections{HERE})"),
        width=6,
        stacked=True,
    ),
    lines(
        "Free disk",
        "Of the file system that holds the service's folder.",
        ("{{instance}}", f"{P}home_free_bytes{HERE}"),
        width=6,
        unit="bytes",
    ),
    stat(
        "Log lines dropped",
        "In an hour. More than none: whatever takes the log is too slow.",
        f"sum(increase({P}log_lines_dropped_total{HERE}[1h]))",
        steps=NONE_IS_GOOD,
    ),
    stat(
        "Figures missing",
        "Figures that could not be read at the last scrape; what rests on them is silent.",
        f"sum({P}reading_failed{HERE})",
        steps=NONE_IS_GOOD,
    ),
    stat(
        "Rates shared",
        "1 while request rates are counted in Redis; no value without Redis.",
        f"min({P}rate_limits_shared{HERE})",
        steps=OK_IS_ONE,
    ),
    Panel(
        title="Version",
        says="What runs.",
        kind="stat",
        queries=[("{{version}}, Python {{python}}", f"{P}build_info{HERE}")],
        width=12,
        height=4,
        steps=((None, BLUE),),
        instant=True,
        options={
            "colorMode": "none",
            "graphMode": "none",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "name",
        },
    ),
]

ROWS: Final = (
    ("Now", OVERVIEW),
    ("Privacy budgets", BUDGETS),
    ("Jobs", JOBS),
    ("Clients", CLIENTS),
    ("Messages", MESSAGES),
    ("Security", SECURITY),
    ("Process", PROCESS),
)


DASHBOARD: Final = Dashboard(
    uid="privacy-finetuner",
    title="Privacy Finetuner",
    says="Budgets, jobs, clients, messages, security. For operators: budgets of all "
    "organisations are in it.",
    rows=ROWS,
    variables=(
        ("instance", "Instance", f"label_values({P}build_info, instance)"),
        ("account", "Account", f"label_values({P}ledger_epsilon_granted, account)"),
    ),
    notes=(
        (
            "Restarts",
            f"changes(process_start_time_seconds{HERE}[2m]) > 0",
            "purple",
            "restart of {{instance}}",
        ),
    ),
)


if __name__ == "__main__":
    FILE.write_text(DASHBOARD.text(), encoding="utf-8")
