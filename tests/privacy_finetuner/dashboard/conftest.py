"""A real service in a folder of its own, with people who look at its pages."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from privacy_core.dp_events import Gaussian
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit
from privacy_finetuner.api import errors
from privacy_finetuner.dashboard import mount
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.governance.accounts import scope_of
from privacy_finetuner.jobs import EventKind, Job, TrainingSpec
from privacy_finetuner.service import Service
from privacy_runtime.budget_store import Scope as Account
from privacy_runtime.budget_store import Signature, charge_of
from privacy_runtime.http import Access, HttpPolicy, install
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
from privacy_runtime.testing import ManualClock, SeededEntropy

PASSWORD = "glacier-umbrella-tundra-42"  # noqa: S105  opens nothing but these tests
NEEDS_CODE = (Role.ADMIN, Role.PRIVACY_OFFICER)
POLICY = IdentityPolicy(
    tokens=TokenPolicy(issuer="privacy-finetuner", audience="privacy-finetuner"),
    argon2=Argon2Cost(memory_kib=8, passes=1),
)
_TOKEN = re.compile(r'name="csrf_token" value="([^"]*)"')


@dataclass
class Visitor:
    """A browser without scripts: it opens pages and sends their forms."""

    http: TestClient
    id: str = ""
    tenant: str = ""

    def open(self, path: str, **headers: str) -> Any:
        """Look at a page."""
        return self.http.get(path, headers={"sec-fetch-mode": "navigate", **headers})

    def send(self, path: str, form: Mapping[str, str], *, token: str | None = None) -> Any:
        """Send a form with the token of one's session."""
        if token is None:
            found = _TOKEN.search(self.open("/account").text)
            token = found.group(1) if found else ""
        return self.http.post(
            path,
            data={"csrf_token": token, **form},
            headers={"origin": "http://testserver", "sec-fetch-site": "same-origin"},
        )


