"""Shared plumbing of the web applications: errors, identifiers, limits, access, streams.

Knows requests and answers, and no product.

    limits = RateLimits(clock, redis_url=None)
    access = Access(identity, clock=clock, entropy=entropy, policy=policy, limits=limits)
    app.include_router(...)          # Depends(access.allowed(Scope.JOBS_READ)) -> Principal
    install(app, errors=ErrorTable.standard().with_rows({...}), policy=policy, limits=limits)
    serve(app, ServerOptions(port=8080))
"""

from __future__ import annotations

from privacy_runtime.http.access import Access, Guard
from privacy_runtime.http.envelope import Json, Problem
from privacy_runtime.http.errors import ErrorTable, Row, own_words, public
from privacy_runtime.http.idempotency import Idempotency, no_replay
from privacy_runtime.http.installation import install
from privacy_runtime.http.limits import Rate, RateLimits
from privacy_runtime.http.pages import Page, PageQuery, page_query
from privacy_runtime.http.policy import HttpPolicy
from privacy_runtime.http.refusals import (
    BodyTooLarge,
    Busy,
    Conflict,
    CrossSiteRefused,
    Fault,
    HttpRefusal,
    InvalidRequest,
    NotFound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from privacy_runtime.http.visits import Visit, visit_of

__all__ = [
    "Access",
    "BodyTooLarge",
    "Busy",
    "Conflict",
    "CrossSiteRefused",
    "ErrorTable",
    "Fault",
    "Guard",
    "HttpPolicy",
    "HttpRefusal",
    "Idempotency",
    "InvalidRequest",
    "Json",
    "NotFound",
    "Page",
    "PageQuery",
    "Problem",
    "Rate",
    "RateLimits",
    "Row",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMediaType",
    "Visit",
    "install",
    "no_replay",
    "own_words",
    "page_query",
    "public",
    "visit_of",
]
