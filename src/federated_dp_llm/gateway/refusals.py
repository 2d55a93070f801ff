"""Refusals and failures as OpenAI's clients read them.

{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from federated_dp_llm.errors import Overloaded
from federated_dp_llm.gateway.completions import InvalidRequest
from federated_dp_llm.gateway.faults import BackendFault
from privacy_runtime.allowances.errors import AllowanceExhausted, AllowancesError, UnknownAccount
from privacy_runtime.http.refusals import TooManyRequests, Unauthenticated
from privacy_runtime.identity import (
    AuditUnavailable,
    IdentityError,
    IdentityStoreUnavailable,
    NotAllowed,
)

_INVALID: Final = "invalid_request_error"
_SERVER: Final = "server_error"
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a client is told instead of an answer; holds nothing that it does not know."""

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    retry_after_s: float | None = None

    def body(self) -> bytes:
        """The document."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return bytes(_encode({"error": error}))

    def event(self) -> bytes:
        """The same as the last event of a stream that broke off."""
        return b"data: " + self.body() + b"\n\n"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the status asks for."""
        found = []
        if self.retry_after_s is not None:
            found.append((b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode()))
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))
        return found


NO_ROUTE: Final = Refusal(
    status=404, message="there is no such path", type=_INVALID, code="unknown_url"
)
WRONG_METHOD: Final = Refusal(
    status=405, message="the path has another method", type=_INVALID, code="method_not_allowed"
)
TOO_LARGE: Final = Refusal(
    status=413, message="the body is too large", type=_INVALID, code="request_too_large"
)
TOO_SLOW: Final = Refusal(
    status=408,
    message="the request did not arrive in time",
    type=_INVALID,
    code="request_too_slow",
)
HEAD_TOO_LARGE: Final = Refusal(
    status=431,
    message="the headers are more than is read here",
    type=_INVALID,
    code="headers_too_large",
)
NO_KEY: Final = Refusal(
    status=401,
    message="an API key or token is needed: Authorization: Bearer ...",
    type="authentication_error",
    code="invalid_api_key",
)
BAD_KEY: Final = Refusal(
    status=401,
    message="the API key or token does not count",
    type="authentication_error",
    code="invalid_api_key",
)
NOT_ALLOWED: Final = Refusal(
    status=403,
    message="this key or login may not ask models",
    type="permission_error",
    code="not_allowed",
)


EXHAUSTED: Final = Refusal(
    status=429,
    message="an allowance has no room for what this request can cost; nothing was spent. "
    "A smaller max_tokens may fit",
    type="insufficient_quota",
    code="insufficient_quota",
)
NO_ALLOWANCE: Final = Refusal(
    status=429,
    message="no allowance was opened for this user; nothing was spent",
    type="insufficient_quota",
    code="no_allowance",
)
TOO_MANY: Final = Refusal(
    status=429, message="too many requests", type="rate_limit_error", code="rate_limit_exceeded"
)
BUSY: Final = Refusal(
    status=503,
    message="every backend that was asked is busy",
    type="overloaded_error",
    code="overloaded",
)
UNKNOWN_MODEL: Final = Refusal(
    status=404,
    message="no backend serves this model; GET /v1/models lists those that are served",
    type=_INVALID,
    param="model",
    code="model_not_found",
)


UNAVAILABLE: Final = Refusal(
    status=503,
    message="the store of allowances or of identities cannot be asked; nothing was spent",
    type=_SERVER,
    code="unavailable",
    retry_after_s=2.0,
)
AUDIT_GONE: Final = Refusal(
    status=503,
    message="the audit trail cannot be written, so nothing is answered; nothing was spent",
    type=_SERVER,
    code="audit_unavailable",
    retry_after_s=5.0,
)
BACKEND_REFUSED: Final = Refusal(
    status=502, message="the backend refused or failed", type=_SERVER, code="backend_refused"
)
FAILED: Final = Refusal(
    status=500, message="something failed here", type=_SERVER, code="internal_error"
)


_FIXED: Final[tuple[tuple[type[Exception], Refusal], ...]] = (
    (NotAllowed, NOT_ALLOWED),
    (Unauthenticated, BAD_KEY),
    (IdentityStoreUnavailable, UNAVAILABLE),
    (AuditUnavailable, UNAVAILABLE),
    (IdentityError, BAD_KEY),
    (AllowancesError, UNAVAILABLE),
)
"""The first kind that fits."""


def of(error: Exception, *, exhausted_retry_s: float) -> Refusal:
    """What a client is told of an error. Anything unknown is a failure of ours, without details."""
    match error:
        case InvalidRequest():
            code, param = error.reason, error.field or None
            return Refusal(status=400, message=str(error), type=_INVALID, param=param, code=code)
        case AllowanceExhausted():
            return replace(EXHAUSTED, retry_after_s=exhausted_retry_s)
        case UnknownAccount():
            return replace(NO_ALLOWANCE, retry_after_s=exhausted_retry_s)
        case TooManyRequests():
            return replace(TOO_MANY, retry_after_s=float(error.retry_after_s))
        case Overloaded():
            return replace(BUSY, message=str(error), retry_after_s=error.retry_after_s)
        case BackendFault():
            message = f"the backend {error.what}"
            return Refusal(status=error.status, message=message, type=_SERVER, code=error.code)
        case _:
            return next((found for kind, found in _FIXED if isinstance(error, kind)), FAILED)


def of_status(status: int, retry_after: bytes = b"") -> Refusal:
    """What a client is told when a backend answered with a status that is not passed on."""
    if status in {429, 503, 529}:
        seconds = float(retry_after) if retry_after.isdigit() and len(retry_after) < 6 else 1.0
        return replace(BUSY, retry_after_s=seconds)
    return BACKEND_REFUSED
