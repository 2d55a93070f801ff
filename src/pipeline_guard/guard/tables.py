"""The tables of the guard's state."""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, incident TEXT NOT NULL,
    body TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL UNIQUE
);
CREATE INDEX events_by_incident ON events (incident) WHERE incident <> '';
CREATE TABLE incidents (
    id TEXT PRIMARY KEY, is_standing INTEGER NOT NULL, written_s REAL NOT NULL, body TEXT NOT NULL
);
CREATE TABLE attempts (id TEXT PRIMARY KEY, started_s REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE verdicts (
    recovery TEXT NOT NULL, incident TEXT NOT NULL, noted_s REAL NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (recovery, incident)
);
CREATE TABLE states (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE readings (
    check_id TEXT NOT NULL, verdict TEXT NOT NULL, fault TEXT, summary TEXT NOT NULL,
    first_s REAL NOT NULL, last_s REAL NOT NULL, count INTEGER NOT NULL
);
CREATE INDEX readings_by_time ON readings (last_s);
CREATE TABLE promotions (
    recovery TEXT PRIMARY KEY, mode TEXT NOT NULL, at TEXT NOT NULL, by TEXT NOT NULL
);
CREATE TABLE silences (
    id TEXT PRIMARY KEY, scope TEXT NOT NULL, until TEXT NOT NULL, by TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE status (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL)
"""
