"""HTTP/1.1, as much of it as a look at an endpoint needs: one request, one answer, no redirects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pipeline_guard.probes.inputs import refused

_LINE_BYTES_MOST: Final = 65_536
_HEADERS_MOST: Final = 200
_PORTS: Final = {"http": 80, "https": 443}


class NotHttp(Exception):
    """The other side does not speak HTTP; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL leads.

    Attributes:
        host, port: whom to connect to.
        target: path and query.
        is_encrypted: by TLS.
    """

    host: str
    port: int
    target: str
    is_encrypted: bool

    @property
    def authority(self) -> str:
        """As the header `Host` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self.is_encrypted else "http"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said: its status, its headers in lower case, and the start of the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def address_of(url: str) -> Address:
    """The address of a URL.

    Raises:
        ConfigurationError: it is no http or https URL, or holds a name and a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise refused(
            "url", "a URL that cannot be read", "http://HOST... or https://..."
        ) from error
    if parts.scheme not in _PORTS or not parts.hostname or any(c <= " " for c in url):
        raise refused("url", parts.scheme, "http://HOST... or https://HOST...")
    if parts.username is not None:
        raise refused("url", "a URL with a password", "one without; use bearer_file")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.hostname, port or _PORTS[parts.scheme], target, parts.scheme == "https")


def context_of(authorities: Path | None, *, is_verified: bool = True) -> ssl.SSLContext:
    """How the other side's certificate is checked: by these authorities, or by the system's.

    Raises:
        ConfigurationError: the file holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise refused("authorities", str(authorities), "a file of PEM certificates") from error
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def exchange(
    address: Address,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    context: ssl.SSLContext | None = None,
    most_bytes: int = 65_536,
) -> Answer:
    """Send one request on a connection of its own, and read the answer.

    Raises:
        OSError, ssl.SSLError: there is no connection.
        NotHttp: the answer is none.
    """
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=context, limit=_LINE_BYTES_MOST
    )
    try:
        lines = {
            "Host": address.authority,
            "User-Agent": "pipeline-guard",
            "Accept": "*/*",
            "Connection": "close",
            **({"Content-Length": str(len(body))} if body or method == "POST" else {}),
            **(headers or {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {address.target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        await writer.drain()
        return await _answer(reader, method, most_bytes)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise NotHttp("the answer ends early or cannot be read") from error
    finally:
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader, method: str, most_bytes: int) -> Answer:
    version, _, rest = (await reader.readline()).decode("latin-1").rstrip().partition(" ")
    number = rest[:3]
    if not version.startswith("HTTP/1.") or not number.isdecimal():
        raise NotHttp("the first line is no HTTP/1.1 status" if version else "it said nothing")
    headers: dict[str, str] = {}
    for _ in range(_HEADERS_MOST):
        line = (await reader.readline()).decode("latin-1")
        if line in ("\r\n", "\n", ""):
            break
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    else:
        raise NotHttp("it has too many headers")
    status = int(number)
    if 100 <= status < 200:
        return await _answer(reader, method, most_bytes)
    if method == "HEAD" or status in (204, 304):
        return Answer(status, headers, b"")
    return Answer(status, headers, await _body(reader, headers, most_bytes))


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str], most_bytes: int) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunks(reader, most_bytes)
    length = headers.get("content-length")
    if length is not None:
        return await reader.readexactly(min(int(length), most_bytes))
    pieces = b""
    while len(pieces) < most_bytes and (piece := await reader.read(most_bytes - len(pieces))):
        pieces += piece
    return pieces


async def _chunks(reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    pieces = b""
    while len(pieces) < most_bytes:
        size = int((await reader.readline()).split(b";")[0], 16)
        if size == 0:
            break
        pieces += await reader.readexactly(min(size, most_bytes - len(pieces)))
        if len(pieces) < most_bytes:
            await reader.readexactly(2)
    return pieces[:most_bytes]
