"""What can go wrong between a program and the service, as a tree.

PrivacyError (privacy_core)
+-- ClientError
    +-- ServiceError            the service answered with an error; carries what it said
    |   +-- InvalidRequest          400, 415, 422: every fault with its path in `details`
    |   +-- Unauthenticated         401: no, or no longer valid, credentials
    |   +-- NotAllowed              403: known, but without the scope
    |   +-- NotFound                404: not there, or another organisation's
    |   +-- Conflict                409: it does not fit the state of things
    |   |   +-- BudgetRefused           the ledger has no room; nothing was spent
    |   +-- TooLarge                413: the body is over the limit
    |   +-- TooManyRequests         429: `retry_after_s` says when
    |   +-- Unavailable             502, 503, 504, 507: the service or what it stands on
    |   '-- ServiceFailed           any other 5xx: a fault of the service
    +-- Unreachable             no answer came; whether the request arrived is not known
    +-- UnexpectedAnswer        an answer came that this version does not understand
    +-- StreamSilent            a stream of events stayed lost for longer than it may
    +-- DownloadDamaged         a file is not the one that the service announced
    +-- NotLoggedIn             there are no credentials to use
    +-- CredentialsUnsafe       others may read the credentials, or the way there is not private
    '-- SignatureRefused        a webhook was not signed by who it says, or not just now

An error of the service keeps its stable `code`; `str` is the service's own public sentence with the
request id, so that a report of it can be found in the service's logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from privacy_core.errors import PrivacyError


class ClientError(PrivacyError):
    """Base of every error of the client."""

    code: ClassVar[str] = "client_error"


class ServiceError(ClientError):
    """The service answered with an error.

    Attributes:
        status: of HTTP.
        code: the service's stable name of the error.
        message: its public sentence.
        details: its faults, each with a path where there is one.
        request_id: under which the service's logs have it.
        retry_after_s: when it is worth trying again; `None` where the service did not say.
    """

    code: ClassVar[str] = "service_error"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        details: Sequence[Mapping[str, Any]] = (),
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code  # type: ignore[misc]  # a class of errors has many codes
        self.details = tuple(details)
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        parts = [self.message, *(f"{_path(item)}{_says(item)}" for item in self.details[:_SHOWN])]
        if len(self.details) > _SHOWN:
            parts.append(f"and {len(self.details) - _SHOWN} more")
        if self.retry_after_s is not None:
            parts.append(f"try again in {self.retry_after_s:g} s")
        if self.request_id is not None:
            parts.append(f"request {self.request_id}")
        return "; ".join(parts)


_SHOWN: Final = 10


def _path(detail: Mapping[str, Any]) -> str:
    path = detail.get("path") or detail.get("field") or detail.get("loc")
    if isinstance(path, Sequence) and not isinstance(path, str):
        path = ".".join(map(str, path))
    return f"{path}: " if path else ""


def _says(detail: Mapping[str, Any]) -> str:
    return str(detail.get("message") or detail.get("msg") or detail.get("code") or "refused")


class InvalidRequest(ServiceError):
    """The request is not one that the service understands. Nothing was done."""


class Unauthenticated(ServiceError):
    """There are no credentials that count. Nothing was done."""


class NotAllowed(ServiceError):
    """The caller is known and lacks the scope. Nothing was done."""


class NotFound(ServiceError):
    """There is no such thing, or it belongs to another organisation."""


class Conflict(ServiceError):
    """The request does not fit the state of things. Nothing was done."""


class BudgetRefused(Conflict):
    """The ledger has no room for it. Nothing was spent."""


class TooLarge(ServiceError):
    """The body is over the service's limit. Nothing was done."""


class TooManyRequests(ServiceError):
    """The caller's rate is over its limit. Nothing was done."""


class Unavailable(ServiceError):
    """The service, or what it stands on, cannot answer now."""


class ServiceFailed(ServiceError):
    """The service has a fault. What had been done by then is not known."""


class Unreachable(ClientError):
    """No answer came. Whether the request arrived is not known.

    A request with an idempotency key can be sent again with the same key.
    """

    code: ClassVar[str] = "unreachable"

    def __init__(self, url: str, *, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason
        self.tries = 1

    def __str__(self) -> str:
        times = "once" if self.tries == 1 else f"{self.tries} times"
        return f"{self.url} did not answer ({self.reason}); tried {times}"


class UnexpectedAnswer(ClientError):
    """An answer is not of the shape that this version expects. It is not shown: it may be data."""

    code: ClassVar[str] = "unexpected_answer"


class StreamSilent(ClientError):
    """A stream of events broke and could not be taken up again in time. Events were not lost."""

    code: ClassVar[str] = "stream_silent"

    def __init__(self, what: str, *, silent_s: float, last_event: int) -> None:
        super().__init__(what, silent_s, last_event)
        self.what = what
        self.silent_s = silent_s
        self.last_event = last_event

    def __str__(self) -> str:
        return (
            f"no connection to the events of {self.what} for {self.silent_s:.0f} s; the last event "
            f"was {self.last_event}: watch again with after={self.last_event}"
        )


class DownloadDamaged(ClientError):
    """A file is not the one that the service announced. It was not put in place."""

    code: ClassVar[str] = "download_damaged"

    def __init__(self, name: str, *, found: str, expected: str) -> None:
        super().__init__(name, found, expected)
        self.name = name
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return (
            f"{self.name} came with {self.found}, expected {self.expected}; the file was removed "
            "and nothing was put in its place"
        )


class NotLoggedIn(ClientError):
    """There are no credentials to use. Nothing was sent."""

    code: ClassVar[str] = "not_logged_in"


class CredentialsUnsafe(ClientError):
    """Others may read the credentials, or the way to the service is open. Nothing was sent."""

    code: ClassVar[str] = "credentials_unsafe"


class SignatureRefused(ClientError):
    """A webhook was not signed by the one who holds the secret, or not just now. Discard it."""

    code: ClassVar[str] = "signature_refused"


_FAMILIES: Final[Mapping[int, type[ServiceError]]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    415: InvalidRequest,
    422: InvalidRequest,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: Unavailable,
}
_BUDGET_CODES: Final = frozenset({"budget_exhausted", "privacy_budget_exhausted"})


def family_of(status: int, code: str) -> type[ServiceError]:
    """The class of an answer, from its status; of a budget's refusal, from its code."""
    if code in _BUDGET_CODES:
        return BudgetRefused
    return _FAMILIES.get(status, ServiceFailed if status >= 500 else ServiceError)
