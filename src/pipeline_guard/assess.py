"""What looks add up to: is a check well, suspected, or bad for sure. Values in, values out.

A single bad look makes a check *suspect* (soft). `for` bad looks among the newest `of` confirm a
fault (hard), `clear_after` good ones in a row end it, and then the count begins anew. So a figure
that sits on its threshold does not make an alert come and go.

Flapping: results that keep changing say that the check, or its threshold, is wrong. Judged as
Nagios does: over the last 21 results, newer changes weigh more (0.8 to 1.2); it begins above 30 %
and ends below 15 %. While it lasts nobody is paged again and no recovery is run.

Source: Nagios Core 4 documentation, "State Types" and "Detection and Handling of State Flapping".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from pipeline_guard.model import Component, Fault, HealthStatus, Reading, Verdict

REMEMBERED: Final = 21
FLAPPING_STARTS: Final = 0.30
FLAPPING_ENDS: Final = 0.15
_WEIGHTS: Final = tuple(0.8 + 0.4 * n / (REMEMBERED - 2) for n in range(REMEMBERED - 1))


@dataclass(frozen=True, slots=True)
class Rule:
    """When a check counts as bad, and when as well again.

    Args:
        for_: bad looks that confirm a fault.
        of: the window they are counted in, in looks; at most `REMEMBERED`.
        clear_after: good looks in a row that end it.
    """

    for_: int = 3
    of: int = 3
    clear_after: int = 2


@dataclass(frozen=True, slots=True)
class CheckState:
    """How a check stands.

    Attributes:
        verdicts: of its newest looks, the newest last; at most `REMEMBERED`.
        counted: how many of them count: those since it was last well for sure.
        level: what is confirmed; `UNKNOWN`: it cannot be looked at.
        is_flapping: whether it swings.
        bad_since: when the first bad look was of those that count.
    """

    verdicts: tuple[Verdict, ...] = ()
    counted: int = 0
    level: Verdict = Verdict.OK
    is_flapping: bool = False
    bad_since: datetime | None = None

    @property
    def is_suspect(self) -> bool:
        """Whether the newest look was bad, in a way that is not confirmed yet."""
        if not self.verdicts or self.level is Verdict.CRITICAL:
            return False
        return self.verdicts[-1] not in (Verdict.OK, self.level)


def after(state: CheckState, verdict: Verdict, at: datetime, rule: Rule) -> CheckState:
    """The state after one more look. Total: any state, any verdict."""
    if state.counted >= REMEMBERED and state.verdicts.count(verdict) == REMEMBERED:
        return state  # nothing can change: most looks of most checks
    verdicts = (*state.verdicts, verdict)[-REMEMBERED:]
    counted = min(state.counted + 1, len(verdicts))
    level = _level(state.level, verdicts, counted, rule)
    bad_since = state.bad_since
    if verdict is not Verdict.OK and bad_since is None:
        bad_since = at
    is_clear = level is Verdict.OK and _tail(verdicts, rule.clear_after) == {Verdict.OK}
    if is_clear:
        bad_since = None
        if state.bad_since is not None:
            counted = 0
    share = share_of_changes(verdicts)
    limit = FLAPPING_ENDS if state.is_flapping else FLAPPING_STARTS
    is_flapping = share >= limit if state.is_flapping else share > limit
    return CheckState(verdicts, counted, level, is_flapping, bad_since)


def share_of_changes(verdicts: Sequence[Verdict]) -> float:
    """The weighted share of results that differ from the one before; 0 to 1.

    Fewer than `REMEMBERED` results are the newest of that many, of which the others did not change.
    """
    pairs = list(itertools.pairwise(verdicts))
    weights = _WEIGHTS[len(_WEIGHTS) - len(pairs) :]
    changed = sum(w for w, (old, new) in zip(weights, pairs, strict=True) if old is not new)
    return changed / sum(_WEIGHTS)


def _level(level: Verdict, verdicts: tuple[Verdict, ...], counted: int, rule: Rule) -> Verdict:
    """What is confirmed by the looks that count."""
    window = verdicts[-min(counted, rule.of) :] if counted else ()
    confirmed = Verdict.OK
    if sum(v is not Verdict.OK for v in window) >= rule.for_:
        confirmed = Verdict.UNKNOWN
    if sum(v in (Verdict.WARNING, Verdict.CRITICAL) for v in window) >= rule.for_:
        confirmed = Verdict.WARNING
    if sum(v is Verdict.CRITICAL for v in window) >= rule.for_:
        confirmed = Verdict.CRITICAL
    newest = _tail(verdicts, rule.clear_after) if counted >= rule.clear_after else set()
    if newest == {Verdict.OK}:
        return Verdict.OK
    if newest and newest <= {Verdict.OK, Verdict.WARNING}:
        return Verdict.WARNING if level is not Verdict.OK else confirmed
    order = (Verdict.OK, Verdict.UNKNOWN, Verdict.WARNING, Verdict.CRITICAL)
    return max(level, confirmed, key=order.index)


def _tail(verdicts: tuple[Verdict, ...], count: int) -> set[Verdict]:
    return set(verdicts[-count:])


class Stage(StrEnum):
    """How far an incident is.

    `OPEN`: it stands. `RECOVERING`: something was done, and is being verified. `FAILED`: recovery
    was given up and people were called. `RESOLVED`: the checks say that it is over.
    """

    OPEN = "open"
    RECOVERING = "recovering"
    FAILED = "failed"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A confirmed fault of one check, from its first bad look to its end.

    Attributes:
        id: of this incident.
        component, check, fault: what is wrong, and which check says so.
        level: how bad.
        since: when the first bad look was; confirmed: when it was believed; last_seen, count: of
            the bad looks.
        reading: the newest bad one.
        stage: how far it is.
        is_flapping: see the module.
        resolution: the recovery after which it was over.
        resolved: when.
    """

    id: str
    component: Component
    check: str
    fault: Fault
    level: Verdict
    since: datetime
    confirmed: datetime
    last_seen: datetime
    reading: Reading
    count: int = 1
    stage: Stage = Stage.OPEN
    is_flapping: bool = False
    runbook: str | None = None
    resolution: str | None = None
    resolved: datetime | None = None

    @property
    def is_standing(self) -> bool:
        """Whether it is not over."""
        return self.stage is not Stage.RESOLVED

    @property
    def severity(self) -> HealthStatus:
        """How it is called in alerts."""
        if self.stage is Stage.FAILED:
            return HealthStatus.FAILED
        is_critical = self.level is Verdict.CRITICAL
        return HealthStatus.CRITICAL if is_critical else HealthStatus.DEGRADED


