"""The sections of a deployment's file: every key with its sentence, domain and default."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from privacy_core.errors import InvalidParameter
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

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
"""What nodes, departments and cohorts are called."""
_NAMES: Final = Text(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}", "a name of letters, digits and ._:/-")
_FILES: Final = Text(r"[^\x00-\x1f]{1,4096}", "a path")
_MAILBOX: Final = Text(r"[^\s@<>,;]+@[A-Za-z0-9.-]+", "an e-mail address")
_EPSILON: Final = Number(above=0.0, most=100.0)
_TOKEN_EPSILON: Final = Number(above=0.0, most=1000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where the router listens, and what it is called."""

    host: Annotated[
        str, Key("Address to listen at.", Text(r"[A-Za-z0-9.:\[\]-]+", "an address"))
    ] = "127.0.0.1"
    port: Annotated[int, Key("Port to listen at.", Whole(1, 65_535))] = 8080
    origin: Annotated[
        str | None, Key("Where clients find it.", Text(r"https?://[^/\s]+", "scheme://host[:port]"))
    ] = None
    hosts: Annotated[tuple[str, ...], Key("Further names it answers to.", Several(_NAMES))] = ()
    proxies: Annotated[
        tuple[str, ...], Key("Proxies whose X-Forwarded-For is believed.", Several(_NAMES))
    ] = ()
    certificate: Annotated[str | None, Key("Certificate chain in PEM: HTTPS here.", _FILES)] = None
    key: Annotated[str | None, Key("Its key in PEM.", _FILES)] = None
    require_pq: Annotated[bool, Key("Refuse clients without X25519MLKEM768.", Flag())] = False
    behind_tls_proxy: Annotated[bool, Key("A proxy in front speaks HTTPS.", Flag())] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where state is kept."""

    home: Annotated[str, Key("Folder of keys and SQLite files.", _FILES)] = "federated-dp-llm-home"
    database: Annotated[
        Secret | None,
        Key("PostgreSQL in the place of SQLite.", Address(("postgresql", "postgresql+psycopg"))),
    ] = None
    redis: Annotated[
        Secret | None, Key("Counts rates for several processes.", Address(("redis", "rediss")))
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Budgets. Users' and departments' limit use; the patients' promise is kept at the nodes."""

    epsilon_per_query: Annotated[
        float, Key("Of a request that names none.", _EPSILON, "epsilon")
    ] = 0.1
    max_epsilon_per_query: Annotated[
        float, Key("The most that a request may name.", _EPSILON, "epsilon")
    ] = 10.0
    max_budget_per_user: Annotated[
        float, Key("Of one user, over a lifetime.", _EPSILON, "epsilon")
    ] = 10.0
    max_budget_per_department: Annotated[
        float, Key("Of one department, over a lifetime.", _EPSILON, "epsilon")
    ] = 100.0
    delta: Annotated[float, Key("Of every epsilon.", Number(above=0.0, most=0.01))] = 1e-5
    adjacency: Annotated[
        str, Key("What neighbouring record sets are.", Choice(("replace", "null")))
    ] = "replace"
    clip: Annotated[
        float, Key("Most that one record adds to a logit.", Number(above=0, most=20), "nats")
    ] = 3.0
    context: Annotated[
        str, Key("What a request reads that does not say.", Choice(("records", "none")))
    ] = "records"
    private_models: Annotated[
        tuple[str, ...], Key("Model names that read records.", Several(_NAMES, 1))
    ] = ("private",)
    public_models: Annotated[
        tuple[str, ...], Key("Model names that read none.", Several(_NAMES, 1))
    ] = ("public",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Limits. None of them can change a guarantee."""

    max_concurrent_requests: Annotated[int, Key("Answered at once.", Whole(1, 100_000))] = 100
    cache_size: Annotated[int, Key("Released answers that are kept.", Whole(0, 10_000_000))] = 10000
    connection_pool_size: Annotated[int, Key("Connections to a node.", Whole(1, 10_000))] = 50
    max_prompt_characters: Annotated[int, Key("Of a prompt.", Whole(1, 1_000_000))] = 10_000
    max_tokens: Annotated[int, Key("Most that a request may ask for.", Whole(1, 16_384))] = 2048
    deadline_s: Annotated[float, Key("For one answer.", Number(above=0, most=3600), "seconds")] = (
        60.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Lifetime caps of what is forwarded to `gateway` backends, in its unit: tokens, requests."""

    gateway_per_user: Annotated[int, Key("Of one user.", Whole(0, 10**15))] = 10**8
    gateway_per_department: Annotated[int, Key("Of one department.", Whole(0, 10**15))] = 10**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Who may, for how long, and what leaves."""

    authentication: Annotated[
        str,
        Key(
            "`none`: the body's user_id is believed, for trying out on this machine.",
            Choice(("required", "none")),
        ),
    ] = "required"
    token_expiry_hours: Annotated[
        float, Key("After which a login ends.", Number(least=0.25, most=24), "hours")
    ] = 8.0
    require_mfa: Annotated[
        bool, Key("Second factor for every role; administrators always have one.", Flag())
    ] = False
    audit_retention_days: Annotated[
        int, Key("Least that the audit trail is kept; it is never deleted.", Whole(1, 36_500))
    ] = 365
    redact_prompts: Annotated[bool, Key("Personal data leaves as tokens.", Flag())] = True
    redaction_level: Annotated[
        str, Key("What counts as personal.", Choice(("low", "medium", "high")))
    ] = "medium"
    unusual_factor: Annotated[
        float, Key("Times the daily average that is unusual.", Number(above=1, most=1000))
    ] = 3.0
    require_pq: Annotated[bool, Key("Refuse nodes without X25519MLKEM768.", Flag())] = False
    node_ca: Annotated[str | None, Key("Certificates that nodes are checked by.", _FILES)] = None
    node_certificate: Annotated[str | None, Key("Shown to nodes (mTLS).", _FILES)] = None
    node_key: Annotated[str | None, Key("Its key in PEM.", _FILES)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """How the nodes are met."""

    tokenizer: Annotated[
        str | None, Key("`tokenizer.json` of the nodes' model, or its folder.", _FILES)
    ] = None
    coordinators: Annotated[
        tuple[str, ...], Key("Nodes that draft; empty: all that can.", Several(_NAMES))
    ] = ()
    step_timeout_s: Annotated[
        float, Key("A slower node has empty slots.", Number(above=0, most=600), "seconds")
    ] = 25.0
    rewrite_epsilon: Annotated[
        float | None,
        Key("Prompts leave rewritten, with so much for a token; null is off.", _TOKEN_EPSILON),
    ] = None
    rewrite_model: Annotated[
        str | None, Key("Folder of the model whose public words and embeddings it uses.", _FILES)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """Spans of requests and of calls of nodes. They hold no text, and times that callers see."""

    endpoint: Annotated[
        Secret | None,
        Key("A collector that speaks OTLP over HTTP; null is off.", Address(("http", "https"))),
    ] = None
    ratio: Annotated[
        float, Key("Which share of traces is recorded.", Number(least=0, most=1), "share")
    ] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """Who is told that there is a security alert; what it is about stays in the audit trail."""

    slack_url: Annotated[
        Secret | None, Key("A Slack incoming webhook; null is none.", Hidden())
    ] = None
    mail_to: Annotated[tuple[str, ...], Key("Mailboxes.", Several(_MAILBOX))] = ()
    mail_host: Annotated[str | None, Key("Server that takes mail, with STARTTLS.", _NAMES)] = None
    mail_port: Annotated[int, Key("Its port.", Whole(1, 65_535))] = 587
    mail_from: Annotated[str, Key("In whose name.", _MAILBOX)] = "router@localhost.localdomain"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """A node as it is registered. `slots`: of its records in one answer; 0: what its card says."""

    node_id: str
    endpoint: str
    slots: int = 0
    compute_capacity: str = ""
    specializations: tuple[str, ...] = ()
    security_level: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.node_id):
            raise InvalidParameter(
                "node_id", found="another form", expected="a-z 0-9 _ . -, 64 at most"
            )
        if not re.fullmatch(r"https?://[^\s/?#@]+/?", self.endpoint):
            raise InvalidParameter(
                "endpoint", found="another form", expected="http(s)://host[:port], nothing after it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Department:
    """What one department may. `max_budget` None: `privacy.max_budget_per_department`."""

    max_budget: float | None = None
    context: Literal["records", "none"] = "records"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Records that one answer may read, by their consent.

    Args:
        slots: of all nodes together, a public constant: it stays where a node is away; 0: the sum
            of the nodes that are there.
        departments: that may ask about it; empty: all.
    """

    slots: int = 0
    departments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """The sections whose keys are known."""

    environment: Annotated[
        str, Key("What this is.", Choice(("production", "development", "testing")))
    ] = "production"
    server: Server = field(default_factory=Server)
    store: Store = field(default_factory=Store)
    privacy: Privacy = field(default_factory=Privacy)
    performance: Performance = field(default_factory=Performance)
    security: Security = field(default_factory=Security)
    federation: Federation = field(default_factory=Federation)
    usage: Usage = field(default_factory=Usage)
    tracing: Tracing = field(default_factory=Tracing)
    notices: Notices = field(default_factory=Notices)
