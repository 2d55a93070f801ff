"""The tables of jobs, and how an older database becomes one of this version.

Instants are microseconds since 1970, so that both databases compare them alike. Bodies are JSON
text: nothing is searched in them. Migrations are numbered, only ever appended, and run in one
transaction under a lock, as those of identity.

==================  ===========================================================================
table               holds
==================  ===========================================================================
`jobs`              one row a job: what was asked, where it stands, whose lease it is
`job_events`        its story; `seq` counts within a job, under the lock of the job's row
`job_turns`         when each organisation was last given a worker
`job_workers`       who is there, and since when nothing was heard of them
`job_outbox`        state changes on their way to the journal
==================  ===========================================================================
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from privacy_finetuner.jobs.errors import JobStoreUnavailable
from privacy_runtime.database import Tables, creation

_TEXT: Final = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
_COUNT: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLES: Final = sa.MetaData()


def _text(name: str, *, null: bool = False, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=null, primary_key=key)


def _count(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, _COUNT, nullable=null)


def _number(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Float(53), nullable=null)


SCHEMA: Final = sa.Table("jobs_schema", TABLES, sa.Column("version", sa.Integer, nullable=False))
JOBS: Final = sa.Table(
    "jobs",
    TABLES,
    sa.Column("number", _COUNT, primary_key=True, autoincrement=True),  # order of submission
    sa.Column("id", _TEXT, nullable=False, unique=True),
    _text("tenant"),
    _text("owner"),
    _text("key", null=True),  # idempotency
    _text("digest"),  # of everything that was submitted
    _text("name"),
    _text("spec"),
    _text("state"),
    sa.Column("priority", sa.Integer, nullable=False),
    _count("created_us"),
    _count("updated_us"),
    _count("started_us", null=True),
    _count("finished_us", null=True),
    _count("not_before_us"),  # waiting for another attempt
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),  # accidents since a checkpoint
    _text("last_code", null=True),  # of the newest accident, with its sentence
    _text("last_error", null=True),
    _text("ending", null=True),  # decided, and the ledger not settled yet
    _text("worker", null=True),
    _count("fence"),  # grows with each claim: who holds an older one cannot write
    _count("lease_until_us", null=True),
    _count("cancel_us", null=True),
    _text("cancel_by", null=True),
    _count("events"),  # the newest `seq` of this job
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    _number("epsilon"),
    _number("delta"),
    _number("epsilon_planned"),
    _text("metrics"),
    _number("eta_s", null=True),
    _text("error_code", null=True),
    _text("error", null=True),
    _text("origin", null=True),  # identifiers and span of the request that submitted it
    _text("place", null=True),  # the folder of runs that holds its run: see `folder.place_of`
    sa.UniqueConstraint("tenant", "owner", "key", name="jobs_key"),
    sa.Index("jobs_by_state", "state", "tenant", "priority", "number"),
    sa.Index("jobs_by_tenant", "tenant", "number"),
    sa.Index("jobs_by_lease", "lease_until_us"),
)
EVENTS: Final = sa.Table(
    "job_events",
    TABLES,
    sa.Column("job", _TEXT, sa.ForeignKey(JOBS.c.id), primary_key=True),
    sa.Column("seq", _COUNT, primary_key=True, autoincrement=False),
    _count("at_us"),
    _text("kind"),
    _text("body"),
)
TURNS: Final = sa.Table("job_turns", TABLES, _text("tenant", key=True), _count("turn"))
WORKERS: Final = sa.Table(
    "job_workers",
    TABLES,
    _text("id", key=True),
    _text("host"),
    _count("process"),
    _count("started_us"),
    _count("seen_us"),
    _text("job", null=True),
)
OUTBOX: Final = sa.Table(
    "job_outbox",
    TABLES,
    sa.Column("seq", _COUNT, primary_key=True, autoincrement=True),
    sa.Column("id", _TEXT, nullable=False, unique=True),
    _text("type"),
    _text("body"),
)


def _with_origin(connection: sa.Connection) -> None:
    """Version 2: jobs know the request that submitted them. Version 1 is made with it already."""
    _add(connection, JOBS.c.origin)


def _with_place(connection: sa.Connection) -> None:
    """Version 3: jobs know which folder of runs holds their run; nobody knows it of older ones."""
    _add(connection, JOBS.c.place)


def _add(connection: sa.Connection, wanted: sa.Column[str]) -> None:
    """Add a column of the jobs, if a newer first migration has not made it already."""
    known = {column["name"] for column in sa.inspect(connection).get_columns(JOBS.name)}
    if wanted.name not in known:
        column = CreateColumn(wanted).compile(dialect=connection.dialect)
        connection.execute(sa.text(f"ALTER TABLE {JOBS.name} ADD COLUMN {column}"))


def _refused(store: str, reason: str) -> JobStoreUnavailable:
    return JobStoreUnavailable(store, reason=reason)


QUEUE: Final = Tables(
    schema=SCHEMA,
    migrations=(creation(TABLES, SCHEMA), _with_origin, _with_place),
    lock=0x6A6F6273,  # "jobs"
    refused=_refused,
    reads_alone=True,
)
