"""Spending: folded once, in pieces, and the same as folded anew."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.privacy_finetuner.governance.conftest import TENANT, Office

from privacy_core.dp_events import Gaussian
from privacy_core.guarantee import Guarantee
from privacy_finetuner.governance.accounts import scope_of
from privacy_finetuner.governance.forecast import share_spent
from privacy_finetuner.governance.spending import Spending
from privacy_runtime.budget_store import Signature, Status, charge_of, timeline

SIGN = Signature("u_1", "r")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(["spend", "open", "refund", "grant", "void", "look", "day"]), max_size=14
    )
)
def test_folding_in_pieces_is_folding_anew(acts: list[str]) -> None:
    office = Office()
    scope, other = office.opened(), office.opened(account="other/2026")
    spending, done = Spending(office.ledger), []
    for number, act in enumerate(acts):
        key = f"k{number}"
        match act:
            case "spend":
                office.spend(scope, key)
                done.append(key)
            case "open":
                office.spend(other, key, ends="")
            case "refund":
                office.spend(scope, key, ends="refund")
            case "grant":
                office.ledger.grant(key, scope, epsilon=0.5, signature=SIGN)
            case "void" if done:
                last = done.pop()
                office.ledger.propose_void(f"{key}p", last, signature=Signature("a", "r"))
                office.ledger.approve_void(f"{key}a", last, signature=Signature("b", "r"))
            case "look":
                spending.moments(scope)
            case "day":
                office.clock.advance(86_400)

    for each in (scope, other):
        ours = [asdict(moment.standing()) for moment in spending.moments(each)]
        anew = [asdict(standing) for standing in timeline(office.ledger.history(), each)]
        assert ours == anew
        assert spending.moments(each)[-1].state == office.ledger.balance(each)


def test_a_clock_reset_changes_no_story(office: Office) -> None:
    scope, spending = office.opened(), Spending(office.ledger)
    office.spend(scope, "a", ends="")
    spending.moments(scope)
    office.ledger.reset_clock("reset", signature=SIGN)
    office.ledger.commit("a:commit", "a")

    assert spending.moments(scope)[-1].state == office.ledger.balance(scope)


def test_the_shares_of_acts_add_up_to_the_accounts(office: Office) -> None:
    scope, spending = office.opened(), Spending(office.ledger)
    for number in range(4):
        office.spend(scope, f"k{number}", sigma=10.0 + number)
    office.spend(scope, "gone", ends="refund")
    office.spend(scope, "held", ends="")

    acts = spending.acts(scope)
    assert sum(act.share for act in acts) == pytest.approx(
        share_spent(office.ledger.balance(scope))
    )
    by_name = {act.reservation: act for act in acts}
    assert (by_name["gone"].share, by_name["gone"].epsilon_alone) == (0.0, 0.0)
    assert by_name["held"].status is Status.OPEN
    assert all(
        act.epsilon_alone < office.ledger.balance(scope).epsilon_if_all_commit for act in acts
    )


def test_the_narrowest_quota_is_who_spent(office: Office) -> None:
    scope, spending = office.opened(), Spending(office.ledger)
    for name in ("quota", "quota/research", "quota/research/ada"):
        quota = scope_of(TENANT, name)
        office.ledger.open_account(name, quota, Guarantee(epsilon=9.0, delta=1e-6), signature=SIGN)
    office.ledger.reserve(
        "k",
        protection=(scope,),
        quota=(quota,),
        charge=charge_of(Gaussian(20.0)),
        ttl_s=60,
    )

    (act,) = spending.acts(scope)
    assert act.quota == quota
    assert len(spending.acts(scope_of(TENANT, "quota"))) == 1


def test_an_account_that_is_not_there_has_no_story(office: Office) -> None:
    spending = Spending(office.ledger)

    assert spending.moments(scope_of(TENANT, "no/thing")) == []
    assert spending.acts(scope_of(TENANT, "no/thing")) == []
