from __future__ import annotations

from typing import Any

import pytest

from privacy_core.errors import PrivacyError
from privacy_finetuner.context.exchange import explain_response, protect_response
from privacy_finetuner.context.guard import ContextGuard


def test_each_kind_of_request_has_its_response(guard: ContextGuard) -> None:
    text = protect_response(guard, {"text": "doe@example.org", "sensitivity_level": "low"})
    messages = protect_response(guard, {"messages": [{"role": "user", "content": "John Doe"}]})
    value = protect_response(guard, {"json": {"a": "John Doe"}, "preserve_entities": ["PERSON"]})

    assert text["protected_text"] == "[EMAIL]"
    assert set(text) == {"protected_text", "entities", "sensitivity_score"}
    assert messages["messages"] == [{"role": "user", "content": "[PERSON]"}]
    assert value["json"] == {"a": "John Doe"}
    assert explain_response(guard, {"text": "John Doe"})["decisions"][0]["label"] == "PERSON"


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"text": "secret", "json": 1},
        {"text": 5},
        {"text": "secret", "levle": "high"},
        {"text": "secret", "sensitivity_level": "utmost"},
        {"text": "secret", "sensitivity_level": 3},
        {"text": "secret", "preserve_entities": "EMAIL"},
        {"text": "secret", "preserve_entities": ["NOTHING"]},
        {"messages": "secret"},
        {"text": "secret" * 200_000},
    ],
)
def test_a_malformed_request_is_refused_without_its_text(
    guard: ContextGuard, request_: dict[str, Any]
) -> None:
    with pytest.raises(PrivacyError) as caught:
        protect_response(guard, request_)

    assert "secret" not in str(caught.value)
