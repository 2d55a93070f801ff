"""Tools about privacy budget: how accounts stand, and asking an officer for more."""

from __future__ import annotations

from typing import Any, Final

from mcp.server.mcpserver import MCPServer

from privacy_finetuner.mcp_server import fields
from privacy_finetuner.mcp_server.answers import AskedBudget, BudgetAccount, BudgetList
from privacy_finetuner.mcp_server.clients import READS, Asked, Clients, acts, failures_told

_MOST: Final = 200


def add(server: MCPServer[Any], clients: Clients) -> None:
    """Add the tools to a server."""
    budgets = Budgets(clients)
    asks = acts(is_destructive=False, is_idempotent=False)  # nothing is granted by asking
    server.tool(title="Privacy budget", annotations=READS)(budgets.budget)
    server.tool(title="Ask an officer for budget", annotations=asks)(budgets.request_budget)


class Budgets:
    """Budgets as tools; the docstrings are what a model reads.

    Args:
        clients: whose hands each call uses.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def budget(self, context: Asked, account: fields.AnyAccount = None) -> BudgetList:
        """Say how much privacy budget was granted, spent and is left, for good.

        What is spent never comes back; epsilon_remaining is all that future jobs on this data have
        together. At most 200 accounts are listed.
        """
        async with failures_told(self._clients, context) as client:
            if account is not None:
                found = await client.budgets.get_budget(account)
                return BudgetList(accounts=[BudgetAccount.of(found)])
            accounts: list[BudgetAccount] = []
            async for each in client.budgets.list_budgets():
                accounts.append(BudgetAccount.of(each))
                if len(accounts) == _MOST:
                    break
            return BudgetList(accounts=accounts)

    async def request_budget(
        self,
        context: Asked,
        account: fields.Account,
        epsilon: fields.MoreEpsilon,
        reason: fields.Reason,
    ) -> AskedBudget:
        """Ask a privacy officer for more budget on an account. A person decides, not now.

        Nothing is granted or spent by asking.
        """
        async with failures_told(self._clients, context) as client:
            return AskedBudget.of(await client.budgets.request_budget(account, epsilon, reason))
