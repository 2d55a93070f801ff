"""What an attempt's end means for its job. Pure.

===================================  ========================  ====================================
the child                            and                       then the job
===================================  ========================  ====================================
said `done`                                                    succeeded
said `failed`                        another attempt may pass  queued again, an accident
said `failed`                                                  failed, with the child's code
anything but `done`                  it was to be cancelled    cancelled
stopped, or was killed               its worker stops          queued again at once
said `stopped`                       nobody asked              queued again: `stopped_from_outside`
was killed by signal 9               nobody asked              queued again, an accident:
                                                               `process_killed`
ended by another signal                                        queued again, an accident:
                                                               `process_crashed`
ended without a word                                           failed: `process_failed`
wrote what is no event                                         failed: `events_unreadable`
===================================  ========================  ====================================

An accident counts: with too many of them the job fails with the code of the last.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from privacy_finetuner.jobs import lines
from privacy_finetuner.jobs.claims import Ending
from privacy_finetuner.jobs.lines import End, Garbled
from privacy_finetuner.jobs.model import JobState

_NO_ACCIDENTS: Final = frozenset({"folder_busy", "clock_went_back", "artefacts_unavailable"})
"""Refusals that no attempt can help: another process is there, a clock or a person must act, or the
store of artefacts is away: then a finished run waits, however long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """The job goes back into the queue.

    Attributes:
        code, message: why.
        is_accident: it counts.
        at_once: another worker may take it immediately.
    """

    code: str
    message: str
    is_accident: bool
    at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        exit_code: of the child; negative: the signal that ended it.
        end: what it said, if anything.
        garbled: what was wrong with its words, if anything was.
        is_cancelled: somebody asked to cancel the job.
        is_stopping: the worker was asked to stop.
    """

    exit_code: int
    end: End | None
    garbled: Garbled | None = None
    is_cancelled: bool = False
    is_stopping: bool = False


def verdict(outcome: Outcome) -> Ending | Again:
    """Decide what becomes of the job."""
    end = outcome.end
    if end is not None and end.how == lines.DONE and outcome.garbled is None:
        return Ending(state=JobState.SUCCEEDED)
    if outcome.is_cancelled:
        return Ending(state=JobState.CANCELLED)
    if outcome.garbled is not None:
        return Ending(
            state=JobState.FAILED,
            code="events_unreadable",
            message=f"the process that trains wrote what is no event: {outcome.garbled.reason}; "
            "what was charged stays charged",
        )
    if end is not None and end.how == lines.FAILED:
        return _failed(end)
    if outcome.is_stopping:
        message = "its worker was stopped; the next one goes on from the checkpoint"
        return Again(code="worker_stopped", message=message, is_accident=False, at_once=True)
    if end is not None:
        message = "the process that trains was asked to stop from outside; it is resumed"
        return Again(code="stopped_from_outside", message=message, is_accident=False)
    return _wordless(outcome.exit_code)


def _failed(end: End) -> Ending | Again:
    code, message = end.code or "internal_error", end.message or "no reason was given"
    if end.may_pass:
        return Again(code=code, message=message, is_accident=code not in _NO_ACCIDENTS)
    return Ending(state=JobState.FAILED, code=code, message=message)


def _wordless(exit_code: int) -> Ending | Again:
    """It ended without saying how."""
    if exit_code == -signal.SIGKILL:
        return Again(
            code="process_killed",
            message="the process that trains was killed by signal 9, as the system does when "
            "memory runs out; what was charged stays charged",
            is_accident=True,
        )
    if exit_code < 0:
        return Again(
            code="process_crashed",
            message=f"the process that trains ended by signal {-exit_code}; what was charged stays "
            "charged",
            is_accident=True,
        )
    return Ending(
        state=JobState.FAILED,
        code="process_failed",
        message=f"the process that trains ended with exit code {exit_code} and no word; the job's "
        "log says more; what was charged stays charged",
    )
