"""From an exception to an answer: one table, and nothing that is not in it leaves the process.

table = ErrorTable.standard().with_rows({UnknownJob: Row(404, "there is no such job", "not_found")})

An exception finds the row of its nearest class. One that has no row is answered with 500, a
sentence that says nothing, and the request id; its traceback goes to the log.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias

import sqlalchemy as sa
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from privacy_core import errors as core
from privacy_runtime import identity
from privacy_runtime.http import refusals
from privacy_runtime.http.envelope import Problem
from privacy_runtime.http.faults import faults_of
from privacy_runtime.http.refusals import Fault, HttpRefusal, InvalidRequest
from privacy_runtime.journal.errors import JournalError, KeyTaken
from privacy_runtime.signing import KeyExpired

_log = logging.getLogger(__name__)
RETRY_AFTER_S: Final = 5
"""When to come back after 503, in seconds: a database restarts in less."""
INTERNAL: Final = Problem(
    status=500, code="internal_error", message="something went wrong here; quote the request id"
)
_LATER: Final = "the service cannot do this now; nothing was lost, try again"

Says: TypeAlias = str | Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Row:
    """How one class of exceptions is answered.

    Args:
        status: of the answer.
        says: the public sentence, or how to make it of the error. `own_words` takes `str(error)`:
            for errors that never quote what was sent.
        code: the stable code; `None` is the error's own `code`.
        retry_after_s: when to come back, in seconds; the error's own `retry_after_s` wins.
        details: further items of the answer.
    """

    status: int
    says: Says
    code: str | None = None
    retry_after_s: int | None = None
    details: Callable[[Any], Sequence[Fault | Mapping[str, Any]]] | None = None


def own_words(error: Exception) -> str:
    """The error's message."""
    return str(error)


def public(error: identity.IdentityError) -> str:
    """The sentence that an error of identity has for strangers."""
    return error.public


class ErrorTable:
    """Which exceptions are answered how.

    Args:
        rows: by class; the nearest class of an exception's bases counts.
    """

    def __init__(self, rows: Mapping[type[Exception], Row]) -> None:
        self.rows = MappingProxyType(dict(rows))

    @classmethod
    def standard(cls) -> Self:
        """The rows of the core, the runtime and the plumbing itself."""
        return cls({**_CORE, **_IDENTITY, **_STORES})

    def with_rows(self, rows: Mapping[type[Exception], Row]) -> Self:
        """This table with further rows, or others in the place of these."""
        return type(self)({**self.rows, **rows})

    def problem(self, error: Exception) -> Problem | None:
        """What a client is told; `None` if the error has no row and is a fault of ours."""
        match error:
            case HttpRefusal():
                return _refusal(error)
            case RequestValidationError():
                return _refusal(InvalidRequest(faults_of(error.errors())))
            case HTTPException():
                return self._http(error)
            case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return Problem(status=507, code="storage_full", message=_LATER, retry_after_s=60)
        for kind in type(error).__mro__:
            if kind in self.rows:
                return _of_row(self.rows[kind], error)
        return None

    def answer(self, error: Exception) -> Problem:
        """What a client is told in any case. An error of ours is logged with its traceback."""
        problem = self.problem(error)
        if problem is None:
            _log.error("unexpected error in a request", exc_info=error)
            return INTERNAL
        if problem.status >= 500:
            _log.warning("a request could not be answered", exc_info=error)
        return problem

    def _http(self, error: HTTPException) -> Problem:
        """Starlette's and FastAPI's own refusals. Their texts are replaced by ours."""
        cause = error.__cause__
        if isinstance(cause, Exception) and cause is not error:
            # FastAPI wraps what reading a body raised: our limits, a body that is no UTF-8.
            problem = self.problem(cause)
            if problem is not None:
                return problem
        code, message = _HTTP.get(error.status_code, ("refused", "the request was refused"))
        headers = dict(error.headers or {})
        return Problem(status=error.status_code, code=code, message=message, headers=headers)


def _refusal(error: HttpRefusal) -> Problem:
    return Problem(
        status=error.status,
        code=error.code,
        message=str(error),
        details=getattr(error, "faults", ()),
        retry_after_s=getattr(error, "retry_after_s", None),
    )


