"""What a server is asked and answers: requests and responses of redaction as plain values.

Pure functions over one guard; the server brings transport, identity and limits of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.errors import ConfigurationError

LONGEST_TEXT: Final = 1_000_000
_FIELDS: Final = {"text", "messages", "json", "sensitivity_level", "preserve_entities"}


def protect_response(guard: ContextGuard, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request to protect.

    ==============  ==============================================================
    the request has  the response has
    ==============  ==============================================================
    `text`          `protected_text`, `entities`, `sensitivity_score`
    `messages`      `messages`, `entities`, `sensitivity_score`
    `json`          `json`, `entities`, `sensitivity_score`
    ==============  ==============================================================

    Optional: `sensitivity_level`, `preserve_entities`. No value that was replaced is in the answer.

    Raises:
        ConfigurationError: the request has not exactly one of the three, an unknown field, a wrong
            type, or more than a million characters.
        InvalidParameter, UnknownEntity: no such level or type.
    """
    given = _checked(request)
    options = {
        "sensitivity_level": request.get("sensitivity_level", "medium"),
        "preserve_entities": request.get("preserve_entities"),
    }
    if given == "text":
        return guard.protect(request["text"], **options).to_dict()
    protect = guard.protect_messages if given == "messages" else guard.protect_json
    made = protect(request[given], **options)
    return {
        given: made.value,
        "entities": [entity.to_dict() for entity in made.entities_found],
        "sensitivity_score": made.sensitivity_score,
    }


def explain_response(guard: ContextGuard, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer a request to explain: positions, rules and reasons, without the text.

    Raises:
        ConfigurationError, InvalidParameter, UnknownEntity: as `protect_response`.
    """
    if _checked(request) != "text":
        raise ConfigurationError("an explanation needs `text`; nothing was done")
    return guard.explain_redactions(
        request["text"],
        request.get("sensitivity_level", "medium"),
        request.get("preserve_entities"),
    ).to_dict()


def _checked(request: Mapping[str, Any]) -> str:
    """Which of the three a request has, once it is well-formed."""
    unknown = sorted(set(map(str, request)) - _FIELDS)
    if unknown:
        raise ConfigurationError(
            f"the request has {len(unknown)} fields that are not known; known: "
            f"{', '.join(sorted(_FIELDS))}"
        )
    given = [name for name in ("text", "messages", "json") if name in request]
    if len(given) != 1:
        raise ConfigurationError(
            f"the request has {len(given)} of text, messages and json, expected one"
        )
    name = given[0]
    if name == "text" and not isinstance(request["text"], str):
        raise ConfigurationError(f"text is {type(request['text']).__name__}, expected a string")
    if name == "messages" and not _is_list_of_objects(request["messages"]):
        raise ConfigurationError("messages is no list of objects")
    if not isinstance(request.get("sensitivity_level", ""), str):
        raise ConfigurationError("sensitivity_level is no string")
    names = request.get("preserve_entities")
    if names is not None and not (
        isinstance(names, list) and all(isinstance(each, str) for each in names)
    ):
        raise ConfigurationError("preserve_entities is no list of strings")
    if name == "text" and len(request["text"]) > LONGEST_TEXT:
        raise ConfigurationError(
            f"text has {len(request['text'])} characters, at most {LONGEST_TEXT} are taken"
        )
    return name


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)
