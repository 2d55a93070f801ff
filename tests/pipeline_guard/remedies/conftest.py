"""Cases for remedies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipeline_guard.model import Case, Fault, PipelineComponent, Reading, Verdict


def case(
    settings: Mapping[str, Any] | None = None,
    *,
    evidence: Mapping[str, Any] | None = None,
    attempt: int = 1,
) -> Case:
    """A case of a training whose component has these settings."""
    return Case(
        id="a_1",
        component=PipelineComponent.MODEL_TRAINING,
        fault=Fault.HANG,
        check="trainer.progress",
        since=datetime(2026, 11, 22, tzinfo=UTC),
        reading=Reading(verdict=Verdict.CRITICAL, summary="hangs", evidence=evidence or {}),
        attempt=attempt,
        settings=settings or {},
    )
