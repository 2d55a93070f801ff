"""A router in a folder, with users of every role and answers that cost what they say."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from federated_dp_llm.api.app import create_app
from federated_dp_llm.api.service import ISSUER, Service
from federated_dp_llm.config import RouterConfig
from federated_dp_llm.core.query import Answer, Piece, Query
from federated_dp_llm.errors import PrivacyBudgetExceeded
from federated_dp_llm.federation.amounts import nano_rho
from federated_dp_llm.routing.quotas import department_account, user_account
from privacy_core.decoding.prices import epsilon_of, rho_of
from privacy_runtime.allowances import AllowanceExhausted
from privacy_runtime.http import Rate, RateLimits
from privacy_runtime.identity import (
    Argon2Cost,
    IdentityPolicy,
    Role,
    SessionPolicy,
    TokenPolicy,
    bootstrap_admin,
)
from privacy_runtime.identity.codes import code_at, step_of
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemEntropy

PASSWORD = "quince umbrella 47 fjord"  # noqa: S105  opens nothing but this test
_NUMBERS = count()
NEEDS_CODE = (Role.ADMIN, Role.PRIVACY_OFFICER)
UNLIMITED = {
    name: Rate(name, 10_000_000) for name in ("address", "login", "reads", "writes", "starts")
}


class PaidAnswers:
    """Answers that echo what left the router, and debit the accounts for it, as nodes' would.

    A prompt that holds `fail:CODE` raises what `failures` has under that code.
    """

    def __init__(self, service: Service) -> None:
        self._standings, self._store = service.standings, service.standings.allowances
        self._delta = service.config.privacy.delta
        self.seen: list[Query] = []
        self.failures: dict[str, Exception] = {}
        self.gate: asyncio.Event | None = None
        self.ended = threading.Event()

    async def answer(self, query: Query) -> Answer:
        found = [item async for item in self.stream(query)]
        assert isinstance(found[-1], Answer)
        return found[-1]

    async def stream(self, query: Query) -> AsyncIterator[Piece | Answer]:
        self.seen.append(query)
        for code, error in self.failures.items():
            if f"fail:{code}" in query.prompt:
                raise error
        rho = rho_of(query.privacy_budget, self._delta) if query.context == "records" else 0.0
        key = f"answer/{query.user_id}/{query.request_id}/{len(self.seen)}"
        if rho:
            await asyncio.to_thread(self._reserve, key, query, nano_rho(rho))
        text = f"echo: {query.prompt}"
        try:
            for start in range(0, len(text), 7):
                yield Piece(text[start : start + 7], 1)
                if "fail:midway" in query.prompt:
                    raise self.failures["later"]
                if self.gate is not None:
                    await self.gate.wait()
        finally:
            self.ended.set()
            if rho:
                await asyncio.shield(asyncio.to_thread(self._store.settle, key))
        yield Answer(
            request_id=query.request_id,
            response=text,
            tokens=tuple(range(len(text) // 7 + 1)),
            finish_reason="stop",
            mechanism="private_decoding" if rho else "public",
            privacy_cost=min(epsilon_of(rho, self._delta), query.privacy_budget) if rho else 0.0,
            rho=rho,
            remaining_budget=self._left(query.user_id),
            node_id="hospital_a+hospital_b",
            slots=128 if rho else 0,
            processing_time=0.25,
            prompt_tokens=len(query.prompt.split()),
            consensus_reached=True if query.require_consensus else None,
            confidence_score=0.94 if query.require_consensus else None,
        )

    def _left(self, user_id: str) -> float:
        return self._standings.of_users([user_id])[user_id].remaining

    def _reserve(self, key: str, query: Query, amount: int) -> None:
        accounts = (user_account(query.user_id), department_account(query.department))
        try:
            self._store.reserve(key, dict.fromkeys(accounts, amount), ttl_s=60.0)
        except AllowanceExhausted as error:
            left = self._left(query.user_id)
            raise PrivacyBudgetExceeded(query.user_id, query.privacy_budget, left) from error


@dataclass
class Member:
    """A user who is logged in."""

    name: str
    token: str
    subject: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class House:
    """One deployment: a service, an application, users."""

    service: Service
    app: FastAPI
    clock: ManualClock
    answers: PaidAnswers
    seeds: dict[str, bytes] = field(default_factory=dict)
    members: dict[Role, Member] = field(default_factory=dict)

    def member(self, role: Role, name: str = "") -> Member:
        """A user of a role in the department `emergency`, made when first asked for."""
        if role in self.members and not name:
            return self.members[role]
        made = self._made(role, name or f"{role.value}.one")
        if not name:
            self.members[role] = made
        return made

    def log_in(self, name: str) -> Any:
        """Log in, with a code where there is a second factor."""
        code = None
        if name in self.seeds:
            self.clock.advance(30)
            code = code_at(self.seeds[name], step_of(self.clock.now()))
        logins = self.service.identity.logins
        return logins.log_in(name, PASSWORD, source="198.51.100.7", code=code)

    def enrol(self, name: str) -> None:
        """Give a user a second factor."""
        principal = self.log_in(name).principal
        factors = self.service.identity.factors
        seed = base64.b32decode(factors.begin(principal).seed.reveal())
        self.seeds[name] = seed
        factors.confirm(principal, code_at(seed, step_of(self.clock.now())))

    def _made(self, role: Role, name: str) -> Member:
        accounts = self.service.identity.accounts
        if "root@example" not in self.seeds:
            bootstrap_admin(accounts, password=PASSWORD, development=True, name="root@example")
            self.enrol("root@example")
        _, first = accounts.create_user(self.log_in("root@example").principal, name, role)
        logins = self.service.identity.logins
        logins.change_password(name, first.reveal(), PASSWORD, source="198.51.100.7")
        self.service.records.put_member(name, ["emergency"], by="root")
        if role in NEEDS_CODE:
            self.enrol(name)
        tokens = self.log_in(name)
        return Member(name, tokens.access_token.reveal(), tokens.principal.subject)


def quick_policy() -> IdentityPolicy:
    """Passwords that are hashed quickly, and tokens that outlast a test."""
    return IdentityPolicy(
        tokens=TokenPolicy(issuer=ISSUER, audience=ISSUER, lifetime_s=3600),
        sessions=SessionPolicy(idle_s=40_000, absolute_s=43_200),
        argon2=Argon2Cost(memory_kib=8, passes=1),
    )


def config_in(home: Path, **sections: dict[str, Any]) -> RouterConfig:
    """A configuration for tests; no variable of the machine is read."""
    return RouterConfig.read(
        variables={}, environment="testing", **{"store": {"home": str(home)}, **sections}
    )


def house_in(
    home: Path,
    *,
    config: RouterConfig | None = None,
    change: Callable[[RouterConfig], RouterConfig] = lambda config: config,
) -> House:
    """A deployment in a folder."""
    clock = ManualClock()
    service = Service.open(
        change(config or config_in(home)),
        answers=PaidAnswers,
        clock=clock,
        entropy=SystemEntropy(),
        identity_policy=quick_policy(),
    )
    app = create_app(service, limits=RateLimits(clock, rates=UNLIMITED))
    assert isinstance(service.answers, PaidAnswers)
    return House(service, app, clock, service.answers)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = house_in(tmp_path_factory.mktemp("router") / "home")
    yield house
    house.service.close()


@pytest.fixture(scope="module")
def client(house: House) -> Iterator[TestClient]:
    with TestClient(house.app, raise_server_exceptions=True) as made:
        yield made


@pytest.fixture
def doctor(house: House) -> Member:
    """A user of their own for each test: nobody else spends their budget."""
    return house.member(Role.ANALYST, f"doctor-{next(_NUMBERS)}")
