"""What a worker holds: a job with the number of its claim, how a job ends, lines of its story."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from privacy_finetuner.jobs.model import EventKind, Job, JobState

Line = tuple[EventKind, Mapping[str, Any]]
"""A kind and a body: one line of a job's story, to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ends: its state, and of a failed one a stable code and a sentence."""

    state: JobState
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A job in a worker's hands. With `ending` it is only to be settled and ended.

    `origin` is what the request that submitted it handed on: see `logs.carried`, `tracing.carried`.
    """

    job: Job
    fence: int
    ending: Ending | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
