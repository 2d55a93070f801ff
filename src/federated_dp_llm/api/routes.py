"""How a route is declared: its scope, what it refuses, and its place in the document.

Every documented path has a version, `/v1/...`, and the spelling without one that the documents also
use; the second is the same handler and stays out of the OpenAPI document.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from starlette.requests import HTTPConnection

from federated_dp_llm.api.door import Door
from privacy_runtime.http import visit_of
from privacy_runtime.http.envelope import PROBLEM
from privacy_runtime.http.visits import Visit, visiting
from privacy_runtime.identity import Principal, Scope

VERSION: Final = "/v1"
_SAYS: Final = {
    400: "The request has faults, or the budget does not buy this.",
    401: "The credentials do not count.",
    403: "Not allowed.",
    404: "There is no such thing.",
    409: "Its state does not allow this.",
    422: "The request has faults, or the budget does not buy this; `details` says what would.",
    429: "No budget is left, or too much is asked at once; see `Retry-After`.",
    502: "A node broke the protocol.",
    503: "Nodes or the store cannot be reached; see `Retry-After`.",
}


async def _principal_of(connection: HTTPConnection) -> Principal:
    principal = visit_of(connection).principal
    assert principal is not None  # noqa: S101  a route without a scope has no `By`
    return principal


By = Annotated[Principal, Depends(_principal_of)]
"""Who asks: settled by the route's scope before the handler runs."""
Visiting = Annotated[Visit, Depends(visiting)]
"""The request on its way."""


class Routes:
    """Collects routes of one group.

    Args:
        door: checks scopes.
        tag: the group in the document.
        errors: statuses that every route of the group has besides.
    """

    def __init__(self, door: Door, *, tag: str, errors: tuple[int, ...] = ()) -> None:
        self.router = APIRouter(tags=[tag])
        self._door, self._errors = door, errors

    def add(  # noqa: PLR0913  everything that is said of a route, in one place
        self,
        method: str,
        path: str,
        scope: Scope | None,
        handler: Callable[..., Any],
        *,
        refuses: tuple[int, ...] = (),
        status: int = 200,
        rate: str | None = None,
        is_fresh: bool = False,
        aliases: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        """Add a route below `/v1`, and its aliases.

        Args:
            method: of HTTP.
            path: below the version.
            scope: what it takes; None: anybody.
            handler: its name is the operation's id, its docstring the documentation.
            refuses: statuses of its errors.
            status: of the answer.
            rate: a further rate that counts the request.
            is_fresh: whether it takes a login with two factors in the last five minutes.
            aliases: further paths, without a version.
            more: as of `APIRouter.add_api_route`.
        """
        checks: list[Any] = []
        if scope is not None:
            guard = self._door.fresh if is_fresh else self._door.allowed
            checks.append(Depends(guard(scope)))
        if rate is not None:
            checks.append(Depends(self._door.limited(rate)))
        summary, _, rest = inspect.cleandoc(handler.__doc__ or "").partition("\n")
        common = {"methods": [method], "status_code": status, "dependencies": checks, **more}
        self.router.add_api_route(
            VERSION + path,
            handler,
            operation_id=handler.__name__,
            name=handler.__name__,
            summary=summary.rstrip("."),
            description=rest.strip() or summary,
            responses={s: _refusal(s) for s in sorted({*refuses, *self._errors})}
            | more.pop("responses", {}),
            openapi_extra={"x-scope": "none" if scope is None else scope.value},
            **{name: value for name, value in common.items() if name != "responses"},
        )
        for alias in aliases:
            self.router.add_api_route(
                alias, handler, name=f"{handler.__name__}_alias", include_in_schema=False, **common
            )


def _refusal(status: int) -> dict[str, Any]:
    return {
        "description": _SAYS[status],
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Error"}},
            PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }
