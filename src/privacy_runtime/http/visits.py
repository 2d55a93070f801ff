"""One request on its way through the plumbing: what is known about it besides what it says."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from starlette.requests import HTTPConnection

from privacy_runtime.identity import Principal

_KEY: Final = "privacy_runtime.visit"
UNKNOWN_ADDRESS: Final = "unknown"


@dataclass(slots=True)
class Visit:
    """A request.

    Attributes:
        request_id: its name in logs, answers and errors.
        address: the client's, from the nearest proxy that is trusted.
        is_tls: whether the client came over TLS.
        headers: what the answer will carry besides; the plumbing adds to it.
        principal: who asks, once that is settled.
        operation: a key that stays the same when a request with an idempotency key is repeated.
    """

    request_id: str
    address: str = UNKNOWN_ADDRESS
    is_tls: bool = False
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    principal: Principal | None = None
    operation: str | None = None

    @property
    def network(self) -> str:
        """What one client can hardly leave: the address, of IPv6 the /64."""
        try:
            address = ip_address(self.address)
        except ValueError:
            return self.address
        if isinstance(address, IPv6Address):
            if address.ipv4_mapped is not None:
                return str(address.ipv4_mapped)
            return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
        return self.address


def begin(scope: MutableMapping[str, Any], visit: Visit) -> None:
    """Attach a visit to its scope."""
    scope[_KEY] = visit


def visit_in(scope: MutableMapping[str, Any]) -> Visit:
    """The visit of a scope; a bare one where the plumbing is not installed."""
    visit: Visit | None = scope.get(_KEY)
    if visit is None:
        client = scope.get("client")
        visit = scope[_KEY] = Visit("req_none", client[0] if client else UNKNOWN_ADDRESS)
    return visit


def visit_of(connection: HTTPConnection) -> Visit:
    """The visit of a request or WebSocket."""
    return visit_in(connection.scope)


async def visiting(connection: HTTPConnection) -> Visit:
    """Dependency: the visit. FastAPI would run a function that is not asynchronous in a thread."""
    return visit_of(connection)
