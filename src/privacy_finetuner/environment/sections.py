"""The sections of an environment's configuration: every key with its sentence, domain and unit.

A key whose `used_by` is empty is read and checked, and nothing acts on it in this version:
`privacy-finetuner config check` lists it. Where nothing acts, the default is that nothing is asked
for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from privacy_finetuner.domains import GRAD_NORM_LEAST
from privacy_finetuner.environment.deployment import Front, Notify, Oidc, Tracing
from privacy_finetuner.environment.neighbours import (
    Artefacts,
    Guard,
    Intake,
    Passwords,
    Retention,
    Router,
)
from privacy_runtime.secret import Secret
from privacy_runtime.settings.domains import (
    Address,
    Choice,
    Flag,
    Hidden,
    Number,
    Several,
    Text,
    Whole,
)
from privacy_runtime.settings.schema import Key

_TRAINER: Final = "PrivateTrainer, through EnvironmentConfig.privacy_config"
_EMBEDDED: Final = Secret("sqlite:///privacy-finetuner.db", shown="sqlite:///privacy-finetuner.db")
_CHECKS: Final = "the checks of this configuration"
_HOMES: Final = "the databases of the service"
_LIMITS: Final = "request rates of several processes"
_LOGS: Final = "logs of serve and worker"
_METRICS: Final = "the metrics port of serve"
_ALERTS: Final = "security alerts"
_WARNINGS: Final = "budget warnings and security alerts"
_WORKERS: Final = "the bounds of scaling, by hand and by itself"
_FITTING: Final = "the workers of serve, which follow the queue"
_REGISTER: Final = "the record of processing activities"
_PAGES: Final = "the pages"
_VIGIL: Final = "the watch of deadlines and retention"
_REFUSED: Final = "the checks of this configuration, which refuse federated training"

ENVIRONMENTS: Final = ("development", "testing", "staging", "production")
THREATS: Final = (
    "privacy_budget_exhaustion",
    "model_inversion",
    "data_poisoning",
    "unauthorized_access",
)
FRAMEWORKS: Final = ("gdpr", "ccpa", "hipaa", "pipeda")
LOCALES: Final = ("en_US", "de_DE", "fr_FR", "ja_JP", "ar_SA", "zh_CN")

_LOCALE: Final = Text(r"[a-z]{2,3}(_[A-Z][a-z]{3})?(_[A-Z]{2})?", "a locale such as en_US")
_REGION: Final = Text(r"[^\W\d_][\w .'-]{0,63}", "the name of a region")
_PERCENT: Final = Number(least=0, most=100)
_SHARE: Final = Number(above=0, most=1)
_SECONDS: Final = Number(above=0, most=86_400)
_PORT: Final = Whole(1, 65_535)


@dataclass(frozen=True, slots=True)
class Database:
    """The database of the service."""

    url: Annotated[
        Secret,
        Key(
            "Where the database is, with user and password.",
            Address(("postgresql", "postgresql+psycopg"), hostless=("sqlite",)),
            used_by=_HOMES,
        ),
    ] = _EMBEDDED
    pool_size: Annotated[
        int, Key("How many connections are kept open.", Whole(1, 1000), "connections", _HOMES)
    ] = 20
    max_overflow: Annotated[
        int,
        Key(
            "How many more may be opened while all of them are busy.",
            Whole(0, 1000),
            "connections",
            _HOMES,
        ),
    ] = 30


@dataclass(frozen=True, slots=True)
class Redis:
    """Redis, for several processes that share limits and queues."""

    url: Annotated[
        Secret | None,
        Key(
            "Where Redis is; null is none, for one process.",
            Address(("redis", "rediss"), hostless=("unix",)),
            used_by=_LIMITS,
        ),
    ] = None
    max_connections: Annotated[
        int,
        Key("How many connections a process may open.", Whole(1, 100_000), "connections", _LIMITS),
    ] = 100


@dataclass(frozen=True, slots=True)
class Federated:
    """Training across several sites."""

    enabled: Annotated[
        bool, Key("Whether sites train together; refused here.", Flag(), "", _REFUSED)
    ] = False
    aggregation_method: Annotated[
        str,
        Key("How the updates of sites are added up.", Choice(("secure_sum",)), "", _REFUSED),
    ] = "secure_sum"
    min_clients: Annotated[
        int,
        Key("The fewest sites that a round may have.", Whole(2, 1_000_000), "sites", _REFUSED),
    ] = 5


@dataclass(frozen=True, slots=True)
class Privacy:
    """The guarantee that training must keep."""

    epsilon: Annotated[
        float,
        Key("The privacy budget; smaller is more private.", Number(above=0), "epsilon", _TRAINER),
    ] = 1.0
    delta: Annotated[
        float,
        Key(
            "The slack of the guarantee; well below one over the number of records.",
            Number(above=0, below=1),
            "probability",
            _TRAINER,
        ),
    ] = 1e-5
    max_grad_norm: Annotated[
        float,
        Key(
            "The L2 bound on one record's gradient.",
            Number(least=GRAD_NORM_LEAST),
            "L2 norm",
            _TRAINER,
        ),
    ] = 1.0
    noise_multiplier: Annotated[
        float | None,
        Key(
            "The noise over the clip norm; null solves it from epsilon.",
            Number(above=0),
            "standard deviations per norm",
            _TRAINER,
        ),
    ] = None
    accounting_mode: Annotated[
        str,
        Key(
            "The accountant; pld is tightest, gdp prices full batches only.",
            Choice(("rdp", "pld", "gdp", "prv", "moments")),
            used_by=_TRAINER,
        ),
    ] = "rdp"
    adaptive_clipping: Annotated[
        bool,
        Key("Whether the bound follows the median gradient norm, privately.", Flag(), "", _TRAINER),
    ] = True
    secure_rng: Annotated[
        bool,
        Key("Whether noise comes from a cryptographic generator.", Flag(), "", _TRAINER),
    ] = True
    federated: Federated = Federated()


@dataclass(frozen=True, slots=True)
class Security:
    """Watching for attacks."""

    enable_threat_detection: Annotated[
        bool, Key("Whether signs of an attack are looked for.", Flag(), "", _ALERTS)
    ] = True
    alert_threshold: Annotated[
        float, Key("The least confidence of an alert.", _SHARE, "probability", _ALERTS)
    ] = 0.7
    monitoring_interval: Annotated[
        float, Key("The time between two looks.", _SECONDS, "seconds", _ALERTS)
    ] = 1.0
    automated_response: Annotated[
        bool, Key("Whether an alert may stop what it is about.", Flag(), "", _ALERTS)
    ] = False
    threat_types: Annotated[
        tuple[str, ...], Key("What is watched for.", Several(Choice(THREATS)), "", _ALERTS)
    ] = THREATS


@dataclass(frozen=True, slots=True)
class ScaleUp:
    """Above which load workers are added while jobs wait."""

    cpu_utilization: Annotated[
        float, Key("Load of a worker, of one processor.", _PERCENT, "percent", _FITTING)
    ] = 70.0
    gpu_utilization: Annotated[
        float, Key("Load of the accelerators.", _PERCENT, "percent", _FITTING)
    ] = 75.0


@dataclass(frozen=True, slots=True)
class ScaleDown:
    """Below which load free workers are given back."""

    cpu_utilization: Annotated[
        float, Key("Load of a worker, of one processor.", _PERCENT, "percent", _FITTING)
    ] = 30.0
    gpu_utilization: Annotated[
        float, Key("Load of the accelerators.", _PERCENT, "percent", _FITTING)
    ] = 25.0


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """How many nodes, and when."""

    min_nodes: Annotated[int, Key("The fewest workers.", Whole(0, 256), "nodes", _WORKERS)] = 1
    max_nodes: Annotated[int, Key("The most workers.", Whole(1, 256), "nodes", _WORKERS)] = 20
    scale_up_threshold: ScaleUp = ScaleUp()
    scale_down_threshold: ScaleDown = ScaleDown()


@dataclass(frozen=True, slots=True)
class Scaling:
    """Workers of a server, its nodes, that come and go with the queue."""

    enable_auto_scaling: Annotated[
        bool, Key("Whether workers are added and given back by themselves.", Flag(), "", _FITTING)
    ] = False
    monitoring_interval: Annotated[
        float, Key("The time between two looks.", _SECONDS, "seconds", _FITTING)
    ] = 60.0
    enable_cost_optimization: Annotated[
        bool, Key("Whether fewer workers count for more than shorter waits.", Flag(), "", _FITTING)
    ] = False
    scaling_policy: ScalingPolicy = ScalingPolicy()


@dataclass(frozen=True, slots=True)
class Compliance:
    """The law that applies."""

    primary_regions: Annotated[
        tuple[str, ...], Key("Where the people in the data live.", Several(_REGION), "", _REGISTER)
    ] = ()
    enable_real_time_monitoring: Annotated[
        bool,
        Key("Whether deadlines and retention are watched, and announced.", Flag(), "", _VIGIL),
    ] = False
    auto_remediation: Annotated[
        bool,
        Key("Whether records whose time is over are set aside, reversibly.", Flag(), "", _VIGIL),
    ] = False
    frameworks: Annotated[
        tuple[str, ...],
        Key("The laws that are checked.", Several(Choice(FRAMEWORKS)), "", _REGISTER),
    ] = ()


@dataclass(frozen=True, slots=True)
class Internationalization:
    """Languages and formats."""

    default_locale: Annotated[str, Key("For people who did not choose.", _LOCALE, "", _PAGES)] = (
        "en_US"
    )
    fallback_locale: Annotated[str, Key("Where a translation is missing.", _LOCALE, "", _PAGES)] = (
        "en_US"
    )
    enable_auto_detection: Annotated[
        bool, Key("Whether the browser's preference is followed.", Flag(), "", _PAGES)
    ] = True
    supported_locales: Annotated[
        tuple[str, ...], Key("Which can be chosen.", Several(_LOCALE, least=1), "", _PAGES)
    ] = LOCALES


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Figures for Prometheus."""

    enabled: Annotated[
        bool, Key("Whether figures are served on a port of their own.", Flag(), "", _METRICS)
    ] = False
    host: Annotated[
        str,
        Key(
            "On which address; the figures hold everybody's budgets.",
            Text(r"[0-9a-fA-F.:]{2,39}", "an address of this machine"),
            used_by=_METRICS,
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Key("On which port.", _PORT, "port", _METRICS)] = 9090
    scrape_interval: Annotated[
        float,
        Key(
            "The time between two scrapes; figures are read twice in it at most.",
            _SECONDS,
            "seconds",
            _METRICS,
        ),
    ] = 30.0


@dataclass(frozen=True, slots=True)
class Grafana:
    """Dashboards in Grafana."""

    enabled: Annotated[
        bool, Key("Whether Grafana is part of the deployment.", Flag(), "", _CHECKS)
    ] = False
    port: Annotated[int, Key("On which port.", _PORT, "port", _CHECKS)] = 3000
    admin_password: Annotated[
        Secret | None, Key("The password of its administrator.", Hidden(), "", _CHECKS)
    ] = None


@dataclass(frozen=True, slots=True)
class Alerts:
    """When people are called."""

    privacy_budget_threshold: Annotated[
        float, Key("From which spent share of a budget on.", _SHARE, "share", _WARNINGS)
    ] = 0.9
    threat_detection_enabled: Annotated[
        bool, Key("Whether a detected threat calls people.", Flag(), "", _WARNINGS)
    ] = False
    performance_degradation_threshold: Annotated[
        float, Key("Below which share of the usual speed a job is slow.", _SHARE, "share", _METRICS)
    ] = 0.8


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Figures, dashboards, alerts."""

    prometheus: Prometheus = Prometheus()
    grafana: Grafana = Grafana()
    alerts: Alerts = Alerts()


@dataclass(frozen=True)
class Environment:
    """Everything that an environment says."""

    environment: Annotated[
        str,
        Key("What runs here; it decides what is refused.", Choice(ENVIRONMENTS), used_by=_CHECKS),
    ] = "development"
    debug: Annotated[
        bool, Key("Whether errors show their insides; refused in production.", Flag(), "", _CHECKS)
    ] = False
    log_level: Annotated[
        str,
        Key(
            "The least that is logged.",
            Choice(("debug", "info", "warning", "error", "critical")),
            used_by=_LOGS,
        ),
    ] = "info"
    database: Database = Database()
    redis: Redis = Redis()
    privacy: Privacy = Privacy()
    security: Security = Security()
    scaling: Scaling = Scaling()
    compliance: Compliance = Compliance()
    i18n: Internationalization = Internationalization()
    monitoring: Monitoring = Monitoring()
    service: Front = Front()  # noqa: RUF009  it is frozen, like those above
    oidc: Oidc = Oidc()  # noqa: RUF009  it is frozen, like those above
    tracing: Tracing = Tracing()  # noqa: RUF009  it is frozen, like those above
    notify: Notify = Notify()  # noqa: RUF009  it is frozen, like those above
    intake: Intake = Intake()  # noqa: RUF009  it is frozen, like those above
    router: Router = Router()  # noqa: RUF009  it is frozen, like those above
    guard: Guard = Guard()  # noqa: RUF009  it is frozen, like those above
    passwords: Passwords = Passwords()  # noqa: RUF009  it is frozen, like those above
    artefacts: Artefacts = Artefacts()  # noqa: RUF009  it is frozen, like those above
    retention: Retention = Retention()  # noqa: RUF009  it is frozen, like those above
