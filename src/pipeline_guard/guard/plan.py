"""What a configuration comes down to: checks with rules and probes, recoveries, who needs whom.

Made once at the start and at every reload; checks and recoveries that a program adds join it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from pipeline_guard.assess import Rule, Subject, below, group_of
from pipeline_guard.config import (
    CheckSettings,
    GuardConfig,
    MaintenanceWindow,
    Mode,
    RecoverySettings,
    all_checks,
    build,
)
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Component, Fault, Pace, Probe, Remedy, component_of

if TYPE_CHECKING:
    from pipeline_guard.probes.inputs import MetricReader

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check that can be looked at.

    Attributes:
        id: of the check.
        subject: what its incidents are called.
        rule: when it counts as bad.
        interval_s, timeout_s: how often, and how long a look may take.
        probe: what looks.
    """

    id: str
    subject: Subject
    rule: Rule
    interval_s: float
    timeout_s: float
    probe: Probe


@dataclass(slots=True)
class Plan:
    """What the guard does, in the terms that it works with.

    Attributes:
        config: where it comes from.
        checks: by id.
        recoveries: in the order in which they are tried.
        remedies: for every recovery by name: its steps' remedies, each with those that undo it.
    """

    config: GuardConfig
    checks: dict[str, Check] = field(default_factory=dict)
    recoveries: list[RecoverySettings] = field(default_factory=list)
    remedies: dict[str, tuple[tuple[Remedy, tuple[Remedy, ...]], ...]] = field(default_factory=dict)
    _below: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _groups: dict[str, str] = field(default_factory=dict)

    @property
    def depends_on(self) -> dict[str, tuple[str, ...]]:
        """By component, what it depends on."""
        return {name: each.depends_on for name, each in self.config.components.items()}

    def below(self, component: str) -> tuple[str, ...]:
        """Everything that a component depends on."""
        if component not in self._below:
            self._below[component] = below(component, self.depends_on)
        return self._below[component]

    def group(self, component: str) -> str:
        """The dependency group of a component: one recovery at a time runs in it."""
        if component not in self._groups:
            self._groups[component] = group_of(component, self.depends_on)
        return self._groups[component]

    def recovery(self, name: str) -> RecoverySettings | None:
        """A recovery by name."""
        return next((each for each in self.recoveries if each.name == name), None)

    def components(self) -> list[Component]:
        """Every component that is declared or looked at."""
        names = dict.fromkeys([*self.config.components])
        names |= dict.fromkeys(str(each.subject.component) for each in self.checks.values())
        return [component_of(name) for name in names]

    def modes(self, promoted: Mapping[str, Mode]) -> dict[str, Mode]:
        """By recovery, what it may do: what a person decided last, never above the file's mode."""
        order = list(Mode)
        ceiling = self.config.mode or Mode.ACT
        found = {}
        for each in self.recoveries:
            own = promoted.get(each.name, self.config.mode_of(each))
            found[each.name] = min(own, ceiling, key=order.index)
        return found


def make_plan(
    config: GuardConfig,
    probes: Mapping[str, type],
    remedies: Mapping[str, type],
    metrics: MetricReader | None = None,
) -> Plan:
    """Make probes and remedies from a configuration.

    Raises:
        ConfigurationError: a kind or a parameter is not known; all faults are named, and nothing
            was made.
    """
    plan = Plan(config)
    faults: list[str] = []
    details: list[object] = []

    def made(kind: str, parameters: Mapping[str, object], registry: Mapping[str, type], where: str):  # type: ignore[no-untyped-def]  # what comes out is whatever the registry holds
        try:
            return build(kind, parameters, registry, where)
        except ConfigurationError as error:
            faults.append(str(error))
            details.extend(error.details.get("faults", ()))
            return None

    for check in all_checks(config):
        probe = made(check.type, check.parameters, probes, check.where or f"check {check.id}")
        if probe is not None:
            probe = _bound(probe, check, metrics)
        plan.checks[check.id] = as_check(check, config, probe)
    for recovery in config.recoveries:
        plan.recoveries.append(recovery)
        plan.remedies[recovery.name] = tuple(
            (
                made(step.type, step.parameters, remedies, step.where),
                tuple(made(s.type, s.parameters, remedies, s.where) for s in step.rollback),
            )
            for step in recovery.steps
        )
    if faults:
        raise ConfigurationError("\n".join(faults), {"faults": details})
    return plan


def _bound(probe: Probe, check: CheckSettings, metrics: MetricReader | None) -> Probe:
    """The probe with what it asks for beside its parameters."""
    bind = getattr(probe, "bind", None)
    if bind is None:
        return probe
    from pipeline_guard.probes.inputs import ProbeInputs  # noqa: PLC0415 -- only where one asks

    found: Probe = bind(ProbeInputs(metrics=metrics, component=check.component))
    return found


def as_check(settings: CheckSettings, config: GuardConfig, probe: Probe) -> Check:
    """A check with what the defaults add to it."""
    defaults = config.defaults
    pace: Pace | None = getattr(type(probe), "pace", None)
    for_ = settings.for_ or (pace.for_ if pace else defaults.for_)
    return Check(
        id=settings.id,
        subject=Subject(
            check=settings.id,
            component=component_of(settings.component),
            fault=settings.fault or Fault.OTHER,
            runbook=settings.runbook,
        ),
        rule=Rule(
            for_=for_,
            of=max(for_, settings.of or (for_ if pace else defaults.of) or for_),
            clear_after=settings.clear_after or defaults.clear_after,
        ),
        interval_s=settings.interval_s
        or min(pace.interval_s if pace else math.inf, defaults.interval_s),
        timeout_s=settings.timeout_s or defaults.timeout_s,
        probe=probe,
    )


def maintained(config: GuardConfig, at: datetime, names: Sequence[str]) -> frozenset[str]:
    """The components that people work on at a moment."""
    found: set[str] = set()
    for window in config.maintenance:
        if is_within(window, at):
            found.update(window.components or names)
    return frozenset(found)


def is_within(window: MaintenanceWindow, at: datetime) -> bool:
    """Whether a moment is in a window: `start` and `from` belong to it, `end` and `to` do not.

    A weekly window is one of the clock on the wall of its time zone: on the night on which the
    clocks change it is an hour longer or shorter.
    """
    if window.start is not None and window.end is not None:
        return window.start <= at < window.end
    local = at.astimezone(ZoneInfo(window.timezone))
    clock = local.strftime("%H:%M")
    today, yesterday = _DAYS[local.weekday()], _DAYS[(local - timedelta(days=1)).weekday()]
    if window.from_ <= window.to:
        return today in window.days and window.from_ <= clock < window.to
    return (today in window.days and clock >= window.from_) or (
        yesterday in window.days and clock < window.to
    )
