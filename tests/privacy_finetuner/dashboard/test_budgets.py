"""Budgets on pages: promises that are signed, spending that adds up, and who may have more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from privacy_finetuner.dashboard import attention
from privacy_finetuner.dashboard.attention import AccountStanding, Tone
from privacy_finetuner.governance.budget_requests import RequestState
from privacy_finetuner.governance.forecast import Forecast
from privacy_runtime.identity import Role
from privacy_runtime.testing import DEFAULT_START

if TYPE_CHECKING:
    from tests.privacy_finetuner.dashboard.conftest import Town

OPENING = {
    "kind": "block",
    "name": "notes/2026",
    "epsilon": "8",
    "delta": "0.00001",
    "unit": "user",
    "reason": "ethics vote 17",
}


def test_an_officer_opens_an_account_and_raises_its_cap(town: Town) -> None:
    officer = town.person(Role.PRIVACY_OFFICER)
    answer = officer.send("/budgets", OPENING)
    assert answer.headers["location"].startswith("/budgets/notes/2026")
    page = officer.open("/budgets/notes/2026").text
    assert "ethics vote 17" in page
    assert "protects each user" in page
    at = re.search(r'name="at" value="(\d+)"', page).group(1)
    raised = {"epsilon": "2", "reason": "second study", "at": at}
    assert officer.send("/budget-grants/notes/2026", raised).status_code == 303
    (state,) = town.service.ledger.accounts()
    assert state.guarantee.epsilon == 10.0
    assert state.guarantee.delta == 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": "0"}, {"epsilon": "x"}, {"epsilon": "inf"}, {"delta": "1"}, {"reason": " "},
        {"name": "no-slice"}, {"name": "a/b/c/d"}, {"name": ""},
    ],
)  # fmt: skip
def test_a_bad_opening_opens_nothing(quiet_town: Town, change: dict[str, str]) -> None:
    officer = quiet_town.person(Role.PRIVACY_OFFICER)
    answer = officer.send("/budgets", {**OPENING, **change})
    assert answer.status_code in (403, 422)
    if answer.status_code == 422:
        assert "Nothing was opened" in answer.text
    assert quiet_town.service.ledger.accounts() == []


def test_a_promise_needs_a_fresh_sign_in(town: Town) -> None:
    officer = town.person(Role.PRIVACY_OFFICER)
    town.clock.advance(301)
    answer = officer.send("/budgets", OPENING)
    assert answer.status_code == 403
    assert "Sign in again" in answer.text
    assert town.service.ledger.accounts() == []


def test_who_trains_does_not_grant(town: Town) -> None:
    town.account("notes/2026")
    trainer = town.person(Role.TRAINER)
    for path in ("/budgets", "/budget-grants/notes/2026"):
        assert trainer.send(path, {**OPENING, "at": "1"}).status_code == 403
    page = trainer.open("/budgets/notes/2026").text
    assert "Raise the cap" not in page
    assert "Ask for more" in page


def test_a_request_is_sent_and_granted_by_another_person(town: Town) -> None:
    town.account("notes/2026")
    trainer = town.person(Role.TRAINER)
    wish = {"epsilon": "1.5", "reason": "a validation run", "key": "k1"}
    for _ in range(2):
        answer = trainer.send("/budget-requests-for/notes/2026", wish)
        assert answer.status_code == 303
    (request,) = town.service.desks.budget_requests.find(trainer.tenant)
    officer = town.person(Role.PRIVACY_OFFICER)
    assert "a validation run" in officer.open("/").text
    approve = {"decision": "approve", "reason": "agreed"}
    assert trainer.send(f"/budget-requests/{request.id}", approve).status_code == 403
    assert officer.send(f"/budget-requests/{request.id}", approve).status_code == 303
    (state,) = town.service.ledger.accounts()
    assert state.guarantee.epsilon == 9.5
    granted = town.service.desks.budget_requests.get(trainer.tenant, request.id)
    assert granted.state is RequestState.GRANTED
    again = officer.send(f"/budget-requests/{request.id}", {**approve, "decision": "decline"})
    assert again.status_code == 409
    stranger = town.person(Role.PRIVACY_OFFICER, at="south")
    assert stranger.send(f"/budget-requests/{request.id}", approve).status_code == 404


def test_spending_is_shown_by_whom_and_adds_up(town: Town) -> None:
    account = town.account("notes/2026")
    for quota in ("quota", "quota/research", "quota/cardiology"):
        town.account(quota, epsilon=20.0)
    for day in range(12):
        town.clock.advance(86_400)
        quota = "quota/research" if day % 3 else "quota/cardiology"
        town.spend(account, f"run-{day}", sigma=15.0, quota=quota)
    town.clock.advance(3600)
    page = town.person(Role.VIEWER).open("/budgets/notes/2026").text
    research = re.search(r'quota/research</a></th><td class="num">(\d+)</td>', page)
    assert research is not None
    assert research.group(1) == "8"
    assert "run-11" in page
    assert "forecast, 95 %" in page
    chart = re.search(r'id="chart-burn-down".*?</figure>', page, re.DOTALL).group(0)
    assert 'data-draw="cap"' in chart
    assert 'data-draw="low"' in chart
    assert 'data-draw="high"' in chart


def test_without_enough_history_there_is_no_forecast(town: Town) -> None:
    account = town.account("notes/2026")
    town.clock.advance(60)
    town.spend(account, "only", sigma=9.0)
    page = town.person(Role.VIEWER).open("/budgets/notes/2026").text
    assert "no forecast: 0 whole days of history" in page
    assert 'data-draw="high"' not in page


def _standing(**changes: object) -> AccountStanding:
    values: dict[str, object] = {
        "name": "notes/2026", "epsilon": 10.0, "epsilon_spent": 5.0, "epsilon_held": 5.0,
        "share": 0.5, "forecast": None, "at": DEFAULT_START,
    }  # fmt: skip
    return AccountStanding(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, []), (0.89, []), (0.9, [Tone.WARN]), (1.0, [Tone.BAD])]
)
def test_accounts_near_their_end_need_attention(share: float, expected: list[Tone]) -> None:
    found = attention.of_accounts([_standing(share=share)], threshold=0.9, now=DEFAULT_START)
    assert [item.tone for item in found] == expected


def test_an_account_that_will_end_soon_needs_attention_once() -> None:
    from datetime import timedelta

    soon = Forecast(exhausted_at=DEFAULT_START + timedelta(days=10))
    late = Forecast(exhausted_at=DEFAULT_START + timedelta(days=15))
    accounts = [_standing(forecast=soon), _standing(forecast=late, name="other/2026")]
    found = attention.of_accounts(accounts, threshold=0.9, now=DEFAULT_START)
    assert [item.values["name"] for item in found] == ["notes/2026"]
    besides = frozenset({"notes/2026"})
    again = attention.of_accounts(accounts, threshold=0.9, now=DEFAULT_START, besides=besides)
    assert again == []


def test_the_worst_comes_first() -> None:
    full, near = _standing(share=1.0, name="b"), _standing(share=0.95, name="a")
    found = attention.of_accounts([near, full], threshold=0.9, now=DEFAULT_START)
    assert [item.values["name"] for item in attention.ordered(found)] == ["b", "a"]
