"""What a gateway may let pass, as values. Read from a file by `policy_file`.

Everything has a safe default: a server that is only named with its command is `egress` and gets
tokens; a tool that no rule names is treated as its server; nothing is revealed to anybody.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Final

SEPARATOR: Final = "__"
"""Between a server's name and the name of its tool or prompt."""


class Zone(StrEnum):
    """How far a server or tool is trusted with values that identify somebody.

    ==========  ==============================  ===========================================
    zone        tokens in the arguments         values in clear that the model typed
    ==========  ==============================  ===========================================
    `trusted`   real value, if its type is      pass, if their type is listed in `reveal`;
                listed in `reveal`              else replaced by a token
    `internal`  stay tokens                     replaced by a token
    `egress`    stay tokens                     replaced by a token, or the call is refused
                                                (`redaction.raw_values`)
    ==========  ==============================  ===========================================

    What comes back from a tool is redacted in every zone: the model is never trusted.
    """

    TRUSTED = "trusted"
    INTERNAL = "internal"
    EGRESS = "egress"


class RawValues(StrEnum):
    """What happens to a value in clear on its way to an `egress` tool."""

    TOKENISE = "tokenise"
    REFUSE = "refuse"


class Binary(StrEnum):
    """What happens to images, audio and other bytes that no detector can read."""

    WITHHOLD = "withhold"
    PASS = "pass"  # noqa: S105  not a password


class NewTools(StrEnum):
    """What happens to a tool that was never seen: pinned as it is, or withheld until approved."""

    PIN = "pin"
    WITHHOLD = "withhold"


@dataclass(frozen=True, kw_only=True)
class ToolRule:
    """One rule for the tools of a server whose name matches `pattern` (`*` and `?`)."""

    pattern: str
    zone: Zone
    reveal: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class StdioTarget:
    """A server that the gateway starts. `pass_env` names variables that it inherits besides."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    cwd: str | None = None


@dataclass(frozen=True, kw_only=True)
class HttpTarget:
    """A server at an address. `bearer_env` names the variable with the gateway's own token."""

    url: str
    bearer_env: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServerPolicy:
    """One server behind the gateway, and what its tools may have.

    Args:
        name: in the names of its tools (`NAME__tool`) and resources (`mcp://NAME/...`).
        target: how it is reached.
        zone, reveal: of the server's resources and prompts, and of tools that no rule names.
        allow: patterns of tools that exist for the client; all others are not listed.
        rules: the first that matches a tool decides.
        prefix: whether names carry the server's name; without it a name taken twice is refused.
        deadline_s: how long one request may take, in seconds.
    """

    name: str
    target: StdioTarget | HttpTarget
    zone: Zone = Zone.EGRESS
    reveal: frozenset[str] = frozenset()
    allow: tuple[str, ...] = ("*",)
    rules: tuple[ToolRule, ...] = ()
    prefix: bool = True
    deadline_s: float = 60.0

    def allows(self, tool: str) -> bool:
        """Whether a tool of this name exists for the client."""
        return any(fnmatchcase(tool, pattern) for pattern in self.allow)

    def grant(self, tool: str | None) -> ToolRule:
        """What a tool may have; `None` stands for the server's resources and prompts."""
        if tool is not None:
            for rule in self.rules:
                if fnmatchcase(tool, rule.pattern):
                    return rule
        return ToolRule(pattern="*", zone=self.zone, reveal=self.reveal)


@dataclass(frozen=True, kw_only=True)
class RedactionPolicy:
    """How text is examined.

    Args:
        level: `low`, `medium` or `high`: which entity types count (`privacy_core.redaction`).
        names: whether the shipped name model looks for people, places and organisations.
        keep: entity types that everybody may see.
        raw_values, binary: see there.
    """

    level: str = "medium"
    names: bool = True
    keep: frozenset[str] = frozenset()
    raw_values: RawValues = RawValues.TOKENISE
    binary: Binary = Binary.WITHHOLD


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on one message, one session and one gateway. Beyond them a message is refused."""

    message_bytes: int = 1_000_000
    depth: int = 64
    leaves: int = 50_000
    detector_s: float = 5.0
    calls_per_minute: int = 600
    concurrent_calls: int = 32
    sessions: int = 64
    session_idle_s: float = 3600.0
    hops: int = 4


@dataclass(frozen=True, kw_only=True)
class AuthPolicy:
    """The gateway as an OAuth 2.1 resource server (RFC 9728, RFC 8707).

    Args:
        issuer: the authorization server; tokens of others are refused.
        resource: this gateway's public address; tokens for another audience are refused.
        jwks_url: where the issuer's keys are, for tokens that are JWTs; or
        introspection_url: RFC 7662, with the credentials in two environment variables.
        scopes: every token must carry all of them.
    """

    issuer: str
    resource: str
    jwks_url: str | None = None
    introspection_url: str | None = None
    client_id_env: str | None = None
    client_secret_env: str | None = None
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Everything a gateway does not decide by itself.

    Args:
        journal: file of the hash-chained journal; `None`: pins and audit live in memory only.
        new_tools: what happens to a tool that was never seen.
    """

    servers: tuple[ServerPolicy, ...] = ()
    redaction: RedactionPolicy = field(default_factory=RedactionPolicy)
    limits: Limits = field(default_factory=Limits)
    auth: AuthPolicy | None = None
    journal: str | None = None
    new_tools: NewTools = NewTools.PIN

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the policy says, however its file is written and wherever it lies."""
        document = asdict(replace(self, journal=None))
        text = json.dumps(document, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()

    def server(self, name: str) -> ServerPolicy | None:
        """The server of this name, if there is one."""
        return next((server for server in self.servers if server.name == name), None)

    def beside(self, folder: Path) -> Policy:
        """The same policy with its relative paths read from `folder`."""
        return self if self.journal is None else replace(self, journal=str(folder / self.journal))


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(type(value).__name__)
