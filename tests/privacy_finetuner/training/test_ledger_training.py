"""Runs that are charged to a ledger: by two processes, killed, stopped, refused."""

from __future__ import annotations

import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from transformers import TrainerCallback

from privacy_core.errors import ReservationClosed, ScopeMismatch, UnsupportedEvent
from privacy_core.guarantee import Guarantee, PrivacyUnit
from privacy_finetuner import PrivacyConfig, PrivateTrainer, TrainingResult
from privacy_finetuner.errors import (
    CheckpointError,
    ConfigurationError,
    PrivacyBudgetExhaustedException,
)
from privacy_finetuner.training import run_record
from privacy_finetuner.training.ledger_meter import RESERVATION_TTL_S
from privacy_finetuner.training.loop import StepRecord
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.budget_store import (
    BudgetStore,
    Currency,
    Reservation,
    Scope,
    ScopeState,
    Signature,
    Status,
    charge_of,
    protection,
    quota,
)
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import Clock

PRIVACY = PrivacyConfig(epsilon=8.0, delta=1e-3, accounting_mode="pld")
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]
BLOCK = protection("notes", "2026")
SIGNED = Signature("A. Officer", "ethics vote 17")
FORK = multiprocessing.get_context("fork")


def open_account(
    where: str,
    scope: Scope = BLOCK,
    *,
    epsilon: float = 8.0,
    clock: Clock | None = None,
    currency: Currency = Currency.RDP,
    unit: PrivacyUnit = PrivacyUnit.EXAMPLE,
) -> None:
    guarantee = Guarantee(epsilon=epsilon, delta=1e-3, unit=unit)
    with BudgetStore.open(where, clock=clock) as store:
        store.open_account(f"open {scope}", scope, guarantee, signature=SIGNED, currency=currency)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """A ledger with an account of (8, 1e-3)."""
    where = str(tmp_path / "ledger.db")
    open_account(where)
    return where


@pytest.fixture
def postgres_ledger() -> Iterator[str]:
    """The same in a PostgreSQL schema of its own."""
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip("no PostgreSQL: set TEST_DATABASE_URL")
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    schema = f"training_{uuid.uuid4().hex[:12]}"
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
    where = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
    open_account(where)
    yield where
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


def make(model: Path, where: Any, **options: Any) -> PrivateTrainer:
    arguments = {"account": "notes/2026", "device": "cpu", **options}
    privacy = arguments.pop("privacy", PRIVACY)
    return PrivateTrainer(str(model), privacy, ledger=where, **arguments)


def train(model: Path, where: Any, folder: Path, **options: Any) -> TrainingResult:
    named = {k: options.pop(k) for k in ("account", "quota", "privacy", "clock") if k in options}
    arguments: dict[str, Any] = {"epochs": 10, "batch_size": 8, "learning_rate": 1e-3, **options}
    return make(model, where, **named).train(RECORDS, output_dir=str(folder), **arguments)


def balance(where: str, scope: Scope = BLOCK) -> ScopeState:
    with BudgetStore.open(where) as store:
        return store.balance(scope)


def reservations(where: str) -> list[Reservation]:
    """All reservations that the ledger ever held, in order."""
    with BudgetStore.open(where) as store:
        keys = [f.entry.key for f in store.history() if type(f.entry).__name__ == "Reserved"]
        return [store.reservation(key) for key in keys]


def grant(where: str, epsilon: float) -> None:
    with BudgetStore.open(where) as store:
        store.grant("more", BLOCK, epsilon=epsilon, signature=SIGNED)


def plan_in(folder: Path) -> DPTrainingPlan:
    state = run_record.read_state(folder)
    assert state is not None
    return DPTrainingPlan.from_json(dict(state.plan or {}))


def amounts_of(plan: DPTrainingPlan, steps: int | None = None) -> tuple[int, ...]:
    """What a plan, stopped or not, costs in the account's currency."""
    whole = charge_of(plan.event(), delta=plan.delta)
    part = charge_of(plan.event(steps))
    return part.rdp + whole.basic


class StopAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


