"""What the guard remembers, in one SQLite file: incidents, runs, verdicts, and a chain of events.

Guarantee: what `write` was told is on the disk when its future is done, all of it or nothing
(`synchronous=FULL`), also after `kill -9` and a power cut. A recovery is written down before it is
begun. Every event carries the hash of the one before, so that one that is changed or taken out of
the middle is found (`broken_at`).

Writing happens on one thread of its own: a slow disk slows what is remembered, not what is looked
at. Other processes (`status`, `silence`, `promote`) read and write the same file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from pipeline_guard.config import Mode
from pipeline_guard.errors import MonitoringError
from pipeline_guard.guard import codec
from pipeline_guard.guard.events import Event, Happening
from pipeline_guard.guard.saved import Saved
from pipeline_guard.guard.tables import SCHEMA, VERSION

T = TypeVar("T")
_GENESIS: Final = "0" * 64
_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Nobody is paged about a scope until then. Recoveries run all the same.

    Attributes:
        id: of this silence.
        scope: an incident, a check, a component, or `*`.
        until: when it ends.
        by, reason: who wants it, and why.
    """

    id: str
    scope: str
    until: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Looks of a check in a row that found the same.

    Attributes:
        check: which; reading: what they found, without its evidence.
        first_s, last_s: of the first and the last look, in the guard's seconds.
        count: how many.
    """

    check: str
    verdict: str
    fault: str | None
    summary: str
    first_s: float
    last_s: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is written at once."""

    events: Sequence[Event] = ()
    saved: Saved = field(default_factory=Saved)
    stretches: Sequence[Stretch] = ()
    status: str | None = None
    now_s: float = 0.0


class Records:
    """The file, opened for the one guard that writes incidents.

    Args:
        path: made where it is not there.

    Raises:
        MonitoringError: another guard has it open, it is not such a file, or the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _locked(path)
        try:
            self._connection = connect(path)
        except BaseException:
            os.close(self._lock)
            raise
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._work, name="guard-records", daemon=True)
        self._thread.start()
        self._seen_version = -1

    def load(self) -> Future[tuple[Saved, float]]:
        """What is remembered, and the newest of the guard's seconds that it knows."""
        return self._call(self._load)

    def write(self, entry: Entry) -> Future[None]:
        """Write everything, or nothing."""
        return self._call(lambda: self._write(entry))

    def outside(self) -> Future[tuple[dict[str, Mode], list[Silence]] | None]:
        """Promotions and silences, where other processes changed the file; `None`: they did not."""
        return self._call(self._outside)

    def prune(self, before_s: float) -> Future[None]:
        """Drop readings, closed incidents and runs from before. Events stay."""
        return self._call(lambda: self._prune(before_s))

    def close(self) -> None:
        """Finish what was told, and let go of the file."""
        self._jobs.put(None)
        self._thread.join(_WAIT_S)
        if not self._thread.is_alive():
            self._connection.close()
        os.close(self._lock)

    def _call(self, job: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, future = item
            # What was told is done, also for somebody who was cancelled and hears no answer.
            is_awaited = future.set_running_or_notify_cancel()
            try:
                found = job()
            except Exception as error:  # noqa: BLE001  # whoever waits for the future gets it
                with suppress(sqlite3.Error):
                    self._connection.rollback()
                if is_awaited:
                    future.set_exception(_refused(self.path, error))
            else:
                if is_awaited:
                    future.set_result(found)

    def _load(self) -> tuple[Saved, float]:
        saved = Saved()
        read = self._connection.execute
        for (body,) in read(
            "SELECT body FROM incidents WHERE is_standing OR rowid IN "
            "(SELECT rowid FROM incidents WHERE NOT is_standing ORDER BY rowid DESC LIMIT 200)"
        ):
            incident = codec.to_incident(codec.document_of(body))
            saved.incidents[incident.id] = incident
        for (body,) in read("SELECT body FROM attempts"):
            attempt = codec.to_attempt(codec.document_of(body))
            saved.attempts[attempt.id] = attempt
        for (body,) in read("SELECT body FROM verdicts"):
            verdict = codec.to_verdict(codec.document_of(body))
            saved.verdicts[verdict.recovery, verdict.incident] = verdict
        for name, body in read("SELECT id, body FROM states"):
            saved.states[name] = codec.to_state(codec.document_of(body))
        saved.promoted = _promotions(self._connection)
        (last_s,) = read("SELECT coalesce(max(at_s), 0) FROM events").fetchone()
        return saved, float(last_s)

    def _write(self, entry: Entry) -> None:
        with transaction(self._connection):
            run = self._connection.execute
            append(self._connection, entry.events, entry.now_s)
            for incident in entry.saved.incidents.values():
                run(
                    "INSERT INTO incidents VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                    "is_standing = excluded.is_standing, body = excluded.body",
                    (
                        incident.id,
                        incident.is_standing,
                        entry.now_s,
                        codec.text_of(codec.from_incident(incident)),
                    ),
                )
            for attempt in entry.saved.attempts.values():
                body = codec.text_of(codec.from_attempt(attempt))
                run(
                    "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)",
                    (attempt.id, attempt.started_s, body),
                )
            for verdict in entry.saved.verdicts.values():
                body = codec.text_of(codec.from_verdict(verdict))
                row = (verdict.recovery, verdict.incident, verdict.noted_s, body)
                run("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", row)
            for name, state in entry.saved.states.items():
                body = codec.text_of(codec.from_state(state))
                run("INSERT OR REPLACE INTO states VALUES (?, ?)", (name, body))
            self._connection.executemany(
                "INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (s.check, s.verdict, s.fault, s.summary, s.first_s, s.last_s, s.count)
                    for s in entry.stretches
                ],
            )
            if entry.status is not None:
                run("INSERT OR REPLACE INTO status VALUES (1, ?)", (entry.status,))

    def _outside(self) -> tuple[dict[str, Mode], list[Silence]] | None:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._seen_version:
            return None
        self._seen_version = version
        return _promotions(self._connection), silences(self._connection)

    def _prune(self, before_s: float) -> None:
        with transaction(self._connection):
            run = self._connection.execute
            run("DELETE FROM readings WHERE last_s < ?", (before_s,))
            run("DELETE FROM incidents WHERE NOT is_standing AND written_s < ?", (before_s,))
            run("DELETE FROM attempts WHERE started_s < ?", (before_s,))
            run("DELETE FROM verdicts WHERE noted_s < ?", (before_s,))


