"""Where messages may go: not into the network that the service itself stands in.

Somebody who may add an endpoint must not be able to make this service knock at neighbours. So an
address is resolved here, every answer is looked at, and the connection goes to the address that was
looked at, not to what the name resolves to a moment later. Redirects are not followed.

==================================================  ============================================
an endpoint                                         is
==================================================  ============================================
with a scheme other than https, user, password,     refused when it is added
a fragment, no host
that is such an address itself                      refused when it is added
that resolves to a private, loopback, link-local,   refused at each attempt, unless the network
shared, multicast or reserved address               is allowed by the operator
with such an address inside IPv6 (mapped, 6to4,     refused as that address is
Teredo, NAT64)
that resolves to a cloud's metadata service         refused, whatever is allowed
one of whose addresses is refused                   refused as a whole
==================================================  ============================================

Source: OWASP, Server-Side Request Forgery Prevention Cheat Sheet; IANA special-purpose registries.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from privacy_runtime.notify.errors import AddressRefused

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host and port to its addresses."""

LONGEST: Final = 2_000
_ELSEWHERE: Final = "its host is in a network that messages do not go to"
_METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"),
    )
)
_NAT64: Final = (
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("64:ff9b:1::/48"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """An address that was looked at.

    Attributes:
        url: with the address in the place of the host.
        host: what TLS and the header `Host` name.
        authority: host, and port where it is not the scheme's.
    """

    url: str
    host: str
    authority: str


def require_url(url: str, *, allow_http: bool = False, allowed: Sequence[Network] = ()) -> str:
    """Check the form of an address, and return its host for lists. Nothing is resolved.

    Raises:
        AddressRefused: see the table.
    """
    if len(url) > LONGEST or not url.isascii() or any(c <= " " or c in '"<>\\^`{|}' for c in url):
        raise AddressRefused(f"it needs at most {LONGEST} characters that addresses are written in")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressRefused("it is not a URL") from None
    schemes = ("https", "http") if allow_http else ("https",)
    if parts.scheme not in schemes:
        raise AddressRefused(f"its scheme is not {' or '.join(schemes)}")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("it holds a user or a password")
    if not parts.hostname or "%" in parts.hostname or parts.fragment or port == 0:
        raise AddressRefused("it needs a host, a usable port and no fragment")
    try:
        literal = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return parts.hostname
    if not is_allowed(literal, allowed):
        raise AddressRefused(_ELSEWHERE)
    return parts.hostname


async def target_of(
    url: str, *, allowed: Sequence[Network] = (), resolve: Resolve | None = None
) -> Target:
    """Resolve an address, look at every answer, and pin the first.

    Args:
        url: checked by `require_url`.
        allowed: networks that are fine although they are not public.
        resolve: None: the system's.

    Raises:
        AddressRefused: it does not resolve, or one of its addresses is refused.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = await (resolve or _resolve)(host, port)
    except (OSError, UnicodeError):
        raise AddressRefused("its host does not resolve") from None
    addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in found]
    if not addresses:
        raise AddressRefused("its host does not resolve")
    for address in addresses:
        if not is_allowed(address, allowed):
            raise AddressRefused(_ELSEWHERE)
    pinned = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
    shown = f"[{host}]" if ":" in host else host
    authority = shown if parts.port is None else f"{shown}:{parts.port}"
    rest = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    return Target(f"{parts.scheme}://{pinned}:{port}{rest}{query}", host, authority)


def is_allowed(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether messages may go to an address."""
    address = _inner(address)
    if address in _METADATA:
        return False
    if any(address.version == network.version and address in network for network in allowed):
        return True
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, where it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _NAT64):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if int(address) >> 32 == 0 and int(address) > 1:  # the old compatible form, ::a.b.c.d
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found: list[Any] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [entry[4][0] for entry in found]