class Halt(Exception):
    """What a test raises to end a run in the middle."""


def halt_after(step: int) -> Callable[[StepRecord], None]:
    def stop(record: StepRecord) -> None:
        if record.step >= step:
            raise Halt

    return stop


def test_an_unused_account_admits_the_run_that_is_configured_like_it(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    result = train(llama_folder, ledger, tmp_path / "run")
    plan, account = plan_in(tmp_path / "run"), balance(ledger)

    assert result.privacy_spent.epsilon == pytest.approx(8.0, rel=2e-3)
    assert plan.delta == 5e-4  # half of the account's: what one declared act may take
    assert account.committed == amounts_of(plan)
    assert not any(account.reserved)
    assert account.epsilon_committed <= 8.0


def run_in_child(model: Path, where: str, folder: Path) -> int:
    def run() -> None:
        try:
            train(model, where, folder)
        except PrivacyBudgetExhaustedException as error:
            (folder.parent / f"{folder.name}.txt").write_text(str(error))
            os._exit(3)
        os._exit(0)

    process = FORK.Process(target=run)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def check_two_processes(model: Path, where: str, folder: Path) -> None:
    assert run_in_child(model, where, folder / "first") == 0
    left = balance(where).epsilon_remaining
    assert left < 2.0

    assert run_in_child(model, where, folder / "second") == 3
    said = (folder / "second.txt").read_text()
    assert f"epsilon 8 at delta 0.001 was requested, epsilon {left:.6g} and" in said
    assert "nothing was spent" in said
    assert "privacy-finetuner budget grant notes/2026" in said
    assert not (folder / "second").exists()
    assert balance(where).committed == amounts_of(plan_in(folder / "first"))

    grant(where, 8.0)
    assert run_in_child(model, where, folder / "second") == 0
    both = zip(
        amounts_of(plan_in(folder / "first")), amounts_of(plan_in(folder / "second")), strict=True
    )
    assert balance(where).committed == tuple(a + b for a, b in both)
    assert balance(where).epsilon_committed <= 16.0


def test_a_second_process_is_refused_until_more_is_granted(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    check_two_processes(llama_folder, ledger, tmp_path)


def test_a_second_process_is_refused_on_postgresql(
    llama_folder: Path, postgres_ledger: str, tmp_path: Path
) -> None:
    check_two_processes(llama_folder, postgres_ledger, tmp_path)


def check_kill(model: Path, where: str, folder: Path) -> None:
    reader, writer = FORK.Pipe(duplex=False)

    def run() -> None:
        train(model, where, folder, save_steps=5, on_step=lambda s: writer.send(s.step))
        os._exit(0)

    process = FORK.Process(target=run)
    process.start()
    for _ in range(11):
        reader.recv()
    process.kill()
    process.join()
    (held,) = reservations(where)
    assert held.status is Status.OPEN
    assert held.watermark is not None
    plan = plan_in(folder)
    assert held.watermark.rdp >= charge_of(plan.event(11)).rdp
    assert balance(where).reserved == amounts_of(plan)

    result = train(model, where, folder, save_steps=5, resume=True)
    assert result.steps == plan.steps == 40
    assert balance(where).committed == amounts_of(plan)
    assert [held.status for held in reservations(where)] == [Status.COMMITTED]


def test_a_killed_run_keeps_its_reservation_and_ends_at_the_price_of_its_plan(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    check_kill(llama_folder, ledger, tmp_path / "run")


def test_a_killed_run_on_postgresql(
    llama_folder: Path, postgres_ledger: str, tmp_path: Path
) -> None:
    check_kill(llama_folder, postgres_ledger, tmp_path / "run")


def test_an_early_stop_gives_back_at_the_orders_only(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    result = train(llama_folder, ledger, tmp_path / "run", callbacks=[StopAfter(14)])
    plan, account = plan_in(tmp_path / "run"), balance(ledger)

    assert result.steps == 14
    assert result.privacy_spent.epsilon == plan.epsilon()  # the run's own statement: the plan
    assert account.committed == amounts_of(plan, 16)  # what was marked ahead of the steps
    whole = replace(account, committed=amounts_of(plan))
    assert account.epsilon_committed < 0.85 * whole.epsilon_committed


def test_a_run_that_fails_before_its_first_step_is_refunded(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    class Fails(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            raise Halt

    with pytest.raises(Halt):
        train(llama_folder, ledger, tmp_path / "run", callbacks=[Fails()])
    assert not any(balance(ledger).total)

    train(llama_folder, ledger, tmp_path / "run", resume=True)
    statuses = [held.status for held in reservations(ledger)]
    assert statuses == [Status.REFUNDED, Status.COMMITTED]


def test_a_run_that_fails_later_keeps_its_reservation(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    with pytest.raises(Halt):
        train(llama_folder, ledger, tmp_path / "run", on_step=halt_after(3))
    assert balance(ledger).reserved == amounts_of(plan_in(tmp_path / "run"))


def test_a_run_whose_reservation_expired_has_paid_and_goes_on(
    llama_folder: Path, tmp_path: Path
) -> None:
    clock, folder, ledger = ManualClock(), tmp_path / "run", str(tmp_path / "ledger.db")
    open_account(ledger, clock=clock)
    with BudgetStore.open(ledger, clock=clock) as store:
        with pytest.raises(Halt):
            train(llama_folder, store, folder, on_step=halt_after(3))
        clock.advance(RESERVATION_TTL_S + 1.0)
        result = train(llama_folder, store, folder, resume=True)
    assert result.steps == 40
    assert balance(ledger).committed == amounts_of(plan_in(folder))
    assert [held.status for held in reservations(ledger)] == [Status.EXPIRED]


def test_a_run_longer_than_its_reservation_renews_it(llama_folder: Path, tmp_path: Path) -> None:
    clock, ledger = ManualClock(), str(tmp_path / "ledger.db")
    open_account(ledger, clock=clock)
    with BudgetStore.open(ledger, clock=clock) as store:
        train(
            llama_folder, store, tmp_path / "run",
            on_step=lambda _: clock.advance(RESERVATION_TTL_S / 9),
        )  # fmt: skip
    assert [held.status for held in reservations(ledger)] == [Status.COMMITTED]


def test_a_reservation_that_was_ended_for_less_lets_no_step_run(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Halt):
        train(llama_folder, ledger, folder, on_step=halt_after(3))
    (held,) = reservations(ledger)
    with BudgetStore.open(ledger) as store:
        store.commit("by hand", held.key, actual=held.watermark)
    before = run_record.read_state(folder)
    with pytest.raises(ReservationClosed, match="committed"):
        train(llama_folder, ledger, folder, resume=True)
    after = run_record.read_state(folder)
    assert before is not None
    assert after is not None
    assert after.charged_steps == before.charged_steps


def test_a_run_is_resumed_in_its_own_ledger_only(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    folder, other = tmp_path / "run", str(tmp_path / "other.db")
    open_account(other)
    with pytest.raises(Halt):
        train(llama_folder, ledger, folder, on_step=halt_after(3))
    with pytest.raises(ConfigurationError, match=r"begun with account protection/notes/2026 of"):
        train(llama_folder, None, folder, resume=True, account=None)
    with pytest.raises(CheckpointError, match="another ledger"):
        train(llama_folder, other, folder, resume=True)
    assert not any(balance(other).total)


def test_a_run_without_a_ledger_does_not_enter_one_later(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    with pytest.raises(Halt):
        train(llama_folder, None, tmp_path, account=None, on_step=halt_after(3))
    with pytest.raises(ConfigurationError, match="begun with no ledger"):
        train(llama_folder, ledger, tmp_path, resume=True)


def test_two_runs_at_once_cannot_both_have_the_last_of_it(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    """Both see room; the second to reserve is refused, before its first gradient."""
    trainer = make(llama_folder, ledger)
    assert trainer._ledger is not None
    room = trainer._ledger.run_privacy

    def late(config: PrivacyConfig, targets: Any) -> PrivacyConfig:
        found = room(config, targets)
        train(llama_folder, ledger, tmp_path / "first")
        return found

    object.__setattr__(trainer, "_ledger", Late(trainer._ledger, late))
    with pytest.raises(PrivacyBudgetExhaustedException, match="account protection/notes/2026"):
        trainer.train(RECORDS, epochs=10, batch_size=8, output_dir=str(tmp_path / "second"))
    state = run_record.read_state(tmp_path / "second")
    assert state is not None
    assert state.charged_steps == 0
    assert balance(ledger).committed == amounts_of(plan_in(tmp_path / "first"))


class Late:
    """An account whose room was looked up before somebody else took it."""

    def __init__(self, account: Any, run_privacy: Any) -> None:
        self._account = account
        self.run_privacy = run_privacy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._account, name)


def test_a_target_is_a_condition_and_grants_nothing(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    with pytest.raises(PrivacyBudgetExhaustedException, match=r"epsilon 9 at delta 0\.001"):
        train(llama_folder, ledger, tmp_path / "run", target_epsilon=9.0)
    assert balance(ledger).guarantee.epsilon == 8.0


def test_a_quota_limits_beside_the_account(llama_folder: Path, ledger: str, tmp_path: Path) -> None:
    team = quota("clinic", "research")
    open_account(ledger, quota("clinic"), epsilon=100.0)
    open_account(ledger, team, epsilon=3.0)
    result = train(llama_folder, ledger, tmp_path / "run", quota="clinic/research")
    assert result.privacy_spent.epsilon == pytest.approx(3.0, rel=2e-3)
    assert balance(ledger, team).committed == balance(ledger).committed


def test_a_share_for_training_is_what_training_spends_from(
    llama_folder: Path, ledger: str, tmp_path: Path
) -> None:
    team = quota("clinic")
    open_account(ledger, team, epsilon=100.0)
    open_account(ledger, quota("clinic", "training"), epsilon=4.0)
    result = train(llama_folder, ledger, tmp_path / "run", quota="clinic")
    assert result.privacy_spent.epsilon == pytest.approx(4.0, rel=2e-3)
    assert any(balance(ledger, quota("clinic", "training")).committed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"account": None}, "a ledger was named and no account"),
        ({"account": "notes/2027"}, r"budget grant notes/2027 --epsilon EPSILON --delta DELTA"),
        ({"quota": "clinic"}, "no account quota/clinic"),
    ],
)
def test_an_account_that_is_not_there_is_refused_at_once(
    options: dict[str, Any], message: str, llama_folder: Path, ledger: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(llama_folder, ledger, **options)


def test_a_mistyped_ledger_is_not_made(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no ledger"):
        make(llama_folder, tmp_path / "legder.db")
    assert not list(tmp_path.iterdir())


def test_an_account_without_a_ledger_is_refused(llama_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="no ledger that holds it"):
        make(llama_folder, None)


def test_an_account_about_users_takes_no_run_about_records(
    llama_folder: Path, tmp_path: Path
) -> None:
    where = str(tmp_path / "ledger.db")
    open_account(where, unit=PrivacyUnit.USER)
    with pytest.raises(ScopeMismatch):
        train(llama_folder, where, tmp_path / "run")
    assert not any(balance(where).total)


def test_an_exact_account_takes_full_batches(llama_folder: Path, tmp_path: Path) -> None:
    where = str(tmp_path / "ledger.db")
    open_account(where, currency=Currency.GDP)
    privacy = PrivacyConfig(epsilon=8.0, delta=1e-3, accounting_mode="gdp")
    result = train(llama_folder, where, tmp_path / "run", batch_size=32, epochs=3, privacy=privacy)
    assert result.guarantee.delta == 1e-3
    assert balance(where).epsilon_committed == pytest.approx(8.0, rel=2e-3)
    assert balance(where).epsilon_committed <= 8.0


def test_an_exact_account_takes_no_samples(llama_folder: Path, tmp_path: Path) -> None:
    where = str(tmp_path / "ledger.db")
    open_account(where, currency=Currency.GDP)
    with pytest.raises(UnsupportedEvent, match="nothing was spent"):
        train(llama_folder, where, tmp_path / "run")
    assert not any(balance(where).total)
