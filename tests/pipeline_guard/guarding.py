"""What the tests of the guard share: small plans, probes that say what they are told, remedies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from pipeline_guard.config import (
    CheckSettings,
    ComponentSettings,
    Defaults,
    GuardConfig,
    Limits,
    Mode,
    Rate,
    RecoverySettings,
    Step,
    Trigger,
    Verification,
)
from pipeline_guard.errors import RecoveryError
from pipeline_guard.guard.plan import Plan, as_check, make_plan
from pipeline_guard.model import Applied, Case, Fault, Moment, Permit, Reading, Verdict


@dataclass
class Scripted:
    """A probe that says what a shared dictionary holds for its name."""

    name: str
    says: dict[str, Verdict] = field(default_factory=dict)
    fault: Fault | None = Fault.CRASH

    def look(self, moment: Moment) -> Reading:
        verdict = self.says.get(self.name, Verdict.OK)
        fault = self.fault if verdict is not Verdict.OK else None
        return Reading(verdict=verdict, summary=f"{self.name} is {verdict.name}", fault=fault)


@dataclass
class Doing:
    """A remedy that calls a function and remembers what it was asked."""

    does: Callable[[Case], None] = lambda case: None
    objects: str | None = None
    asked: list[str] = field(default_factory=list)

    def objection(self, case: Case) -> str | None:
        return self.objects

    def intent(self, case: Case) -> str:
        return "do what the test says"

    def apply(self, case: Case, within_s: float) -> Applied:
        self.asked.append(case.id)
        self.does(case)
        return Applied(summary="done")


@dataclass
class Refusing:
    """A gate that refuses, with its figures."""

    reason: str = "it costs epsilon 0.4 and 0.1 is left"
    asked: list[str] = field(default_factory=list)

    def permit(self, case: Case, remedy: str) -> Permit:
        self.asked.append(remedy)
        return Permit(is_allowed=False, reason=self.reason, figures={"left": 0.1})


KINDS = {name: make_dataclass("Made", []) for name in ("doing", "first", "second", "undo")}
"""Names that steps may have; `plan_of` puts the test's own remedy in their place."""


def failing(_: Case) -> None:
    raise RecoveryError("it cannot be done; nothing was changed")


def recovery(
    component: str = "trainer",
    *,
    fault: Fault | None = Fault.CRASH,
    name: str = "",
    mode: Mode | None = Mode.ACT,
    limits: Limits | None = None,
    **more: Any,
) -> RecoverySettings:
    return RecoverySettings(
        id=name,
        on=Trigger(component=component, fault=fault),
        steps=more.pop("steps", (Step(type="doing"),)),
        mode=mode,
        limits=limits or Limits(cooldown_s=0.0, backoff_s=0.0),
        verify=more.pop("verify", Verification(within_s=10.0)),
        **more,
    )


def config(
    recoveries: Sequence[RecoverySettings] = (),
    *,
    depends_on: Mapping[str, Sequence[str]] | None = None,
    grace_s: float = 0.0,
    rate: Rate | None = None,
    **more: Any,
) -> GuardConfig:
    graph = depends_on or {"trainer": ["storage"], "storage": []}
    return GuardConfig(
        defaults=Defaults(interval_s=1.0, for_=2, of=3, clear_after=2, grace_after_start_s=grace_s),
        components={n: ComponentSettings(depends_on=tuple(o)) for n, o in graph.items()},
        recoveries=tuple(recoveries),
        rate=rate or Rate(actions=100),
        **more,
    )


def plan_of(config: GuardConfig, checks: Mapping[str, Any], remedy: Doing | None = None) -> Plan:
    """A plan with a check `COMPONENT.check` for each component."""
    made = remedy or Doing()
    plan = make_plan(config, {}, KINDS)
    for component, probe in checks.items():
        name = f"{component}.check"
        settings = CheckSettings(id=name, component=component, type="scripted")
        plan.checks[name] = as_check(settings, config, probe)
    for each in config.recoveries:
        plan.remedies[each.name] = tuple(
            (made, tuple(made for _ in step.rollback)) for step in each.steps
        )
    return plan
