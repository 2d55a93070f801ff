"""What looks add up to: confirmed after `for` of `of`, cleared after `clear_after`, flapping."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_guard.assess import (
    REMEMBERED,
    Change,
    CheckState,
    Incident,
    Rule,
    Stage,
    Subject,
    after,
    below,
    group_of,
    health_of,
    incident_after,
    roots,
    share_of_changes,
)
from pipeline_guard.model import Fault, HealthStatus, PipelineComponent, Reading, Verdict

AT = datetime(2026, 1, 1, tzinfo=UTC)
OK, WARNING, CRITICAL, UNKNOWN = Verdict
RULES = [Rule(1, 1, 1), Rule(2, 2, 1), Rule(2, 3, 2), Rule(3, 3, 2), Rule(2, 4, 3)]
verdicts = st.lists(st.sampled_from(Verdict), max_size=60)


def states(found: Sequence[Verdict], rule: Rule) -> list[CheckState]:
    state, all_of_them = CheckState(), []
    for number, verdict in enumerate(found):
        state = after(state, verdict, AT + timedelta(seconds=number), rule)
        all_of_them.append(state)
    return all_of_them


def reference(found: Sequence[Verdict], rule: Rule) -> Verdict:
    """The level by its definition, from the whole history; kept is only where it was cleared."""
    level, since = OK, 0
    for now in range(1, len(found) + 1):
        counted = found[since:now]
        window = counted[-rule.of :]
        newest = found[max(since, now - rule.clear_after) : now]
        is_settled = len(newest) == rule.clear_after
        if is_settled and all(v is OK for v in newest):
            if any(v is not OK for v in counted):
                since = now
            level = OK
            continue
        votes = {
            CRITICAL: sum(v is CRITICAL for v in window),
            WARNING: sum(v in (WARNING, CRITICAL) for v in window),
            UNKNOWN: sum(v is not OK for v in window),
        }
        confirmed = next((v for v, n in votes.items() if n >= rule.for_), OK)
        if is_settled and all(v in (OK, WARNING) for v in newest):
            level = WARNING if level is not OK else confirmed
        else:
            order = [OK, UNKNOWN, WARNING, CRITICAL]
            level = max(level, confirmed, key=order.index)
    return level


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_short_history_is_judged_as_the_definition_says(rule: Rule) -> None:
    for history in itertools.product(Verdict, repeat=6):
        found = [state.level for state in states(history, rule)]
        expected = [reference(history[:n], rule) for n in range(1, 7)]
        assert found == expected, history


@given(verdicts, st.sampled_from(RULES))
def test_long_histories_too(history: list[Verdict], rule: Rule) -> None:
    if history:
        # what is remembered is bounded, the reference is not: windows are far shorter than that
        assert states(history, rule)[-1].level is reference(history, rule)


@given(verdicts, st.sampled_from(RULES))
def test_nothing_is_confirmed_by_fewer_bad_looks_than_the_rule_asks(
    history: list[Verdict], rule: Rule
) -> None:
    for number, state in enumerate(states(history, rule), start=1):
        if state.level is not OK:
            assert sum(v is not OK for v in history[:number]) >= rule.for_


@given(verdicts, st.sampled_from(RULES))
def test_enough_good_looks_end_it_whatever_was_before(history: list[Verdict], rule: Rule) -> None:
    last = states([*history, *[OK] * rule.clear_after], rule)[-1]

    assert last.level is OK
    assert last.bad_since is None


def test_counters_begin_anew_after_a_recovery() -> None:
    rule = Rule(for_=3, of=5, clear_after=2)
    found = states([CRITICAL, CRITICAL, CRITICAL, OK, OK, CRITICAL, CRITICAL], rule)

    assert [s.level for s in found[2:]] == [CRITICAL, CRITICAL, OK, OK, OK]
    assert found[-1].is_suspect


def test_a_single_bad_look_makes_a_check_suspect_and_no_more() -> None:
    found = states([OK, CRITICAL, OK], Rule())

    assert [s.is_suspect for s in found] == [False, True, False]
    assert [s.level for s in found] == [OK, OK, OK]


def test_what_cannot_be_looked_at_is_not_well_and_is_not_critical() -> None:
    assert states([UNKNOWN] * 3, Rule())[-1].level is UNKNOWN
    assert states([CRITICAL] * 3 + [UNKNOWN] * 9, Rule())[-1].level is CRITICAL


def nagios(found: Sequence[Verdict]) -> float:
    """Nagios' own way to compute it: 21 slots that begin well, 20 weights from 0.8 to 1.2."""
    slots = [found[0] if found else OK] * (REMEMBERED - len(found[-REMEMBERED:]))
    slots += found[-REMEMBERED:]
    curve = [0.8 + n * (1.2 - 0.8) / 19 for n in range(20)]
    return sum(curve[n] for n in range(20) if slots[n] is not slots[n + 1]) / 20


@given(verdicts)
def test_the_share_of_changes_is_that_of_nagios(history: list[Verdict]) -> None:
    assert share_of_changes(history[-REMEMBERED:]) == pytest.approx(nagios(history))


