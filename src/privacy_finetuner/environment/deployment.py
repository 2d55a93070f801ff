"""Sections that say how a deployment meets the world: names, logins elsewhere, traces, messages.

They are beside the documented ones. Everything here may be left out: then the service answers on
this machine only, people log in here, nothing is traced, and messages go to endpoints that
organisations added themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

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

_SERVE: Final = "privacy-finetuner serve"
_JOBS: Final = "what a job may name"
_OIDC: Final = "login at another issuer"
_TRACES: Final = "tracing of serve and worker"
_MESSAGES: Final = "the outbox of messages"
_HOST: Final = Text(
    r"(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\]", "a host name, or *.example.com"
)
_NETWORK: Final = Text(r"[0-9a-fA-F.:]{2,39}(/[0-9]{1,3})?", "an address or a network, 10.0.0.0/8")
_FOLDER: Final = Text(r"/[^\x00-\x1f]*", "a folder, from the root")
_HUB: Final = Text(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", "a name of a hub, org/model")
_MAILBOX: Final = Text(r"[^\s@<>,;]+@[A-Za-z0-9.-]+", "an e-mail address")
_WORDS: Final = Text(r"[^\x00-\x1f]+", "a text of one line")
EVENTS: Final = (
    "training_complete", "job_failed", "privacy_budget_warning", "security_alert", "compliance_due",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Front:
    """How the service meets the network, and what its jobs may name."""

    origin: Annotated[
        str | None,
        Key(
            "Where browsers find the service; null is wherever it listens.",
            Text(r"https?://[^\s/?#]+", "an address such as https://privacy.example.org"),
            used_by=_SERVE,
        ),
    ] = None
    hosts: Annotated[
        tuple[str, ...],
        Key("Names that requests may be for, besides the loopback's.", Several(_HOST), "", _SERVE),
    ] = ()
    proxies: Annotated[
        tuple[str, ...],
        Key("Proxies whose forwarded headers are believed.", Several(_NETWORK), "", _SERVE),
    ] = ()
    data_folders: Annotated[
        tuple[str, ...],
        Key("Further folders whose files jobs may train on.", Several(_FOLDER), "", _JOBS),
    ] = ()
    model_folders: Annotated[
        tuple[str, ...],
        Key("Further folders whose models jobs may train.", Several(_FOLDER), "", _JOBS),
    ] = ()
    hub_models: Annotated[
        tuple[str, ...],
        Key("Models that may be loaded from a hub, by name.", Several(_HUB), "", _JOBS),
    ] = ()
    upload_most_mib: Annotated[
        int,
        Key("The largest data set that may be sent; 0 takes none.", Whole(0, 4096), "MiB", _JOBS),
    ] = 64
    uploads_most_mib: Annotated[
        int,
        Key("What one organisation may have sent in all.", Whole(0, 10_000_000), "MiB", _JOBS),
    ] = 1024


@dataclass(frozen=True, slots=True)
class Oidc:
    """Login at another issuer, by OpenID Connect."""

    issuer: Annotated[
        str | None,
        Key(
            "The issuer, as its tokens say it; null is none.",
            Text(r"https://[^\s?#]+", "an address that begins with https://"),
            used_by=_OIDC,
        ),
    ] = None
    name: Annotated[
        str,
        Key(
            "Its name in addresses: /auth/oidc/NAME/login.",
            Text(r"[a-z0-9][a-z0-9-]*", "small letters, figures and -"),
            used_by=_OIDC,
        ),
    ] = "sso"
    title: Annotated[str, Key("Its name on the login page.", _WORDS, "", _OIDC)] = "Single sign-on"
    client_id: Annotated[str | None, Key("Our name there.", _WORDS, "", _OIDC)] = None
    client_secret: Annotated[
        Secret | None, Key("Our secret there; null for a public client.", Hidden(), "", _OIDC)
    ] = None
    organisation: Annotated[
        str | None,
        Key(
            "The organisation that its users belong to.",
            Text(r"o_[0-9a-f]+", "the id of an organisation, o_..."),
            used_by=_OIDC,
        ),
    ] = None
    groups_claim: Annotated[str, Key("The claim with the groups.", _WORDS, "", _OIDC)] = "groups"
    scope: Annotated[str, Key("What is asked for there.", _WORDS, "", _OIDC)] = "openid"
    roles: Annotated[
        tuple[str, ...],
        Key(
            "Which group gives which role; others are refused.",
            Several(
                Text(
                    r"[^=\x00-\x1f]+=(viewer|analyst|trainer|privacy_officer|admin)",
                    "GROUP=ROLE",
                )
            ),
            used_by=_OIDC,
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class Tracing:
    """Traces of requests, jobs and steps."""

    endpoint: Annotated[
        Secret | None,
        Key("A collector that speaks OTLP; null is off.", Address(("http", "https")), "", _TRACES),
    ] = None
    service_name: Annotated[str, Key("Our name in traces.", _WORDS, "", _TRACES)] = (
        "privacy-finetuner"
    )
    ratio: Annotated[
        float,
        Key("Which share of traces is recorded.", Number(least=0, most=1), "share", _TRACES),
    ] = 1.0
    every_step: Annotated[
        bool,
        Key("Whether each training step is recorded, not one a second.", Flag(), "", _TRACES),
    ] = False


@dataclass(frozen=True, slots=True)
class Mail:
    """The server that takes e-mail."""

    host: Annotated[
        str | None,
        Key("Its name; null is none.", Text(r"[A-Za-z0-9.:-]+", "a host"), "", _MESSAGES),
    ] = None
    port: Annotated[int, Key("Its port.", Whole(1, 65_535), "port", _MESSAGES)] = 587
    security: Annotated[
        str,
        Key("How the connection is protected.", Choice(("starttls", "tls", "none")), "", _MESSAGES),
    ] = "starttls"
    sender: Annotated[str | None, Key("In whose name mail is sent.", _MAILBOX, "", _MESSAGES)] = (
        None
    )
    user: Annotated[
        str | None, Key("Whom to log in as; null is nobody.", _WORDS, "", _MESSAGES)
    ] = None
    password: Annotated[Secret | None, Key("The user's password.", Hidden(), "", _MESSAGES)] = None


@dataclass(frozen=True, slots=True)
class Notify:
    """Messages to whoever runs the deployment, and how all messages are sent."""

    slack_url: Annotated[
        Secret | None,
        Key(
            "A Slack incoming webhook that gets everything; null is none.", Hidden(), "", _MESSAGES
        ),
    ] = None
    mail_to: Annotated[
        tuple[str, ...],
        Key("Mailboxes that get everything.", Several(_MAILBOX), "", _MESSAGES),
    ] = ()
    events: Annotated[
        tuple[str, ...],
        Key("What these two get.", Several(Choice(EVENTS), least=1), "", _MESSAGES),
    ] = EVENTS
    allowed_networks: Annotated[
        tuple[str, ...],
        Key("Private networks that webhooks may go to.", Several(_NETWORK), "", _MESSAGES),
    ] = ()
    allow_http: Annotated[
        bool, Key("Whether webhooks may go without TLS.", Flag(), "", _MESSAGES)
    ] = False
    limit_s: Annotated[
        float, Key("For one attempt.", Number(above=0, most=60), "seconds", _MESSAGES)
    ] = 15.0
    threads: Annotated[
        int, Key("How many messages are sent at once.", Whole(1, 64), "threads", _MESSAGES)
    ] = 2
    mail: Mail = Mail()
