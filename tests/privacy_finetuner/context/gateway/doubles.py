"""Stand-ins for tests of the gateway: a small detector, tokens in memory, one world."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mcp import Client
from mcp.server import Server
from mcp.server.mcpserver import MCPServer

from privacy_core.redaction.findings import Finding
from privacy_finetuner.context.gateway.gateway import Gateway
from privacy_finetuner.context.gateway.policy import Policy, ServerPolicy, StdioTarget
from privacy_finetuner.context.gateway.protection import SessionProtector, TokenSpot
from privacy_finetuner.context.gateway.trail import read
from privacy_runtime.journal import Entry, Journal
from privacy_runtime.testing import MemoryHome, SeededEntropy
from privacy_runtime.world import SystemClock

EMAIL = "jane.roe@example.org"
SSN = "219-09-9999"
SECRET = "sk-live-51Hx0AZr8QqYt"  # noqa: S105  planted
NAME = "Zebedee Quill"
PLANTED = (EMAIL, SSN, SECRET, NAME)

_PATTERNS = (
    ("EMAIL", re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+\w")),
    ("US_SSN", re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)")),
    ("SECRET", re.compile(r"sk-live-\w+")),
    ("PERSON", re.compile(r"Zebedee Quill")),
)


class SmallDetector:
    """Finds what the tests plant, and nothing else."""

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        found = [
            Finding(match.start(), match.end(), label, 1.0, "test.pattern")
            for label, pattern in _PATTERNS
            for match in pattern.finditer(text)
        ]
        return tuple(sorted(found, key=lambda finding: finding.start))


class BrokenDetector:
    """Fails, and quotes what it failed on."""

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        raise RuntimeError(f"cannot parse {text}")


class MemoryTokens:
    """Tokens of one session, in a dictionary."""

    _form = re.compile(r"\[([A-Z_]+)_(\d+)\]")

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str], str] = {}
        self._values: dict[str, tuple[str, str]] = {}

    def token(self, value: str, label: str) -> str:
        key = (value, label)
        if key not in self._tokens:
            token = f"[{label}_{len(self._tokens) + 1}]"
            self._tokens[key] = token
            self._values[token] = key
        return self._tokens[key]

    def read(self, text: str) -> Sequence[TokenSpot]:
        return [
            TokenSpot(*match.span(), match[1], self._values.get(match[0], (None, ""))[0])
            for match in self._form.finditer(text)
        ]

    def fingerprint(self, value: str, label: str) -> str:
        return hashlib.sha256(f"test key {label} {value}".encode()).hexdigest()[:20]


@dataclass
class World:
    """A gateway in this process, with everything it talks to in reach."""

    gateway: Gateway
    journal: Journal
    clients: list[Any] = field(default_factory=list)

    def trail(self) -> list[Entry]:
        return list(read(self.journal))


def server_policy(name: str = "notes", **changes: Any) -> ServerPolicy:
    return ServerPolicy(name=name, target=StdioTarget(command=("unused",)), **changes)


def protector_of(detector: Any = None, **changes: Any) -> Any:
    return lambda _: SessionProtector(detector or SmallDetector(), MemoryTokens(), **changes)


def make_world(
    policy: Policy,
    servers: Mapping[str, Any],
    *,
    detector: Any = None,
    journal: Journal | None = None,
    clock: Any = None,
) -> World:
    """A gateway before servers of this process."""
    clock = clock or SystemClock()
    journal = journal or Journal(MemoryHome(), clock=clock)

    def target(server: ServerPolicy) -> Any:
        found = servers[server.name]
        return found() if callable(found) and not isinstance(found, MCPServer | Server) else found

    gateway = Gateway(
        policy,
        protector_of(detector),
        journal,
        clock=clock,
        entropy=SeededEntropy(7),
        targets=target,
    )
    return World(gateway, journal)


@asynccontextmanager
async def connected(
    policy: Policy, servers: Mapping[str, Any], *, mode: str = "auto", **options: Any
) -> AsyncIterator[tuple[Client, World]]:
    """A client in front of a gateway before servers of this process."""
    world = make_world(
        policy,
        servers,
        **{key: options.pop(key) for key in ("detector", "journal", "clock") if key in options},
    )
    async with world.gateway.running() as server, Client(server, mode=mode, **options) as client:
        yield client, world
