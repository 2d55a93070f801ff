"""Where allowances live in tests: memory, a SQLite file, a PostgreSQL schema of the tests' own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from privacy_runtime.allowances import MemoryHome, MemoryRows, Store, open_allowances
from privacy_runtime.testing import ManualClock

TABLES = ("allowance_reservations", "allowance_accounts", "allowance_raises")


class Place:
    """One storage: opened like a process would, read and damaged like nobody should."""

    def __init__(self, kind: str, where: str) -> None:
        self.kind, self.where = kind, where
        self.clock = ManualClock()
        self.rows = MemoryRows()
        self._stores: list[Store] = []

    def open(self, *, keep_s: float = 86_400.0, retry_s: float = 5.0) -> Store:
        """What one process would open."""
        if self.kind == "memory":
            home = MemoryHome(self.rows)
            store = Store(home, clock=self.clock, keep_s=keep_s, retry_s=retry_s)
        else:
            store = open_allowances(self.where, clock=self.clock, keep_s=keep_s, retry_s=retry_s)
        self._stores.append(store)
        return store

    def sql(self, statement: str, **values: object) -> list[sa.Row[tuple[object, ...]]]:
        """Run one statement as the database's operator."""
        url = self.where.replace("postgresql://", "postgresql+psycopg://")
        engine = sa.create_engine(url if self.kind == "postgres" else f"sqlite:///{self.where}")
        try:
            with engine.begin() as connection:
                result = connection.execute(sa.text(statement), values)
                return list(result.fetchall()) if result.returns_rows else []
        finally:
            engine.dispose()

    def empty(self) -> None:
        """Forget every row, as an operator would."""
        self.sql(f"TRUNCATE {', '.join(TABLES)}")

    def close(self) -> None:
        for store in self._stores:
            store.close()


@pytest.fixture(scope="session")
def _schema() -> Iterator[str]:
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip("no PostgreSQL: set TEST_DATABASE_URL")
    schema = f"allowances_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
    where = f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
    open_allowances(where).close()  # makes the tables
    yield where
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


def _place(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    if kind == "postgres":
        place = Place(kind, request.getfixturevalue("_schema"))
        place.empty()
    else:
        place = Place(kind, str(folder / "allowances.db"))
    yield place
    place.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Every home in turn."""
    yield from _place(request.param, request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Every home that several processes can open."""
    yield from _place(request.param, request, tmp_path)


@pytest.fixture
def memory_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Memory, for what is decided before a home is asked."""
    yield from _place("memory", request, tmp_path)


@pytest.fixture
def sqlite_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A SQLite file."""
    yield from _place("sqlite", request, tmp_path)


@pytest.fixture
def postgres_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A PostgreSQL schema."""
    yield from _place("postgres", request, tmp_path)
