"""`ContextGuard` as the requirement documents write it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from privacy_core.redaction.findings import Finding
from privacy_finetuner import ContextGuard, ProtectionResult, RedactionReport, RedactionStrategy

EMPTY = inspect.Parameter.empty
SIGNATURES: dict[str, dict[str, Any]] = {
    "__init__": {
        "strategies": EMPTY,
        "sensitivity_threshold": 0.8,
        "preserve_structure": True,
        "reversible_redaction": False,
    },
    "protect": {"text": EMPTY, "sensitivity_level": "medium", "preserve_entities": None},
    "batch_protect": {"texts": EMPTY},
    "reverse_protection": {"protected_text": EMPTY, "encryption_key": None},
}
PAYMENT = "Process payment for John Doe, card 4111-1111-1111-1111"


@pytest.mark.parametrize("method", SIGNATURES)
def test_the_methods_have_the_documented_parameters_in_order(method: str) -> None:
    parameters = inspect.signature(getattr(ContextGuard, method)).parameters.values()
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    found = {p.name: p.default for p in parameters if p.kind is kind and p.name != "self"}

    assert found == SIGNATURES[method]


def documented_guard() -> ContextGuard:
    return ContextGuard(
        strategies=[
            RedactionStrategy.PII_REMOVAL,
            RedactionStrategy.ENTITY_HASHING,
            RedactionStrategy.SEMANTIC_ENCRYPTION,
        ],
        sensitivity_threshold=0.9,
    )


def test_the_documented_example_gives_the_documented_output() -> None:
    result = documented_guard().protect(PAYMENT, sensitivity_level="high")

    assert result.protected_text == "Process payment for [PERSON], card [PAYMENT_CARD]"


def test_the_guard_of_the_sdk_example_is_made() -> None:
    guard = ContextGuard(
        strategies=[RedactionStrategy.PII_REMOVAL, RedactionStrategy.ENTITY_HASHING]
    )

    assert isinstance(guard.explain_redactions("nothing here"), RedactionReport)


class Listed:
    def tag(self, text: str) -> list[Finding]:
        at = text.find("John Doe")
        return [] if at < 0 else [Finding(at, at + 8, "PERSON", 0.9, "name.listed")]


def test_a_result_has_the_documented_fields() -> None:
    result = ContextGuard([RedactionStrategy.PII_REMOVAL], names=Listed()).protect(PAYMENT)

    assert isinstance(result, ProtectionResult)
    assert result.protected_text == "Process payment for [PERSON], card [PAYMENT_CARD]"
    assert list(result.redaction_map) == ["[PERSON]", "[PAYMENT_CARD]"]
    assert 0.99 < result.sensitivity_score <= 1
    assert [entity.label for entity in result.entities_found] == ["PERSON", "PAYMENT_CARD"]


def test_a_batch_is_a_list_of_results_in_order() -> None:
    guard = ContextGuard([RedactionStrategy.PII_REMOVAL], names=None)
    results = guard.batch_protect(["a@x.de", "none"], sensitivity_level="low")

    assert [result.protected_text for result in results] == ["[EMAIL]", "none"]


def test_protection_is_reversed_with_the_key_as_text() -> None:
    guard = ContextGuard(
        [RedactionStrategy.SEMANTIC_ENCRYPTION], reversible_redaction=True, names=None
    )
    protected = guard.protect(PAYMENT).protected_text
    other = ContextGuard([RedactionStrategy.PII_REMOVAL], names=None)

    assert "4111" not in protected
    assert other.reverse_protection(protected, guard.encryption_key) == PAYMENT
