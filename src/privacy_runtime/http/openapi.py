"""The OpenAPI document: who may ask how, and what errors look like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

BEARER: Final = "bearer"
API_KEY: Final = "apiKey"
COOKIE: Final = "session"
SCHEMES: Final[Mapping[str, Mapping[str, str]]] = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of `POST /api/v1/auth/login`, or an API key.",
    },
    API_KEY: {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    COOKIE: {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-session",
        "description": "A browser's session. Unsafe methods also need `X-CSRF-Token`. Without TLS "
        "the cookie is called `session`.",
    },
}
ERROR: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details", "request_id"],
            "properties": {
                "code": {"type": "string", "examples": ["invalid_request"]},
                "message": {"type": "string"},
                "details": {"type": "array", "items": {"type": "object"}},
                "request_id": {"type": "string"},
            },
        }
    },
}
PROBLEM: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "details": {"type": "array", "items": {"type": "object"}},
        "request_id": {"type": "string"},
    },
}
_METHODS: Final = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})
_BODIED: Final = {
    "400": "The request cannot be read.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is of another type than this route reads.",
    "422": "The request has faults; every one is listed.",
}
_GUARDED: Final = {"401": "Credentials are needed, or do not count.", "403": "Not allowed."}
_ALWAYS: Final = {
    "429": "Too many requests; see `Retry-After`.",
    "500": "Something went wrong; quote the request id.",
    "503": "Something that the answer needs is gone; see `Retry-After`.",
}


def documented(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """An application's `openapi` with our credentials and errors in it."""
    kept: dict[str, Any] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal kept
        if kept is None:
            kept = _completed(make())
        return kept

    return openapi


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(Error=dict(ERROR), Problem=dict(PROBLEM))
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    if components.get("securitySchemes"):
        components["securitySchemes"].update({name: dict(s) for name, s in SCHEMES.items()})
    for operation in _operations(document):
        asks = [one for one in operation.get("security", []) if BEARER in one]
        if asks:
            operation["security"] = [{BEARER: []}, {API_KEY: []}, {COOKIE: []}]
        _say_errors(operation, guarded=bool(asks))
    return document


def _operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document.get("paths", {}).values():
        for method, operation in path.items():
            if method in _METHODS:
                yield operation


def _say_errors(operation: dict[str, Any], *, guarded: bool) -> None:
    responses = operation.setdefault("responses", {})
    wanted = dict(_ALWAYS)
    if guarded:
        wanted |= _GUARDED
    if "requestBody" in operation or "422" in responses:
        wanted |= _BODIED
    content = {
        "application/json": {"schema": {"$ref": "#/components/schemas/Error"}},
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
    }
    for status, description in wanted.items():
        own = responses.get(status, {})
        if "application/json" not in own.get("content", {}) or status == "422":
            responses[status] = {"description": description, **own, "content": content}
