"""What to do about an incident: act, suggest, note, wait, call people, or leave it. Pure.

The questions are asked in one order, and the first one that holds the recovery back is the answer:

1.  is anything written for this fault, and is the fault known and bad enough?
2.  is it given up already, or is something under way for it?
3.  does another component explain it, or may one that is being looked at explain it?
4.  is there a reason to keep the hands off: kill switch, maintenance, flapping, grace?
5.  is a recovery left that is not exhausted? If not: call people.
6.  cooldown, backoff, one at a time per dependency group, and the rate of this host.
7.  what may it do: act, suggest, or only note?

Nothing in here waits, looks or writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pipeline_guard.assess import Incident, Stage
from pipeline_guard.config import Limits, Mode, Rate, RecoverySettings
from pipeline_guard.model import Fault, Verdict

STATISTICAL: Final = frozenset({Fault.ANOMALY, Fault.DRIFTED_DATA})
"""Faults that are no proof: a detector's opinion. They inform; they trigger nothing by default."""
_GROWTH: Final = 5.0
_EDGE_S: Final = 1e-6
"""Times are compared with this much to spare: a sum of floats may fall short by a hair."""


class Outcome(StrEnum):
    """How a run of a recovery ended.

    `RUNNING`: it has not. `HEALED`: the checks said so in time. `FAILED`: they did not, or a step
    failed. `REFUSED`: a remedy objected, or a gate said no; nothing was changed.
    """

    RUNNING = "running"
    HEALED = "healed"
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One run of a recovery.

    Attributes:
        id: of this run.
        recovery, incident, group: which, for what, in which dependency group.
        started_s, ended_s: in the guard's seconds.
        outcome: how it ended.
        progress: how far the component was when it started; `None`: nobody says.
        chance: in [0, 1), drawn once: the jitter of the wait after it.
    """

    id: str
    recovery: str
    incident: str
    group: str
    started_s: float
    ended_s: float | None = None
    outcome: Outcome = Outcome.RUNNING
    progress: float | None = None
    chance: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What holds at a moment, beside the incident itself.

    Attributes:
        now_s: in the guard's seconds, which never go back.
        attempts: runs of all recoveries, the oldest first; at least as far back as any window.
        roots: by incident, the one that explains it.
        suspects: components with a check that is suspected or cannot be looked at.
        below: by component, everything that it depends on.
        graces: by component, until when nothing is done.
        maintained: components that people work on.
        is_killed: whether the kill switch is there.
        noted: recoveries that were noted or suggested for an incident: `(recovery, incident)`.
        modes: by recovery, what it may do now.
        group: of the incident's component.
    """

    now_s: float
    attempts: Sequence[Attempt] = ()
    roots: Mapping[str, str | None] = field(default_factory=dict)
    suspects: frozenset[str] = frozenset()
    below: Mapping[str, Sequence[str]] = field(default_factory=dict)
    graces: Mapping[str, float] = field(default_factory=dict)
    maintained: frozenset[str] = frozenset()
    is_killed: bool = False
    noted: frozenset[tuple[str, str]] = frozenset()
    modes: Mapping[str, Mode] = field(default_factory=dict)
    group: str = ""


