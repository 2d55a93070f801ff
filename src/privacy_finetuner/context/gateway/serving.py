"""The gateway behind a transport: standard streams, or streamable HTTP."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import uvicorn
from mcp.server.auth.provider import TokenVerifier
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette

from privacy_finetuner.context.gateway.auth import settings_of, verifier_of
from privacy_finetuner.context.gateway.errors import GatewayRefused
from privacy_finetuner.context.gateway.gateway import Gateway
from privacy_finetuner.context.gateway.policy import Policy
from privacy_runtime.listening import is_loopback
from privacy_runtime.world import SystemClock

PATH: Final = "/mcp"
SHUTDOWN_S: Final = 1


async def serve_stdio(gateway: Gateway) -> None:
    """Serve one client over standard input and output, until it closes them."""
    async with gateway.running() as server, stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(gateway: Gateway, host: str, port: int) -> None:
    """Serve clients at `http://HOST:PORT/mcp`, until the process is told to end.

    Raises:
        GatewayRefused: others can reach the address, and the policy names no issuer.
    """
    app = app_of(gateway, host)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    async with gateway.running():
        await uvicorn.Server(config).serve()


def app_of(
    gateway: Gateway, host: str = "127.0.0.1", *, verifier: TokenVerifier | None = None
) -> Starlette:
    """The ASGI application of a gateway; serve it inside of `gateway.running()`.

    Args:
        gateway: with the policy whose `auth` decides who may come in.
        host: the address it will be bound to.
        verifier: in the place of the one that the policy asks for; for tests.

    Raises:
        GatewayRefused: see `serve_http`.
    """
    require_guarded(gateway.policy, host)
    auth = gateway.policy.auth
    security = None
    if auth is not None and not is_loopback(host):
        name = urlsplit(auth.resource).netloc
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=True, allowed_hosts=[name, f"{name}:*"]
        )
    elif is_loopback(host):
        security = _this_machine_only(host)
    if auth is not None and verifier is None:
        verifier = verifier_of(auth, SystemClock())
    limits = gateway.policy.limits
    return gateway.server.streamable_http_app(
        streamable_http_path=PATH,
        host=host,
        auth=None if auth is None else settings_of(auth),
        token_verifier=None if auth is None else verifier,
        max_request_body_size=2 * limits.message_bytes,
        max_sessions=limits.sessions,
        session_idle_timeout=limits.session_idle_s,
        transport_security=security,
    )


def _this_machine_only(host: str) -> TransportSecuritySettings:
    """Refuse what a page in a browser sends: the SDK does, for three spellings of the loopback."""
    address = host.strip("[]")
    named = f"[{address}]" if ":" in address else address
    hosts = [f"{name}:*" for name in dict.fromkeys(("127.0.0.1", "localhost", "[::1]", named))]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=hosts,
        allowed_origins=[f"http://{name}" for name in hosts],
    )


def require_guarded(policy: Policy, host: str) -> None:
    """Refuse an address that others can reach when nobody checks who they are.

    Raises:
        GatewayRefused: the policy has no auth section.
    """
    if policy.auth is None and not is_loopback(host):
        raise GatewayRefused(
            f"{host} can be reached from other machines, and the policy has no auth section: "
            "anybody could use the servers behind the gateway. It was not started; add auth, or "
            "bind 127.0.0.1"
        )
