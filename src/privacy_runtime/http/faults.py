"""Validation errors of FastAPI as faults: every one with its path, and none with what was sent.

Pydantic's messages come from templates. Those that quote the input or another library's words about
it are cut; a validator of ours speaks for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_runtime.http.refusals import Fault

MOST_FAULTS: Final = 100
_PART_MAX: Final = 64
_LEAVES_MAX: Final = 256
_SHORTEST_QUOTE: Final = 3
_CUT: Final[Mapping[str, str]] = {
    "assertion_error": "is not allowed",
    "bytes_invalid_encoding": "should be text in the expected encoding",
    "date_from_datetime_parsing": "should be a date",
    "date_parsing": "should be a date: YYYY-MM-DD",
    "datetime_from_date_parsing": "should be a date and time: RFC 3339",
    "datetime_object_invalid": "should be a date and time: RFC 3339",
    "datetime_parsing": "should be a date and time: RFC 3339",
    "get_attribute_error": "cannot be read",
    "iteration_error": "cannot be read",
    "json_invalid": "should be JSON",
    "mapping_type": "should be an object",
    "no_such_attribute": "cannot be read",
    "time_delta_parsing": "should be a duration",
    "time_parsing": "should be a time of day",
    "union_tag_invalid": "should say one of the expected kinds",
    "url_parsing": "should be a URL",
    "url_syntax_violation": "should be a URL",
    "uuid_parsing": "should be a UUID",
}
"""Kinds whose template quotes the input, or the words of whoever failed to read it."""
_NOT_ALLOWED: Final = "is not allowed"


def faults_of(errors: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """The faults of `RequestValidationError.errors()`, at most `MOST_FAULTS` of them.

    Guarantee: no message holds a value of the request; a path holds names of fields as they were
    sent, printable ones, cut to 64 signs.
    """
    return [_fault(error) for _, error in zip(range(MOST_FAULTS), errors, strict=False)]


def _fault(error: Mapping[str, Any]) -> Fault:
    kind = str(error.get("type", "invalid"))
    path = path_of(error.get("loc", ()))
    if kind == "value_error":
        return Fault(path, _own_words(error), kind)
    if kind in _CUT:
        if kind == "json_invalid":
            path = "body"  # what follows is a position in it
        return Fault(path, _CUT[kind], kind)
    return Fault(path, _lower(str(error.get("msg", _NOT_ALLOWED))), kind)


def path_of(location: Sequence[Any]) -> str:
    """A path as text: names joined by dots, positions in brackets."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = "".join(sign if sign.isprintable() else "?" for sign in str(part)[:_PART_MAX])
            text += f".{name}" if text else name
    return text


def _own_words(error: Mapping[str, Any]) -> str:
    """What a validator of ours said, unless it repeats what was sent."""
    raised = (error.get("ctx") or {}).get("error")
    if isinstance(raised, InvalidParameter):
        return f"should be {raised.expected}"
    text = str(raised)
    if isinstance(raised, PrivacyError):
        return text
    leaves = list(_leaves(error.get("input"), _LEAVES_MAX))
    if len(leaves) >= _LEAVES_MAX or any(leaf in text for leaf in leaves):
        return _NOT_ALLOWED
    return text or _NOT_ALLOWED


def _leaves(value: Any, most: int) -> Iterable[str]:
    """The texts and numbers in a value, as they would be quoted; at most `most`."""
    waiting, seen = [value], 0
    while waiting and seen < most:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple | set | frozenset):
            waiting.extend(one)
        elif one is not None and not isinstance(one, bool):
            seen += 1
            text = str(one)
            if len(text) >= _SHORTEST_QUOTE:
                yield text


def _lower(message: str) -> str:
    """Pydantic's sentence as the continuation of a path."""
    message = message.removeprefix("Input ")
    return message[:1].lower() + message[1:]
