"""Budgets of use, shown: one's own to everybody, all to officers; more is granted with a reason.

Whether a user exists is not said to those who may not look: another's budget is `not_allowed`
before anything is looked up.
"""

from __future__ import annotations

from fastapi import APIRouter

from federated_dp_llm.api import shapes
from federated_dp_llm.api.door import Door
from federated_dp_llm.api.quotas import Standing
from federated_dp_llm.api.routes import By, Routes
from federated_dp_llm.api.service import Service
from privacy_runtime.http import NotFound
from privacy_runtime.identity import NotAllowed, Principal, Scope
from privacy_runtime.identity.user_rows import select_user


class Budgets:
    """Reads and grants.

    Args:
        service: its standings and records.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def read_budget(self, user_id: str, by: By) -> shapes.BudgetAnswer:
        """Read a budget.

        A budget is a lifetime's: nothing refills at midnight, because what was learnt from records
        is not forgotten at midnight. `daily_limit` is therefore what is left, and the times of a
        refresh are null.
        """
        self._require_reader(user_id, by)
        standing = self._service.standings.of_users([user_id])[user_id]
        return shapes.BudgetAnswer(
            user_id=user_id,
            total_budget=standing.total,
            consumed=standing.consumed,
            held=standing.held,
            remaining=standing.remaining,
            daily_limit=standing.remaining,
            delta=self._service.config.privacy.delta,
        )

    def read_budget_status(self, by: By) -> shapes.BudgetStatus:
        """Read everybody's budget."""
        del by
        service = self._service
        members = service.records.members()
        users = sorted({*members, *service.records.users()})
        departments = {name for own in members.values() for name in own}
        departments |= set(service.config.departments)
        return shapes.BudgetStatus(
            delta=service.config.privacy.delta,
            users={u: _line(s) for u, s in service.standings.of_users(users).items()},
            departments={
                name: _line(service.standings.of_department(name)) for name in sorted(departments)
            },
        )

    def read_budget_history(self, user_id: str, by: By) -> shapes.BudgetHistory:
        """Read what a user's answers cost: the latest fifty, and every day's sum.

        A sum of answers' epsilons is more than what they cost together; `consumed` is that.
        """
        self._require_reader(user_id, by)
        use = self._service.records.use_of(user_id)
        answers = [dict(line) for line in use.latest]
        return shapes.BudgetHistory(user_id=user_id, answers=answers, days=dict(use.days))

    def grant_budget(self, user_id: str, body: shapes.GrantRequest, by: By) -> shapes.BudgetAnswer:
        """Grant a user more, over their lifetime, with a reason that is kept.

        This raises what one user may use. The promise to the people in the records is at the nodes
        and is not raised by it.
        """
        self._require_reader(user_id, by)
        service = self._service
        key = "grant/" + service.entropy.token_bytes(16).hex()
        grant = {"user": user_id, "epsilon": body.epsilon, "by": by.subject, "reason": body.reason}
        service.records.say("router.grant", {**grant, "key": key})
        service.standings.raise_user(
            user_id, body.epsilon, key=key, by=by.subject, reason=body.reason
        )
        return self.read_budget(user_id, by)

    def _require_reader(self, user_id: str, by: Principal) -> None:
        """Oneself, or an officer; then the user must be there.

        Raises:
            NotAllowed: neither, whether there is such a user or not.
            NotFound: there is none in this organisation.
        """
        service = self._service
        if service.config.security.authentication == "none":
            return
        if service.name_of(by.subject) == user_id:
            return
        if Scope.AUDIT_READ not in by.scopes:
            raise NotAllowed(by.subject, scope=Scope.AUDIT_READ)
        row = service.identity.store.read(
            lambda connection: connection.execute(select_user(name=user_id)).one_or_none()
        )
        if row is None or row.tenant != by.tenant:
            raise NotFound("there is no such user")


def _line(standing: Standing) -> shapes.BudgetLine:
    used = standing.total - standing.remaining
    return shapes.BudgetLine(
        total_budget=standing.total,
        consumed=standing.consumed,
        remaining=standing.remaining,
        percentage_used=round(100 * used / standing.total, 2) if standing.total else 100.0,
    )


def router(service: Service, door: Door) -> APIRouter:
    """The routes, and the spellings without a version."""
    budgets = Budgets(service)
    routes = Routes(door, tag="privacy", errors=(503,))
    base, read = "/privacy/budget", Scope.BUDGETS_READ
    routes.add(
        "GET", f"{base}/status", Scope.AUDIT_READ, budgets.read_budget_status,
        aliases=(f"{base}/status",),
    )  # fmt: skip
    routes.add(
        "GET", base + "/history/{user_id}", read, budgets.read_budget_history,
        refuses=(404,), aliases=(base + "/history/{user_id}",),
    )  # fmt: skip
    routes.add(
        "GET", base + "/{user_id}", read, budgets.read_budget,
        refuses=(404,), aliases=(base + "/{user_id}",),
    )  # fmt: skip
    routes.add(
        "POST", base + "/{user_id}/grants", Scope.BUDGETS_GRANT, budgets.grant_budget,
        refuses=(404, 422),
    )  # fmt: skip
    return routes.router
