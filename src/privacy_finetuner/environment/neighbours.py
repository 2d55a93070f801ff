"""Sections about what stands beside the service: a queue, a router, a guard, lists, old runs.

Everything here may be left out: then jobs come over HTTP only, the pages know neither router nor
guard, passwords are checked by rule alone, and runs are kept until somebody removes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from privacy_runtime.secret import Secret
from privacy_runtime.settings.domains import Address, Hidden, Number, Text, Whole
from privacy_runtime.settings.schema import Key

_INTAKE: Final = "the intake of jobs from a message queue"
_ROUTER: Final = "the page of the router"
_GUARD: Final = "the page of the guard"
_PASSWORDS: Final = "the choice of passwords"
_UPKEEP: Final = "the upkeep of serve"
_NAME: Final = Text(r"[A-Za-z0-9][A-Za-z0-9_.:{}-]{0,127}", "letters, figures and _ . : { } -")
_KEEPING: Final = "workers and serve, for what jobs leave"
_STORE: Final = Text(
    r"/[^\x00-\x1f]*|(?!(memory|file|local|https?|data)://)[a-z][a-z0-9+.-]*://[^\s@]+",
    "a folder, from the root, or an address such as s3://bucket/prefix, without credentials",
)
_FILE: Final = Text(r"/[^\x00-\x1f]*", "a file, from the root")


@dataclass(frozen=True, slots=True)
class Intake:
    """Training jobs from a Redis stream, besides HTTP. Redis is that of the section `redis`."""

    stream: Annotated[
        str | None, Key("The stream that is read; null is none.", _NAME, "", _INTAKE)
    ] = None
    group: Annotated[str, Key("The consumer group that all servers share.", _NAME, "", _INTAKE)] = (
        "privacy-finetuner"
    )
    user: Annotated[
        str | None,
        Key(
            "In whose name jobs of the stream are started.",
            Text(r"u_[0-9a-f]+", "the id of a user, u_..."),
            "",
            _INTAKE,
        ),
    ] = None
    deliveries_most: Annotated[
        int,
        Key(
            "How often a message is tried when servers die of it, before it is set aside.",
            Whole(1, 1000),
            "deliveries",
            _INTAKE,
        ),
    ] = 5
    claim_after_s: Annotated[
        float,
        Key(
            "After which silence another server takes a message over.",
            Number(least=1, most=86_400),
            "seconds",
            _INTAKE,
        ),
    ] = 60.0


@dataclass(frozen=True, slots=True)
class Router:
    """The router of private queries, where there is one."""

    url: Annotated[
        Secret | None,
        Key("Where its API is; null is none.", Address(("http", "https")), "", _ROUTER),
    ] = None
    key: Annotated[
        Secret | None, Key("A key of the router that may read its figures.", Hidden(), "", _ROUTER)
    ] = None
    authority: Annotated[
        str | None,
        Key("The certificate authority of its TLS; null is the system's.", _FILE, "", _ROUTER),
    ] = None
    limit_s: Annotated[
        float, Key("For one question.", Number(above=0, most=60), "seconds", _ROUTER)
    ] = 3.0


@dataclass(frozen=True, slots=True)
class Guard:
    """The guard of the pipeline (`pipeline-guard serve`), where there is one."""

    url: Annotated[
        Secret | None,
        Key("Where its API is; null is none.", Address(("http", "https")), "", _GUARD),
    ] = None
    key: Annotated[
        Secret | None,
        Key("A token of the guard with guard:read (pipeline-guard token).", Hidden(), "", _GUARD),
    ] = None
    authority: Annotated[
        str | None,
        Key("The certificate authority of its TLS; null is the system's.", _FILE, "", _GUARD),
    ] = None
    limit_s: Annotated[
        float, Key("For one question.", Number(above=0, most=60), "seconds", _GUARD)
    ] = 3.0


@dataclass(frozen=True, slots=True)
class Passwords:
    """Which passwords nobody may choose, besides those that are too simple by rule."""

    leaked_list: Annotated[
        str | None,
        Key(
            "A file with one leaked password, or its SHA-1, a line; null is the rules alone.",
            _FILE,
            "",
            _PASSWORDS,
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Artefacts:
    """Where models and reports are kept besides the folder of runs, for several machines."""

    store: Annotated[
        str | None,
        Key("The store, for all servers and workers; null is that folder.", _STORE, "", _KEEPING),
    ] = None


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept that jobs left behind."""

    runs_days: Annotated[
        int | None,
        Key(
            "After how many days weights and logs of an ended job go; null is never.",
            Whole(1, 36_500),
            "days",
            _UPKEEP,
        ),
    ] = None