class Change(StrEnum):
    """What a look did to an incident."""

    NONE = "none"
    OPENED = "opened"
    WORSE = "worse"
    BETTER = "better"
    RESOLVED = "resolved"
    FLAPPING = "flapping"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an incident of a check is called.

    Attributes:
        check, component: of the check.
        fault: where the reading names none.
        runbook: of the check.
    """

    check: str
    component: Component
    fault: Fault = Fault.OTHER
    runbook: str | None = None


def incident_after(
    incident: Incident | None,
    state: CheckState,
    reading: Reading,
    at: datetime,
    *,
    subject: Subject,
    new_id: str,
) -> tuple[Incident | None, Change]:
    """What a look makes of a check's incident, given the check's state after that look.

    Args:
        incident: the one that stands; `None`: none does.
        state: after the look.
        reading: of the look.
        at: when.
        subject: of the check.
        new_id: what a new incident is called.
    """
    if incident is None:
        if state.level is Verdict.OK:
            return None, Change.NONE
        opened = Incident(
            id=new_id,
            component=subject.component,
            check=subject.check,
            fault=reading.fault or subject.fault,
            level=state.level,
            since=state.bad_since or at,
            confirmed=at,
            last_seen=at,
            reading=reading,
            count=sum(v is not Verdict.OK for v in state.verdicts[-max(state.counted, 1) :]),
            is_flapping=state.is_flapping,
            runbook=subject.runbook,
        )
        return opened, Change.OPENED
    if state.level is Verdict.OK:
        return replace(incident, stage=Stage.RESOLVED, resolved=at), Change.RESOLVED
    return _continued(incident, state, reading, at)


def _continued(
    incident: Incident, state: CheckState, reading: Reading, at: datetime
) -> tuple[Incident, Change]:
    """A standing incident after one more look that did not end it."""
    change = Change.NONE
    if state.is_flapping is not incident.is_flapping:
        change = Change.FLAPPING if state.is_flapping else Change.SETTLED
    if state.level is not incident.level:
        is_worse = state.level is Verdict.CRITICAL or incident.level is Verdict.UNKNOWN
        change = Change.WORSE if is_worse else Change.BETTER
    now = replace(incident, level=state.level, is_flapping=state.is_flapping)
    if reading.verdict is Verdict.OK:
        return now, change
    known = reading.verdict is not Verdict.UNKNOWN or incident.level is Verdict.UNKNOWN
    return (
        replace(
            now,
            last_seen=at,
            count=incident.count + 1,
            reading=reading if known else incident.reading,
            fault=(reading.fault or incident.fault) if known else incident.fault,
        ),
        change,
    )


def health_of(incidents: Iterable[Incident]) -> HealthStatus:
    """How a component is, from its standing incidents; of everything: the worst of all."""
    found = {
        HealthStatus.RECOVERING if each.stage is Stage.RECOVERING else each.severity
        for each in incidents
        if each.is_standing
    }
    return worst(found)


def worst(found: Iterable[HealthStatus]) -> HealthStatus:
    """The worst of several; nothing is healthy."""
    order = (
        HealthStatus.HEALTHY,
        HealthStatus.DEGRADED,
        HealthStatus.RECOVERING,
        HealthStatus.CRITICAL,
        HealthStatus.FAILED,
    )
    return max(found, key=order.index, default=HealthStatus.HEALTHY)


def below(component: str, depends_on: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Everything that a component depends on, directly or not, the nearest first."""
    found: dict[str, None] = {}
    ahead = list(depends_on.get(component, ()))
    while ahead:
        name = ahead.pop(0)
        if name not in found and name != component:
            found[name] = None
            ahead += depends_on.get(name, ())
    return tuple(found)


