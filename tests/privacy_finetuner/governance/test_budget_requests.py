"""Requests for budget: one decision, one grant, whatever dies in between."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.privacy_finetuner.governance.conftest import ACCOUNT, TENANT, Office

from privacy_core.errors import InvalidParameter, NotAuthorised, UnknownScope
from privacy_core.guarantee import Guarantee
from privacy_finetuner.governance.accounts import scope_of
from privacy_finetuner.governance.budget_requests import BudgetRequests, RequestState
from privacy_finetuner.governance.errors import RecordConflict, UnknownRecord
from privacy_runtime.budget_store import Signature
from privacy_runtime.journal import StoreUnavailable


def desk(office: Office, ledger: Any = None) -> BudgetRequests:
    return BudgetRequests(
        office.another_journal(),
        ledger or office.ledger,
        clock=office.clock,
        entropy=office.entropy,
    )


def asked(office: Office, **changes: Any) -> str:
    values = {"by": "u_trainer", "account": ACCOUNT, "epsilon": 2.0, "reason": "a study"}
    return desk(office).ask(TENANT, **{**values, **changes}).id


class LosesTheGrant:
    """A ledger whose connection dies at a grant: before it was written, or after."""

    def __init__(self, office: Office, *, written: bool) -> None:
        self._office, self._written = office, written

    def grant(self, *arguments: Any, **keywords: Any) -> None:
        if self._written:
            self._office.ledger.grant(*arguments, **keywords)
        raise StoreUnavailable("ledger", reason="gone")


@pytest.mark.parametrize("written", [False, True])
def test_a_crash_between_decision_and_grant_is_finished_by_approving_again(
    office: Office, written: bool
) -> None:
    scope = office.opened()
    record = asked(office)
    with pytest.raises(StoreUnavailable):
        desk(office, LosesTheGrant(office, written=written)).approve(
            TENANT, record, by="u_officer", reason="ok"
        )
    assert desk(office).get(TENANT, record).state is RequestState.APPROVED
    with pytest.raises(RecordConflict):  # it is decided; nobody may turn it around
        desk(office).decline(TENANT, record, by="u_other", reason="no")

    done = desk(office).approve(TENANT, record, by="u_other", reason="finish it")
    assert done.state is RequestState.GRANTED
    assert (done.decided_by, done.decision_reason) == ("u_officer", "ok")
    assert office.ledger.balance(scope).guarantee.epsilon == 10.0


def test_many_officers_at_once_grant_once(office: Office) -> None:
    scope = office.opened()
    record = asked(office)
    failures: list[Exception] = []

    def approve(number: int) -> None:
        try:
            desk(office).approve(TENANT, record, by=f"u_{number}", reason="ok")
        except Exception as error:  # noqa: BLE001 -- looked at below
            failures.append(error)

    threads = [threading.Thread(target=approve, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert office.ledger.balance(scope).guarantee.epsilon == 10.0


def test_approving_and_declining_at_once_has_one_winner(office: Office) -> None:
    for number in range(6):
        account = f"race/{number}"
        scope = office.opened(account=account)
        record = asked(office, account=account)
        start = threading.Barrier(2)
        ends: list[str] = []

        def run(act: Any, start: threading.Barrier = start, ends: list[str] = ends) -> None:
            start.wait()
            try:
                ends.append(act().state)
            except RecordConflict:
                ends.append("conflict")

        acts = [
            lambda r=record: desk(office).approve(TENANT, r, by="u_a", reason="yes"),
            lambda r=record: desk(office).decline(TENANT, r, by="u_b", reason="no"),
        ]
        threads = [threading.Thread(target=run, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        state = desk(office).get(TENANT, record).state
        granted = office.ledger.balance(scope).guarantee.epsilon == 10.0
        assert sorted(ends) == sorted(["conflict", state])
        assert granted == (state is RequestState.GRANTED)


def test_nobody_approves_what_they_asked_for(office: Office) -> None:
    scope = office.opened()
    record = asked(office, by="u_officer")

    with pytest.raises(RecordConflict):
        desk(office).approve(TENANT, record, by="u_officer", reason="mine")
    assert office.ledger.balance(scope).guarantee.epsilon == 8.0


def test_a_refusal_of_the_ledger_ends_the_request(office: Office) -> None:
    scope = scope_of(TENANT, ACCOUNT)
    office.ledger.open_account(
        "open",
        scope,
        Guarantee(epsilon=8.0, delta=1e-6),
        signature=Signature("u_chief", "r"),
        authorisers=("u_chief",),
    )
    record = asked(office)

    with pytest.raises(NotAuthorised):
        desk(office).approve(TENANT, record, by="u_officer", reason="ok")
    refused = desk(office).get(TENANT, record)
    assert (refused.state, refused.ledger_code) == (RequestState.REFUSED, "not_authorised")
    with pytest.raises(RecordConflict):
        desk(office).approve(TENANT, record, by="u_officer", reason="again")


def test_the_same_key_is_the_same_request(office: Office) -> None:
    office.opened()
    one, other = asked(office, key="k-1"), asked(office, key="k-1")

    assert one == other
    assert len(desk(office).find(TENANT)) == 1
    with pytest.raises(RecordConflict):
        asked(office, key="k-1", epsilon=3.0)
    with pytest.raises(RecordConflict):
        asked(office, key="k-1", by="u_another")


def test_what_cannot_be_asked(office: Office) -> None:
    office.opened()
    with pytest.raises(UnknownScope):
        asked(office, account="no/thing")
    for changes in ({"epsilon": 0.0}, {"epsilon": float("nan")}, {"epsilon": 1e6}):
        with pytest.raises(InvalidParameter):
            asked(office, **changes)
    for reason in ("", "   ", "x" * 1001):
        with pytest.raises(InvalidParameter):
            asked(office, reason=reason)
    assert desk(office).find(TENANT) == []


def test_another_organisation_has_none_of_it(office: Office) -> None:
    office.opened()
    record = asked(office)

    for act in ("approve", "decline"):
        with pytest.raises(UnknownRecord):
            getattr(desk(office), act)("o_2", record, by="u", reason="r")
    with pytest.raises(UnknownRecord):
        desk(office).get("o_2", record)
    assert desk(office).find("o_2") == []


def test_the_journal_is_all_there_is(office: Office) -> None:
    """What is shown is what the entries add up to, in a process that saw none of it happen."""
    from privacy_finetuner.governance.records import fold

    office.opened()
    for number in range(3):
        record = asked(office, epsilon=1.0 + number)
    desk(office).approve(TENANT, record, by="u_officer", reason="ok")

    journal = office.another_journal()
    assert fold(journal.read("budget-requests")) == dict(journal.documents("budget-requests"))
    journal.verify("budget-requests")
