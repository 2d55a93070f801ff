"""What the plumbing and the handlers refuse, as a tree.

HttpRefusal (PrivacyError)
+-- InvalidRequest            faults of the request, each with its path
+-- Unauthenticated           no credentials, or more than one kind
+-- CrossSiteRefused          a browser's request that no page of its session sent
+-- NotFound                  there is no such thing here, or it is another organisation's
+-- Conflict                  the thing is in another state than the request needs
|   +-- KeyReused             an idempotency key came back with another request
|   +-- InProgress            the first request with this idempotency key is still under way
+-- TooManyRequests           a rate limit
+-- BodyTooLarge, BodyTooSlow, HeadersTooLarge
+-- UnsupportedMediaType      the body is of a type that the route does not read
+-- UnknownHost               the request is for a host that this service is not
+-- Busy                      everything that could do it is busy; nothing was begun
+-- Unavailable               something that the answer needs is gone; says what is left standing

Every message here may be read by whoever sent the request: it holds limits, names of ours and
paths, never a value that was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from privacy_core.errors import PrivacyError


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request.

    Attributes:
        path: where, from the part of the request on: `body.privacy_config.epsilon`, `query.limit`.
        message: what is expected there; never what was found.
        kind: a stable word for programs: `missing`, `greater_than`, `int_parsing`.
    """

    path: str
    message: str
    kind: str = "invalid"


class HttpRefusal(PrivacyError):
    """The request was refused; the message may be shown."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400


class InvalidRequest(HttpRefusal, ValueError):
    """The request has faults; nothing was done."""

    code: ClassVar[str] = "invalid_request"
    status: ClassVar[int] = 422

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(tuple(faults))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        count = len(self.faults)
        return f"the request has {count} fault{'' if count == 1 else 's'}; nothing was done"


class Unauthenticated(HttpRefusal):
    """There are no credentials, or they do not say one thing."""

    code: ClassVar[str] = "unauthenticated"
    status: ClassVar[int] = 401


class CrossSiteRefused(HttpRefusal):
    """A browser's request that its own pages did not make. Nothing was done."""

    code: ClassVar[str] = "cross_site_refused"
    status: ClassVar[int] = 403


class NotFound(HttpRefusal):
    """There is no such thing here. Another organisation's things are not here either."""

    code: ClassVar[str] = "not_found"
    status: ClassVar[int] = 404

    def __init__(self, message: str = "not found") -> None:
        super().__init__(message)


class Conflict(HttpRefusal):
    """The thing is in another state than the request needs. Nothing was changed."""

    code: ClassVar[str] = "conflict"
    status: ClassVar[int] = 409


class KeyReused(Conflict):
    """An idempotency key came back with another request."""

    code: ClassVar[str] = "idempotency_conflict"


class InProgress(Conflict):
    """The first request with this idempotency key has not been answered yet."""

    code: ClassVar[str] = "in_progress"
    retry_after_s: ClassVar[int] = 1


class TooManyRequests(HttpRefusal):
    """A rate limit. Nothing was done.

    Args:
        rule: name of the limit.
        retry_after_s: when the next request would pass, in seconds.
    """

    code: ClassVar[str] = "rate_limited"
    status: ClassVar[int] = 429

    def __init__(self, rule: str, *, retry_after_s: int) -> None:
        super().__init__(rule, retry_after_s)
        self.rule, self.retry_after_s = rule, retry_after_s

    def __str__(self) -> str:
        return f"too many requests ({self.rule}); try again in {self.retry_after_s} s"


class BodyTooLarge(HttpRefusal):
    """The body is larger than this route reads."""

    code: ClassVar[str] = "body_too_large"
    status: ClassVar[int] = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"the body has more than {self.limit_bytes} bytes; nothing was done"


class BodyTooSlow(HttpRefusal):
    """The body did not arrive in time."""

    code: ClassVar[str] = "body_too_slow"
    status: ClassVar[int] = 408

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.limit_s = limit_s

    def __str__(self) -> str:
        return f"the body did not arrive within {self.limit_s:g} s; nothing was done"


class HeadersTooLarge(HttpRefusal):
    """There are too many headers, or too much in them."""

    code: ClassVar[str] = "headers_too_large"
    status: ClassVar[int] = 431


class UnsupportedMediaType(HttpRefusal):
    """The route does not read bodies of this type."""

    code: ClassVar[str] = "unsupported_media_type"
    status: ClassVar[int] = 415


class UnknownHost(HttpRefusal):
    """The request names a host that this service does not answer for."""

    code: ClassVar[str] = "unknown_host"
    status: ClassVar[int] = 421


class Busy(HttpRefusal):
    """Everybody who could do it is busy. Nothing was begun."""

    code: ClassVar[str] = "busy"
    status: ClassVar[int] = 503
    retry_after_s: ClassVar[int] = 2


class Unavailable(HttpRefusal):
    """Something that the answer needs is gone."""

    code: ClassVar[str] = "unavailable"
    status: ClassVar[int] = 503

    def __init__(self, message: str = "try again later", *, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
