"""Evaluations charged to a ledger, and what report and statement say of its account."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from privacy_core.dp_events import Gaussian
from privacy_core.guarantee import Guarantee
from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.errors import ConfigurationError, PrivacyBudgetExhaustedException
from privacy_finetuner.reports.check import check
from privacy_finetuner.reports.folder import read_folder
from privacy_finetuner.training import evaluation
from privacy_finetuner.training.ledger_account import LedgerAccount
from privacy_runtime.budget_store import (
    USUAL_SHARES,
    BudgetStore,
    Scope,
    ScopeState,
    Signature,
    Status,
    charge_of,
    protection,
    quota,
    shares_of,
)
from privacy_runtime.journal import StoreUnavailable

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3, accounting_mode="pld")
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]
OTHERS = [{"text": f"letter {i}"} for i in range(16)]
NOTES, LETTERS = protection("notes", "2026"), protection("letters", "2026")
SIGNED = Signature("A. Officer", "ethics vote 17")
RUN: dict[str, Any] = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-3}


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """A ledger with two blocks of (8, 1e-3)."""
    where = str(tmp_path / "ledger.db")
    for scope in (NOTES, LETTERS):
        open_account(where, scope)
    return where


def open_account(where: str, scope: Scope, epsilon: float = 8.0) -> None:
    with BudgetStore.open(where) as store:
        store.open_account(
            f"open {scope}", scope, Guarantee(epsilon=epsilon, delta=1e-3), signature=SIGNED
        )


def make(model: Path, where: str, **options: Any) -> PrivateTrainer:
    return PrivateTrainer(
        str(model), PRIVACY, device="cpu", ledger=where, account="notes/2026", **options
    )


def balance(where: str, scope: Scope) -> ScopeState:
    with BudgetStore.open(where) as store:
        return store.balance(scope)


def test_an_evaluation_is_charged_to_the_account_of_its_records(
    llama_folder: Path, ledger: str
) -> None:
    result = make(llama_folder, ledger).evaluate(
        OTHERS, epsilon=0.5, delta=1e-4, account="letters/2026"
    )
    assert result.privacy_spent.epsilon == 0.5
    spent = balance(ledger, LETTERS)
    assert 0 < spent.epsilon_committed <= 0.5 * (1 + 1e-3)
    assert not any(spent.reserved)
    assert not any(balance(ledger, NOTES).total)


def test_training_records_are_known_to_be_those_of_the_account(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    trainer = make(llama_folder, ledger)
    trainer.train(RECORDS, output_dir=str(tmp_path / "run"), **RUN)
    before = balance(ledger, NOTES).committed
    trainer.evaluate(RECORDS, epsilon=0.5, delta=1e-4)
    after = balance(ledger, NOTES).committed
    assert all(a < b for a, b in zip(before, after, strict=True))
    with pytest.raises(ConfigurationError, match="belong to protection/notes/2026"):
        trainer.evaluate(RECORDS, epsilon=0.5, delta=1e-4, account="letters/2026")


def test_records_whose_account_nobody_named_are_refused(llama_folder: Path, ledger: str) -> None:
    with pytest.raises(ConfigurationError, match="expected account="):
        make(llama_folder, ledger).evaluate(OTHERS, epsilon=0.5, delta=1e-4)


def test_an_account_needs_a_ledger_in_an_evaluation_too(llama_folder: Path) -> None:
    trainer = PrivateTrainer(str(llama_folder), PRIVACY, device="cpu")
    with pytest.raises(ConfigurationError, match="no ledger that holds it"):
        trainer.evaluate(OTHERS, account="letters/2026")


def test_an_evaluation_without_room_computes_nothing(
    llama_folder: Path, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*_: Any, **__: Any) -> None:
        raise AssertionError("the records were looked at")

    monkeypatch.setattr(evaluation, "released_scores", looked)
    with pytest.raises(PrivacyBudgetExhaustedException, match=r"account protection/letters/2026"):
        make(llama_folder, ledger).evaluate(OTHERS, epsilon=9.0, delta=1e-4, account="letters/2026")
    assert not any(balance(ledger, LETTERS).total)


def test_an_evaluation_that_fails_is_refunded(
    llama_folder: Path, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(evaluation, "released_scores", fails)
    with pytest.raises(RuntimeError, match="no memory"):
        make(llama_folder, ledger).evaluate(OTHERS, epsilon=1.0, delta=1e-4, account="letters/2026")
    assert not any(balance(ledger, LETTERS).total)


def test_figures_do_not_leave_before_they_are_committed(
    llama_folder: Path, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger goes away before the commit: no result, and the budget stays set aside."""

    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("ledger", reason="gone")

    trainer = make(llama_folder, ledger)
    monkeypatch.setattr(BudgetStore, "commit", away)
    with pytest.raises(StoreUnavailable):
        trainer.evaluate(OTHERS, epsilon=1.0, delta=1e-4, account="letters/2026")
    monkeypatch.undo()
    with BudgetStore.open(ledger) as store:
        (held,) = store.open_reservations()
    assert held.status is Status.OPEN
    assert any(balance(ledger, LETTERS).reserved)


