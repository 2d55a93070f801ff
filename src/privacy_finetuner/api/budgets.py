"""Privacy budgets: what was promised, spent, by whom, and who asks for more.

Accounts are named as in `governance.accounts`: an organisation sees its own and no other. The
ledger is the only record; nothing here is cached beside it but its own entries.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query

from privacy_core.guarantee import Guarantee
from privacy_finetuner.api.listing import newest_first
from privacy_finetuner.api.routes import By, Paged, Visiting, operation, router_of
from privacy_finetuner.api.shapes import budgets as shapes
from privacy_finetuner.governance.accounts import is_of, is_of_one_subject, name_of, scope_of
from privacy_finetuner.governance.budget_requests import BudgetRequest, RequestState
from privacy_finetuner.governance.forecast import forecast
from privacy_finetuner.service import Service
from privacy_runtime.budget_store import Scope as Account
from privacy_runtime.budget_store import ScopeKind, ScopeState, Signature
from privacy_runtime.http.access import Access
from privacy_runtime.http.pages import Page
from privacy_runtime.http.refusals import NotFound
from privacy_runtime.identity import Principal, Scope

AccountPath = Annotated[
    str,
    Path(
        min_length=1,
        max_length=600,
        description="`COHORT/SLICE` or `quota/...`; slashes may stand as they are.",
        examples=["hospital-notes/2026"],
    ),
]
RequestId = Annotated[str, Path(pattern=r"^breq_[0-9a-f]{32}$", examples=["breq_" + "0" * 32])]
POINTS_MOST: Final = 2000


class Budgets:
    """Budgets over HTTP.

    Args:
        service: whose ledger.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._ledger = service, service.ledger
        self._spending = service.desks.spending
        self._requests = service.desks.budget_requests

    @operation("GET", "", Scope.BUDGETS_READ)
    def list_budgets(self, by: By, page: Paged) -> Page[shapes.AccountAnswer]:
        """List the accounts of the organisation, by name.

        Accounts of single data subjects are shown to those whose role may see what is outside the
        guarantee: which subjects have one, and how full it is, depends on the data.
        """
        after = page.after(str)
        states = [state for state in self._ledger.accounts() if _is_visible(state.scope, by)]
        answers = sorted(
            (shapes.AccountAnswer.of(state, by.tenant) for state in states),
            key=lambda each: each.account,
        )
        left = [each for each in answers if after is None or each.account > str(after[0])]
        found, cursor = page.page(left, key=lambda each: (each.account,))
        return Page(items=found, next_cursor=cursor)

    @operation("GET", "/accounts/{account:path}", Scope.BUDGETS_READ)
    def get_budget(self, account: AccountPath, by: By) -> shapes.AccountAnswer:
        """Show an account: its cap, what was spent, what is set aside, and its window."""
        return shapes.AccountAnswer.of(self._state(account, by), by.tenant)

    @operation("GET", "/history/{account:path}", Scope.BUDGETS_READ)
    def budget_history(
        self, account: AccountPath, by: By, page: Paged
    ) -> Page[shapes.HistoryEntry]:
        """List the entries that changed an account, newest first, with where each left it."""
        moments = self._spending.moments(self._state(account, by).scope)
        after = page.after(int)
        left = [each for each in reversed(moments) if after is None or each.seq < int(after[0])]
        found, cursor = page.page(left, key=lambda each: (each.seq,))
        return Page(items=[shapes.HistoryEntry.of(each) for each in found], next_cursor=cursor)

    @operation("GET", "/timeline/{account:path}", Scope.BUDGETS_READ)
    def budget_timeline(
        self,
        account: AccountPath,
        by: By,
        points: Annotated[int, Query(ge=2, le=POINTS_MOST, description="At most so many.")] = 500,
    ) -> shapes.TimelineAnswer:
        """Show the burn-down of an account."""
        state = self._state(account, by)
        moments = self._spending.moments(state.scope)
        chosen = _thinned(moments, points)
        return shapes.TimelineAnswer(
            account=name_of(state.scope, by.tenant),
            points=[
                shapes.TimelinePoint(
                    at=each.at,
                    epsilon_cap=each.state.guarantee.epsilon,
                    epsilon_spent=each.state.epsilon_committed,
                    epsilon_if_all_commit=each.state.epsilon_if_all_commit,
                )
                for each in chosen
            ],
            is_thinned=len(chosen) < len(moments),
        )

    @operation("GET", "/forecast/{account:path}", Scope.BUDGETS_READ)
    def budget_forecast(self, account: AccountPath, by: By) -> shapes.ForecastAnswer:
        """Say when an account will be used up, from measured spending, with an interval.

        The answer names its method. With less than a week of history, or spending on fewer than
        three days, it says so and gives no date.
        """
        state = self._state(account, by)
        moments = self._spending.moments(state.scope)
        found = forecast(moments, state, self._service.clock.now())
        return shapes.ForecastAnswer.of(name_of(state.scope, by.tenant), found)

    @operation("GET", "/spending/{account:path}", Scope.BUDGETS_READ)
    def budget_spending(self, account: AccountPath, by: By) -> shapes.SpendingAnswer:
        """Say who spent what of an account: by quota and, for the records' own accounts, by job.

        Shares are of the account's cap at the order that decides, where they add up; epsilon does
        not add up.
        """
        scope = self._state(account, by).scope
        acts = self._spending.acts(scope)
        jobs: dict[str, str] = {}
        if scope.kind is ScopeKind.PROTECTION:
            jobs = self._service.desks.runs.jobs_of(by.tenant, "/".join(scope.path))
        return shapes.SpendingAnswer.of(name_of(scope, by.tenant), acts, by.tenant, jobs)

    @operation("POST", "/grants", Scope.BUDGETS_GRANT, status=201, refuses=(409,), is_fresh=True)
    def grant_budget(self, body: shapes.GrantBody, by: By, visit: Visiting) -> shapes.AccountAnswer:
        """Open an account (with `delta`), or raise the cap of one that is open.

        A raise is a new promise to the people in the data: from then on they are protected by the
        larger epsilon only. What was spent stays spent. It asks for a login with a second factor
        within the last five minutes, and stands in the ledger with your id and reason. The same
        `Idempotency-Key` grants once.
        """
        scope = scope_of(by.tenant, body.account)
        self._require_visible(scope, by)
        signature = Signature(person=by.subject, reason=body.reason)
        key = f"grant:{by.tenant}:{visit.operation or self._fresh_key()}"
        if body.delta is None:
            self._ledger.grant(key, scope, epsilon=body.epsilon, signature=signature)
        else:
            guarantee = Guarantee(
                epsilon=body.epsilon, delta=body.delta, relation=body.relation, unit=body.unit
            )
            self._ledger.open_account(key, scope, guarantee, signature=signature)
        return shapes.AccountAnswer.of(self._ledger.balance(scope), by.tenant)

    @operation("POST", "/requests", Scope.BUDGETS_REQUEST, status=201, refuses=(404, 409))
    def request_budget(self, body: shapes.AskBody, by: By, visit: Visiting) -> shapes.RequestAnswer:
        """Ask an officer for more budget on an account that is open."""
        scope = scope_of(by.tenant, body.account)
        self._require_visible(scope, by)
        made = self._requests.ask(
            by.tenant,
            by=by.subject,
            account=body.account,
            epsilon=body.epsilon,
            reason=body.reason,
            key=visit.operation or "",
        )
        return shapes.RequestAnswer.of(made)

    @operation("GET", "/requests", Scope.BUDGETS_READ)
    def list_budget_requests(
        self,
        by: By,
        page: Paged,
        status: Annotated[RequestState | None, Query(description="Only in this state.")] = None,
        mine: Annotated[bool, Query(description="Only one's own.")] = False,
    ) -> Page[shapes.RequestAnswer]:
        """List the requests for budget of the organisation, newest first."""
        found = self._requests.find(by.tenant, state=status, by=by.subject if mine else None)
        return newest_first(found, page, _newest, shapes.RequestAnswer.of)

    @operation("GET", "/requests/{request_id}", Scope.BUDGETS_READ)
    def get_budget_request(self, request_id: RequestId, by: By) -> shapes.RequestAnswer:
        """Show a request."""
        return shapes.RequestAnswer.of(self._requests.get(by.tenant, request_id))

    @operation(
        "POST", "/requests/{request_id}/approve", Scope.BUDGETS_GRANT, refuses=(409,), is_fresh=True
    )
    def approve_budget_request(
        self, request_id: RequestId, body: shapes.ApproveBody, by: By
    ) -> shapes.RequestAnswer:
        """Approve a request, which is the grant. Never one's own, and never for more."""
        done = self._requests.approve(
            by.tenant, request_id, by=by.subject, reason=body.reason, epsilon=body.epsilon
        )
        return shapes.RequestAnswer.of(done)

    @operation("POST", "/requests/{request_id}/decline", Scope.BUDGETS_GRANT, refuses=(409,))
    def decline_budget_request(
        self, request_id: RequestId, body: shapes.DeclineBody, by: By
    ) -> shapes.RequestAnswer:
        """Decline a request."""
        done = self._requests.decline(by.tenant, request_id, by=by.subject, reason=body.reason)
        return shapes.RequestAnswer.of(done)

    @operation("POST", "/requests/{request_id}/withdraw", Scope.BUDGETS_REQUEST, refuses=(409,))
    def withdraw_budget_request(self, request_id: RequestId, by: By) -> shapes.RequestAnswer:
        """Take one's own request back."""
        return shapes.RequestAnswer.of(
            self._requests.withdraw(by.tenant, request_id, by=by.subject)
        )

    def _state(self, account: str, by: Principal) -> ScopeState:
        scope = scope_of(by.tenant, account)
        self._require_visible(scope, by)
        return self._ledger.balance(scope)

    def _require_visible(self, scope: Account, by: Principal) -> None:
        if not _is_visible(scope, by):
            raise NotFound

    def _fresh_key(self) -> str:
        return self._service.entropy.token_bytes(16).hex()


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/budgets`."""
    return router_of(Budgets(service), access, tag="budgets", prefix="/budgets")


def _is_visible(scope: Account, by: Principal) -> bool:
    if not is_of(scope, by.tenant):
        return False
    return not is_of_one_subject(scope) or Scope.RESULTS_OUTSIDE_GUARANTEE in by.scopes


def _newest(request: BudgetRequest) -> tuple[str, str]:
    return request.created_at.isoformat(), request.id


def _thinned(moments: list[Any], most: int) -> list[Any]:
    """At most so many of them, evenly, the first and the last included."""
    if len(moments) <= most:
        return moments
    step = (len(moments) - 1) / (most - 1)
    return [moments[round(place * step)] for place in range(most)]
