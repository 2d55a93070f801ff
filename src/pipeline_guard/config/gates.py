"""A gate of a configuration: what is asked before every recovery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """A gate. Keys of its own `type` stand beside these.

    Attributes:
        type: which gate: those that products bring (entry-point group `pipeline_guard.gates`).
        parameters: of the gate.
        where: file and line.
    """

    type: str
    parameters: Mapping[str, Any] = field(default_factory=dict, metadata={"is_internal": True})
    where: str = field(default="", compare=False, metadata={"is_internal": True})
