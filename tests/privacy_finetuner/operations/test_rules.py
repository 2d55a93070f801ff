"""The rules of security: what evidence gives which alert, and what gives none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_finetuner.operations.alerts import (
    AccountFact,
    ChainFact,
    Event,
    Facts,
    FailureFact,
    Severity,
    ThreatType,
)
from privacy_finetuner.operations.rules import RULES, judged

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def refused(count: int, *, every_s: float = 60, first: int = 1, **body: Any) -> list[Event]:
    body = {"subject": "u_1", "source": "s_1", "delays_s": {"account": 0, "source": 0}} | body
    start = NOW - timedelta(hours=5)
    return [
        Event(
            seq=first + n,
            at=start + timedelta(seconds=n * every_s),
            type="identity.login_refused",
            body=body,
        )
        for n in range(count)
    ]


def facts(**given: Any) -> Facts:
    return Facts(tenant="o_1", now=NOW, **given)


def account(**changes: Any) -> AccountFact:
    values = {"account": "notes/2026", "epsilon": 8.0, "epsilon_used": 1.0, "daily_shares": ()}
    return AccountFact(**{**values, "at": NOW, **changes})


def test_nothing_gives_no_alert() -> None:
    assert judged(facts()) == []


@pytest.mark.parametrize(("count", "expected"), [(4, []), (5, ["account_guessing"])])
def test_five_refusals_on_one_account_are_guessing(count: int, expected: list[str]) -> None:
    assert [each.rule for each in judged(facts(events=refused(count)))] == expected


def test_refusals_far_apart_are_no_guessing() -> None:
    assert judged(facts(events=refused(20, every_s=901))) == []


def test_four_slow_refusals_and_one_later_are_no_five_in_a_quarter_of_an_hour() -> None:
    assert judged(facts(events=refused(9, every_s=240))) == []


def test_a_lock_makes_it_worse() -> None:
    events = refused(6)
    locked = refused(1, first=7, delays_s={"account": 30, "source": 0})
    moved = [
        Event(seq=e.seq, at=events[-1].at + timedelta(seconds=1), type=e.type, body=e.body)
        for e in locked
    ]

    (mild,), (bad,) = judged(facts(events=events)), judged(facts(events=[*events, *moved]))
    assert (mild.severity, bad.severity) == (Severity.MEDIUM, Severity.HIGH)
    assert mild.id == bad.id  # the same episode, grown


def test_an_alert_says_what_it_rests_on() -> None:
    (alert,) = judged(facts(events=refused(30)))

    assert alert.threat_type is ThreatType.CREDENTIAL_ATTACK
    assert alert.at == refused(30)[4].at
    assert alert.count == 30
    assert [each["seq"] for each in alert.evidence] == list(range(1, 21))


def test_one_source_on_many_accounts_is_spraying() -> None:
    events = [
        Event(seq=n, at=NOW + timedelta(seconds=n), type="identity.login_refused",
              body={"subject": f"u_{n % 3}", "source": "s_9"})
        for n in range(10)
    ]  # fmt: skip

    assert [each.rule for each in judged(facts(events=events))] == ["password_spraying"]
    assert "password_spraying" not in [
        each.rule for each in judged(facts(events=refused(30, source="s_9")))
    ]


@pytest.mark.parametrize(
    ("type_", "body", "rule"),
    [
        ("identity.session_ended", {"session": "f", "reason": "reused"}, "refresh_reuse"),
        ("identity.session_ended", {"session": "f", "reason": "idle"}, None),
        ("identity.second_factor_reset", {"subject": "u"}, "second_factor_reset"),
        ("identity.role_changed", {"subject": "u", "new": "admin"}, "privilege_gained"),
        ("identity.role_changed", {"subject": "u", "new": "viewer"}, None),
        ("identity.login", {"subject": "u"}, None),
    ],
)
def test_single_events(type_: str, body: dict[str, Any], rule: str | None) -> None:
    event = Event(seq=7, at=NOW, type=type_, body=body)

    found = [each.rule for each in judged(facts(events=[event]))]
    assert found == ([] if rule is None else [rule])


def test_three_foreign_objects_are_an_alert() -> None:
    events = [
        Event(seq=n, at=NOW + timedelta(minutes=n), type="access.wrong_tenant",
              body={"subject": "u_1"})
        for n in range(3)
    ]  # fmt: skip

    assert [each.rule for each in judged(facts(events=events))] == ["foreign_objects"]
    assert judged(facts(events=events[:2])) == []


@pytest.mark.parametrize(
    ("used", "severity"), [(7.1, None), (7.2, Severity.HIGH), (8.0, Severity.CRITICAL)]
)
def test_a_budget_at_its_threshold(used: float, severity: Severity | None) -> None:
    found = judged(facts(accounts=[account(epsilon_used=used)], budget_threshold=0.9))

    assert [each.severity for each in found] == ([] if severity is None else [severity])


def test_a_grant_makes_another_alert() -> None:
    ids = {
        judged(facts(accounts=[account(epsilon=cap, epsilon_used=cap)]))[0].id for cap in (8.0, 9.0)
    }
    assert len(ids) == 2


def test_no_advice_is_to_change_the_noise_of_a_run_that_runs() -> None:
    for alert in judged(facts(accounts=[account(epsilon_used=8.0)], events=refused(9))):
        assert not any("noise" in action.lower() for action in alert.recommended_actions)


@pytest.mark.parametrize(
    ("shares", "is_unusual"),
    [
        ((0.01,) * 7 + (0.12,), True),
        ((0.01,) * 6 + (0.12,), False),  # too young
        ((0.01,) * 7 + (0.09,), False),  # below a tenth of the cap
        ((0.05,) * 7 + (0.12,), False),  # not three times the usual day
        ((0.0,) * 7 + (0.10,), True),
        ((), False),
    ],
)
def test_a_day_that_spends_much_more_than_usual(
    shares: tuple[float, ...], is_unusual: bool
) -> None:
    found = judged(facts(accounts=[account(daily_shares=shares)]))

    assert [each.rule for each in found] == (["unusual_burn"] if is_unusual else [])


def test_three_failures_alike_are_an_alert() -> None:
    def failed(count: int, code: str = "killed_by_signal_9") -> list[FailureFact]:
        return [
            FailureFact(job=f"job_{n}", owner="u", code=code, at=NOW + timedelta(hours=n))
            for n in range(count)
        ]

    (alert,) = judged(facts(failures=failed(3)))
    assert alert.rule == "repeated_failures"
    assert "killed_by_signal_9" in alert.description
    assert judged(facts(failures=[*failed(2), *failed(2, "out_of_memory")])) == []


def test_a_broken_chain_is_critical() -> None:
    chains = [
        ChainFact(stream="audit", is_intact=False, broken_at=7, at=NOW),
        ChainFact(stream="ledger", is_intact=True, broken_at=None, at=NOW),
    ]
    (alert,) = judged(facts(chains=chains))

    assert (alert.rule, alert.severity) == ("broken_chain", Severity.CRITICAL)


def test_the_worst_comes_first() -> None:
    found = judged(facts(accounts=[account(epsilon_used=8.0)], events=refused(9)))

    ranks = [each.severity.rank for each in found]
    assert ranks == sorted(ranks, reverse=True)
    assert len(ranks) == 2


_EVENTS = st.lists(
    st.builds(
        Event,
        seq=st.integers(1, 10_000),
        at=st.integers(0, 86_400).map(lambda s: NOW - timedelta(seconds=s)),
        type=st.sampled_from(["identity.login_refused", "identity.session_ended", "x"]),
        body=st.fixed_dictionaries(
            {},
            optional={
                "subject": st.sampled_from(["u_1", "u_2", None]),
                "source": st.sampled_from(["s_1", "s_2"]),
                "reason": st.sampled_from(["reused", "idle"]),
                "session": st.just("f"),
            },
        ),
    ),
    max_size=60,
    unique_by=lambda each: each.seq,
)


@given(_EVENTS)
def test_the_same_evidence_in_any_order_gives_the_same_alerts(events: list[Event]) -> None:
    one = judged(facts(events=events))
    other = judged(facts(events=sorted(events, key=lambda each: each.seq)))

    assert {each.rule for each in one} == {each.rule for each in other}
    assert len({each.id for each in one}) == len(one)


@given(_EVENTS)
def test_another_organisation_has_other_ids(events: list[Event]) -> None:
    mine = {each.id for each in judged(facts(events=events))}
    theirs = {each.id for each in judged(Facts(tenant="o_2", now=NOW, events=events))}

    assert not mine & theirs


def test_every_rule_says_what_it_looks_at() -> None:
    assert all(rule.__doc__ for rule in RULES)


@pytest.mark.parametrize(
    ("acts", "share", "fires"),
    [(10, 0.10, True), (9, 0.5, False), (40, 0.09, False), (1, 0.9, False)],
)
def test_many_small_acts_drain_a_budget_and_a_large_one_does_not(
    acts: int, share: float, fires: bool
) -> None:
    fact = account(acts_last_hour=acts, share_last_hour=share)
    found = [each.rule for each in judged(facts(accounts=[fact]))]

    assert found == (["budget_draining"] if fires else [])


@pytest.mark.parametrize(
    ("same_stem", "distinct", "expected"),
    [
        (19, 99, []),
        (20, 20, ["canary_probing"]),
        (1, 100, ["membership_queries"]),
        (120, 120, ["canary_probing", "membership_queries"]),
    ],
)
def test_counts_of_questions_are_judged(same_stem: int, distinct: int, expected: list[str]) -> None:
    body = {"subject": "u_1", "same_stem": same_stem, "distinct": distinct, "questions": 200}
    event = Event(seq=1, at=NOW, type="operations.questions", body=body)

    assert [each.rule for each in judged(facts(events=[event]))] == expected


def test_five_fields_that_read_like_an_injection_are_seen() -> None:
    events = [
        Event(seq=n, at=NOW, type="security.input_suspected", body={"source": "s", "subject": "u"})
        for n in range(5)
    ]

    assert [each.rule for each in judged(facts(events=events))] == ["suspicious_input"]
    assert judged(facts(events=events[:4])) == []


@pytest.mark.parametrize("code", ["seal_broken", "rolled_back", "checkpoint_error"])
def test_a_job_that_met_a_damaged_state_is_tampering(code: str) -> None:
    failure = FailureFact(job="job_1", owner="u_1", code=code, at=NOW)
    (alert,) = judged(facts(failures=[failure]))

    assert (alert.rule, alert.threat_type) == ("damaged_state", ThreatType.TAMPERING)
