"""Identifiers that every line of one request or job has, also across processes.

They live in context variables, so each task and thread has its own, and travel to a child process
in one environment variable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import orjson
from structlog.contextvars import bind_contextvars, bound_contextvars, get_contextvars

from privacy_core.errors import InvalidParameter
from privacy_runtime.logs.vocabulary import CORRELATION, fits

VARIABLE: Final = "PRIVACY_FINETUNER_CORRELATION"
_LONGEST: Final = 2_000


@contextmanager
def bound(**ids: str | None) -> Iterator[None]:
    """Put identifiers into every line that is logged inside; `None` leaves a key alone.

    What has not the form of its key comes out as any other text does: by its length.

    Raises:
        InvalidParameter: a key is none of `vocabulary.CORRELATION`.
    """
    given = {key: text for key, text in ids.items() if text is not None}
    if unknown := given.keys() - set(CORRELATION):
        raise InvalidParameter(
            "correlation", found=sorted(unknown), expected=f"some of {', '.join(CORRELATION)}"
        )
    with bound_contextvars(**given):
        yield


def current() -> Mapping[str, Any]:
    """What is bound here."""
    return get_contextvars()


def carried() -> dict[str, str]:
    """The environment variable that hands what is bound here to a child; empty without any."""
    ids = {k: text for k, text in current().items() if k in CORRELATION and fits(k, str(text))}
    return {VARIABLE: orjson.dumps(ids).decode()} if ids else {}


def adopt(environment: Mapping[str, str]) -> None:
    """Bind, for the rest of the process, what the parent handed over.

    What is no identifier is left out: a variable can be set by anybody who starts a process.
    """
    bind_contextvars(**_handed(environment))


@contextmanager
def adopted(environment: Mapping[str, str]) -> Iterator[None]:
    """As `adopt`, inside a `with` block: for a worker, whose jobs come from many requests."""
    with bound_contextvars(**_handed(environment)):
        yield


def _handed(environment: Mapping[str, str]) -> dict[str, str]:
    text = environment.get(VARIABLE, "")
    if not text or len(text) > _LONGEST:
        return {}
    try:
        ids = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(ids, dict):
        return {}
    known = {k: v for k, v in ids.items() if k in CORRELATION and isinstance(v, str)}
    return {key: text for key, text in known.items() if fits(key, text)}
