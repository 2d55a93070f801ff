"""From an exception to an answer: the router's rows, and OpenAI's form of the same.

======================  ======  ============================================================
error                   status  says besides
======================  ======  ============================================================
BudgetTooSmall          422     `details[0].least`: the smallest epsilon that would do
ConsensusUnavailable    422     `details[0].least`, null where no epsilon would
PrivacyBudgetExceeded   429     no `Retry-After`: a lifetime budget does not come back
Overloaded              429     `Retry-After`
NodeUnavailable         503     `Retry-After`
NodeRefused             502     nothing of what the node sent
... that was `replayed` 409     `already_begun`: the key's request was begun before, and paid
======================  ======  ============================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from federated_dp_llm import errors
from privacy_runtime import allowances
from privacy_runtime.http import ErrorTable, Fault, Json, Problem, Row, own_words
from privacy_runtime.http.refusals import HttpRefusal
from privacy_runtime.http.visits import visit_of
from privacy_runtime.settings.faults import SettingsRefused

_REPLAYED: Final = "replayed"
_LATER: Final = "the service cannot do this now; nothing was released, try again"


class OverloadedNow(HttpRefusal):
    """More is asked than can be answered."""

    code: ClassVar[str] = "overloaded"
    status: ClassVar[int] = 429

    def __init__(self, error: errors.Overloaded) -> None:
        super().__init__(str(error))
        self.retry_after_s = max(1, math.ceil(error.retry_after_s))


class NodesGone(HttpRefusal):
    """Not enough nodes can be reached."""

    code: ClassVar[str] = "node_unavailable"
    status: ClassVar[int] = 503

    def __init__(self, error: errors.NodeUnavailable) -> None:
        super().__init__(_LATER)
        self.retry_after_s = max(1, math.ceil(error.retry_after_s))


class AlreadyBegun(HttpRefusal):
    """A request under this key was begun before, and ended without an answer."""

    code: ClassVar[str] = "already_begun"
    status: ClassVar[int] = 409

    def __init__(self) -> None:
        super().__init__(
            "a request under this idempotency key was begun before, and ended without an answer "
            "that was written down; it is paid as far as it came, and is not made again: ask under "
            "another key; nothing more was spent"
        )


@contextmanager
def waits_said() -> Iterator[None]:
    """Say when to come back in whole seconds, at least one: a header knows no parts of them."""
    try:
        yield
    except errors.Overloaded as error:
        raise OverloadedNow(error) from error
    except errors.NodeUnavailable as error:
        raise NodesGone(error) from error
    except errors.NodeRefused as error:
        if not error.reason.startswith(_REPLAYED):
            raise
        raise AlreadyBegun from error


def table() -> ErrorTable:
    """The rows of the runtime and of the router."""
    return ErrorTable.standard().with_rows(_ROWS)


def _least(error: errors.BudgetTooSmall | errors.ConsensusUnavailable) -> Sequence[Any]:
    found: dict[str, Any] = {"path": "body.privacy_budget", "kind": error.code}
    if isinstance(error, errors.BudgetTooSmall):
        return [{**found, "epsilon": error.epsilon, "least": error.least, "needs": error.needs}]
    return [{**found, "slots": error.slots, "error": error.error, "least": error.least}]


def _shortage(error: errors.PrivacyBudgetExceeded) -> Sequence[Mapping[str, Any]]:
    return [{"scope": error.user_id, "requested": error.requested, "available": error.available}]


def _faults(error: SettingsRefused) -> Sequence[Fault]:
    return [Fault(f"body.{one.path}", one.message, "invalid_setting") for one in error.faults]


_ROWS: Final[Mapping[type[Exception], Row]] = {
    errors.FederatedError: Row(500, "something went wrong here; quote the request id"),
    errors.PrivacyBudgetExceeded: Row(429, own_words, details=_shortage),
    errors.BudgetTooSmall: Row(422, own_words, details=_least),
    errors.ConsensusUnavailable: Row(422, own_words, details=_least),
    errors.UnknownNode: Row(404, "there is no such node"),
    errors.NodeRefused: Row(
        502, "a node refused, or broke the protocol; nothing more was released"
    ),
    allowances.AllowanceExhausted: Row(
        429, "no room is left; nothing was spent", "privacy_budget_exceeded"
    ),
    allowances.AllowancesUnavailable: Row(503, _LATER, "store_unavailable", retry_after_s=5),
    allowances.KeyReused: Row(
        409, "this request id was used for another request; nothing was spent"
    ),
    SettingsRefused: Row(422, "the change has faults; nothing was changed", details=_faults),
}

_KINDS: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_FOREVER: Final = frozenset(
    {"privacy_budget_exceeded", "budget_too_small", "node_refused", "already_begun"}
)
"""Asked again, these are answered the same: OpenAI's clients repeat 429 and 5xx by themselves."""


def openai_answer(problem: Problem, request_id: str) -> Response:
    """A problem in the form that OpenAI's clients read."""
    status = 400 if problem.status == 422 else problem.status
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    details = [
        {"path": one.path, "message": one.message, "kind": one.kind}
        if isinstance(one, Fault)
        else dict(one)
        for one in problem.details
    ]
    path = str(details[0].get("path", "")) if details else ""
    message = problem.message
    if details and "message" in details[0]:
        message = f"{message}: {path} {details[0]['message']}"
    body = {
        "message": message,
        "type": "insufficient_quota" if problem.code == "privacy_budget_exceeded" else kind,
        "param": path.removeprefix("body.") or None,
        "code": problem.code,
        "details": details,
        "request_id": request_id,
    }
    headers = dict(problem.headers or {})
    headers["Cache-Control"] = "no-store"
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.code in _FOREVER:
        headers["X-Should-Retry"] = "false"
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="api"'
    return Json({"error": body}, status_code=status, headers=headers)


def openai_route(rows: ErrorTable) -> type[APIRoute]:
    """A class of routes whose errors, those of authentication too, are in OpenAI's form."""

    class OpenAIRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:
            """The handler, with its errors answered."""
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                try:
                    return await inner(request)
                except Exception as error:  # noqa: BLE001  the table answers all, and logs ours
                    return openai_answer(rows.answer(error), visit_of(request).request_id)

            return handle

    return OpenAIRoute
