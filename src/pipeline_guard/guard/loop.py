"""The guard's loop: look, assess, decide, act, verify, write down. START HERE.

What is judged is pure (`assess`, `decide`, kept together by `watch`); what waits is in `looking`
and `recovering`; what is remembered is in `records`. This page only brings them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from pipeline_guard.assess import Incident
from pipeline_guard.decide import Attempt, Decision, Kind, Outcome
from pipeline_guard.errors import MonitoringError
from pipeline_guard.guard.codec import text_of
from pipeline_guard.guard.events import Event, Happening, about
from pipeline_guard.guard.looking import GuardTime, Look, Looking
from pipeline_guard.guard.plan import Plan
from pipeline_guard.guard.readings import Stretches
from pipeline_guard.guard.records import Entry, Records, Silence
from pipeline_guard.guard.recovering import Run, intent_of, run_steps
from pipeline_guard.guard.systemd import Systemd
from pipeline_guard.guard.watch import Watch
from pipeline_guard.model import Case, Gate, MetricPoint

_KEEP_EVERY_S: Final = 10.0
_OUTSIDE_EVERY_S: Final = 2.0
_PRUNE_EVERY_S: Final = 3_600.0
_WAIT_S: Final = 1.0
"""The loop goes round at least so often: for the kill switch, systemd, and its own lag."""


class Observer(Protocol):
    """Hears what happens: notices, pages, metrics. Must not block."""

    def __call__(self, events: Sequence[Event], watch: Watch) -> None:
        """Take in what happened, and how things stand now."""
        ...


@dataclass(slots=True, kw_only=True)
class Outside:
    """What the loop is connected with.

    Attributes:
        gates: asked before every recovery.
        observers: told of everything.
        measured: takes measurements of probes.
        status: says how things stand, to be read by other processes.
        manager: systemd.
    """

    gates: list[Gate] = field(default_factory=list)
    observers: list[Observer] = field(default_factory=list)
    measured: Callable[[Sequence[MetricPoint]], None] | None = None
    status: Callable[[Watch], dict[str, Any]] = lambda _: {}
    manager: Systemd = field(default_factory=lambda: Systemd({}))


class Loop:
    """One guard at work.

    Args:
        plan: what is watched and what may be done.
        watch: what is known.
        records: what is remembered.
        looking: looks.
        time: the guard's.
        outside: everything else.

    Attributes:
        state_fault: why nothing can be written down; `None`: it can. No recovery begins meanwhile.
        is_seen: set once every check was looked at.
        silences: what other processes asked for.
    """

    def __init__(
        self,
        plan: Plan,
        watch: Watch,
        records: Records,
        *,
        looking: Looking,
        time: GuardTime,
        outside: Outside,
    ) -> None:
        self.plan, self.watch, self.silences = plan, watch, list[Silence]()
        self.state_fault: str | None = None
        self.is_seen = asyncio.Event()
        self._records, self._looking, self._time, self._outside = records, looking, time, outside
        self._stretches = Stretches()
        self._events: list[Event] = []
        self._runs: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        self._kept_s = self._asked_s = self._pruned_s = float("-inf")

    async def run(self) -> None:
        """Guard until `stop`. Recoveries that are under way then are finished first."""
        self._happened(self.watch.restored)
        self._happened([self._plain(Happening.STARTED, f"{len(self.plan.checks)} checks")])
        self._looking.schedule(self.plan.checks.values())
        self._outside.manager.ready()
        while not self._is_stopping:
            wait_until_s = min(self.watch.next_s(), self._time.now_s() + _WAIT_S)
            looks = await self._looking.next(wait_until_s)
            self._look_outside()
            self._assess(looks)
            self._decide()
            self._keep()
            self._outside.manager.feed(self._time.now_s())
        self._outside.manager.stopping()
        if self._runs:
            await asyncio.wait(self._runs)
        self._happened([self._plain(Happening.STOPPED, "the guard ends")])
        self._looking.close()
        await self._kept(force=True)

    def stop(self) -> None:
        """Let `run` end; from the loop's thread."""
        self._is_stopping = True
        self._looking.wake()

    def replan(self, plan: Plan) -> None:
        """Go on with another plan; what is known stays where its check still exists."""
        self.plan = plan
        self.watch.replan(plan)
        self._looking.schedule(plan.checks.values())
        self._happened([self._plain(Happening.RELOADED, f"{len(plan.checks)} checks")])

    def say(self, text: str) -> None:
        """Write down that the configuration was, or was not, read again."""
        self._happened([self._plain(Happening.RELOADED, text)])

    def _assess(self, looks: Iterable[Look]) -> None:
        points: list[MetricPoint] = []
        for look in looks:
            self._happened(self.watch.seen(look.check, look.reading, look.at, look.began_s))
            self._stretches.add(look.check.id, look.reading, look.began_s)
            points += [
                MetricPoint(look.at, str(look.check.subject.component), f"{look.check.id}.{n}", v)
                for n, v in look.reading.measurements.items()
            ]
        if points and self._outside.measured is not None:
            self._outside.measured(points)
        self._happened(self.watch.expired(self._time.at(), self._time.now_s()))
        if not self.is_seen.is_set() and self.plan.checks.keys() <= self.watch.states.keys():
            self.is_seen.set()

    def _decide(self) -> None:
        at, now_s = self._time.at(), self._time.now_s()
        for incident, decision in self.watch.decisions(at, now_s):
            match decision.kind:
                case Kind.ACT:
                    self._act(incident, decision)
                case Kind.SUGGEST | Kind.NOTE:
                    self._note(incident, decision)
                case Kind.WAIT:
                    self._happened(self.watch.hold(incident, decision, at))
                case Kind.ESCALATE:
                    self._happened([self.watch.give_up(incident, decision, at)])
                case Kind.LEAVE:
                    pass

    def _act(self, incident: Incident, decision: Decision) -> None:
        recovery = decision.recovery
        if recovery is None or self.state_fault is not None:
            return  # what cannot be written down is not begun: after a crash it would be repeated
        attempt = self.watch.begin(incident, recovery, self._time.now_s())
        text = f"{recovery.name}, attempt {decision.attempt} of {recovery.limits.max_attempts}"
        data = {"run": attempt.id, "attempt": decision.attempt}
        self._happened(
            [
                about(
                    incident,
                    Happening.ACTING,
                    self._time.at(),
                    text,
                    data=data,
                    recovery=recovery.name,
                )
            ]
        )
        self._later(self._recover(incident, decision, attempt))

    async def _recover(self, incident: Incident, decision: Decision, attempt: Attempt) -> None:
        """Run a recovery, once it is on the disk that it begins."""
        recovery = decision.recovery
        if recovery is None:
            return

        async def tell(kind: Happening, text: str, data: dict[str, Any]) -> None:
            told = {"run": attempt.id, **data}
            self._happened(
                [about(incident, kind, self._time.at(), text, data=told, recovery=recovery.name)]
            )
            await self._kept(force=True)

        await self._kept(force=True)
        if self.state_fault is not None:
            run = Run(is_refused=True, reason=f"not begun: {self.state_fault}")
        else:
            case = self._case(incident, decision.attempt)
            steps = self.plan.remedies[recovery.name]
            run = await run_steps(recovery, steps, case, gates=self._outside.gates, tell=tell)
        self._judge_run(incident, decision, attempt, run)
        self._looking.wake()

    def _judge_run(
        self, incident: Incident, decision: Decision, attempt: Attempt, run: Run
    ) -> None:
        at, now_s = self._time.at(), self._time.now_s()
        if run.is_applied:
            self.watch.applied(attempt, now_s)
            return
        outcome = Outcome.REFUSED if run.is_refused else Outcome.FAILED
        if run.is_hanging:
            self.watch.abandoned.add(attempt.group)
        self._happened(self.watch.end(attempt.id, outcome, run.reason, at, now_s))
        if run.is_final:
            said = Decision(kind=Kind.ESCALATE, recovery=decision.recovery, reason=run.reason)
            self._happened([self.watch.give_up(incident, said, at)])

    def _note(self, incident: Incident, decision: Decision) -> None:
        """A recovery may not act: what it would do is written down, and judged later."""
        recovery = decision.recovery
        if recovery is None:
            return
        self.watch.dry_runs.note(recovery, incident.id, self._time.now_s())
        suggested = decision.kind is Kind.SUGGEST
        kind = Happening.SUGGESTED if suggested else Happening.NOTED

        async def say() -> None:
            case = self._case(incident, 1)
            intent = await intent_of(recovery, self.plan.remedies[recovery.name], case)
            at = self._time.at()
            said = about(incident, kind, at, f"would {intent}", recovery=recovery.name)
            self._happened([said])

        self._later(say())

    def _case(self, incident: Incident, attempt: int) -> Case:
        component = self.plan.config.components.get(str(incident.component))
        return Case(
            id=incident.id,
            component=incident.component,
            fault=incident.fault,
            check=incident.check,
            since=incident.since,
            reading=incident.reading,
            attempt=attempt,
            settings=component.settings if component else {},
        )

    def _look_outside(self) -> None:
        """The kill switch, and what other processes wrote: promotions and silences."""
        switch = self.plan.config.kill_switch
        is_killed = switch is not None and self.plan.config.beside(switch).exists()
        if is_killed is not self.watch.is_killed:
            self.watch.is_killed = is_killed
            self.watch.stale()
        now_s = self._time.now_s()
        if now_s - self._asked_s >= _OUTSIDE_EVERY_S:
            self._asked_s = now_s
            self._later(self._ask_outside())

    async def _ask_outside(self) -> None:
        try:
            found = await asyncio.wrap_future(self._records.outside())
        except MonitoringError as error:
            self.state_fault = error.message
            return
        if found is not None:
            promoted, self.silences = found
            self._happened(self.watch.promote(promoted, self._time.at()))

    def _happened(self, events: Iterable[Event]) -> None:
        found = list(events)
        if found:
            self._events += found
            for observer in self._outside.observers:
                observer(found, self.watch)

    def _keep(self) -> None:
        """Write down what changed, without waiting for the disk."""
        now_s = self._time.now_s()
        if self._events or now_s - self._kept_s >= _KEEP_EVERY_S:
            self._later(self._kept(force=False))

    async def _kept(self, *, force: bool) -> None:
        """Write down what changed; on the disk afterwards, or `state_fault` says why not."""
        now_s = self._time.now_s()
        is_round = force or now_s - self._kept_s >= _KEEP_EVERY_S
        self._kept_s = now_s
        events, self._events = self._events, []
        changed = self.watch.taken(with_all=is_round)
        entry = Entry(
            events=events,
            saved=changed,
            stretches=self._stretches.taken(all_of_them=self._is_stopping),
            status=text_of(self._outside.status(self.watch)),
            now_s=now_s,
        )
        try:
            await asyncio.wrap_future(self._records.write(entry))
            self.state_fault = None
            if now_s - self._pruned_s >= _PRUNE_EVERY_S:
                self._pruned_s = now_s
                before_s = now_s - self.plan.config.store.keep_s
                self.watch.forget(before_s)
                await asyncio.wrap_future(self._records.prune(before_s))
        except MonitoringError as error:
            self.state_fault = error.message
            self._events = [*events, *self._events]
            self.watch.put_back(changed)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the loop; `run` waits for it at the end."""
        task = asyncio.ensure_future(work)
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    def _plain(self, kind: Happening, text: str) -> Event:
        return Event(kind=kind, at=self._time.at(), text=text)
