"""Privacy budgets: how accounts stand, who spent what, grants and requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

from privacy_finetuner.client.asynchronous.paging import AsyncGroup
from privacy_finetuner.client.calls import given, place
from privacy_finetuner.client.shapes.budgets import (
    Account,
    BudgetRequest,
    Forecast,
    HistoryEntry,
    Spending,
    Timeline,
)


class AsyncBudgets(AsyncGroup):
    """The budget accounts of one's organisation.

    An account is named `COHORT/SLICE` for a block of data (its cap is the promise to the people in
    it), or `quota/DEPARTMENT/...` for a cap on use.
    """

    def list_budgets(self) -> AsyncIterator[Account]:
        """All accounts that one may see, by name."""
        return self._pages(place("budgets"), Account)

    async def get_budget(self, account: str) -> Account:
        """An account as it stands."""
        return await self._get(_of("accounts", account), Account)

    def budget_history(self, account: str) -> AsyncIterator[HistoryEntry]:
        """The ledger's entries that changed an account, newest first."""
        return self._pages(_of("history", account), HistoryEntry)

    async def budget_timeline(self, account: str, *, points: int | None = None) -> Timeline:
        """The burn-down of an account, at most so many points."""
        return await self._get(_of("timeline", account), Timeline, {"points": points})

    async def budget_forecast(self, account: str) -> Forecast:
        """When an account will be used up, from measured spending, with an interval."""
        return await self._get(_of("forecast", account), Forecast)

    async def budget_spending(self, account: str) -> Spending:
        """Who spent what of an account: by quota and by job."""
        return await self._get(_of("spending", account), Spending)

    async def grant_budget(
        self,
        account: str,
        epsilon: float,
        reason: str,
        *,
        delta: float | None = None,
        relation: str | None = None,
        unit: str | None = None,
        idempotency_key: str | None = None,
    ) -> Account:
        """Raise the cap of an account; with `delta`, open it. A new promise to its people.

        Needs a privacy officer who logged in with a second factor within five minutes.

        Args:
            account: its name.
            epsilon: by how much; of a new account, how much.
            reason: stands in the ledger, with one's id.
            delta: opens the account, with this delta for good.
            relation: of a new account: `add_or_remove_one` or `replace_one`.
            unit: of a new account: `example` or `user`.
            idempotency_key: the same key grants once.
        """
        body = given(
            account=account, epsilon=epsilon, reason=reason, delta=delta, relation=relation,
            unit=unit,
        )  # fmt: skip
        return await self._post(place("budgets", "grants"), Account, body, idempotency_key)

    async def request_budget(
        self, account: str, epsilon: float, reason: str, *, idempotency_key: str | None = None
    ) -> BudgetRequest:
        """Ask an officer for more budget on an account that is open."""
        body = {"account": account, "epsilon": epsilon, "reason": reason}
        return await self._post(place("budgets", "requests"), BudgetRequest, body, idempotency_key)

    def list_budget_requests(
        self, *, status: str | None = None, mine: bool = False
    ) -> AsyncIterator[BudgetRequest]:
        """Requests for budget, newest first."""
        query = {"status": status, "mine": mine or None}
        return self._pages(place("budgets", "requests"), BudgetRequest, query)

    async def get_budget_request(self, request_id: str) -> BudgetRequest:
        """A request and what became of it."""
        return await self._get(place("budgets", "requests", request_id), BudgetRequest)

    async def approve_budget_request(
        self, request_id: str, reason: str, *, epsilon: float | None = None
    ) -> BudgetRequest:
        """Approve a request, which is the grant. Never one's own, and never for more."""
        path = place("budgets", "requests", request_id, "approve")
        return await self._post(path, BudgetRequest, given(reason=reason, epsilon=epsilon))

    async def decline_budget_request(self, request_id: str, reason: str) -> BudgetRequest:
        """Decline a request."""
        path = place("budgets", "requests", request_id, "decline")
        return await self._post(path, BudgetRequest, {"reason": reason})

    async def withdraw_budget_request(self, request_id: str) -> BudgetRequest:
        """Take one's own request back."""
        return await self._post(place("budgets", "requests", request_id, "withdraw"), BudgetRequest)


def _of(what: str, account: str) -> str:
    """A path about an account, whose slashes stand as they are."""
    return place("budgets", what, *account.split("/"))
