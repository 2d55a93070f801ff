"""The tools at `/mcp` of a running service: streamable HTTP, each request with its own credentials.

There are no sessions: every request shows a token or a key, and every tool acts with exactly that,
by asking the same application in the same process. So a tool can do what its caller could do over
REST, is limited and audited alike, and nobody can go on with somebody else's session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import httpx2
from fastapi import FastAPI
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from privacy_finetuner.client import AsyncClient, AsyncSettings, NotLoggedIn, RetryPolicy
from privacy_finetuner.mcp_server.clients import Asked
from privacy_finetuner.mcp_server.server import server_of
from privacy_runtime.http.access import Access
from privacy_runtime.http.refusals import Unauthenticated
from privacy_runtime.http.visits import visit_of

PATH: Final = "/mcp"
_BODY_MAX: Final = 4 << 20
_METHODS: Final = ("GET", "POST", "DELETE")


def mount(app: FastAPI, access: Access) -> AbstractAsyncContextManager[None]:
    """Serve the tools at `/mcp` of an application.

    Args:
        app: the service's application; the tools ask it, in this process.
        access: says who asks. A browser's cookie does not count here.

    Returns:
        What must be entered while the application runs: `async with mount(app, access): ...` in its
        lifespan.
    """
    server = server_of(_CallersOwn(app))
    tools = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        max_request_body_size=_BODY_MAX,
        # The front door of the application knows its host names; there are no cookies to steal.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    app.router.routes.append(
        Route(PATH, endpoint=_Guarded(tools, access), methods=_METHODS, include_in_schema=False)
    )
    return server.session_manager.run()


class _Guarded:
    """Lets nobody in without a token or key in a header that counts."""

    def __init__(self, tools: ASGIApp, access: Access) -> None:
        self._tools, self._access = tools, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if not _shown(request):
            raise Unauthenticated("a token or an API key is needed")
        await self._access.authenticate(request)
        await self._tools(scope, receive, send)


class _CallersOwn:
    """A client with the credentials of the request that the tool was called by."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    @asynccontextmanager
    async def __call__(self, context: Asked) -> AsyncIterator[AsyncClient]:
        request = context.request_context.request
        if not isinstance(request, Request):
            raise NotLoggedIn("the call came with no request")
        visit = visit_of(request)
        scheme = "https" if visit.is_tls else "http"
        settings = AsyncSettings(
            retries=RetryPolicy(tries=1),
            transport=httpx2.ASGITransport(
                app=self._app, client=(visit.address, 0), raise_app_exceptions=False
            ),
            headers={**_shown(request), "X-Request-ID": visit.request_id},
        )
        address = f"{scheme}://{request.headers.get('host', 'localhost')}"
        async with AsyncClient.with_headers(address, settings) as client:
            yield client


def _shown(request: Request) -> Mapping[str, str]:
    """The credentials in the headers of a request, as they are."""
    names = ("authorization", "x-api-key")
    return {name: request.headers[name] for name in names if name in request.headers}