def test_flapping_begins_above_thirty_percent_and_ends_below_fifteen() -> None:
    swinging = states([OK, CRITICAL] * 10, Rule())
    first = next(n for n, s in enumerate(swinging) if s.is_flapping)
    settling = states([OK, CRITICAL] * 10 + [OK] * 30, Rule())
    last = max(n for n, s in enumerate(settling) if s.is_flapping)

    assert (
        share_of_changes(swinging[first].verdicts)
        > 0.30
        >= share_of_changes(swinging[first - 1].verdicts)
    )
    assert (
        share_of_changes(settling[last + 1].verdicts)
        < 0.15
        <= share_of_changes(settling[last].verdicts)
    )


@given(verdicts, st.sampled_from(RULES))
def test_a_settled_state_is_the_same_object(history: list[Verdict], rule: Rule) -> None:
    settled = states([*history, *[OK] * 60], rule)[-1]

    assert after(settled, OK, AT, rule) is settled


# Incidents.


def incident(name: str, component: str, *, level: Verdict = CRITICAL, second: int = 0) -> Incident:
    at = AT + timedelta(seconds=second)
    return Incident(
        id=name,
        component=PipelineComponent(component)
        if component in set(PipelineComponent)
        else component,  # type: ignore[arg-type]
        check=f"{component}.check",
        fault=Fault.OTHER,
        level=level,
        since=at,
        confirmed=at,
        last_seen=at,
        reading=Reading(verdict=level, summary="bad"),
    )


def test_an_incident_opens_once_keeps_its_id_and_closes_when_the_check_is_clear() -> None:
    rule, subject = Rule(2, 2, 2), Subject(check="c", component=PipelineComponent.STORAGE)
    state, current, changes = CheckState(), None, []
    for number, verdict in enumerate([CRITICAL, CRITICAL, CRITICAL, OK, OK]):
        at = AT + timedelta(seconds=number)
        state = after(state, verdict, at, rule)
        reading = Reading(verdict=verdict, summary=verdict.name, fault=Fault.DISK_FULL)
        current, change = incident_after(
            current, state, reading, at, subject=subject, new_id=f"inc{number}"
        )
        changes.append(change)

    assert changes == [Change.NONE, Change.OPENED, Change.NONE, Change.NONE, Change.RESOLVED]
    assert current is not None
    assert (current.id, current.fault, current.count) == ("inc1", Fault.DISK_FULL, 3)
    assert current.since == AT
    assert current.stage is Stage.RESOLVED


def test_a_look_that_could_not_be_made_does_not_replace_the_evidence() -> None:
    standing = incident("a", "storage")
    state = states([CRITICAL] * 3 + [UNKNOWN], Rule())[-1]
    now, _ = incident_after(
        standing,
        state,
        Reading(verdict=UNKNOWN, summary="no answer"),
        AT,
        subject=Subject(check="c", component=PipelineComponent.STORAGE),
        new_id="",
    )

    assert now is not None
    assert now.reading is standing.reading


GRAPH = {"router": ["trainer"], "trainer": ["storage", "gpu"], "gpu": ["power"]}


def test_the_lowest_critical_component_is_the_root_of_all_above() -> None:
    found = roots(
        [incident("r", "router"), incident("t", "trainer"), incident("p", "power")], GRAPH
    )

    assert found == {"r": "p", "t": "p", "p": None}


@pytest.mark.parametrize("level", [WARNING, UNKNOWN])
def test_a_warning_and_the_unknown_explain_nothing(level: Verdict) -> None:
    found = roots([incident("t", "trainer"), incident("s", "storage", level=level)], GRAPH)

    assert found == {"t": None, "s": None}


names = st.sampled_from(["a", "b", "c", "d", "e"])
graphs = st.dictionaries(names, st.lists(names, unique=True, max_size=3))


@given(graphs, st.lists(names, unique=True, max_size=5))
def test_a_root_is_below_what_it_explains_and_has_no_root_itself(
    graph: dict[str, list[str]], faulty: list[str]
) -> None:
    acyclic = {name: [o for o in others if o > name] for name, others in graph.items()}
    found = roots([incident(n, n, second=k) for k, n in enumerate(faulty)], acyclic)

    for name, root in found.items():
        if root is None:
            assert not set(below(name, acyclic)) & set(faulty)
        else:
            assert root in below(name, acyclic)
            assert found[root] is None


@given(graphs, names, names)
def test_groups_hold_everything_that_hangs_together(
    graph: dict[str, list[str]], one: str, other: str
) -> None:
    if other in graph.get(one, ()):
        assert group_of(one, graph) == group_of(other, graph)
    assert group_of(group_of(one, graph), graph) == group_of(one, graph)


def test_health_is_the_worst_of_what_stands() -> None:
    assert health_of([]) is HealthStatus.HEALTHY
    assert health_of([incident("a", "storage", level=WARNING)]) is HealthStatus.DEGRADED
    assert health_of([incident("a", "storage", level=UNKNOWN)]) is HealthStatus.DEGRADED
    both = [incident("a", "storage", level=WARNING), incident("b", "gpu")]
    assert health_of(both) is HealthStatus.CRITICAL
