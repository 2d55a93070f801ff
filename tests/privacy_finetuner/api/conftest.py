"""One deployment over SQLite with two organisations, a user of every role in each, and a client."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from privacy_finetuner.api.app import create_app
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.jobs import TrainingSpec
from privacy_finetuner.service import Deployment, Service
from privacy_runtime.http import Rate, RateLimits
from privacy_runtime.identity import (
    Argon2Cost,
    IdentityPolicy,
    Method,
    Principal,
    Role,
    Scope,
    TokenPolicy,
)
from privacy_runtime.identity.codes import code_at, step_of
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemEntropy

PASSWORD = "quince umbrella 47 fjord"  # noqa: S105  opens nothing but this test
ADDRESS = "198.51.100.7"
POLICY = IdentityPolicy(
    tokens=TokenPolicy(issuer="privacy-finetuner", audience="privacy-finetuner"),
    argon2=Argon2Cost(memory_kib=8, passes=1),
)
UNLIMITED = {
    name: Rate(name, 10_000_000) for name in ("address", "login", "reads", "writes", "starts")
}
NEEDS_CODE = (Role.ADMIN, Role.PRIVACY_OFFICER)


@dataclass
class Member:
    """A user who has logged in."""

    id: str
    tenant: str
    name: str
    role: Role
    token: str
    refresh: str
    seed: bytes | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class House:
    """One deployment and who lives in it."""

    service: Service
    app: FastAPI
    clock: ManualClock
    members: dict[tuple[str, Role], Member] = field(default_factory=dict)

    def member(self, role: Role, *, at: str = "north") -> Member:
        """A user of an organisation by role."""
        if (at, role) not in self.members:
            self.members[at, role] = self._moved_in(at, role)
        return self.members[at, role]

    def new_user(self, role: Role, *, at: str = "north", name: str = "") -> tuple[str, str]:
        """Make a user who has never logged in; id and one-time password."""
        user, first = self.service.identity.accounts.create_user(
            self._operator(at), name or f"{role}-{self.service.entropy.token_bytes(4).hex()}", role
        )
        self.names[user.id] = user.name
        return user.id, first.reveal()

    names: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, bytes] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=dict)

    turn: int = 0

    def next_test(self) -> None:
        """Nobody is here any more, nothing can be named, and failures of logins are forgotten."""
        self.turn += 1
        for known in (self.members, self.names, self.seeds, self.tenants):
            known.clear()
        shutil.rmtree(self.service.homes.datasets)
        self.service.homes.datasets.mkdir()
        self.clock.advance(2 * 86_400)

    def tenant(self, at: str) -> str:
        """The id of an organisation."""
        if at not in self.tenants:
            accounts = self.service.identity.accounts
            self.tenants[at] = accounts.create_organisation(self._named(at))
        return self.tenants[at]

    def _named(self, at: str) -> str:
        return f"{at}.{self.turn}" if self.turn else at

    def job(self, *, at: str = "north", **changes: Any) -> str:
        """Queue a job of an organisation's trainer."""
        spec = TrainingSpec(
            model="sample:model",
            dataset="sample:records",
            privacy={"epsilon": 8.0, "delta": 1e-5},
            training={"epochs": 1, "batch_size": 256, "learning_rate": 4e-3},
            **changes,
        )
        owner = self.member(Role.TRAINER, at=at)
        job = self.service.jobs.submit(spec, tenant=owner.tenant, owner=owner.id, name="a job")
        return job.id

    def code(self, seed: bytes) -> str:
        """The next code of an authenticator; each counts once."""
        self.clock.advance(30)
        return code_at(seed, step_of(self.clock.now()))

    def log_in(self, name: str, seed: bytes | None = None) -> Any:
        """Tokens of a login."""
        code = None if seed is None else self.code(seed)
        return self.service.identity.logins.log_in(name, PASSWORD, source=ADDRESS, code=code)

    def _operator(self, at: str) -> Principal:
        return Principal(
            subject="u_operator",
            tenant=self.tenant(at),
            scopes=frozenset(Scope),
            method=Method.PASSWORD_AND_CODE,
            authenticated_at=self.clock.now(),
            session="s_operator",
        )

    def _moved_in(self, at: str, role: Role) -> Member:
        identity = self.service.identity
        user_id, first = self.new_user(role, at=at, name=f"{role}@{self._named(at)}")
        name = self.names[user_id]
        identity.logins.change_password(name, first, PASSWORD, source=ADDRESS)
        seed = None
        if role in NEEDS_CODE:
            principal = self.log_in(name).principal
            enrolment = identity.factors.begin(principal)
            seed = base64.b32decode(enrolment.seed.reveal())
            identity.factors.confirm(principal, self.code(seed))
            self.seeds[name] = seed
        return self.adopt(at, role, name, self.log_in(name, seed), seed)

    def renew(self, role: Role, *, at: str = "north") -> Member:
        """Log a member in again: the tokens before may be worth nothing."""
        old = self.member(role, at=at)
        seed = self.seeds.get(old.name)
        return self.adopt(at, role, old.name, self.log_in(old.name, seed), seed)

    def adopt(self, at: str, role: Role, name: str, tokens: Any, seed: bytes | None) -> Member:
        """Keep a member with the tokens of a login."""
        user_id = tokens.principal.subject
        member = Member(
            id=user_id,
            tenant=self.tenant(at),
            name=name,
            role=role,
            token=tokens.access_token.reveal(),
            refresh=tokens.refresh_token.reveal(),
            seed=seed,
        )
        self.members[at, role] = member
        return member


def opened(
    home: Path, clock: ManualClock, *, database: str | None = None, **deployment: Any
) -> Service:
    """A service of tests, on SQLite unless a database is named."""
    named = {} if database is None else {"database_url": database}
    return Service.open(
        # The loop looks by the machine's time; these tests move the clock and look themselves.
        EnvironmentConfig(
            environment="testing", security_config={"enable_threat_detection": False}, **named
        ),
        home=home,
        clock=clock,
        entropy=SystemEntropy(),
        deployment=Deployment(**deployment),
        identity_policy=POLICY,
    )


def house_in(home: Path, **deployment: Any) -> House:
    """A deployment in a folder."""
    clock = ManualClock()
    service = opened(home, clock, **deployment)
    app = create_app(service, limits=RateLimits(clock, rates=UNLIMITED))
    return House(service, app, clock)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, TestClient]]:
    """One deployment for a module of tests, and its client; the application runs."""
    house = house_in(tmp_path_factory.mktemp("house") / "home")
    with TestClient(house.app, base_url="http://testserver") as client:
        yield house, client
    house.service.close()


@pytest.fixture
def house(shared: tuple[House, TestClient]) -> House:
    """A deployment with organisations that are the test's own."""
    shared[0].next_test()
    return shared[0]


@pytest.fixture
def client(shared: tuple[House, TestClient]) -> TestClient:
    """A client of it."""
    return shared[1]


@pytest.fixture
def own_house(tmp_path: Path) -> Iterator[House]:
    """A deployment of the test's own: to be broken."""
    house = house_in(tmp_path / "home")
    yield house
    house.service.close()