def connect(path: Path, *, must_exist: bool = False) -> sqlite3.Connection:
    """Open the file, and make it where it is not there.

    Raises:
        MonitoringError: it is not such a file, or the disk refuses.
    """
    if must_exist and not path.exists():
        raise MonitoringError(
            f"{path} is not there; expected the state of a guard, which `pipeline-guard run` makes",
            {"parameter": "store.path", "value": str(path), "constraint": "an existing file"},
        )
    try:
        connection = sqlite3.connect(
            path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            version = _made(connection)
        if version != VERSION:
            connection.close()
            raise MonitoringError(
                f"{path} has version {version}, expected {VERSION}; nothing was changed",
                {"parameter": "store.path", "value": version, "constraint": f"is {VERSION}"},
            )
    except sqlite3.Error as error:
        raise _refused(path, error) from error
    return connection


def _made(connection: sqlite3.Connection) -> int:
    """Make the tables, unless another process was faster; the version that is there now."""
    with transaction(connection):
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={VERSION}")
            version = VERSION
    return int(version)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.execute("COMMIT")


def append(connection: sqlite3.Connection, events: Iterable[Event], now_s: float) -> None:
    """Add events to the chain, inside a transaction."""
    row = connection.execute("SELECT hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
    before = row[0] if row else _GENESIS
    for event in events:
        body = codec.text_of(
            {
                "kind": event.kind,
                "at": event.at,
                "text": event.text,
                "incident": event.incident,
                "component": event.component,
                "recovery": event.recovery,
                "data": event.data,
            }
        )
        digest = hashlib.sha256(f"{before}\n{body}".encode()).hexdigest()
        connection.execute(
            "INSERT INTO events (at_s, incident, body, prev, hash) VALUES (?, ?, ?, ?, ?)",
            (now_s, event.incident, body, before, digest),
        )
        before = digest


def broken_at(connection: sqlite3.Connection) -> int | None:
    """The first event that is not what was written, or does not follow; `None`: all are."""
    before, expected = _GENESIS, 1
    rows = connection.execute("SELECT seq, body, prev, hash FROM events ORDER BY seq")
    for seq, body, prev, digest in rows:
        found = hashlib.sha256(f"{before}\n{body}".encode()).hexdigest()
        if seq != expected or prev != before or digest != found:
            return int(seq)
        before, expected = digest, expected + 1
    return None


def events_of(
    connection: sqlite3.Connection, *, incident: str | None = None, newest: int = 1_000
) -> list[Event]:
    """The newest events, oldest first; of one incident where it is named."""
    where, arguments = ("WHERE incident = ?", [incident]) if incident else ("", [])
    rows = connection.execute(
        f"SELECT body FROM events {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608  # ours
        [*arguments, newest],
    )
    found = []
    for (body,) in rows:
        document = codec.document_of(body)
        document["kind"] = Happening(document["kind"])
        document["at"] = datetime.fromisoformat(document["at"])
        found.append(Event(**document))
    return found[::-1]


def silences(connection: sqlite3.Connection) -> list[Silence]:
    """All that were made; also those that ended."""
    rows = connection.execute("SELECT id, scope, until, by, reason FROM silences ORDER BY rowid")
    return [
        Silence(id=i, scope=s, until=datetime.fromisoformat(u), by=b, reason=r)
        for i, s, u, b, r in rows
    ]


def _promotions(connection: sqlite3.Connection) -> dict[str, Mode]:
    rows = connection.execute("SELECT recovery, mode FROM promotions")
    return {name: Mode(mode) for name, mode in rows}


def _locked(path: Path) -> int:
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise MonitoringError(
            f"another guard keeps its state in {path}; this one was not started. One guard a file",
            {"parameter": "store.path", "value": str(path), "constraint": "not used elsewhere"},
        ) from error
    return descriptor


def _refused(path: Path, error: Exception) -> MonitoringError:
    if isinstance(error, MonitoringError):
        return error
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return MonitoringError(
        f"the guard's state {path} cannot be read or written: {reason}; nothing was changed in it",
        {"parameter": "store.path", "value": str(path), "constraint": "readable and writable"},
    )
