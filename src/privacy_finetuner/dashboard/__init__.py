"""The pages: budgets, jobs, evidence and governance in a browser, served by the same process.

Rendered on the server; a page works without scripts, and a few small ones make it livelier. Nothing
is loaded from elsewhere, and no page holds a script or a style of its own.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope as Connection

from privacy_finetuner.dashboard import (
    audits,
    budgets,
    certificates,
    compliance,
    datasets,
    frontier,
    jobs,
    operations,
    overview,
    people,
    router,
    sign_in,
)
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import STATIC
from privacy_finetuner.service import Service
from privacy_runtime.http import Access, ErrorTable

_FOREVER: Final = "public, max-age=31536000, immutable"
_SECTIONS: Final = (
    overview, jobs, datasets, frontier, budgets, audits, certificates, operations, router,
    compliance, people, sign_in,
)  # fmt: skip


class _Elsewhere(Convertor[str]):
    """Addresses of pages: everything that is not the API's, whose errors are not pages."""

    regex = r"(?!(?:api|auth|ws|static|health|metrics|mcp|openapi\.json)(?:/|$)).*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Static(StaticFiles):
    """Files with their digest in the address: a browser asks for each once."""

    async def get_response(self, path: str, scope: Connection) -> Response:
        response = await super().get_response(path, scope)
        is_pinned = scope.get("query_string", b"").startswith(b"v=")
        response.headers["cache-control"] = _FOREVER if is_pinned else "no-cache"
        return response


def mount(app: FastAPI, service: Service, access: Access, *, errors: ErrorTable) -> Pages:
    """Add the pages to an application: `/`, below it, and `/static`.

    Call it after the API's routers: its last route answers for every address that is left.

    Args:
        app: the application.
        service: what the pages show.
        access: sessions, tokens of forms, rates; the process's one.
        errors: what may be said of an exception; the application's table.
    """
    pages = Pages(service, access, errors)
    for section in _SECTIONS:
        section.register(pages)
    register_url_convertor("elsewhere", _Elsewhere())
    app.router.routes.append(Mount("/static", _Static(directory=STATIC), name="static"))
    app.router.routes.extend(pages.routes)
    app.router.routes.append(Route("/{rest:elsewhere}", pages.not_found(), name="no page"))
    return pages