def _of_row(row: Row, error: Exception) -> Problem:
    own = getattr(error, "retry_after_s", None)
    return Problem(
        status=row.status,
        code=row.code or str(getattr(error, "code", "refused")),
        message=row.says if isinstance(row.says, str) else row.says(error),
        details=row.details(error) if row.details else (),
        retry_after_s=row.retry_after_s if own is None else int(own),
    )


def _parameter(error: core.InvalidParameter) -> str:
    return f"{error.parameter} should be {error.expected}; nothing was done"


def _parameter_fault(error: core.InvalidParameter) -> Sequence[Fault]:
    return [Fault(error.parameter, f"should be {error.expected}", "invalid_parameter")]


def _shortages(error: core.BudgetExhausted) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "scope": one.scope,
            "limit": one.limit,
            "epsilon_requested": one.epsilon_requested,
            "epsilon_remaining": one.epsilon_remaining,
        }
        for one in error.shortages
    ]


_HTTP: Final[Mapping[int, tuple[str, str]]] = {
    400: ("bad_request", "the request cannot be read"),
    401: ("unauthenticated", "credentials are needed"),
    403: ("not_allowed", "not allowed"),
    404: ("not_found", "not found"),
    405: ("method_not_allowed", "the method is not allowed here"),
    406: ("not_acceptable", "no such form is offered"),
    413: ("body_too_large", "the body is too large"),
    415: ("unsupported_media_type", "the body is of another type than this route reads"),
    429: ("rate_limited", "too many requests"),
    503: ("unavailable", _LATER),
}
_CORE: Final[Mapping[type[Exception], Row]] = {
    core.InvalidParameter: Row(422, _parameter, "invalid_request", details=_parameter_fault),
    core.UnsupportedEvent: Row(422, own_words),
    core.CalibrationFailed: Row(422, own_words),
    core.MalformedEvent: Row(422, own_words),
    core.BudgetError: Row(409, own_words),
    core.BudgetExhausted: Row(409, own_words, details=_shortages),
    core.UnknownScope: Row(404, own_words),
    core.UnknownReservation: Row(404, "there is no such reservation; nothing was changed"),
    core.NotAuthorised: Row(403, "not allowed to sign this; nothing was changed"),
    core.ClockWentBack: Row(503, own_words, retry_after_s=60),
    UnicodeDecodeError: Row(400, "the body is not UTF-8; nothing was done", "bad_request"),
}
_IDENTITY: Final[Mapping[type[Exception], Row]] = {
    identity.LoginRefused: Row(401, public),
    identity.LoginDelayed: Row(429, public),
    identity.CodeRequired: Row(401, public),
    identity.PasswordChangeRequired: Row(403, public),
    identity.PasswordRefused: Row(422, own_words),
    identity.NotAllowed: Row(403, public),
    identity.WrongTenant: Row(404, public, "not_found"),
    identity.StaleLogin: Row(403, public),
    identity.TokenRefused: Row(401, public, "token_refused"),
    identity.RefreshRefused: Row(401, public, "refresh_refused"),
    identity.RefreshRaced: Row(409, public, retry_after_s=1),
    identity.ApiKeyRefused: Row(401, public),
    identity.EnrolmentRefused: Row(422, public),
    identity.ExternalLoginRefused: Row(403, public),
    identity.UnknownAccount: Row(404, public, "not_found"),
    identity.AccountConflict: Row(409, own_words),
    identity.WeakSecret: Row(422, own_words),
    identity.IdentityStoreUnavailable: Row(503, _LATER, retry_after_s=RETRY_AFTER_S),
    identity.AuditUnavailable: Row(503, public, retry_after_s=RETRY_AFTER_S),
    KeyExpired: Row(503, _LATER, "signing_key_expired", retry_after_s=60),
}
_STORES: Final[Mapping[type[Exception], Row]] = {
    JournalError: Row(503, _LATER, retry_after_s=RETRY_AFTER_S),
    KeyTaken: Row(409, "this was done before; nothing was appended"),
    sa.exc.OperationalError: Row(503, _LATER, "store_unavailable", retry_after_s=RETRY_AFTER_S),
    sa.exc.InterfaceError: Row(503, _LATER, "store_unavailable", retry_after_s=RETRY_AFTER_S),
    sa.exc.TimeoutError: Row(503, _LATER, "store_unavailable", retry_after_s=RETRY_AFTER_S),
    refusals.Busy: Row(503, own_words),
}
