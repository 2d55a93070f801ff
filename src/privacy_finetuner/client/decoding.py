"""From what came over the wire to values and errors. Nothing here waits."""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Generic, TypeVar, cast

from privacy_finetuner.client.errors import ServiceError, UnexpectedAnswer, family_of
from privacy_runtime.world import Clock

T = TypeVar("T")

_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,6})?")
_PUBLIC_MAX: Final = 2000  # characters of a message; a proxy's error page is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list.

    Attributes:
        next_cursor: asks for the part after this; `None` at the end.
    """

    items: tuple[T, ...]
    next_cursor: str | None = None


def page_of(kind: type[T]) -> type[Page[T]]:
    """The type of a part of a list of `kind`."""
    return cast("type[Page[T]]", Page[kind])  # type: ignore[valid-type]  # known at run time only


@cache
def _adapter(kind: Hashable) -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415 -- a tenth of a second, and only for answers

    return TypeAdapter(cast("Any", kind))


def decoded(kind: type[T], text: str | bytes) -> T:
    """A JSON text as a value of `kind`. Fields that `kind` does not have are left out.

    Raises:
        UnexpectedAnswer: it is no such value; says where, never what.
    """
    from pydantic import ValidationError  # noqa: PLC0415 -- as above

    try:
        return cast("T", _adapter(cast("Hashable", kind)).validate_json(text))
    except ValidationError as error:
        places = {".".join(map(str, fault["loc"])) or "the whole" for fault in error.errors()}
        raise UnexpectedAnswer(
            f"the service's answer is no {getattr(kind, '__name__', kind)}: "
            f"{', '.join(sorted(places)[:5])}; is it another version, or another service?"
        ) from None


def error_of(status: int, headers: Mapping[str, str], content: bytes, clock: Clock) -> ServiceError:
    """The error that an answer with a status of 300 or more stands for.

    Understands the service's envelope and RFC 9457 problem details. Anything else, such as a
    proxy's page, is named by its status alone.
    """
    found = _envelope(content)
    message, code = found.get("message"), found.get("code")
    if not isinstance(code, str) or not isinstance(message, str):
        code, message = f"http_{status}", f"the service answered with status {status}"
    details = found.get("details")
    return family_of(status, code)(
        message[:_PUBLIC_MAX],
        status=status,
        code=code,
        details=[item for item in details if isinstance(item, Mapping)]
        if isinstance(details, Sequence) and not isinstance(details, str)
        else (),
        request_id=found.get("request_id") or headers.get("x-request-id"),
        retry_after_s=retry_after_s(headers.get("retry-after"), clock),
    )


def _envelope(content: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    if not isinstance(document, Mapping):
        return {}
    inner = document.get("error")
    if isinstance(inner, Mapping):
        return inner
    return {**document, "message": document.get("detail") or document.get("title")}


def retry_after_s(value: str | None, clock: Clock) -> float | None:
    """The seconds of a `Retry-After`: a number, or a date of HTTP. `None` where it is neither."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        instant = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if instant.tzinfo is None:
        return None
    return max(0.0, (instant - clock.now()).total_seconds())