class Kind(StrEnum):
    """What is to be done."""

    ACT = "act"
    SUGGEST = "suggest"
    NOTE = "note"
    WAIT = "wait"
    ESCALATE = "escalate"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be done about an incident now, and why.

    Attributes:
        kind: what.
        reason: one line for people.
        recovery: which one; of `ESCALATE`: the last that was left.
        attempt: of `ACT`: 1 for the first run in the window.
        until_s: of `WAIT`: when it is worth asking again; `None`: when something else changes.
    """

    kind: Kind
    reason: str
    recovery: RecoverySettings | None = None
    attempt: int = 0
    until_s: float | None = None


def decide(
    incident: Incident,
    recoveries: Sequence[RecoverySettings],
    around: Surroundings,
    rate: Rate,
) -> Decision:
    """Decide about one incident.

    Guarantee: `ACT` is never returned within a recovery's cooldown, beyond its attempts or the
    host's rate, for a component that is explained by another, in grace, under maintenance or
    flapping, with the kill switch set, or where the mode is not `act`. When every recovery that
    fits is exhausted, the answer is `ESCALATE`.

    Args:
        incident: the incident.
        recoveries: all of the configuration, in its order.
        around: everything else that matters.
        rate: of this host.
    """
    fitting = [each for each in recoveries if fits(each, incident)]
    held = _nothing_to_do(incident, fitting) or _held(incident, around)
    if held is not None:
        return held
    left = [each for each in fitting if not exhausted(each, incident, around)]
    if not left:
        last = fitting[-1]
        return Decision(kind=Kind.ESCALATE, recovery=last, reason=exhausted(last, incident, around))
    recovery = left[0]
    return _paced(recovery, incident, around, rate) or _allowed(recovery, incident, around)


def fits(recovery: RecoverySettings, incident: Incident) -> bool:
    """Whether a recovery is written for an incident, and the incident is bad enough for it."""
    on = recovery.on
    if on.component != str(incident.component) or (on.fault or incident.fault) != incident.fault:
        return False
    if incident.fault in STATISTICAL and not recovery.is_statistical:
        return False
    levels = (
        {Verdict.CRITICAL} if on.severity == "critical" else {Verdict.WARNING, Verdict.CRITICAL}
    )
    return incident.level in levels


def _nothing_to_do(incident: Incident, fitting: Sequence[RecoverySettings]) -> Decision | None:
    """Questions 1 and 2."""
    if not incident.is_standing:
        return Decision(kind=Kind.LEAVE, reason="it is over")
    if incident.stage is Stage.FAILED:
        return Decision(kind=Kind.LEAVE, reason="recovery was given up; people were called")
    if incident.stage is Stage.RECOVERING:
        return Decision(kind=Kind.LEAVE, reason="a recovery is under way")
    if incident.level is Verdict.UNKNOWN:
        reason = "it cannot be looked at; nothing is done about what is not known"
        return Decision(kind=Kind.LEAVE, reason=reason)
    if not fitting:
        is_opinion = incident.fault in STATISTICAL
        reason = "statistics alone trigger nothing" if is_opinion else "no recovery fits it"
        return Decision(kind=Kind.LEAVE, reason=reason)
    return None


def _held(incident: Incident, around: Surroundings) -> Decision | None:
    """Questions 3 and 4."""
    component = str(incident.component)
    root = around.roots.get(incident.id)
    if root is not None:
        return Decision(kind=Kind.WAIT, reason=f"{root} explains it and is seen to first")
    doubtful = [name for name in around.below.get(component, ()) if name in around.suspects]
    if doubtful:
        return Decision(kind=Kind.WAIT, reason=f"{doubtful[0]} may explain it and is looked at")
    if around.is_killed:
        return Decision(kind=Kind.WAIT, reason="the kill switch is set")
    if component in around.maintained:
        return Decision(kind=Kind.WAIT, reason="people are working on it")
    if incident.is_flapping:
        return Decision(kind=Kind.WAIT, reason="it is flapping; nothing is done until it settles")
    until_s = around.graces.get(component, around.now_s)
    if around.now_s + _EDGE_S < until_s:
        return Decision(kind=Kind.WAIT, reason="it is given time to start", until_s=until_s)
    return None


def exhausted(recovery: RecoverySettings, incident: Incident, around: Surroundings) -> str:
    """Why a recovery may not be tried again; empty where it may."""
    limits = recovery.limits
    count = len(in_window(recovery, around))
    if count >= limits.max_attempts:
        minutes = limits.window_s / 60
        return f"{recovery.name} ran {count} times within {minutes:g} minutes"
    stalled = without_progress(recovery.name, incident, around.attempts)
    if stalled >= limits.no_progress:
        return f"{recovery.name} ran {stalled} times in a row without progress"
    return ""


def in_window(recovery: RecoverySettings, around: Surroundings) -> list[Attempt]:
    """The runs of a recovery that its sliding window holds; refused ones too."""
    since_s = around.now_s - recovery.limits.window_s
    return [a for a in around.attempts if a.recovery == recovery.name and a.started_s > since_s]


def without_progress(recovery: str, incident: Incident, attempts: Sequence[Attempt]) -> int:
    """How many of the newest runs, in a row, brought nothing.

    A run brought something when the component got further before the next one was needed. Where
    nobody says how far it is, healing counts. A fault that ended without the help of its runs was
    seen to by somebody else: the count begins anew.
    """
    count, later = 0, progress_of(incident)
    for each in reversed(attempts):
        if each.recovery != recovery or each.outcome is Outcome.RUNNING:
            continue
        if each.incident != incident.id and each.outcome is not Outcome.HEALED:
            break
        if later is not None and each.progress is not None:
            if later > each.progress:
                break
        elif each.outcome is Outcome.HEALED:
            break
        count, later = count + 1, each.progress
    return count


def progress_of(incident: Incident) -> float | None:
    """How far the component was: `measurements["progress"]` of the newest bad reading."""
    return incident.reading.measurements.get("progress")


def _paced(
    recovery: RecoverySettings, incident: Incident, around: Surroundings, rate: Rate
) -> Decision | None:
    """Question 6."""
    if any(a.outcome is Outcome.RUNNING and a.group == around.group for a in around.attempts):
        return Decision(kind=Kind.WAIT, reason="another recovery of its group is under way")
    mine = [a for a in around.attempts if a.recovery == recovery.name and a.ended_s is not None]
    if mine:
        stalled = without_progress(recovery.name, incident, around.attempts)
        until_s = (mine[-1].ended_s or 0.0) + pause_s(recovery.limits, stalled, mine[-1].chance)
        if around.now_s + _EDGE_S < until_s:
            reason = f"{recovery.name} ran lately; it may help yet"
            return Decision(kind=Kind.WAIT, reason=reason, until_s=until_s)
    since_s = around.now_s - rate.per_s
    lately = [a for a in around.attempts if a.outcome is not Outcome.REFUSED]
    lately = [a for a in lately if a.started_s > since_s]
    if len(lately) >= rate.actions:
        until_s = lately[-rate.actions].started_s + rate.per_s
        reason = f"{len(lately)} recoveries ran on this host within {rate.per_s / 60:g} minutes"
        return Decision(kind=Kind.WAIT, reason=reason, until_s=until_s)
    return None


def pause_s(limits: Limits, stalled: int, chance: float) -> float:
    """How long after the end of a run the next one may start.

    The cooldown, or after `stalled` runs in a row without progress the backoff where that is
    longer: it grows fivefold, up to the longest wait, less or more a quarter by `chance`.
    """
    if stalled == 0:
        return limits.cooldown_s
    steps = min(stalled - 1, 64)
    grown = min(limits.backoff_s * _GROWTH**steps, limits.most_backoff_s)
    return max(limits.cooldown_s, grown * (0.75 + 0.5 * chance))


def _allowed(recovery: RecoverySettings, incident: Incident, around: Surroundings) -> Decision:
    """Question 7."""
    mode = around.modes.get(recovery.name, Mode.OBSERVE)
    if mode is Mode.ACT:
        attempt = len(in_window(recovery, around)) + 1
        reason = f"{incident.fault.value} of {incident.component}"
        return Decision(kind=Kind.ACT, recovery=recovery, attempt=attempt, reason=reason)
    if (recovery.name, incident.id) in around.noted:
        return Decision(kind=Kind.LEAVE, reason=f"{recovery.name} may only {mode.value}")
    kind = Kind.SUGGEST if mode is Mode.SUGGEST else Kind.NOTE
    return Decision(kind=kind, recovery=recovery, reason=f"{recovery.name} may only {mode.value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DryVerdict:
    """That a recovery would have run, and whether that would have been right.

    Attributes:
        recovery, incident: which, for what.
        noted_s: when.
        until_s: the fault stood this long: it was right; it went by itself before: it was not.
        is_right: `None`: not known yet.
    """

    recovery: str
    incident: str
    noted_s: float
    until_s: float
    is_right: bool | None = None


def judged(verdict: DryVerdict, *, is_standing: bool, now_s: float) -> bool | None:
    """Whether it would have been right to act; `None`: it is too early to say.

    A fault that goes by itself, within the time in which the recovery would have had to help,
    needed none.
    """
    if verdict.is_right is not None:
        return verdict.is_right
    if not is_standing:
        return now_s >= verdict.until_s
    return True if now_s >= verdict.until_s else None


def right_in_a_row(verdicts: Sequence[DryVerdict]) -> int:
    """How many of the newest judged verdicts were right, until the first that was not."""
    count = 0
    for each in reversed(verdicts):
        if each.is_right is None:
            continue
        if not each.is_right:
            break
        count += 1
    return count