@dataclass
class Town:
    """A deployment with its pages, two organisations, and the clock that they live by."""

    service: Service
    clock: ManualClock
    app: FastAPI
    pages: Pages
    tenants: dict[str, str] = field(default_factory=dict)
    visitors: dict[tuple[str, Role], Visitor] = field(default_factory=dict)
    seeds: dict[str, bytes] = field(default_factory=dict)

    def visitor(self) -> Visitor:
        """Somebody with a browser who is not signed in."""
        return Visitor(TestClient(self.app, follow_redirects=False, raise_server_exceptions=False))

    def tenant(self, at: str) -> str:
        """The id of an organisation."""
        if at not in self.tenants:
            self.tenants[at] = self.service.identity.accounts.create_organisation(at)
        return self.tenants[at]

    def new_user(self, name: str, role: Role, *, at: str = "north") -> tuple[str, str]:
        """A user who never signed in: id and one-time password."""
        operator = Principal(
            subject="u_operator",
            tenant=self.tenant(at),
            scopes=frozenset(Scope),
            method=Method.PASSWORD_AND_CODE,
            authenticated_at=self.clock.now(),
            session="s_operator",
        )
        user, first = self.service.identity.accounts.create_user(operator, name, role)
        return user.id, first.reveal()

    def code(self, name: str) -> str:
        """The next code of a user's authenticator; each counts once."""
        self.clock.advance(30)
        return code_at(self.seeds[name], step_of(self.clock.now()))

    def person(self, role: Role, *, at: str = "north") -> Visitor:
        """Somebody of a role, signed in."""
        if (at, role) not in self.visitors:
            self.visitors[at, role] = self._moved_in(role, at)
        return self.visitors[at, role]

    def _moved_in(self, role: Role, at: str) -> Visitor:
        identity, name = self.service.identity, f"{role}@{at}"
        user, first = self.new_user(name, role, at=at)
        identity.logins.change_password(name, first, PASSWORD, source="test")
        form = {"name": name, "password": PASSWORD}
        if role in NEEDS_CODE:
            principal = identity.logins.log_in(name, PASSWORD, source="test").principal
            enrolment = identity.factors.begin(principal)
            self.seeds[name] = base64.b32decode(enrolment.seed.reveal())
            identity.factors.confirm(principal, self.code(name))
            form["code"] = self.code(name)
        visitor = self.visitor()
        assert visitor.send("/sign-in", form).status_code == 303
        visitor.id, visitor.tenant = user, self.tenant(at)
        return visitor

    def job(self, *, at: str = "north", name: str = "a job", **changes: Any) -> Job:
        """Queue a job of an organisation's trainer."""
        owner = self.person(Role.TRAINER, at=at)
        spec = TrainingSpec(
            model="sample:model",
            dataset="sample:records",
            privacy={"epsilon": 8.0, "delta": 1e-5},
            training={"epochs": 1, "batch_size": 256, "learning_rate": 4e-3},
            **changes,
        )
        return self.service.jobs.submit(spec, tenant=owner.tenant, owner=owner.id, name=name)

    def account(
        self, name: str, *, at: str = "north", epsilon: float = 8.0, reason: str = "vote 17"
    ) -> Account:
        """Open an account of an organisation."""
        scope = scope_of(self.tenant(at), name)
        guarantee = Guarantee(
            epsilon=epsilon,
            delta=1e-5,
            relation=NeighbouringRelation.ADD_OR_REMOVE_ONE,
            unit=PrivacyUnit.EXAMPLE,
        )
        signature = Signature(person="u_officer", reason=reason)
        self.service.ledger.open_account(f"open:{scope}", scope, guarantee, signature=signature)
        return scope

    def spend(self, account: Account, key: str, *, sigma: float, quota: str = "") -> None:
        """Let something have been done with the data of an account."""
        tenant = next(id for id in self.tenants.values() if id in str(account))
        quotas = (scope_of(tenant, quota),) if quota else ()
        charge = charge_of(Gaussian(sigma))
        self.service.ledger.reserve(
            key, protection=(account,), quota=quotas, charge=charge, ttl_s=3600
        )
        self.service.ledger.commit(f"commit:{key}", key)

    def tell(self, job: Job, kind: EventKind, **body: Any) -> None:
        """Let a worker have said something of a job."""
        self.tell_all(job, kind, [body])

    def tell_all(self, job: Job, kind: EventKind, bodies: Sequence[Mapping[str, Any]]) -> None:
        """Let a worker have said several things at once."""

        def write(work: Any) -> None:
            newest = work.update(job.id, lines=len(bodies))
            work.tell(job.id, newest, [(kind, body, work.now_us) for body in bodies])

        self.service.jobs.store.change(write)

    def leave(self, job: Job, name: str, content: bytes, *, outside: bool = False) -> None:
        """Let a run have left a file."""
        folder = self.service.jobs.folder(job)
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        self.tell(
            job,
            EventKind.ARTEFACT,
            name=name,
            size_bytes=len(content),
            sha256="0" * 64,
            media_type="text/html",
            outside_guarantee=outside,
        )


def town_in(home: Path, **sections: Any) -> tuple[Service, Town]:
    """A deployment in a folder; `sections`: of its configuration."""
    clock = ManualClock()
    service = Service.open(
        EnvironmentConfig(environment="testing", i18n={"enable_auto_detection": True}, **sections),
        home=home,
        clock=clock,
        entropy=SeededEntropy(7),
        identity_policy=POLICY,
    )
    app = FastAPI(docs_url=None, redoc_url=None)
    policy, table = HttpPolicy(), errors.table()
    access = Access(
        service.identity, clock=clock, entropy=service.entropy, policy=policy, kept_s=0.0
    )
    pages = mount(app, service, access, errors=table)
    install(app, errors=table, policy=policy, entropy=service.entropy)
    return service, Town(service, clock, app, pages)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """A deployment of the test's own."""
    service, town = town_in(tmp_path / "home")
    with service:
        yield town


@pytest.fixture(scope="module")
def quiet_town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One deployment for tests that only look."""
    service, town = town_in(tmp_path_factory.mktemp("town") / "home")
    with service:
        yield town
