from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from privacy_core.redaction.findings import Finding
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.strategies import RedactionStrategy

NAMES = re.compile(r"John Doe|Ada Byron|Zoë Muñoz")


class ListedNames:
    """A tagger that knows three people."""

    def tag(self, text: str) -> Sequence[Finding]:
        return [
            Finding(m.start(), m.end(), "PERSON", 0.9, "name.listed") for m in NAMES.finditer(text)
        ]


def make(*strategies: Any, **settings: Any) -> ContextGuard:
    chosen = strategies or (RedactionStrategy.PII_REMOVAL,)
    return ContextGuard(list(chosen), **{"names": ListedNames(), **settings})


@pytest.fixture
def guard() -> ContextGuard:
    return make()


@pytest.fixture(scope="session")
def make_guard() -> Any:
    return make
