"""How a route is declared: its scope, its shapes and how it can refuse, beside its handler.

Handlers are methods of small classes that hold the service; `By` is who asks, `Visiting` the
request on its way. A route that anybody may call says `scope=None`. Scopes stand in the OpenAPI
document as `x-scope`, where tests and readers find them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.requests import HTTPConnection
from starlette.responses import Response

from privacy_runtime.http.access import Access
from privacy_runtime.http.envelope import PROBLEM, Json
from privacy_runtime.http.idempotency import Idempotency, no_replay
from privacy_runtime.http.pages import PageQuery, page_query
from privacy_runtime.http.visits import Visit, visit_of, visiting
from privacy_runtime.identity import Principal, Scope

_Handler = TypeVar("_Handler", bound=Callable[..., Any])
SCOPE_KEY: Final = "x-scope"
ANYBODY: Final = "none"
_DECLARED: Final = "__operation__"
_KEY_HEADER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[!-~]{8,128}$"},
    "description": "Whatever is sent twice under one key within a day is done once.",
}
_REFUSALS: Final[Mapping[int, tuple[str, str, str]]] = {
    401: ("The credentials do not count.", "login_refused", "user name, password or code is wrong"),
    403: ("Not allowed.", "not_allowed", "not allowed"),
    404: ("There is no such thing in this organisation.", "not_found", "not found"),
    409: ("Its state does not allow this.", "conflict", "the job has already ended"),
    422: ("The request has faults; every one is listed.", "invalid_request",
          "the request has 1 fault; nothing was done"),
    413: ("It is larger than may be sent.", "upload_too_large",
          "a data set may have 64 MiB; nothing was kept"),
    507: ("The disk is full; nothing was lost.", "storage_full", "try again later"),
}  # fmt: skip
"""By status: what it means, and the code and message of an example."""


async def principal_of(connection: HTTPConnection) -> Principal:
    """Who asks, as the route's own check of access settled it."""
    principal = visit_of(connection).principal
    assert principal is not None  # noqa: S101  a route without a scope has no `By`
    return principal


By = Annotated[Principal, Depends(principal_of)]
"""Who asks: settled by the route's scope before the handler runs."""
Visiting = Annotated[Visit, Depends(visiting)]
"""The request on its way: its id, its address, its idempotent operation."""
Paged = Annotated[PageQuery, Depends(page_query)]
"""Which page of a list is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is said of an operation beside its handler's signature."""

    method: str
    path: str
    scope: Scope | None
    raw: type[BaseModel] | Mapping[str, Any] | None
    status: int
    refuses: tuple[int, ...]
    rate: str | None
    is_fresh: bool
    is_secret: bool
    takes: Mapping[str, Any] | None

    @property
    def is_repeatable(self) -> bool:
        """Whether an `Idempotency-Key` makes sending it twice the same as once."""
        return self.method == "POST" and self.scope is not None and not self.is_secret


def operation(  # noqa: PLR0913  # everything that is said of an operation, in one place
    method: str,
    path: str,
    scope: Scope | None,
    *,
    raw: type[BaseModel] | Mapping[str, Any] | None = None,
    status: int = 200,
    refuses: tuple[int, ...] = (),
    rate: str | None = None,
    is_fresh: bool = False,
    is_secret: bool = False,
    takes: Mapping[str, Any] | None = None,
) -> Callable[[_Handler], _Handler]:
    """Declare a method as the handler of an operation.

    The method's name is the operation's id (a client's method has the same name), its docstring
    the documentation, its return annotation the shape of the answer.

    Args:
        method: of HTTP.
        path: below the router's prefix.
        scope: what it takes; `None`: nobody needs to have logged in.
        raw: of a handler that makes its response itself: the shape of the answer, or a mapping
            from media types for what is no JSON.
        status: of the answer.
        refuses: statuses of errors besides those that every route has.
        rate: a further rate that counts the request: `login`, `starts`.
        is_fresh: whether it takes a login with two factors in the last five minutes.
        is_secret: whether the answer must not be kept to be given again.
        takes: of a handler that reads the body itself, as it comes: media types and schemas.
    """

    def declare(handler: _Handler) -> _Handler:
        declared = Operation(
            method=method,
            path=path,
            scope=scope,
            raw=raw,
            status=status,
            refuses=refuses,
            rate=rate,
            is_fresh=is_fresh,
            is_secret=is_secret,
            takes=takes,
        )
        setattr(handler, _DECLARED, declared)
        return handler

    return declare


def router_of(handlers: object, access: Access, *, tag: str, prefix: str = "") -> APIRouter:
    """A router of every declared method of `handlers`, in the order of their declaration.

    Args:
        handlers: holds what the methods need.
        access: checks scopes, and counts requests.
        tag: the group in the documentation.
        prefix: of every path.
    """
    router = APIRouter(prefix=prefix, tags=[tag])
    for name, function in vars(type(handlers)).items():
        declared = getattr(function, _DECLARED, None)
        if declared is not None:
            _add(router, name, getattr(handlers, name), declared, access)
    return router


def _add(
    router: APIRouter,
    name: str,
    handler: Callable[..., Any],
    declared: Operation,
    access: Access,
) -> None:
    statuses = {*declared.refuses, *((404,) if "{" in declared.path else ())}
    if declared.method == "POST":
        statuses |= {409, 422} if declared.is_repeatable else {422}  # of `Idempotency-Key`
    summary, _, rest = inspect.cleandoc(handler.__doc__ or "").partition("\n")
    responses: dict[int | str, dict[str, Any]] = {s: refusal(s) for s in sorted(statuses)}
    shape: dict[str, Any] = {}
    if isinstance(declared.raw, type):
        shape = {"response_model": None, "response_class": Json}
        responses[declared.status] = {"model": declared.raw}
    elif declared.raw is not None:
        shape = {"response_model": None, "response_class": Response}
        responses[declared.status] = {"content": dict(declared.raw)}
    scope = declared.scope
    router.add_api_route(
        declared.path,
        handler,
        methods=[declared.method],
        operation_id=name,
        name=name,
        summary=summary.rstrip("."),
        description=rest.strip() or summary,
        status_code=declared.status,
        responses=responses,
        dependencies=_checks(declared, access),
        openapi_extra={
            SCOPE_KEY: ANYBODY if scope is None else scope.value,
            **({"parameters": [_KEY_HEADER]} if declared.is_repeatable else {}),
            **({"requestBody": _body_of(declared.takes)} if declared.takes is not None else {}),
        },
        route_class_override=Idempotency(access).route if declared.is_repeatable else None,
        **shape,
    )


def _body_of(takes: Mapping[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": dict(takes)}


def _checks(declared: Operation, access: Access) -> list[Any]:
    """What runs before the handler: who asks and what they may, then further rates."""
    scope = declared.scope
    guard = access.fresh if declared.is_fresh else access.allowed
    checks = [] if scope is None else [Depends(guard(scope))]
    if declared.rate is not None:
        checks.append(Depends(access.limited(declared.rate)))
    if declared.method == "POST" and not declared.is_repeatable:
        checks.append(Depends(no_replay))
    return checks


def refusal(status: int) -> dict[str, Any]:
    """How an error answer is documented: the envelope, and RFC 9457 where asked for."""
    says, code, message = _REFUSALS[status]
    body = {"code": code, "message": message, "details": [], "request_id": "req_5kq0"}
    return {
        "description": says,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Error"},
                "example": {"error": body},
            },
            PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }
