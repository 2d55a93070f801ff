"""What an answer looks like when something is wrong: one envelope, or RFC 9457 where asked for.

    {"error": {"code": "...", "message": "...", "details": [...], "request_id": "..."}}

With `Accept: application/problem+json`, the same as `{type, title, status, detail, instance, code,
details, request_id}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.requests import HTTPConnection
from starlette.responses import Response

from privacy_runtime.http.policy import HttpPolicy
from privacy_runtime.http.refusals import Fault
from privacy_runtime.http.visits import visit_of

PROBLEM: Final = "application/problem+json"
_CHALLENGE: Final = 'Bearer realm="api"'
_CLOSING: Final = frozenset({408, 413, 431})
"""After these the rest of the request is not read: the connection ends."""


class Json(Response):
    """An answer in JSON, written by orjson: nothing is validated again.

    Instants must carry a time zone and come out as RFC 3339 with Z.
    """

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write the content; a float that is not finite becomes null."""
        return orjson.dumps(
            content,
            option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_DATACLASS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong, as the client may know it."""

    status: int
    code: str
    message: str
    details: Sequence[Fault | Mapping[str, Any]] = ()
    retry_after_s: int | None = None
    headers: Mapping[str, str] | None = None


def answer(connection: HTTPConnection, problem: Problem, policy: HttpPolicy) -> Response:
    """The response that says so, in the form that the client reads."""
    visit = visit_of(connection)
    details = [_detail(one) for one in problem.details]
    headers = dict(problem.headers or {})
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", _CHALLENGE)
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if problem.status in _CLOSING:
        headers["Connection"] = "close"
    headers["Cache-Control"] = "no-store"
    body: dict[str, Any] = {
        "code": problem.code,
        "message": problem.message,
        "details": details,
        "request_id": visit.request_id,
    }
    if not wants_problem(connection.headers.getlist("accept")):
        said = {"error": body} if policy.error_body is None else policy.error_body(body)
        return Json(said, status_code=problem.status, headers=headers)
    body = {
        "type": policy.problem_base + problem.code,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.message,
        "instance": f"urn:request:{visit.request_id}",
        "code": problem.code,
        "details": details,
        "request_id": visit.request_id,
    }
    return Json(body, status_code=problem.status, headers=headers, media_type=PROBLEM)


def wants_problem(accept: Iterable[str]) -> bool:
    """Whether an `Accept` header names RFC 9457's type."""
    return any(
        part.split(";", 1)[0].strip().lower() == PROBLEM and not _is_refused(part)
        for line in accept
        for part in line.split(",")
    )


def _is_refused(part: str) -> bool:
    parameters = part.replace(" ", "").lower().split(";")[1:]
    return any(one in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for one in parameters)


def _detail(one: Fault | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(one, Fault):
        return {"path": one.path, "message": one.message, "kind": one.kind}
    return one
