"""Sessions: whose tokens these are, how fast they may call, and their ways to the servers.

A session belongs to one principal: the process's one client over stdio, the owner of a verified
token over HTTP (and, before 2026-07-28, one MCP session of theirs). Two sessions share no token, no
known value and no connection.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import principal_components
from mcp.server.context import ServerRequestContext
from mcp_types import ClientCapabilities, Tool

from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.policy import Limits, Policy, ServerPolicy
from privacy_finetuner.context.gateway.protection import Protector
from privacy_finetuner.context.gateway.states import AddressBook, StateSeal
from privacy_finetuner.context.gateway.upstream import Upstream
from privacy_runtime.world import Clock, Entropy

Context: TypeAlias = ServerRequestContext[Any, Any]
ProtectorFor: TypeAlias = Callable[[str], Protector]
"""From a session's name to its protector."""
LinkTo: TypeAlias = "Callable[[Session, ServerPolicy, ClientCapabilities], Link]"

SESSION_HEADER: Final = "mcp-session-id"


@dataclass(eq=False)
class Link:
    """One session's way to one server, and what is known about the server.

    `tools` are the ones that are allowed and approved, under the server's own names, as of
    `listed_at_s` on the connection `generation`. `calls` are the requests under way, newest last.
    """

    policy: ServerPolicy
    upstream: Upstream
    tools: dict[str, Tool] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()
    listed_at_s: float | None = None
    generation: int = -1
    calls: list[Any] = field(default_factory=list)
    last_context: Context | None = None
    log_level: str | None = None

    def forget_tools(self) -> None:
        """Ask the server again before the next call."""
        self.listed_at_s = None


class Rate:
    """A bucket that holds one minute's calls and refills evenly."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits, self._clock = limits, clock
        self._left = float(limits.calls_per_minute)
        self._at_s = clock.monotonic_s()
        self.under_way = 0

    def enter(self) -> None:
        """Take one call.

        Raises:
            MessageRefused: the bucket is empty, or too many calls are under way.
        """
        now = self._clock.monotonic_s()
        full = float(self._limits.calls_per_minute)
        self._left = min(full, self._left + (now - self._at_s) * full / 60)
        self._at_s = now
        if self._left < 1 or self.under_way >= self._limits.concurrent_calls:
            raise MessageRefused(Reason.RATE_LIMITED)
        self._left -= 1
        self.under_way += 1

    def leave(self) -> None:
        """End a call."""
        self.under_way -= 1


class Session:
    """One principal's state. `name` is a hash: it goes into the audit trail."""

    def __init__(
        self, name: str, protector: Protector, limits: Limits, *, clock: Clock, entropy: Entropy
    ) -> None:
        self.name = name
        self.protector = protector
        self.seal = StateSeal(entropy)
        self.rate = Rate(limits, clock)
        self.addresses = AddressBook()
        self.used_at_s = clock.monotonic_s()
        self.suspended: dict[str, Any] = {}
        self._links: dict[str, dict[str, Link]] = {}

    def links(
        self, policy: Policy, capabilities: ClientCapabilities | None, make: LinkTo
    ) -> dict[str, Link]:
        """The ways to all servers, for clients that can do the same things."""
        can = capabilities or ClientCapabilities()
        key = can.model_dump_json(include={"sampling", "elicitation", "roots"})
        if key not in self._links:
            self._links[key] = {server.name: make(self, server, can) for server in policy.servers}
        return self._links[key]

    def close(self) -> None:
        """Drop all connections."""
        for links in self._links.values():
            for link in links.values():
                link.upstream.close()
        self._links.clear()


class Sessions:
    """All sessions of a gateway. The idle go first, and only they."""

    def __init__(
        self, policy: Policy, protector_for: ProtectorFor, *, clock: Clock, entropy: Entropy
    ) -> None:
        self._policy, self._protector_for = policy, protector_for
        self._clock = clock
        self._salt = entropy.token_bytes(16)
        self._sessions: dict[str, Session] = {}
        self._entropy = entropy

    def of(self, context: Context) -> Session:
        """The session that a request belongs to.

        Raises:
            MessageRefused: there are as many as the policy allows, and none is idle.
        """
        principal = principal_of(context)
        name = hashlib.sha256(self._salt + principal.encode()).hexdigest()[:24]
        session = self._sessions.get(name)
        if session is None:
            self._make_room()
            session = Session(
                name,
                self._protector_for(name),
                self._policy.limits,
                clock=self._clock,
                entropy=self._entropy,
            )
            self._sessions[name] = session
        session.used_at_s = self._clock.monotonic_s()
        return session

    def close(self) -> None:
        """End all sessions."""
        for name in list(self._sessions):
            self._end(name)

    def sweep(self) -> None:
        """End sessions that nobody has used for as long as the policy says."""
        oldest = self._clock.monotonic_s() - self._policy.limits.session_idle_s
        for name, session in list(self._sessions.items()):
            if session.used_at_s < oldest and not session.rate.under_way:
                self._end(name)

    def _make_room(self) -> None:
        self.sweep()
        if len(self._sessions) >= self._policy.limits.sessions:
            raise MessageRefused(Reason.RATE_LIMITED)

    def _end(self, name: str) -> None:
        self._sessions.pop(name).close()


def principal_of(context: Context) -> str:
    """Who asks: the owner of the token, and their MCP session where there is one."""
    request = context.request
    if request is None:
        return "local"
    user = request.scope.get("user")
    owner = principal_components(user.access_token) if isinstance(user, AuthenticatedUser) else ()
    return json.dumps([*owner, request.headers.get(SESSION_HEADER, "")])
