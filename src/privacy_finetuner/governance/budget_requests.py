"""Who asks for budget, and what an officer answers: the stream `budget-requests`.

::

    pending -> approved -> granted      approving is the grant: the ledger has it, under the
       |           '-----> refused      request's id, however often it is repeated
       |-----> declined                 the ledger would not have it
       '-----> withdrawn                by whoever asked

The decision is journalled before the ledger is asked. A process that dies between the two leaves
`approved`; approving again, by anybody who may, finishes it and grants nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Self, TypeAlias

from privacy_core.errors import BudgetError, InvalidParameter
from privacy_finetuner.governance.accounts import name_of, scope_of
from privacy_finetuner.governance.errors import RecordConflict
from privacy_finetuner.governance.records import Document, Records, Step, new_id
from privacy_runtime.budget_store import BudgetStore, Signature
from privacy_runtime.journal import Journal
from privacy_runtime.world import Clock, Entropy

STREAM: Final = "budget-requests"
REASON_MOST: Final = 1000
EPSILON_MOST: Final = 1000.0


class RequestState(StrEnum):
    """Where a request for budget stands."""

    PENDING = "pending"
    APPROVED = "approved"
    GRANTED = "granted"
    REFUSED = "refused"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRequest:
    """One request for more budget.

    Attributes:
        account: as the organisation's people write it.
        epsilon: how much was asked for, on top of the cap.
        granted_epsilon: how much was approved; `None` before that.
        requested_by, decided_by: ids of users.
        ledger_code: why the ledger refused, where it did.
    """

    id: str
    account: str
    epsilon: float
    reason: str
    state: RequestState
    requested_by: str
    created_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    decision_reason: str | None = None
    granted_epsilon: float | None = None
    ledger_code: str | None = None

    @classmethod
    def of(cls, held: Document) -> Self:
        """Read a record."""
        decided = held["decided_at"]
        return cls(
            **{
                **held,
                "state": RequestState(held["state"]),
                "created_at": datetime.fromisoformat(held["created_at"]),
                "decided_at": None if decided is None else datetime.fromisoformat(decided),
            }
        )


class BudgetRequests:
    """The desk of requests. Who may ask and who may decide is checked by the caller.

    Args:
        journal: holds the stream.
        ledger: what is granted from.
        clock, entropy: the world.

    Raises, in every method: JournalError where the database is away; nothing was written then.
    """

    def __init__(
        self, journal: Journal, ledger: BudgetStore, *, clock: Clock, entropy: Entropy
    ) -> None:
        self._records = Records(journal, STREAM, "budget request")
        self._ledger, self._clock, self._entropy = ledger, clock, entropy

    def ask(
        self, tenant: str, *, by: str, account: str, epsilon: float, reason: str, key: str = ""
    ) -> BudgetRequest:
        """Ask for `epsilon` more on an account that is open.

        Args:
            tenant: whose account.
            by: the user who asks.
            account: as people write it.
            epsilon: in (0, 1000].
            reason: why; for the officer, and kept.
            key: the same key again is the same request.

        Raises:
            UnknownScope: no such account is open.
            InvalidParameter: the number or the text is out of its domain.
        """
        scope = scope_of(tenant, account)
        self._ledger.balance(scope)
        if not 0 < epsilon <= EPSILON_MOST:
            raise InvalidParameter("epsilon", found=epsilon, expected=f"in (0, {EPSILON_MOST:g}]")
        _require_reason(reason)
        record = _id_of_key(tenant, key) if key else new_id("breq", self._entropy)

        def decide(held: Document | None, at: str) -> Step:
            asked = {"account": name_of(scope, tenant), "epsilon": epsilon, "reason": reason}
            if held is not None:
                raise RecordConflict(record, found="there already", expected="a new key")
            document = {
                **_EMPTY,
                **asked,
                "id": record,
                "state": RequestState.PENDING.value,
                "requested_by": by,
                "created_at": at,
            }
            return Step(type="budget_request.made", document=document, more={"by": by})

        made = self._records.write(tenant, record, decide, key=f"{record}:made")
        same = (made["account"], made["epsilon"], made["reason"], made["requested_by"])
        if same != (name_of(scope, tenant), epsilon, reason, by):
            raise RecordConflict("this key", found="used for another request", expected="a new key")
        return BudgetRequest.of(made)

    def approve(
        self, tenant: str, record: str, *, by: str, reason: str, epsilon: float | None = None
    ) -> BudgetRequest:
        """Approve a request, and grant it in the ledger.

        Args:
            tenant: whose request.
            record: its id.
            by: the officer; never who asked.
            reason: why; in the ledger it stands beside their id.
            epsilon: how much; `None`: what was asked for. Never more.

        Raises:
            RecordConflict: it is decided already, or `by` asked for it.
            BudgetError: the ledger refused; the request is `refused` now.
        """
        _require_reason(reason)

        def decide(held: Document, at: str) -> Step:
            amount = held["epsilon"] if epsilon is None else epsilon
            if held["requested_by"] == by:
                raise RecordConflict(record, found="your own", expected="another person's")
            if not 0 < amount <= held["epsilon"]:
                raise InvalidParameter(
                    "epsilon", found=amount, expected=f"in (0, {held['epsilon']:g}]"
                )
            return _decided(held, at, RequestState.APPROVED, by, reason, granted_epsilon=amount)

        held = self._records.get(tenant, record)
        if held["state"] != RequestState.APPROVED:
            key = f"{record}:decided"
            held = self._records.change(tenant, record, _once(decide), key=key)
            if held["state"] not in {RequestState.APPROVED, RequestState.GRANTED}:
                raise RecordConflict(record, found=held["state"], expected="pending")
        return self._grant(tenant, held)

    def decline(self, tenant: str, record: str, *, by: str, reason: str) -> BudgetRequest:
        """Say no.

        Raises:
            RecordConflict: it is decided already.
        """
        _require_reason(reason)
        return self._end(tenant, record, RequestState.DECLINED, by, reason)

    def withdraw(self, tenant: str, record: str, *, by: str) -> BudgetRequest:
        """Take one's own request back.

        Raises:
            RecordConflict: it is decided already, or somebody else's.
        """
        if self.get(tenant, record).requested_by != by:
            raise RecordConflict(record, found="another person's", expected="your own")
        return self._end(tenant, record, RequestState.WITHDRAWN, by, "withdrawn")

    def get(self, tenant: str, record: str) -> BudgetRequest:
        """One request; `UnknownRecord` if there is none."""
        return BudgetRequest.of(self._records.get(tenant, record))

    def find(
        self, tenant: str, *, state: RequestState | None = None, by: str | None = None
    ) -> list[BudgetRequest]:
        """Requests, newest first; of one state, or of one person."""
        found = [BudgetRequest.of(each) for each in self._records.all(tenant)]
        return [
            each
            for each in found
            if (state is None or each.state is state) and (by is None or each.requested_by == by)
        ]

    def _end(
        self, tenant: str, record: str, state: RequestState, by: str, reason: str
    ) -> BudgetRequest:
        def decide(held: Document, at: str) -> Step:
            return _decided(held, at, state, by, reason)

        held = self._records.change(tenant, record, _once(decide), key=f"{record}:decided")
        if held["state"] != state:
            raise RecordConflict(record, found=held["state"], expected="pending")
        return BudgetRequest.of(held)

    def _grant(self, tenant: str, held: Document) -> BudgetRequest:
        """Let the ledger have an approved request; a repetition finds its own entry."""
        if held["state"] == RequestState.GRANTED:
            return BudgetRequest.of(held)
        record = held["id"]
        signature = Signature(person=held["decided_by"], reason=held["decision_reason"])
        try:
            self._ledger.grant(
                f"budget-request:{tenant}:{record}",
                scope_of(tenant, held["account"]),
                epsilon=held["granted_epsilon"],
                signature=signature,
            )
        except BudgetError as refusal:
            self._settle(tenant, record, RequestState.REFUSED, ledger_code=refusal.code)
            raise
        return BudgetRequest.of(self._settle(tenant, record, RequestState.GRANTED))

    def _settle(
        self, tenant: str, record: str, state: RequestState, ledger_code: str | None = None
    ) -> Document:
        def decide(held: Document, _: str) -> Step:
            document = {**held, "state": state.value, "ledger_code": ledger_code}
            return Step(type=f"budget_request.{state.value}", document=document)

        return self._records.change(tenant, record, decide, key=f"{record}:settled")


_Decide: TypeAlias = Callable[[Document, str], Step]
_EMPTY: Final[Document] = dict.fromkeys(
    ("decided_by", "decided_at", "decision_reason", "granted_epsilon", "ledger_code")
)


def _once(decide: _Decide) -> _Decide:
    """A decision that is made of a pending request only."""

    def checked(held: Document, at: str) -> Step:
        if held["state"] != RequestState.PENDING:
            raise RecordConflict(held["id"], found=held["state"], expected="pending")
        return decide(held, at)

    return checked


def _decided(  # what a decision consists of
    held: Document,
    at: str,
    state: RequestState,
    by: str,
    reason: str,
    granted_epsilon: float | None = None,
) -> Step:
    document = {
        **held,
        "state": state.value,
        "decided_by": by,
        "decided_at": at,
        "decision_reason": reason,
        "granted_epsilon": granted_epsilon,
    }
    return Step(type=f"budget_request.{state.value}", document=document, more={"by": by})


def _require_reason(reason: str) -> None:
    if not 0 < len(reason.strip()) <= REASON_MOST:
        raise InvalidParameter(
            "reason", found=f"{len(reason)} characters", expected=f"1 to {REASON_MOST}"
        )


def _id_of_key(tenant: str, key: str) -> str:
    """The id of a request that was made under an idempotency key: the same for the same key."""
    digest = hashlib.sha256(f"{STREAM}|{tenant}|{key}".encode("utf-8", "surrogatepass"))
    return f"breq_{digest.hexdigest()[:32]}"
