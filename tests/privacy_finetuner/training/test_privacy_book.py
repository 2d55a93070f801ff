from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_finetuner.errors import CheckpointError, PrivacyBudgetExhaustedException
from privacy_finetuner.results import PrivacySpent
from privacy_finetuner.training.privacy_book import PrivacyBook, Release


def release(job_id: str, epsilon: float, delta: float = 1e-6) -> Release:
    return Release(what="training", job_id=job_id, epsilon=epsilon, delta=delta, at="now")


def book(epsilon: float = 1.0, delta: float = 1e-5) -> PrivacyBook:
    made = PrivacyBook()
    made.grant(epsilon, delta, reason="test", at="now")
    return made


def test_releases_add_up_and_states_of_one_act_count_once() -> None:
    account = book()
    account.add(release("a", 0.2))
    account.add(release("a", 0.3))
    account.add(release("b", 0.1))
    assert account.spent == PrivacySpent(epsilon=0.4, delta=2e-6)
    assert account.remaining.epsilon == pytest.approx(0.6)


def test_a_new_grant_forgets_nothing_of_the_lifetime() -> None:
    account = book()
    account.add(release("a", 0.9))
    account.grant(2.0, 1e-5, reason="renewed", at="later")
    assert account.spent.epsilon == 0.0
    assert account.remaining.epsilon == 2.0
    assert account.lifetime.epsilon == 0.9


def test_a_run_across_a_grant_counts_wholly_against_the_new_one() -> None:
    account = book()
    account.add(release("a", 0.5))
    account.grant(1.0, 1e-5, reason="renewed", at="later")
    account.add(release("a", 0.8))
    assert account.spent.epsilon == 0.8
    assert account.lifetime.epsilon == 0.8


def test_raising_the_budget_keeps_what_was_spent() -> None:
    account = book()
    account.add(release("a", 0.9))
    account.raise_to(2.0, 1e-5, reason="target", at="later")
    assert account.remaining.epsilon == pytest.approx(1.1)
    account.raise_to(0.1, 1e-9, reason="lower", at="later")
    assert account.remaining.epsilon == pytest.approx(1.1)


def test_an_act_may_go_on_within_what_it_was_granted() -> None:
    account = book()
    account.add(release("a", 0.4))
    account.require(1.0, 1e-5, job_id="a")
    with pytest.raises(PrivacyBudgetExhaustedException):
        account.require(1.0, 1e-5, job_id="b")


def test_a_refused_amount_spends_nothing() -> None:
    account = book()
    with pytest.raises(PrivacyBudgetExhaustedException) as caught:
        account.require(1.5, 1e-6, job_id="a")
    assert caught.value.epsilon_remaining == 1.0
    assert account.spent.epsilon == 0.0
    with pytest.raises(PrivacyBudgetExhaustedException):
        account.require(0.5, 1e-4, job_id="a")


def test_a_draft_changes_nothing_in_the_account() -> None:
    account = book()
    draft = account.copy()
    draft.raise_to(9.0, 1e-5, reason="target", at="now")
    draft.add(release("a", 3.0))
    assert account == book()


def test_another_accounts_releases_are_kept() -> None:
    mine, saved = book(), book()
    saved.add(release("a", 0.2))
    mine.add(release("a", 0.5))
    mine.add(release("b", 0.1))
    saved.keep_releases_of(mine)
    assert saved.lifetime.epsilon == pytest.approx(0.6)
    saved.keep_releases_of(mine)
    assert saved.lifetime.epsilon == pytest.approx(0.6)


AMOUNTS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), max_size=12)


@given(acts=AMOUNTS, grants=st.lists(st.integers(0, 12), max_size=3))
def test_the_lifetime_is_never_below_what_was_spent_since_a_grant(
    acts: list[tuple[str, float]], grants: list[int]
) -> None:
    account = book()
    for index, (job_id, epsilon) in enumerate(acts):
        if index in grants:
            account.grant(1.0, 1e-5, reason="again", at="now")
        account.add(release(job_id, epsilon))
        assert account.lifetime.epsilon >= account.spent.epsilon
        assert account.remaining.epsilon >= 0
    assert PrivacyBook.from_json(json.loads(json.dumps(account.to_json()))) == account


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"version": 2}, {"version": 1}, {"version": 1, "grants": [{}], "releases": []}],
)
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(CheckpointError):
        PrivacyBook.from_json(document)
