"""Identity over a SQLite file and over a PostgreSQL schema, with a cheap argon2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from privacy_runtime.identity import (
    Argon2Cost,
    Identity,
    IdentityPolicy,
    Principal,
    Role,
    TokenPolicy,
    bootstrap_admin,
)
from privacy_runtime.identity.codes import code_at, step_of
from privacy_runtime.identity.schema import TABLES
from privacy_runtime.journal import Home, Journal
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.testing import ManualClock, MemoryHome, MemoryRows
from privacy_runtime.world import SystemEntropy

CHEAP = Argon2Cost(memory_kib=8, passes=1)
PASSWORD = "quince umbrella 47 fjord"  # noqa: S105  opens nothing but this test
ANOTHER = "velvet marmot 92 plinth"
ADDRESS = "198.51.100.7"
TOKENS = TokenPolicy(issuer="https://pf.example", audience="privacy-finetuner")


class House:
    """One deployment: a database, a journal, and users with and without a second factor."""

    password, another, address = PASSWORD, ANOTHER, ADDRESS

    def __init__(self, where: str, folder: Path, **policy: Any) -> None:
        self.where, self.folder = where, folder
        self.clock = ManualClock()
        self.rows = MemoryRows()
        self.keys = RedactionKeys.generate(SystemEntropy())
        self.policy = IdentityPolicy(tokens=TOKENS, argon2=CHEAP, **policy)
        self.seeds: dict[str, bytes] = {}
        self.identity = self.opened()

    def opened(self, home: Home | None = None) -> Identity:
        """What one process would open."""
        return Identity.open(
            self.where,
            Journal(home or MemoryHome(self.rows), clock=self.clock),
            policy=self.policy,
            token_keys=self.folder / "token-keys",
            sealing_keys=self.keys,
            clock=self.clock,
            entropy=SystemEntropy(),
        )

    def admin(self) -> Principal:
        """An administrator who logged in with a second factor."""
        user, _ = bootstrap_admin(
            self.identity.accounts, password=PASSWORD, development=True, name="root@example"
        )
        return self.enrolled(user.name, PASSWORD)

    def user(self, by: Principal, name: str, role: Role, password: str = PASSWORD) -> Principal:
        """A user with a password of their own, logged in; enrolled where the role asks for it."""
        _, first = self.identity.accounts.create_user(by, name, role)
        self.identity.logins.change_password(name, first.reveal(), password, source=ADDRESS)
        if role in self.policy.needs_code:
            return self.enrolled(name, password)
        return self.log_in(name, password)

    def enrolled(self, name: str, password: str) -> Principal:
        """Enrol a second factor and log in with it."""
        principal = self.log_in(name, password)
        enrolment = self.identity.factors.begin(principal)
        self.seeds[name] = seed_of(enrolment.seed.reveal())
        self.identity.factors.confirm(principal, self.code(name))
        return self.log_in(name, password)

    def log_in(self, name: str, password: str = PASSWORD) -> Principal:
        """Log in, with a fresh code where there is a second factor."""
        code = None
        if name in self.seeds:
            self.clock.advance(30)
            code = self.code(name)
        tokens = self.identity.logins.log_in(name, password, source=ADDRESS, code=code)
        return self.identity.sessions.authenticate(tokens.access_token.reveal())

    def code(self, name: str, steps: int = 0) -> str:
        """The code that an authenticator shows now, or some steps away."""
        return code_at(self.seeds[name], step_of(self.clock.now()) + steps)

    def events(self, type_: str = "") -> list[dict[str, Any]]:
        """The journal's events, or those of a type."""
        entries = self.rows.entries.get("audit", [])
        return [
            {"type": entry.type, **entry.body} for entry in entries if entry.type.endswith(type_)
        ]

    def dump(self) -> str:
        """Everything that is on the disk, as text."""
        with self.identity.store.database._engine.connect() as connection:
            rows = [
                repr(tuple(row))
                for table in TABLES.sorted_tables
                for row in connection.execute(sa.select(table))
            ]
        return "\n".join(rows) + repr(self.rows.entries)


def seed_of(text: str) -> bytes:
    """The seed that an authenticator was given."""
    import base64

    return base64.b32decode(text)


def _cleared(url: str) -> str:
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        names = set(sa.inspect(connection).get_table_names())
        for table in reversed(TABLES.sorted_tables):
            if table.name in names and table.name != "identity_schema":
                connection.execute(sa.delete(table))
    engine.dispose()
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "postgres":
        return _cleared(request.getfixturevalue("_shared_schema"))
    return str(tmp_path / "identity.db")


@pytest.fixture
def house(where: str, tmp_path: Path) -> Iterator[House]:
    """A deployment on each kind of database."""
    house = House(where, tmp_path)
    yield house
    house.identity.close()


@pytest.fixture
def small_house(tmp_path: Path) -> Iterator[House]:
    """A deployment on SQLite, where the kind of database does not matter."""
    house = House(str(tmp_path / "identity.db"), tmp_path)
    yield house
    house.identity.close()


@pytest.fixture
def admin(house: House) -> Principal:
    """The first administrator, with a second factor."""
    return house.admin()


@pytest.fixture
def house_class() -> type[House]:
    """For deployments with another policy."""
    return House
