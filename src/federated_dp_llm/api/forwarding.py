"""The gateway in front of the application: completions of its backends' models take its fast path.

Whoever may ask questions may use it. What is forwarded is counted in accounts of its own, in the
gateway's unit (`usage.gateway_per_user`); no record is read, so no privacy is spent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from federated_dp_llm.api.asking import GENERAL
from federated_dp_llm.api.service import Service
from federated_dp_llm.gateway.app import Gateway, Verifier, make_app
from federated_dp_llm.gateway.audit import AuditTrail
from federated_dp_llm.gateway.by_model import ByModel
from federated_dp_llm.gateway.options import GatewayOptions
from privacy_runtime.allowances import AsyncAllowances
from privacy_runtime.http import Access
from privacy_runtime.http.credentials import Credentials
from privacy_runtime.identity import Principal, Scope, require

TRAIL: Final = "gateway.jsonl"


class Forwarding:
    """Who may use the gateway, and who pays.

    Args:
        service: its accounts and members.
        access: verifies credentials.
        unit: of the accounts.
    """

    def __init__(self, service: Service, access: Access, unit: str) -> None:
        self._service, self._access, self._unit = service, access, unit
        self._accounts: dict[str, tuple[str, ...]] = {}

    async def authenticate(self, shown: Credentials) -> Principal:
        """Who asks; their accounts are open when this returns.

        Raises:
            NotAllowed: they may not ask questions.
        """
        principal = await self._access.verified(shown)
        require(principal, Scope.MODELS_QUERY, tenant=principal.tenant)
        if principal.subject not in self._accounts:
            await self._access.run(self._open, principal)
        return principal

    def known(self, shown: Credentials) -> Principal | None:
        """Who asks, if that was verified moments ago and their accounts are open."""
        principal = self._access.known(shown)
        return principal if principal and principal.subject in self._accounts else None

    def accounts_of(self, principal: Principal) -> Sequence[str]:
        """The accounts of a principal that was let in."""
        return self._accounts[principal.subject]

    def _open(self, principal: Principal) -> None:
        user = self._service.name_of(principal.subject)
        own = self._service.records.departments_of(user)
        usage = self._service.config.usage
        caps = {
            f"user/{user}/{self._unit}": usage.gateway_per_user,
            f"department/{own[0] if own else GENERAL}/{self._unit}": usage.gateway_per_department,
        }
        self._service.standings.allowances.open_accounts(caps)
        self._accounts[principal.subject] = tuple(caps)


def gateway_of(service: Service, access: Access) -> Gateway | None:
    """The gateway of the configuration; None: there is no such section.

    Raises:
        InvalidParameter: what is wrong with the section.
    """
    if not service.config.gateway:
        return None
    options = GatewayOptions.of(service.config.gateway)
    forwarding = Forwarding(service, access, options.unit.value)
    return make_app(
        allowances=AsyncAllowances(service.standings.allowances),
        backends=options.values(),
        authenticate=Verifier(forwarding.authenticate, forwarding.known),
        accounts_of=forwarding.accounts_of,
        audit=AuditTrail(service.home / TRAIL),
        policy=options.policy(),
        clock=service.clock,
        entropy=service.entropy,
    )


def served(app: FastAPI) -> ASGIApp:
    """What a server serves: the application, behind its gateway where it has one."""
    gateway: Gateway | None = app.state.gateway
    return app if gateway is None else ByModel(gateway, app)
