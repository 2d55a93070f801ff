"""Heartbeats: whether a program gets on, and whether one of several lags behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any, ClassVar

from pipeline_guard.config.values import POSITIVE, Automatic, Within
from pipeline_guard.heartbeat import Ended, Pulse, read_pulse
from pipeline_guard.model import Fault, Moment, Pace, Reading
from pipeline_guard.probes.inputs import (
    Patience,
    asked,
    critical,
    ok,
    refused,
    unknown,
    warning,
)
from pipeline_guard.processes import boot_id

Share = Annotated[float, Within(0, 1)]
Span = Annotated[float, POSITIVE]


@dataclass(frozen=True, kw_only=True)
class HeartbeatProbe:
    """A heartbeat file: the program runs, gets on within its section's limit, and is finite.

    =============================  ==============================================================
    the file                       is
    =============================  ==============================================================
    says "finished"                well
    says "stopped" or "failed"     a warning; critical, with the error's name
    names a process that is gone   critical, a crash; also when it was written in an earlier boot
    was not finite                 critical
    made no progress in time       critical, a hang
    is missing                     as `missing` says
    is empty or damaged            unknown
    =============================  ==============================================================

    Args:
        path: of the file, as `pipeline_guard.heartbeat.Heartbeat` writes it.
        sections_s: the longest time without progress, by section: a duration, or `auto` (five times
            the p99 of what was observed, `auto*8` for eight times). What is not named: `other`.
        other_s: the limit of all other sections.
        at_least_s: an automatic limit is never shorter.
        before_s: what `auto` means while a section has been seen less than three times.
        missing: whether a file that is not there is a warning, critical, unknown, or well ("ok").
        is_remote: it is written on another machine: its process is not looked for, and the time of
            day of both machines is compared instead of their monotonic clocks.
        answer_s: the file system must answer within this time.
    """

    pace: ClassVar[Pace] = Pace(1.0)

    path: Path
    sections_s: Mapping[str, float | Automatic] = field(default_factory=dict)
    other_s: float | Automatic = field(default_factory=Automatic)
    at_least_s: Span = 30.0
    before_s: Span = 900.0
    missing: str = "warning"
    is_remote: bool = False
    answer_s: Span = 2.0
    _patience: Patience = field(default_factory=Patience, init=False, repr=False, compare=False)

    def look(self, moment: Moment) -> Reading:
        """Read the file and judge it."""
        evidence: dict[str, Any] = {"path": str(self.path)}
        found = asked(
            self._patience,
            lambda: read_pulse(self.path),
            name=self.path.name,
            within_s=self.answer_s,
            moment=moment,
            missing=_MISSING[self.missing],
            evidence=evidence,
        )
        return found if isinstance(found, Reading) else self._judged(found, moment, evidence)

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        if self.missing not in _MISSING:
            raise refused("missing", self.missing, f"one of {', '.join(_MISSING)}")

    def _judged(self, pulse: Pulse, moment: Moment, evidence: dict[str, Any]) -> Reading:
        silent_s = self._silent_s(pulse, moment)
        limit_s = self.limit_s(pulse)
        evidence |= {
            "section": pulse.section,
            "step": pulse.step,
            "steps": pulse.steps,
            "checkpoint": pulse.checkpoint,
            "pid": None if pulse.process is None else pulse.process.pid,
            "silent_s": round(silent_s, 1),
            "limit_s": round(limit_s, 1),
        }
        figures = _figures(pulse, silent_s)
        more = {"measurements": figures, "evidence": evidence}
        if not pulse.is_finite:
            words = f"step {pulse.step} gave out what is not finite"
            return critical(words, Fault.NOT_FINITE, **more)
        if pulse.ended is Ended.FINISHED:
            return ok(f"finished after step {pulse.step}", **more)
        if pulse.ended is Ended.STOPPED:
            return warning(f"stopped after step {pulse.step}", Fault.CRASH, **more)
        if pulse.ended is Ended.FAILED:
            words = f"failed after step {pulse.step}: {pulse.reason}"
            return critical(words, _FAULTS.get(pulse.reason, Fault.CRASH), **more)
        if self._is_gone(pulse):
            words = f"its process ended in section {pulse.section}, after step {pulse.step}"
            return critical(words, Fault.CRASH, **more)
        if silent_s > limit_s:
            words = (
                f"no progress for {silent_s:.0f} s in section {pulse.section} (limit "
                f"{limit_s:.0f} s), after step {pulse.step}"
            )
            return critical(words, Fault.HANG, **more)
        return ok(f"section {pulse.section}, step {pulse.step} of {pulse.steps}", **more)

    def limit_s(self, pulse: Pulse) -> float:
        """How long the section that the program is in may go without progress."""
        limit = self.sections_s.get(pulse.section, self.other_s)
        if isinstance(limit, Automatic):
            return pulse.limit_s(
                pulse.section,
                factor=limit.factor,
                at_least_s=self.at_least_s,
                before_s=self.before_s,
            )
        return float(limit)

    def _silent_s(self, pulse: Pulse, moment: Moment) -> float:
        is_ours = pulse.process is not None and pulse.process.boot == boot_id()
        if is_ours and not self.is_remote:
            return max(0.0, moment.monotonic_s - pulse.progress_s)
        return max(0.0, (moment.at - pulse.at).total_seconds())

    def _is_gone(self, pulse: Pulse) -> bool:
        if self.is_remote or pulse.process is None:
            return False
        if pulse.process.boot != boot_id():
            return True
        return pulse.process.is_visible and not pulse.process.is_alive()


@dataclass(frozen=True, kw_only=True)
class StragglerProbe:
    """Several heartbeats of one work: whether one takes far longer for a step than the best.

    The score of each is the best median step time divided by its own; 1 is the best.

    Args:
        folder: where the files are.
        pattern: their names.
        score: below this one lags behind.
        rounds: in so many looks in a row, before it is said.
    """

    folder: Path
    pattern: str = "*/heartbeat.json"
    score: Share = 0.7
    rounds: Annotated[int, Within(1, 100)] = 5
    _behind: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def look(self, moment: Moment) -> Reading:
        """Compare them."""
        medians = {}
        for path in sorted(self.folder.glob(self.pattern)):
            try:
                spans = read_pulse(path).spans.get("step")
            except (OSError, ValueError):
                continue  # a heartbeat check of its own says what is wrong with it
            if spans is not None and spans.count >= 3:
                medians[str(path.relative_to(self.folder))] = spans.p50_s
        if len(medians) < 2:
            return unknown(f"{len(medians)} heartbeats have steps, expected at least 2")
        best = min(medians.values())
        scores = {name: best / max(value, 1e-9) for name, value in medians.items()}
        slow = {name for name, score in scores.items() if score < self.score}
        counts = {name: self._behind.get(name, 0) + 1 for name in slow}
        self._behind.clear()
        self._behind.update(counts)
        named = sorted(name for name, count in counts.items() if count >= self.rounds)
        more: dict[str, Any] = {
            "measurements": {"straggler_score": min(scores.values()),
                             "step_seconds": median(medians.values())},
            "evidence": {"scores": {n: round(s, 3) for n, s in scores.items()}, "behind": named},
        }  # fmt: skip
        if named:
            words = f"{', '.join(named)} below {self.score:g} of the best"
            return warning(words, Fault.STRAGGLER, **more)
        return ok(f"{len(scores)} keep up, the slowest at {min(scores.values()):.2f}", **more)


_MISSING = {"ok": ok, "warning": warning, "critical": critical, "unknown": unknown}
_FAULTS = {
    "NonFiniteWeights": Fault.NOT_FINITE,
    "MemoryError": Fault.OUT_OF_MEMORY,
    "OutOfMemoryError": Fault.ACCELERATOR_OUT_OF_MEMORY,
    "CheckpointNotWritten": Fault.DISK_FULL,
    "CheckpointError": Fault.CORRUPT_CHECKPOINT,
    "BudgetExhausted": Fault.BUDGET_BURN,
    "PrivacyBudgetExhaustedException": Fault.BUDGET_BURN,
}
"""By the name of the error that ended the work."""


def _figures(pulse: Pulse, silent_s: float) -> dict[str, float]:
    figures = {"silent_seconds": silent_s}
    if pulse.step is not None:
        figures["step"] = float(pulse.step)
    for name, spans in pulse.spans.items():
        figures[f"{name}_p50_seconds"] = spans.p50_s
        figures[f"{name}_p99_seconds"] = spans.p99_s
    return figures
