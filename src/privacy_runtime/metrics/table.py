"""Every figure that is measured. docs/observability.md shows this table; a test compares them.

Names follow Prometheus: base units, `_total` for what only grows. Counters whose labels are closed
sets begin at 0 in every series; a gauge that nothing of this process gives is not exposed.

Budgets are in no figure that a tenant could read: an account's name and its epsilon belong to one
organisation, and Prometheus knows no tenants. Step times are the operator's too: with Poisson
sampling a step's time grows with the number of records it drew, and the guarantee rests on nobody
knowing what was drawn.
"""

from __future__ import annotations

from typing import Final

from privacy_runtime.metrics.instruments import Audience, Instrument, Kind, Label

_P: Final = "privacy_finetuner_"
_METHOD: Final = Label("method", ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_ROUTE: Final = Label("route", most=300)
_STATUS: Final = Label("status", ("1xx", "2xx", "3xx", "4xx", "5xx"))
_REFUSALS: Final = (
    *("400", "401", "403", "404", "405", "409", "410", "413", "415", "422", "429", "431"),
    *("500", "502", "503", "507"),
)
_JOB_STATE: Final = Label("state", ("queued", "running", "succeeded", "failed", "cancelled"))
_ENDED: Final = Label("state", ("succeeded", "failed", "cancelled"))
_SINK: Final = Label("sink", ("webhook", "slack", "email"))
_ACCOUNT: Final = Label("account", most=200)

# HTTP
HTTP_REQUESTS: Final = Instrument(
    name=f"{_P}http_requests_total",
    kind=Kind.COUNTER,
    help="Requests answered, by route template; unknown paths are one route.",
    labels=(_METHOD, _ROUTE, _STATUS),
)
HTTP_SECONDS: Final = Instrument(
    name=f"{_P}http_request_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from a request's head to its answer's last byte.",
    unit="seconds",
    labels=(_METHOD, _ROUTE),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
HTTP_OPEN: Final = Instrument(
    name=f"{_P}http_requests_open", kind=Kind.GAUGE, help="Requests being answered now."
)
STREAMS_OPEN: Final = Instrument(
    name=f"{_P}event_streams_open",
    kind=Kind.GAUGE,
    help="Clients that follow jobs live.",
    labels=(Label("transport", ("websocket", "sse")),),
)
HTTP_REFUSED: Final = Instrument(
    name=f"{_P}http_refused_total",
    kind=Kind.COUNTER,
    help="Requests refused, by status: 401 not logged in, 403 not allowed, 429 too many, ...",
    labels=(Label("status", _REFUSALS),),
)
LIMITS_SHARED: Final = Instrument(
    name=f"{_P}rate_limits_shared",
    kind=Kind.GAUGE,
    help="1 while rates are counted in Redis; 0 while each process counts alone.",
)

# Jobs
JOBS: Final = Instrument(
    name=f"{_P}jobs", kind=Kind.GAUGE, help="Jobs on record, by state.", labels=(_JOB_STATE,)
)
JOBS_FINISHED: Final = Instrument(
    name=f"{_P}jobs_finished_total",
    kind=Kind.COUNTER,
    help="Jobs that ended while this process ran.",
    labels=(_ENDED,),
)
INTAKE: Final = Instrument(
    name=f"{_P}intake_messages_total",
    kind=Kind.COUNTER,
    help="Messages of the queue that were brought to their end, by how.",
    labels=(Label("outcome", ("accepted", "refused")),),
)
JOB_SECONDS: Final = Instrument(
    name=f"{_P}job_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from a job's first start to its end.",
    unit="seconds",
    labels=(_ENDED,),
    buckets=(1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0),
)
QUEUE_AGE: Final = Instrument(
    name=f"{_P}job_queue_age_seconds",
    kind=Kind.GAUGE,
    help="How long the longest waiting job has waited; 0 when none waits.",
    unit="seconds",
)
STEP_SECONDS: Final = Instrument(
    name=f"{_P}training_step_seconds",
    kind=Kind.HISTOGRAM,
    help="Time of a training step, averaged between two progress events of a job.",
    unit="seconds",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0),
    audience=Audience.OPERATOR,
)
SLOW_JOBS: Final = Instrument(
    name=f"{_P}training_slow_jobs",
    kind=Kind.GAUGE,
    help="Running jobs whose speed fell below `performance_degradation_threshold` of their best.",
)
WORKERS: Final = Instrument(
    name=f"{_P}workers",
    kind=Kind.GAUGE,
    help="Workers that were heard of lately, by what they do.",
    labels=(Label("state", ("idle", "busy", "lost")),),
)

# Ledger
EPSILON_GRANTED: Final = Instrument(
    name=f"{_P}ledger_epsilon_granted",
    kind=Kind.GAUGE,
    help="An account's epsilon with all grants; the accounts nearest to their end come first.",
    unit="epsilon",
    labels=(_ACCOUNT,),
    audience=Audience.OPERATOR,
)
EPSILON_SPENT: Final = Instrument(
    name=f"{_P}ledger_epsilon_spent",
    kind=Kind.GAUGE,
    help="What of it was spent, rounded up as the ledger does.",
    unit="epsilon",
    labels=(_ACCOUNT,),
    audience=Audience.OPERATOR,
)
EPSILON_REMAINING: Final = Instrument(
    name=f"{_P}ledger_epsilon_remaining",
    kind=Kind.GAUGE,
    help="What is left once every open reservation commits in full.",
    unit="epsilon",
    labels=(_ACCOUNT,),
    audience=Audience.OPERATOR,
)
LEDGER_ACCOUNTS: Final = Instrument(
    name=f"{_P}ledger_accounts", kind=Kind.GAUGE, help="Accounts in the ledger, shown or not."
)
LEDGER_WRITABLE: Final = Instrument(
    name=f"{_P}ledger_writable",
    kind=Kind.GAUGE,
    help="1, or 0 after the ledger's chain was found broken: nothing can be spent until a repair.",
)

# Security
LOGIN_FAILURES: Final = Instrument(
    name=f"{_P}login_failures_total",
    kind=Kind.COUNTER,
    help="Logins that were refused, and renewals with a token that had been used before.",
    labels=(Label("reason", ("wrong_password", "wrong_code", "disabled", "reused")),),
)
SECURITY_ALERTS: Final = Instrument(
    name=f"{_P}security_alerts_total",
    kind=Kind.COUNTER,
    help="Alerts raised by threat detection.",
    labels=(
        Label(
            "threat",
            (
                *("privacy_budget_exhaustion", "model_inversion", "data_poisoning"),
                *("unauthorized_access", "membership_inference", "credential_attack"),
                *("tampering", "resource_exhaustion"),
            ),
        ),
        Label("severity", ("low", "medium", "high", "critical")),
    ),
)
SUSPICIOUS_INPUTS: Final = Instrument(
    name=f"{_P}suspicious_inputs_total",
    kind=Kind.COUNTER,
    help="Short fields of requests that read like an injection; nothing is refused for it.",
    labels=(
        Label(
            "family",
            ("sql_injection", "cross_site_scripting", "path_traversal", "command_injection"),
        ),
    ),
)

# Notifications
DELIVERIES: Final = Instrument(
    name=f"{_P}notify_attempts_total",
    kind=Kind.COUNTER,
    help="Attempts to deliver a message, by how they ended.",
    labels=(_SINK, Label("outcome", ("delivered", "failed", "dead"))),
)
OUTBOX_WAITING: Final = Instrument(
    name=f"{_P}notify_outbox_waiting",
    kind=Kind.GAUGE,
    help="Messages accepted and neither delivered nor given up.",
    labels=(_SINK,),
)
OUTBOX_AGE: Final = Instrument(
    name=f"{_P}notify_outbox_age_seconds",
    kind=Kind.GAUGE,
    help="How long the oldest of them has waited; 0 when none waits.",
    unit="seconds",
)
OUTBOX_DEAD: Final = Instrument(
    name=f"{_P}notify_outbox_dead",
    kind=Kind.GAUGE,
    help="Messages given up and not yet sent again or pruned.",
)

# The process
DATABASE_CONNECTIONS: Final = Instrument(
    name=f"{_P}database_connections",
    kind=Kind.GAUGE,
    help="Connections of this process's pools.",
    labels=(Label("state", ("in_use", "idle")),),
)
LOG_LINES_DROPPED: Final = Instrument(
    name=f"{_P}log_lines_dropped_total",
    kind=Kind.COUNTER,
    help="Log lines dropped because the writer could not follow.",
)
CHECK_OK: Final = Instrument(
    name=f"{_P}health_check_ok",
    kind=Kind.GAUGE,
    help="1 when a readiness check passed when it was last made, else 0.",
    labels=(Label("check", most=16),),
)
DISK_FREE: Final = Instrument(
    name=f"{_P}home_free_bytes",
    kind=Kind.GAUGE,
    help="Free space of the file system that holds the service's folder.",
    unit="bytes",
)
READING_FAILED: Final = Instrument(
    name=f"{_P}reading_failed",
    kind=Kind.GAUGE,
    help="1 when a figure could not be read at this scrape; its series are then missing.",
    labels=(Label("figure", most=64),),
)
BUILD: Final = Instrument(
    name=f"{_P}build_info",
    kind=Kind.GAUGE,
    help="Always 1; says what runs.",
    labels=(Label("version", most=2), Label("python", most=2)),
)

TABLE: Final[tuple[Instrument, ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Instrument)
)
"""All rows, in the order above."""
