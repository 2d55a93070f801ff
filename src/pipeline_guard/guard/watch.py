"""Everything the guard knows at a moment, and how it changes. No waiting, no looking, no disk.

The loop tells it what was seen and done; it answers with what happened and with what is to be done.
Given the same looks at the same times it says the same things, which is what `replay` and the
simulations rest on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from pipeline_guard.assess import (
    Change,
    CheckState,
    Incident,
    Stage,
    after,
    health_of,
    incident_after,
    roots,
)
from pipeline_guard.config import Mode, RecoverySettings
from pipeline_guard.decide import (
    Attempt,
    Decision,
    Kind,
    Outcome,
    Surroundings,
    decide,
    progress_of,
)
from pipeline_guard.guard.dry_runs import DryRuns
from pipeline_guard.guard.events import Event, Happening, about, found
from pipeline_guard.guard.plan import Check, Plan, maintained
from pipeline_guard.guard.saved import Saved
from pipeline_guard.guard.verification import Verifications, Verifying
from pipeline_guard.model import HealthStatus, Reading, Verdict
from privacy_runtime.world import Entropy

_DOUBTFUL: Final = frozenset({Verdict.CRITICAL, Verdict.UNKNOWN})
_KEPT_RESOLVED: Final = 200
_ID_BYTES: Final = 6
_TOLD: Final = {change: Happening(change.value) for change in Change if change is not Change.NONE}


class Watch:
    """The state of all checks, incidents and recoveries.

    Args:
        plan: what is watched and what may be done.
        entropy: for ids and jitter.
        now_s: in the guard's seconds.
        at: the time of day.
        saved: what an earlier process knew.
    """

    def __init__(
        self, plan: Plan, *, entropy: Entropy, now_s: float, at: datetime, saved: Saved
    ) -> None:
        self.plan = plan
        self.states = dict(saved.states)
        self.incidents = {i.id: i for i in saved.incidents.values() if i.is_standing}
        self.resolved = deque(
            (i for i in saved.incidents.values() if not i.is_standing), maxlen=_KEPT_RESOLVED
        )
        self.attempts = sorted(saved.attempts.values(), key=lambda each: each.started_s)
        self.dry_runs = DryRuns(saved.verdicts)
        self.promoted = dict(saved.promoted)
        self.changed = Saved()
        self.is_killed = False
        self.abandoned: set[str] = set()
        self._entropy = entropy
        self._verifying = Verifications()
        self._held: dict[str, str] = {}
        self._is_stale = True
        self._next_s = now_s
        grace_s = plan.config.defaults.grace_after_start_s
        self.graces = {str(each): now_s + grace_s for each in plan.components()}
        self.restored = [self._found_running(a, now_s, at) for a in self._running()]

    def seen(self, check: Check, reading: Reading, at: datetime, now_s: float) -> list[Event]:
        """Take in one look. `at` and `now_s`: when the look began."""
        before = self.states.get(check.id, _FRESH)
        state = after(before, reading.verdict, at, check.rule)
        incident = self._standing(check.id)
        if state is before and incident is None and not self._verifying:
            return []
        self.states[check.id] = self.changed.states[check.id] = state
        is_new = incident is None and state.level is not Verdict.OK
        name = self._new_id("inc") if is_new else ""
        now, change = incident_after(
            incident, state, reading, at, subject=check.subject, new_id=name
        )
        events: list[Event] = []
        if now is not None and change is not Change.NONE:
            self._keep(now)
            self._is_stale = True
            events.append(found(now, _TOLD[change], at))
            if change in (Change.BETTER, Change.RESOLVED):
                self._release(now, now_s)
            if change is Change.RESOLVED:
                events += self._over(now, at, now_s)
        elif now is not None and incident is not None:
            self.incidents[now.id] = now
            self._is_stale |= now.fault is not incident.fault
        if state.is_suspect is not before.is_suspect:
            self._is_stale = True
        return events + self._verified(check.id, reading, at, now_s)

    def decisions(self, at: datetime, now_s: float) -> list[tuple[Incident, Decision]]:
        """What is to be done now, about each incident that stands; nothing twice for no reason."""
        if not self._is_stale and now_s < self._next_s:
            return []
        self._is_stale, self._next_s = False, float("inf")
        if not self.incidents:
            return []
        standing = sorted(self.incidents.values(), key=lambda each: (each.confirmed, each.id))
        around = self._around(standing, at, now_s)
        found = []
        for each in standing:
            group = self.plan.group(str(each.component))
            decision = decide(
                each, self.plan.recoveries, replace(around, group=group), self.plan.config.rate
            )
            found.append((each, decision))
            if decision.until_s is not None:
                self._next_s = min(self._next_s, decision.until_s)
            if decision.kind is Kind.ACT:
                break  # what is begun changes the answer for all others
        return found

    def expired(self, at: datetime, now_s: float) -> list[Event]:
        """What time alone brings about: verifications that failed, verdicts that can be judged."""
        events: list[Event] = []
        for each in self._verifying.overdue(now_s):
            within_s = each.deadline_s - each.since_s
            reason = f"{each.check} was not well within {within_s:g} s"
            events += self.end(each.attempt, Outcome.FAILED, reason, at, now_s)
        return events + self._judged(at, now_s)

    def next_s(self) -> float:
        """When time alone brings something about, or a decision is worth asking for again."""
        if self._is_stale:
            return 0.0
        return min(self._next_s, self.dry_runs.due_s(), self._verifying.next_s())

    def stale(self) -> None:
        """Something outside changed: ask for decisions again."""
        self._is_stale = True

    def begin(self, incident: Incident, recovery: RecoverySettings, now_s: float) -> Attempt:
        """A recovery is about to run."""
        chance = int.from_bytes(self._entropy.token_bytes(4), "big") / 2**32
        attempt = Attempt(
            id=self._new_id("run"),
            recovery=recovery.name,
            incident=incident.id,
            group=self.plan.group(str(incident.component)),
            started_s=now_s,
            progress=progress_of(incident),
            chance=chance,
        )
        self.attempts.append(attempt)
        self.changed.attempts[attempt.id] = attempt
        self._stage(incident.id, Stage.RECOVERING)
        return attempt

    def applied(self, attempt: Attempt, now_s: float) -> None:
        """Its steps are done; from now on its check says whether it helped."""
        self._verify(attempt, now_s)

    def end(
        self, attempt: str, outcome: Outcome, reason: str, at: datetime, now_s: float
    ) -> list[Event]:
        """A recovery is over."""
        place = next(n for n, each in enumerate(self.attempts) if each.id == attempt)
        ended = replace(self.attempts[place], outcome=outcome, ended_s=now_s)
        self.attempts[place] = self.changed.attempts[attempt] = ended
        self._verifying.end(attempt)
        incident = self._incident(ended.incident)
        component = str(incident.component) if incident else ""
        if outcome is Outcome.HEALED:
            self._grace([component], now_s)
            if incident is not None:
                self._keep(replace(incident, resolution=ended.recovery))
        self._stage(ended.incident, Stage.OPEN)
        self._is_stale = True
        kinds = {Outcome.HEALED: Happening.HEALED, Outcome.REFUSED: Happening.REFUSED}
        return [
            Event(
                kind=kinds.get(outcome, Happening.NOT_HEALED),
                at=at,
                text=f"{ended.recovery}: {reason}",
                incident=ended.incident,
                component=component,
                recovery=ended.recovery,
                data={"run": attempt, "seconds": round(now_s - ended.started_s, 3)},
            )
        ]

    def hold(self, incident: Incident, decision: Decision, at: datetime) -> list[Event]:
        """A recovery has to wait: said once for each reason."""
        if self._held.get(incident.id) == decision.reason:
            return []
        self._held[incident.id] = decision.reason
        return [about(incident, Happening.HELD, at, decision.reason)]

    def give_up(self, incident: Incident, decision: Decision, at: datetime) -> Event:
        """No recovery is left, or one was refused: people are called."""
        self._stage(incident.id, Stage.FAILED)
        name = decision.recovery.name if decision.recovery else ""
        to = list(decision.recovery.escalate) if decision.recovery else []
        return about(
            incident, Happening.ESCALATED, at, decision.reason, recovery=name, data={"to": to}
        )

    def health(self, component: str | None = None) -> HealthStatus:
        """How a component is, or everything."""
        return health_of(
            each
            for each in self.incidents.values()
            if component is None or str(each.component) == component
        )

    def roots(self) -> dict[str, str | None]:
        """By standing incident, the one that explains it."""
        return roots(list(self.incidents.values()), self.plan.depends_on)

    def promote(self, promoted: Mapping[str, Mode], at: datetime) -> list[Event]:
        """What people let recoveries do, as it stands now."""
        fresh = {name: mode for name, mode in promoted.items() if self.promoted.get(name) != mode}
        self.promoted = dict(promoted)
        self._is_stale |= bool(fresh)
        return [
            Event(kind=Happening.PROMOTED, at=at, text=f"{name} may {mode.value}", recovery=name)
            for name, mode in fresh.items()
        ]

    def replan(self, plan: Plan) -> None:
        """Go on with another plan. Incidents of checks that are gone are over."""
        self.plan = plan
        for each in list(self.incidents.values()):
            if each.check not in plan.checks:
                self._keep(replace(each, stage=Stage.RESOLVED, resolved=each.last_seen))
        self.states = {name: s for name, s in self.states.items() if name in plan.checks}
        self._is_stale = True

    def taken(self, *, with_all: bool = False) -> Saved:
        """What changed since the last call; counts of what stands only `with_all`."""
        found, self.changed = self.changed, Saved()
        found.verdicts, self.dry_runs.changed = self.dry_runs.changed, {}
        if with_all:
            found.incidents = {**self.incidents, **found.incidents}
        return found

    def put_back(self, changed: Saved) -> None:
        """What could not be written: it is tried again with the next."""
        self.changed.incidents = {**changed.incidents, **self.changed.incidents}
        self.changed.attempts = {**changed.attempts, **self.changed.attempts}
        self.changed.states = {**changed.states, **self.changed.states}
        self.dry_runs.changed = {**changed.verdicts, **self.dry_runs.changed}

    def forget(self, before_s: float) -> None:
        """Drop runs and verdicts that no window reaches any more."""
        keep = {each.id for each in self.attempts[-100:]}
        self.attempts = [
            a for a in self.attempts
            if a.id in keep or a.started_s > before_s or a.outcome is Outcome.RUNNING
        ]  # fmt: skip
        self.dry_runs.forget(before_s)

    def _around(self, standing: Sequence[Incident], at: datetime, now_s: float) -> Surroundings:
        names = [str(each) for each in self.plan.components()]
        suspects = {
            str(check.subject.component)
            for check in self.plan.checks.values()
            if (state := self.states.get(check.id)) is not None
            and state.is_suspect
            and state.verdicts[-1] in _DOUBTFUL
        }
        hung = [_hung(group, now_s) for group in self.abandoned]
        return Surroundings(
            now_s=now_s,
            attempts=[*self.attempts, *hung],
            roots=roots(standing, self.plan.depends_on),
            suspects=frozenset(suspects),
            below={str(e.component): self.plan.below(str(e.component)) for e in standing},
            graces=self.graces,
            maintained=maintained(self.plan.config, at, names),
            is_killed=self.is_killed,
            noted=self.dry_runs.keys,
            modes=self.plan.modes(self.promoted),
        )

    def _verified(self, check: str, reading: Reading, at: datetime, now_s: float) -> list[Event]:
        events: list[Event] = []
        for each in self._verifying.seen(check, reading.verdict, now_s):
            reason = f"{check} is well again, {each.good} looks in a row"
            events += self.end(each.attempt, Outcome.HEALED, reason, at, now_s)
        return events

    def _over(self, incident: Incident, at: datetime, now_s: float) -> list[Event]:
        """An incident is resolved."""
        self._held.pop(incident.id, None)
        return self._judged(at, now_s)

    def _release(self, incident: Incident, now_s: float) -> None:
        """It explains nothing any more: those above get time to come back by themselves."""
        mine = str(incident.component)
        above = [str(c) for c in self.plan.components() if mine in self.plan.below(str(c))]
        self._grace(above, now_s)

    def _judged(self, at: datetime, now_s: float) -> list[Event]:
        return self.dry_runs.judge(self.incidents.__contains__, self.plan.recovery, at, now_s)

    def _running(self) -> list[Attempt]:
        return [each for each in self.attempts if each.outcome is Outcome.RUNNING]

    def _found_running(self, attempt: Attempt, now_s: float, at: datetime) -> Event:
        """A run that an earlier process began: it is judged by its check, and not repeated."""
        self._verify(attempt, now_s)
        self._stage(attempt.incident, Stage.RECOVERING)
        text = "the guard ended during this recovery; its check says whether it helped"
        return Event(
            kind=Happening.INTERRUPTED, at=at, text=text, incident=attempt.incident,
            recovery=attempt.recovery, data={"run": attempt.id},
        )  # fmt: skip

    def _verify(self, attempt: Attempt, now_s: float) -> None:
        recovery = self.plan.recovery(attempt.recovery)
        incident = self._incident(attempt.incident)
        check = (recovery.verify.check if recovery else None) or (
            incident.check if incident else ""
        )
        within_s = recovery.verify.within_s if recovery else 0.0
        needed = self.plan.checks[check].rule.clear_after if check in self.plan.checks else 1
        self._verifying.add(
            Verifying(
                attempt=attempt.id,
                incident=attempt.incident,
                check=check,
                needed=needed,
                since_s=now_s,
                deadline_s=now_s + within_s,
            )
        )

    def _standing(self, check: str) -> Incident | None:
        return next((each for each in self.incidents.values() if each.check == check), None)

    def _incident(self, name: str) -> Incident | None:
        if name in self.incidents:
            return self.incidents[name]
        return next((each for each in self.resolved if each.id == name), None)

    def _stage(self, name: str, stage: Stage) -> None:
        incident = self.incidents.get(name)
        if incident is not None and incident.stage is not stage:
            self._keep(replace(incident, stage=stage))
            self._is_stale = True

    def _keep(self, incident: Incident) -> None:
        self.changed.incidents[incident.id] = incident
        if incident.is_standing:
            self.incidents[incident.id] = incident
            self._is_stale = True
            return
        self.incidents.pop(incident.id, None)
        kept = [each for each in self.resolved if each.id != incident.id]
        self.resolved = deque([*kept, incident], maxlen=_KEPT_RESOLVED)

    def _grace(self, components: Iterable[str], now_s: float) -> None:
        until_s = now_s + self.plan.config.defaults.grace_after_start_s
        for name in components:
            self.graces[name] = max(until_s, self.graces.get(name, until_s))

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}_{self._entropy.token_bytes(_ID_BYTES).hex()}"


_FRESH: Final = CheckState()


def _hung(group: str, now_s: float) -> Attempt:
    """Stands for a step that was given up and whose thread has not come back."""
    return Attempt(id="", recovery="", incident="", group=group, started_s=now_s - 1e9)
