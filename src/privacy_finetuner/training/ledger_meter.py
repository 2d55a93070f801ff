"""A run's reservation in a ledger, from its first gradient to its commit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, Final

from privacy_core.errors import BudgetError, ReservationClosed, UnknownReservation
from privacy_finetuner.errors import CheckpointError
from privacy_finetuner.training.ledger_account import TRAINING, LedgerAccount
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.budget_store import (
    BudgetStore,
    Charge,
    Fact,
    Reservation,
    Status,
    charge_of,
)
from privacy_runtime.journal import JournalError

RESERVATION_TTL_S: Final = 30 * 86400
"""How long a run may be silent before its whole plan is committed. Each watermark renews it, and
there is one at least every eight steps."""


class LedgerMeter:
    """Charges one run to an account; see the table in `metering`.

    A reservation that ended by expiry, in full, has paid for the whole plan: such a run may go on
    to its end, and nothing comes back.

    Args:
        account: what is charged.
        plan: the declared act; all of it is reserved.
        job_id: of the run; names the reservation, so that a resumed run finds it.
        binding: what ties the run to the account; kept in the run record.
    """

    def __init__(
        self,
        account: LedgerAccount,
        plan: DPTrainingPlan,
        job_id: str,
        binding: Mapping[str, Any],
    ) -> None:
        self.binding: Mapping[str, Any] | None = binding
        self.receipt: Mapping[str, Any] | None = None
        self._account = account
        self._plan = plan
        self._name = f"training:{job_id}"
        self._marked: Charge | None = None
        self._is_open = False
        self._held = ExitStack()
        self._store: BudgetStore | None = None

    @property
    def notes(self) -> list[str]:
        """Which account was charged, and how its promise and the run's own statement compare."""
        if self.receipt is None or self.binding is None:
            return []
        promised, asked = self.receipt["guarantee"], self.binding["asked"]
        notes = [
            f"charged to account {self.receipt['account']} of the ledger, which promises epsilon "
            f"{promised['epsilon']:.6g} at delta {promised['delta']:g} over everything; this run "
            f"by itself is stated at delta {self._plan.delta:g}"
        ]
        if self.binding["epsilon"] < asked["epsilon"]:
            notes.append(
                f"the account had room for epsilon {self.binding['epsilon']:.6g} of the "
                f"{asked['epsilon']:.6g} asked for: the noise was chosen accordingly"
            )
        return notes

    @property
    def _ledger(self) -> BudgetStore:
        if self._store is None:
            self._store = self._held.enter_context(self._account.store())
        return self._store

    def begin(self, *, charged_steps: int, is_finished: bool) -> None:
        """Reserve the plan, or take over the reservation of the run that is resumed.

        Raises:
            PrivacyBudgetExhaustedException: the account has no room; nothing was spent.
            CheckpointError: the ledger does not know the run that took steps, or knows another.
            ReservationClosed: it was ended with less than the plan costs.
            BudgetError, JournalError: the ledger refused; nothing was spent.
        """
        ledger = self._ledger
        ledger.expire_due()
        held = self._find(has_begun=charged_steps > 0)
        if held is None:
            held = self._reserve(has_begun=charged_steps > 0)
        if held.charge.event != self._plan.event():
            raise CheckpointError(
                f"reservation {held.key!r} of the ledger is for another plan; nothing was started"
            )
        self._is_open = held.status is Status.OPEN
        self._marked = held.watermark
        if not self._is_open and not is_finished:
            _require_paid(held)

    def watermark(self, until: int) -> None:
        """Mark the steps up to `until` as spent, before they run.

        Raises:
            ReservationClosed: it ended with less than the plan costs; the steps do not run.
            JournalError: the ledger is away or damaged; the steps do not run.
        """
        if not self._is_open:
            return
        consumed = self._charge(until)
        if self._marked is not None and consumed.is_within(self._marked):
            return
        try:
            self._ledger.watermark(
                f"{self._name}:until-{until}",
                self._name,
                consumed=consumed,
                ttl_s=RESERVATION_TTL_S,
            )
        except ReservationClosed:
            self._ledger.expire_due()
            _require_paid(self._ledger.reservation(self._name))
            self._is_open = False
            return
        self._marked = consumed

    def commit(self, steps: int) -> None:
        """End the reservation by what ran; never less than what was marked."""
        before, key = self._ledger.head().seq, f"{self._name}:commit"
        if self._is_open:
            actual = None if steps >= self._plan.steps else self._charge(steps)
            if actual is not None and self._marked is not None:
                actual = actual if self._marked.is_within(actual) else self._marked
            self._ledger.commit(key, self._name, actual=actual)
            self._is_open = False
        self.receipt = self._receipt(self._fact(key, after=before))

    def abandon(self) -> None:
        """Refund, unless a step was marked."""
        if self._is_open and self._marked is None:
            with suppress(BudgetError, JournalError):
                self._ledger.refund(f"{self._name}:refund", self._name)
                self._is_open = False

    def close(self) -> None:
        """Let go of the ledger."""
        self._store = None
        self._held.close()

    def _find(self, *, has_begun: bool) -> Reservation | None:
        """The run's reservation. One that was refunded is as good as none: the next name is free.

        Only a run that has not begun can have been refunded.
        """
        first, attempt = self._name, 1
        while True:
            try:
                held = self._ledger.reservation(self._name)
            except UnknownReservation:
                return None
            if held.status is not Status.REFUNDED or has_begun:
                return held
            attempt += 1
            self._name = f"{first}:{attempt}"

    def _reserve(self, *, has_begun: bool) -> Reservation:
        if has_begun:
            raise CheckpointError(
                f"the ledger knows no reservation {self._name!r}: the run was begun with another "
                "ledger, or this is an older copy of it; nothing was started"
            )
        protection, quotas = self._account.scopes(self._ledger, TRAINING)
        with self._account.refusals():
            self._ledger.reserve(
                self._name,
                protection=protection,
                quota=quotas,
                charge=charge_of(
                    self._plan.event(),
                    delta=self._plan.delta,
                    relation=self._plan.relation,
                    unit=self._plan.unit,
                ),
                ttl_s=RESERVATION_TTL_S,
            )
        return self._ledger.reservation(self._name)

    def _charge(self, steps: int) -> Charge:
        """The price of so many steps, but for basic composition, which prices whole plans."""
        plan = self._plan
        return charge_of(plan.event(steps), relation=plan.relation, unit=plan.unit)

    def _fact(self, key: str, *, after: int) -> Fact | None:
        """The entry that ended the reservation: just written, or found in the history."""
        ends = {key, f"expiry:{self._name}"}
        for start in (after, 0):
            for fact in self._ledger.history(after=start):
                if fact.entry.key in ends:
                    return fact
        return None

    def _receipt(self, fact: Fact | None) -> Mapping[str, Any]:
        held = self._ledger.reservation(self._name)
        state = self._ledger.balance(self._account.scope)
        return {
            "account": str(self._account.scope),
            "guarantee": {
                "epsilon": state.guarantee.epsilon,
                "delta": state.guarantee.delta,
                "relation": state.guarantee.relation.value,
                "unit": state.guarantee.unit.value,
            },
            "reservation": held.key,
            "status": held.status.value,
            "scopes": [str(scope) for scope in held.scopes],
            "entry": None if fact is None else {"seq": fact.seq, "hash": fact.hash},
        }


def _require_paid(held: Reservation) -> None:
    """Refuse to go on unless the ledger was charged the whole plan.

    Raises:
        ReservationClosed: it was not; nothing was spent.
    """
    is_whole = held.settled is not None and held.charge.is_within(held.settled)
    if held.status is Status.VOIDED or not is_whole:
        raise ReservationClosed(held.key, status=held.status.value)