def roots(
    incidents: Sequence[Incident], depends_on: Mapping[str, Sequence[str]]
) -> dict[str, str | None]:
    """For every standing incident, the one that explains it; `None` where it is a root itself.

    An incident is explained by the lowest component that its own depends on and that is critical:
    a warning, or a check that cannot be looked at, explains nothing. Where several are lowest, the
    fault that was there first.
    """
    standing = [each for each in incidents if each.is_standing]
    critical = [each for each in standing if each.level is Verdict.CRITICAL]
    faulty = {str(each.component) for each in critical}
    found: dict[str, str | None] = {}
    for each in standing:
        causes = faulty.intersection(below(str(each.component), depends_on))
        lowest = {c for c in causes if faulty.isdisjoint(below(c, depends_on))}
        first = min(
            (other for other in critical if str(other.component) in lowest),
            key=lambda other: (other.since, other.id),
            default=None,
        )
        found[each.id] = first.id if first else None
    return found


def group_of(component: str, depends_on: Mapping[str, Sequence[str]]) -> str:
    """The name of a component's dependency group: all that hang together, named by the first."""
    neighbours: dict[str, set[str]] = {component: set()}
    for name, others in depends_on.items():
        for other in others:
            neighbours.setdefault(name, set()).add(other)
            neighbours.setdefault(other, set()).add(name)
    seen, ahead = {component}, [component]
    while ahead:
        for other in neighbours.get(ahead.pop(), ()):
            if other not in seen:
                seen.add(other)
                ahead.append(other)
    return min(seen)