def test_training_and_evaluation_spend_their_shares_of_a_project(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    project = quota("clinic", "research", "ada", "triage")
    promise = Guarantee(epsilon=8.0, delta=1e-3)
    with BudgetStore.open(ledger) as store:
        for scope in project.with_ancestors:
            store.open_account(f"open {scope}", scope, promise, signature=SIGNED)
        for command in shares_of(project, promise, key="shares", signature=SIGNED):
            store.submit(command)
    trainer = make(llama_folder, ledger, quota="clinic/research/ada/triage")
    trainer.train(RECORDS, output_dir=str(tmp_path / "run"), **RUN)

    def evaluate_until_it_halts() -> None:
        for _ in range(40):
            trainer.evaluate(RECORDS, epsilon=0.6, delta=1e-5)

    with pytest.raises(PrivacyBudgetExhaustedException, match="ada/triage/evaluation"):
        evaluate_until_it_halts()

    def share(purpose: str) -> ScopeState:
        return balance(ledger, Scope(project.kind, (*project.path, purpose)))

    spent = [share(purpose).committed for purpose in USUAL_SHARES]
    assert [any(amounts) for amounts in spent] == [True, True, False]
    assert balance(ledger, NOTES).committed == tuple(map(sum, zip(*spent, strict=True)))
    assert share("evaluation").epsilon_committed <= 0.8


def test_report_and_statement_say_what_the_ledger_says(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    open_account(ledger, quota("clinic"), epsilon=20.0)
    trainer = make(llama_folder, ledger, quota="clinic")
    result = trainer.train(RECORDS, output_dir=str(folder), **RUN)
    with BudgetStore.open(ledger) as store:  # what another process does to the same people
        store.reserve("theirs", protection=(NOTES,), charge=charge_of(Gaussian(20.0)), ttl_s=60)
        store.commit("theirs end", "theirs")
        store.reserve("waiting", protection=(NOTES,), charge=charge_of(Gaussian(20.0)), ttl_s=60)
        facts, head = list(store.history()), store.head()
    account, report = balance(ledger, NOTES), trainer.get_privacy_report()

    assert report.privacy_spent.epsilon == account.epsilon_committed
    assert report.privacy_spent.delta == 1e-3
    assert report.lifetime_spent == report.privacy_spent
    assert report.privacy_remaining.epsilon == account.epsilon_remaining
    assert report.ledger is not None
    assert report.ledger["guarantee"]["account"] == "protection/notes/2026"
    assert report.ledger["guarantee"]["epsilon_if_all_commit"] == account.epsilon_if_all_commit
    assert [each["account"] for each in report.ledger["quotas"]] == ["quota/clinic"]
    assert [each["key"] for each in report.ledger["open_reservations"]] == ["waiting"]
    assert report.ledger["head"] == asdict(head)

    statement = json.loads((folder / "statement.json").read_text())
    (committed,) = [f for f in facts if f.entry.key == f"training:{result.job_id}:commit"]
    assert statement["ledger"]["entry"] == {"seq": committed.seq, "hash": committed.hash}
    assert statement["ledger"]["account"] == "protection/notes/2026"
    assert statement["ledger"]["guarantee"]["epsilon"] == 8.0
    assert statement["guarantee"]["epsilon"] == result.privacy_spent.epsilon
    assert check(read_folder(folder)).agrees
    assert any("promises epsilon 8 at delta 0.001" in note for note in result.notes)


def test_the_report_spreads_the_plan_over_epochs_and_steps(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    trainer = make(llama_folder, ledger)
    result = trainer.train(RECORDS, output_dir=str(tmp_path / "run"), **RUN)
    spread = trainer.get_privacy_report().distribution
    assert spread is not None
    assert spread["steps"] == 12
    assert [each["last_step"] for each in spread["epochs"]] == [4, 8, 12]
    figures = [each["epsilon"] for each in spread["epochs"]]
    assert figures == sorted(figures)
    assert figures[-1] == result.privacy_spent.epsilon
    assert figures == [epoch.epsilon for epoch in result.training_history.epochs]


def test_a_run_in_an_account_that_is_partly_spent_takes_what_is_left_and_says_so(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    with BudgetStore.open(ledger) as store:
        store.reserve("x", protection=(NOTES,), charge=charge_of(Gaussian(0.75)), ttl_s=60)
        store.commit("x end", "x")
    left = balance(ledger, NOTES).epsilon_remaining
    assert 1.0 < left < 4.0
    result = make(llama_folder, ledger).train(RECORDS, output_dir=str(tmp_path / "run"), **RUN)
    assert result.privacy_spent.epsilon == pytest.approx(left, rel=2e-3)
    assert any(f"had room for epsilon {left:.6g} of the 4 asked for" in n for n in result.notes)
    assert balance(ledger, NOTES).epsilon_committed <= 8.0


def test_a_trainer_grants_nothing_in_a_ledger(llama_folder: Path, ledger: str) -> None:
    with pytest.raises(ConfigurationError, match="budget grant notes/2026"):
        make(llama_folder, ledger).reset_privacy_budget(9.0, 1e-3)


def test_a_message_never_shows_the_address_of_a_database() -> None:
    account = LedgerAccount(
        where="postgresql://ada:secret@host/db", scope=NOTES, quota=None, clock=None
    )  # type: ignore[call-arg, arg-type]  # no clock is read
    assert "secret" not in account.grant_command(NOTES)


def test_a_second_run_takes_what_the_account_really_admits(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    """What is left by its epsilon is not what a second plan of that epsilon would add."""
    privacy = PrivacyConfig(epsilon=8.0, delta=1e-3, accounting_mode="pld")

    def run(name: str) -> float:
        trainer = PrivateTrainer(
            str(llama_folder), privacy, device="cpu", ledger=ledger, account="notes/2026"
        )
        result = trainer.train(RECORDS, output_dir=str(tmp_path / name), **RUN)
        return result.privacy_spent.epsilon

    first = run("first")
    with BudgetStore.open(ledger) as store:
        store.grant("more", NOTES, epsilon=8.0, signature=SIGNED)
    left = balance(ledger, NOTES).epsilon_remaining
    second = run("second")
    account = balance(ledger, NOTES)
    assert first == pytest.approx(8.0, rel=2e-3)
    assert left >= 8.0
    assert 4.0 < second < 8.0
    assert 0.98 * 16.0 < account.epsilon_committed <= 16.0
