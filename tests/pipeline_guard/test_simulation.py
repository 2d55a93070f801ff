"""Days of a pipeline in seconds: the real judgement on a clock that is told to move.

The seven days are of normal operation as it is: daily load, noise, an odd slow answer, a look that
cannot be made now and then. Nothing may be done about it. A looser rule must fail the same test,
so that it is known to be able to.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta

import pytest
from tests.pipeline_guard.guarding import Scripted, config, recovery

from pipeline_guard.config import CheckSettings, GuardConfig, Mode
from pipeline_guard.decide import Kind
from pipeline_guard.guard.plan import Plan, as_check
from pipeline_guard.guard.saved import Saved
from pipeline_guard.guard.watch import Watch
from pipeline_guard.model import Fault, Reading, Verdict
from privacy_runtime.testing import SeededEntropy

DAY_S, STEP_S, CHECKS = 86_400, 60, 6
START = datetime(2026, 3, 2, tzinfo=UTC)


def uniform(seed: int, check: int, step: int) -> float:
    """A number in (0, 1) that depends on nothing but its place."""
    digest = hashlib.blake2b(f"{seed}/{check}/{step}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 1) / (2**64 + 2)


def latency_ms(seed: int, check: int, step: int) -> float:
    """A normal day: twice the load at noon, exponential noise, heavy tail."""
    load = 1.5 - 0.5 * math.cos(2 * math.pi * (step * STEP_S % DAY_S) / DAY_S)
    return 20.0 * load - 12.0 * load * math.log(uniform(seed, check, step))


def looked(seed: int, check: int, step: int) -> Reading:
    if uniform(seed + 1, check, step) < 0.002:
        return Reading(verdict=Verdict.UNKNOWN, summary="no answer in time")
    found = latency_ms(seed, check, step)
    verdict = Verdict.CRITICAL if found > 200 else Verdict.WARNING if found > 150 else Verdict.OK
    fault = Fault.DEAD_ENDPOINT if verdict is not Verdict.OK else None
    return Reading(verdict=verdict, summary=f"{found:.0f} ms", fault=fault)


def plan(settings: GuardConfig, for_: int) -> Plan:
    made = Plan(settings, recoveries=list(settings.recoveries))
    for number in range(CHECKS):
        check = CheckSettings(
            id=f"c{number}",
            component="trainer",
            type="x",
            interval_s=60.0,
            for_=for_,
            of=max(3, for_),
        )
        made.checks[check.id] = as_check(check, settings, Scripted(check.id))
    return made


def simulated(seed: int, *, for_: int, days: int = 7) -> tuple[int, int, int]:
    """Alerts, recoveries and single bad looks of so many days."""
    settings = config(
        [recovery(fault=Fault.DEAD_ENDPOINT, mode=Mode.ACT, name="mend")], grace_s=60.0
    )
    watch = Watch(
        plan(settings, for_), entropy=SeededEntropy(seed), now_s=0.0, at=START, saved=Saved()
    )
    alerts = actions = bad = 0
    for step in range(days * DAY_S // STEP_S):
        now_s, at = float(step * STEP_S), START + timedelta(seconds=step * STEP_S)
        for number in range(CHECKS):
            reading = looked(seed, number, step)
            bad += reading.verdict is not Verdict.OK
            events = watch.seen(watch.plan.checks[f"c{number}"], reading, at, now_s)
            alerts += sum(event.kind.value == "opened" for event in events)
        watch.expired(at, now_s)
        for incident, decision in watch.decisions(at, now_s):
            if decision.kind is Kind.ACT and decision.recovery is not None:
                watch.applied(watch.begin(incident, decision.recovery, now_s), now_s)
                actions += 1
    return alerts, actions, bad


def test_seven_normal_days_see_no_action() -> None:
    alerts, actions, bad = simulated(7, for_=3)

    assert bad > 90, "normal operation is not free of bad looks"
    assert actions == 0
    assert alerts / 7 <= 0.1


def test_a_rule_that_believes_every_look_would_have_acted() -> None:
    alerts, actions, _ = simulated(7, for_=1, days=1)

    assert alerts >= 1
    assert actions > 0


@pytest.mark.slow
def test_no_action_in_seven_days_of_ten_other_pipelines() -> None:
    assert [simulated(seed, for_=3)[1] for seed in range(100, 110)] == [0] * 10
