"""What is done about incidents: never too often, never where it must not be, and never given up
in silence. A state machine drives the real judgement beside a model that knows only the rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.pipeline_guard.guarding import Scripted, config, plan_of, recovery

from pipeline_guard.assess import Incident, Stage
from pipeline_guard.config import Limits, Mode, Rate
from pipeline_guard.decide import (
    STATISTICAL,
    Attempt,
    DryVerdict,
    Kind,
    Outcome,
    Surroundings,
    decide,
    judged,
    pause_s,
    right_in_a_row,
    without_progress,
)
from pipeline_guard.guard.saved import Saved
from pipeline_guard.guard.watch import Watch
from pipeline_guard.model import Fault, PipelineComponent, Reading, Verdict, component_of
from privacy_runtime.testing import SeededEntropy

AT = datetime(2026, 1, 1, tzinfo=UTC)
RATE = Rate(actions=3, per_s=600.0)


def incident(**more: Any) -> Incident:
    values: dict[str, Any] = {
        "id": "inc",
        "component": component_of("trainer"),
        "check": "trainer.check",
        "fault": Fault.CRASH,
        "level": Verdict.CRITICAL,
        "since": AT,
        "confirmed": AT,
        "last_seen": AT,
        "reading": Reading(verdict=Verdict.CRITICAL, summary="gone"),
    }
    return Incident(**{**values, **more})


def attempt(second: float, outcome: Outcome = Outcome.FAILED, **more: Any) -> Attempt:
    values: dict[str, Any] = {
        "id": f"run{second}",
        "recovery": "trainer.crash",
        "incident": "inc",
        "group": "storage",
        "started_s": second,
        "ended_s": None if outcome is Outcome.RUNNING else second,
        "outcome": outcome,
    }
    return Attempt(**{**values, **more})


def around(now_s: float = 1_000.0, **more: Any) -> Surroundings:
    modes = {"trainer.crash": Mode.ACT, "trainer.any": Mode.ACT}
    return Surroundings(now_s=now_s, group="storage", modes=modes, **more)


def kind(found: Incident, place: Surroundings, *recoveries: Any) -> Kind:
    return decide(found, recoveries or (recovery(),), place, RATE).kind


def test_a_fault_that_fits_is_acted_upon() -> None:
    assert kind(incident(), around()) is Kind.ACT


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (incident(), around(is_killed=True)),
        (incident(), around(maintained=frozenset({"trainer"}))),
        (incident(), around(graces={"trainer": 1_000.5})),
        (incident(), around(roots={"inc": "other"})),
        (incident(), around(suspects=frozenset({"storage"}), below={"trainer": ["storage"]})),
        (incident(is_flapping=True), around()),
        (incident(), around(attempts=[attempt(990, Outcome.RUNNING, recovery="x")])),
    ],
    ids=["killed", "maintained", "grace", "root", "suspect below", "flapping", "group is busy"],
)
def test_what_holds_it_back(found: Incident, place: Surroundings) -> None:
    assert kind(found, place) is Kind.WAIT


@pytest.mark.parametrize(
    "found",
    [
        incident(level=Verdict.UNKNOWN),
        incident(level=Verdict.WARNING),
        incident(stage=Stage.FAILED),
        incident(stage=Stage.RECOVERING),
        incident(stage=Stage.RESOLVED),
        incident(fault=Fault.HANG),
        incident(component=PipelineComponent.STORAGE),
    ],
    ids=["unknown", "warning", "failed", "recovering", "over", "other fault", "other component"],
)
def test_what_is_left_alone(found: Incident) -> None:
    assert kind(found, around()) is Kind.LEAVE


@pytest.mark.parametrize("fault", sorted(STATISTICAL))
def test_statistics_trigger_nothing_unless_somebody_says_so(fault: Fault) -> None:
    found = incident(fault=fault)
    opted = recovery(fault=fault, name="trainer.crash", is_statistical=True)

    assert kind(found, around(), recovery(fault=None, name="trainer.any")) is Kind.LEAVE
    assert kind(found, around(), recovery(fault=fault, name="trainer.crash")) is Kind.LEAVE
    assert kind(found, around(), opted) is Kind.ACT


def test_the_first_that_fits_runs_and_the_next_when_it_is_exhausted() -> None:
    both = [recovery(), recovery(fault=None, name="trainer.any")]
    used = around(attempts=[attempt(900 + n) for n in range(3)])

    assert decide(incident(), both, around(), RATE).recovery is both[0]
    assert decide(incident(), both, replace(used, now_s=2_000), RATE).recovery is both[1]


def test_when_all_are_exhausted_people_are_called() -> None:
    place = around(2_000, attempts=[attempt(900 + n) for n in range(3)])
    found = decide(incident(), [recovery()], place, RATE)

    assert found.kind is Kind.ESCALATE
    assert "3 times within 60 minutes" in found.reason


def test_the_window_slides() -> None:
    limits = Limits(cooldown_s=0, backoff_s=0, max_attempts=2, window_s=100, no_progress=9)
    attempts = [attempt(0), attempt(60)]

    found = [
        kind(incident(), around(now, attempts=attempts), recovery(limits=limits))
        for now in (61, 99.9, 100.1, 161)
    ]
    assert found == [Kind.ESCALATE, Kind.ESCALATE, Kind.ACT, Kind.ACT]


def test_the_rate_of_the_host_counts_every_recovery_but_those_refused() -> None:
    others = [attempt(900 + n, recovery="other", group="elsewhere") for n in range(3)]
    refused = [replace(each, outcome=Outcome.REFUSED) for each in others]
    waiting = decide(incident(), [recovery()], around(attempts=others), RATE)

    assert (waiting.kind, waiting.until_s) == (Kind.WAIT, 1_500)
    assert kind(incident(), around(attempts=refused)) is Kind.ACT


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.SUGGEST])
def test_a_recovery_that_may_not_act_says_so_once(mode: Mode) -> None:
    place = replace(around(), modes={"trainer.crash": mode})
    noted = replace(place, noted=frozenset({("trainer.crash", "inc")}))

    assert kind(incident(), place) is (Kind.NOTE if mode is Mode.OBSERVE else Kind.SUGGEST)
    assert kind(incident(), noted) is Kind.LEAVE


def test_observe_is_what_a_recovery_without_a_mode_does() -> None:
    assert kind(incident(), Surroundings(now_s=1.0)) is Kind.NOTE


# Progress, pauses, verdicts.


def at_step(step: float | None) -> Incident:
    measured = {} if step is None else {"progress": step}
    return incident(
        reading=Reading(verdict=Verdict.CRITICAL, summary="gone", measurements=measured)
    )


@pytest.mark.parametrize(
    ("now", "attempts", "count"),
    [
        (None, [], 0),
        (None, [attempt(1), attempt(2)], 2),
        (None, [attempt(1), attempt(2, Outcome.HEALED), attempt(3)], 1),
        (50, [attempt(1, progress=40.0)], 0),
        (40, [attempt(1, progress=40.0)], 1),
        (40, [attempt(n, Outcome.HEALED, progress=40.0) for n in (1, 2)], 2),
        (40, [attempt(1, progress=10.0), attempt(2, Outcome.HEALED, progress=40.0)], 1),
        (None, [attempt(1, incident="older"), attempt(2, incident="older")], 0),
    ],
    ids=[
        "none", "two failed", "healed between", "it got further", "it did not",
        "it starts and dies before the next step", "it got further once", "a person saw to it",
    ],
)  # fmt: skip
def test_runs_without_progress(now: float | None, attempts: list[Attempt], count: int) -> None:
    assert without_progress("trainer.crash", at_step(now), attempts) == count


def test_a_loop_of_starts_that_never_get_further_ends() -> None:
    runs = [attempt(n * 10, Outcome.HEALED, progress=40.0) for n in range(3)]
    limits = Limits(cooldown_s=0, backoff_s=0, max_attempts=99, no_progress=3)

    assert kind(at_step(40), around(attempts=runs), recovery(limits=limits)) is Kind.ESCALATE
    assert kind(at_step(41), around(attempts=runs), recovery(limits=limits)) is not Kind.ESCALATE


@given(
    st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 1e4), st.floats(0, 1e4)
)
def test_a_pause_is_at_least_the_cooldown_and_grows_to_its_end(
    stalled: int, chance: float, cooldown_s: float, backoff_s: float
) -> None:
    limits = Limits(cooldown_s=cooldown_s, backoff_s=backoff_s, most_backoff_s=900)

    found = pause_s(limits, stalled, chance)
    assert math.isfinite(found)
    assert cooldown_s <= found <= max(cooldown_s, 900 * 1.25)
    assert found <= pause_s(limits, stalled + 1, chance) or stalled == 0


def test_backoff_is_one_five_twenty_five_seconds_more_or_less_a_quarter() -> None:
    limits = Limits(cooldown_s=0, backoff_s=1)

    assert [pause_s(limits, n, 0.5) for n in (1, 2, 3)] == [1, 5, 25]
    assert pause_s(limits, 2, 0.0) == 3.75
    assert pause_s(limits, 2, 1.0) == 6.25


@pytest.mark.parametrize(
    ("is_standing", "now", "right"),
    [(True, 5, None), (True, 10, True), (False, 5, False), (False, 10, True)],
)
def test_a_dry_verdict_is_right_when_the_fault_outlasted_the_recovery(
    is_standing: bool, now: float, right: bool | None
) -> None:
    verdict = DryVerdict(recovery="r", incident="i", noted_s=0, until_s=10)

    assert judged(verdict, is_standing=is_standing, now_s=now) is right


@given(st.lists(st.sampled_from([True, False, None]), max_size=12))
def test_right_in_a_row_counts_back_to_the_last_wrong_one(rights: list[bool | None]) -> None:
    found = [
        DryVerdict(recovery="r", incident=str(n), noted_s=n, until_s=n, is_right=right)
        for n, right in enumerate(rights)
    ]
    known = [right for right in rights if right is not None]
    expected = known[::-1].index(False) if False in known else len(known)

    assert right_in_a_row(found) == expected


# The whole judgement, driven at random, beside a model that knows only the rules.

COOLDOWN_S, WINDOW_S, MOST, GRACE_S = 20.0, 900.0, 3, 15.0
HOST = Rate(actions=2, per_s=150.0)
CHECKS = ("trainer.check", "storage.check")


class Guarding(RuleBasedStateMachine):
    """Looks, runs, kill switches, promotions and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        limits = Limits(
            cooldown_s=COOLDOWN_S, max_attempts=MOST, window_s=WINDOW_S, no_progress=99, backoff_s=0
        )
        recoveries = [
            recovery("trainer", name="first", limits=limits),
            recovery("trainer", name="second", fault=None, limits=limits),
            recovery("storage", name="third", limits=limits),
        ]
        self.plan = plan_of(
            config(recoveries, grace_s=GRACE_S, rate=HOST),
            {name: Scripted(name) for name in ("trainer", "storage")},
        )
        self.now = 10_000.0
        self.saved = Saved()
        self.histories: dict[str, list[Verdict]] = {name: [] for name in CHECKS}
        self.acts: list[dict[str, Any]] = []
        self.quiet_until = {"trainer": self.now + GRACE_S, "storage": self.now + GRACE_S}
        self.killed = False
        self.modes = dict.fromkeys(("first", "second", "third"), Mode.ACT)
        self.seed = 0
        self.watch = self._watch()

    def _watch(self) -> Watch:
        self.seed += 1
        return Watch(
            self.plan,
            entropy=SeededEntropy(self.seed),
            now_s=self.now,
            at=self._at(),
            saved=self.saved,
        )

    def _at(self) -> datetime:
        return AT + timedelta(seconds=self.now)

    def _remember(self) -> None:
        found = self.watch.taken(with_all=True)
        self.saved.incidents |= found.incidents
        self.saved.attempts |= found.attempts
        self.saved.verdicts |= found.verdicts
        self.saved.states |= found.states
        self.saved.promoted = dict(self.watch.promoted)

    def _events(self, events: Sequence[Any]) -> None:
        for event in events:
            if event.kind.value == "healed":
                self.quiet_until[event.component] = self.now + GRACE_S
                self._ended(event.data["run"])
            if event.kind.value in ("not_healed", "refused"):
                self._ended(event.data["run"], event.kind.value)
            if event.kind.value in ("resolved", "better") and event.component == "storage":
                self.quiet_until["trainer"] = self.now + GRACE_S

    def _ended(self, run: str, how: str = "") -> None:
        act = next(act for act in self.acts if act["run"] == run)
        act["end"], act["how"] = self.now, how

    @rule(
        check=st.sampled_from(CHECKS),
        verdict=st.sampled_from([Verdict.OK, Verdict.CRITICAL, Verdict.CRITICAL, *Verdict]),
        times=st.integers(1, 4),
    )
    def look(self, check: str, verdict: Verdict, times: int) -> None:
        for _ in range(times):
            self.now += 1.0
            fault = None if verdict is Verdict.OK else Fault.CRASH
            reading = Reading(verdict=verdict, summary=verdict.name, fault=fault)
            self.histories[check].append(verdict)
            self._events(self.watch.seen(self.plan.checks[check], reading, self._at(), self.now))

    @rule(seconds=st.sampled_from([1.0, 10.0, 25.0, 150.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._events(self.watch.expired(self._at(), self.now))

    @rule()
    def switch(self) -> None:
        self.killed = self.watch.is_killed = not self.killed
        self.watch.stale()

    @rule(name=st.sampled_from(["first", "second", "third"]), mode=st.sampled_from(Mode))
    def promote(self, name: str, mode: Mode) -> None:
        self.modes[name] = mode
        self.watch.promote(self.modes, self._at())

    @precondition(lambda self: any(act["end"] is None for act in self.acts))
    @rule(applied=st.booleans(), outcome=st.sampled_from([Outcome.FAILED, Outcome.REFUSED]))
    def finish(self, applied: bool, outcome: Outcome) -> None:
        act = next(act for act in self.acts if act["end"] is None)
        run = next(each for each in self.watch.attempts if each.id == act["run"])
        if applied:
            self.watch.applied(run, self.now)
        else:
            self._events(self.watch.end(run.id, outcome, "a step failed", self._at(), self.now))

    @rule(component=st.sampled_from(["trainer", "storage"]), heals=st.booleans())
    def fall_and_be_seen_to(self, component: str, heals: bool) -> None:
        """One whole round, which single steps reach too seldom."""
        self.wait(25.0)
        self.look(f"{component}.check", Verdict.CRITICAL, 3)
        self.decide()
        while any(act["end"] is None for act in self.acts):
            if not heals:
                self.finish(applied=False, outcome=Outcome.FAILED)
                continue
            self.finish(applied=True, outcome=Outcome.HEALED)
            for check in CHECKS:
                self.look(check, Verdict.OK, 3)

    @rule()
    def restart(self) -> None:
        self._remember()
        self.watch = self._watch()
        self.watch.is_killed = self.killed
        self.quiet_until = {name: self.now + GRACE_S for name in self.quiet_until}

    @rule()
    def decide(self) -> None:
        self.watch.stale()
        for found, decision in self.watch.decisions(self._at(), self.now):
            self._matches(found, decision)
            if decision.kind is Kind.ACT:
                assert decision.recovery is not None
                self._may(found, decision.recovery.name)
                run = self.watch.begin(found, decision.recovery, self.now)
                self.acts.append(
                    {"run": run.id, "name": decision.recovery.name, "start": self.now, "end": None,
                     "how": ""}
                )  # fmt: skip
            elif decision.kind is Kind.ESCALATE:
                self.watch.give_up(found, decision, self._at())
                assert self.watch.incidents[found.id].stage is Stage.FAILED
            elif decision.kind in (Kind.NOTE, Kind.SUGGEST):
                assert decision.recovery is not None
                self.watch.dry_runs.note(decision.recovery, found.id, self.now)

    def _may(self, found: Incident, name: str) -> None:
        """The rules, from the model's own memory."""
        component = str(found.component)
        mine = [act for act in self.acts if act["name"] == name]
        assert self.modes[name] is Mode.ACT
        assert not self.killed
        assert self.now >= self.quiet_until[component] - 1e-3
        assert all(act["end"] is not None for act in self.acts), "one at a time in this group"
        assert all(self.now - act["end"] >= COOLDOWN_S - 1e-3 for act in mine)
        assert sum(self.now - act["start"] < WINDOW_S for act in mine) < MOST
        lately = [act for act in self.acts if self.now - act["start"] < HOST.per_s]
        assert sum(act["how"] != "refused" for act in lately) < HOST.actions
        assert found.stage is Stage.OPEN
        assert self.histories[found.check].count(Verdict.CRITICAL) >= 2
        if component == "trainer":
            assert self.histories["storage.check"][-2:] != [Verdict.CRITICAL] * 2
            assert self.histories["storage.check"][-1:] != [Verdict.CRITICAL]

    def _matches(self, found: Incident, decision: Any) -> None:
        """Called people if and only if nothing holds it back and nothing is left."""
        component = str(found.component)
        names = [r.name for r in self.plan.recoveries if r.on.component == component]
        counts = [
            sum(a["name"] == name and self.now - a["start"] < WINDOW_S for a in self.acts)
            for name in names
        ]
        is_exhausted = all(count >= MOST for count in counts)
        if decision.kind is Kind.ESCALATE:
            assert is_exhausted
        if is_exhausted and found.stage is Stage.OPEN and found.level is Verdict.CRITICAL:
            assert decision.kind in (Kind.ESCALATE, Kind.WAIT)

    @invariant()
    def what_is_given_up_stays_so_until_it_is_over(self) -> None:
        for each in self.watch.incidents.values():
            assert each.is_standing

    @invariant()
    def there_is_at_most_one_incident_of_a_check(self) -> None:
        checks = [each.check for each in self.watch.incidents.values()]
        assert len(checks) == len(set(checks))


Guarding.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestGuarding = Guarding.TestCase
