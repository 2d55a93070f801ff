"""Where journals live in tests: memory, a SQLite file, a PostgreSQL schema of the test's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from privacy_runtime.journal import Home, Journal
from privacy_runtime.journal.postgres import PostgresHome
from privacy_runtime.journal.schema import DOCUMENTS, ENTRIES, STREAMS
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.testing import ManualClock, MemoryHome, MemoryRows


class Place:
    """One journal's storage: opened like a process would, and damaged like nobody should."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self.url = kind, url
        self.clock = ManualClock()
        self.rows = MemoryRows()
        self._journals: list[Journal] = []

    def home(self) -> Home:
        """A connection of its own."""
        if self.kind == "memory":
            return MemoryHome(self.rows)
        return SqliteHome(self.url) if self.kind == "sqlite" else PostgresHome(self.url)

    def journal(self, retry_s: float = 10.0) -> Journal:
        """What one process would open."""
        journal = Journal(self.home(), clock=self.clock, retry_s=retry_s)
        self._journals.append(journal)
        return journal

    def edit_entry(self, seq: int, **fields: Any) -> None:
        """Change an entry behind the journal's back."""
        if self.kind == "memory":
            for entries in self.rows.entries.values():
                entries[:] = [replace(e, **fields) if e.seq == seq else e for e in entries]
            return
        self.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == seq).values(fields))

    def remove_entry(self, seq: int) -> None:
        """Remove an entry behind the journal's back."""
        if self.kind == "memory":
            for entries in self.rows.entries.values():
                entries[:] = [e for e in entries if e.seq != seq]
            return
        self.sql("DELETE FROM journal_entries WHERE seq = :row", row=seq)

    def edit_document(self, name: str, text: str) -> None:
        """Change a document behind the journal's back."""
        if self.kind == "memory":
            for documents in self.rows.documents.values():
                documents[name] = text
            return
        self.sql(
            "UPDATE journal_documents SET body_text = :body WHERE name = :name",
            body=text,
            name=name,
        )

    def sql(self, statement: str, **parameters: Any) -> Any:
        """Run one statement as the database's operator."""
        return self.execute(sa.text(statement), parameters)

    def execute(self, statement: sa.Executable, parameters: dict[str, Any] | None = None) -> Any:
        """Run one statement of SQLAlchemy's as the database's operator."""
        url = self.url.replace("postgresql://", "postgresql+psycopg://")
        engine = sa.create_engine(url if self.kind == "postgres" else f"sqlite:///{self.url}")
        try:
            with engine.begin() as connection:
                result = connection.execute(statement, parameters or {})
                return result.fetchall() if result.returns_rows else None
        finally:
            engine.dispose()

    def close(self) -> None:
        for journal in self._journals:
            journal.close()


def _engine() -> sa.Engine:
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip("no PostgreSQL: set TEST_DATABASE_URL")
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


@contextmanager
def _schema() -> Iterator[str]:
    engine, schema = _engine(), f"journal_{uuid.uuid4().hex[:12]}"
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {schema}"))
    url = os.environ["TEST_DATABASE_URL"]
    yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@pytest.fixture(scope="session")
def _shared_schema() -> Iterator[str]:
    with _schema() as url:
        home = PostgresHome(url)
        home.row("any")  # makes the tables
        home.disconnect()
        yield url


@pytest.fixture
def postgres_url(_shared_schema: str) -> str:
    """A schema with a journal's tables, emptied for every test."""
    place = Place("postgres", _shared_schema)
    for table in (ENTRIES, DOCUMENTS, STREAMS):
        place.execute(sa.delete(table))
    return _shared_schema


@pytest.fixture
def empty_schema() -> Iterator[str]:
    """A schema of the test's own without any table, dropped afterwards."""
    with _schema() as url:
        yield url


def _place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if kind == "postgres":
        return Place(kind, request.getfixturevalue("postgres_url"))
    return Place(kind, str(tmp_path / "journal.db"))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Every home in turn."""
    place = _place(request.param, request, tmp_path)
    yield place
    place.close()


@pytest.fixture(params=["sqlite", "postgres"])
def durable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Every home that several processes can open."""
    place = _place(request.param, request, tmp_path)
    yield place
    place.close()


@pytest.fixture
def sqlite_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A SQLite file."""
    place = _place("sqlite", request, tmp_path)
    yield place
    place.close()


@pytest.fixture
def postgres_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A PostgreSQL schema."""
    place = _place("postgres", request, tmp_path)
    yield place
    place.close()
