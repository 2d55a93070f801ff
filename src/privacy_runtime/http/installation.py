"""Put the plumbing into an application."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from privacy_core.errors import PrivacyError
from privacy_runtime.http.envelope import answer
from privacy_runtime.http.errors import ErrorTable
from privacy_runtime.http.front import FrontDoor
from privacy_runtime.http.limits import RateLimits
from privacy_runtime.http.openapi import documented
from privacy_runtime.http.policy import HttpPolicy
from privacy_runtime.http.refusals import UnsupportedMediaType
from privacy_runtime.world import Entropy, SystemEntropy

_GZIP_LEVEL: Final = 6


def install(
    app: FastAPI,
    *,
    errors: ErrorTable | None = None,
    policy: HttpPolicy | None = None,
    limits: RateLimits | None = None,
    entropy: Entropy | None = None,
) -> None:
    """Answer errors by the table, and let every request pass the front door.

    Call it after the application's own `add_middleware` calls: the front door must be outermost.

    Args:
        app: the application; its OpenAPI document gets the error envelope and the credentials.
        errors: default: `ErrorTable.standard()`.
        policy: default: a service on the loopback.
        limits: counts requests by address, before anything else is done for them.
        entropy: for request ids; default: the system's.
    """
    table, numbers = errors or ErrorTable.standard(), policy or HttpPolicy()

    async def answered(connection: HTTPConnection, error: Exception) -> Response:
        if isinstance(error, RequestValidationError) and _is_other_type(connection, error):
            error = UnsupportedMediaType("the body should be JSON, and say so; nothing was done")
        return answer(connection, table.answer(error), numbers)

    for kind in (PrivacyError, HTTPException, RequestValidationError, *table.rows):
        app.add_exception_handler(kind, answered)
    app.state.http_policy, app.state.http_errors = numbers, table
    app.openapi = documented(app.openapi)  # type: ignore[method-assign]
    app.add_middleware(_Compression, prefixes=numbers.compressed)
    app.add_middleware(
        FrontDoor,
        errors=table,
        policy=numbers,
        entropy=entropy or SystemEntropy(),
        limits=limits,
    )
    if numbers.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(numbers.proxies))


def _is_other_type(connection: HTTPConnection, error: RequestValidationError) -> bool:
    """Whether a body has faults as a whole because it is said to be something else than JSON."""
    kind = connection.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    is_json = kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )
    whole = any(tuple(one.get("loc", ())) == ("body",) for one in error.errors())
    return bool(kind) and not is_json and whole


class _Compression:
    """gzip for what holds no secret. Compressed beside a guess, secrets leak (BREACH)."""

    def __init__(self, app: ASGIApp, prefixes: tuple[str, ...]) -> None:
        self._plain, self._prefixes = app, prefixes
        self._zipped = GZipMiddleware(app, minimum_size=1024, compresslevel=_GZIP_LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] == "http" and scope["path"].startswith(self._prefixes)
        await (self._zipped if is_open else self._plain)(scope, receive, send)
