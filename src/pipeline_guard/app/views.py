"""What the server reads: the state that a guard keeps in its file, and how old it is.

The server is a process of its own. A guard that hangs or has died cannot answer for itself, and is
then exactly what `/health` has to report.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pipeline_guard.errors import MonitoringError
from pipeline_guard.guard.codec import document_of, to_incident
from pipeline_guard.guard.published import SILENT_AFTER_S, newest_status
from pipeline_guard.guard.records import connect, events_of
from pipeline_guard.guard.status import UNKNOWN, alert_of
from pipeline_guard.model import Alert
from privacy_runtime.world import Clock

_BAD: Final = frozenset({"critical", "failed"})


class StateView:
    """Reads the state file of a guard that runs elsewhere.

    Args:
        path: the file; it may not be there yet.
        clock: says how old the newest status is.
        silent_after_s: how old it may be.
    """

    def __init__(self, path: Path, clock: Clock, *, silent_after_s: float = SILENT_AFTER_S) -> None:
        self._path, self._clock, self._silent_after_s = path, clock, silent_after_s

    def status(self) -> dict[str, Any]:
        """The newest status, with `age_seconds` and `is_silent`.

        Raises:
            MonitoringError: there is no state, or it cannot be read.
        """
        return newest_status(self._path, self._clock, silent_after_s=self._silent_after_s)

    def health(self) -> tuple[dict[str, Any], bool]:
        """The documented health, and whether it is to be answered with 503.

        A guard that is silent, or was never heard of, is `critical`: nobody knows.
        """
        now = self._clock.now().isoformat().replace("+00:00", "Z")
        try:
            status = self.status()
        except MonitoringError as error:
            said = {"status": "critical", "timestamp": now, "components": {}, "detail": str(error)}
            return said, True
        components = {name: each["health"] for name, each in status["components"].items()}
        health = {
            "status": status["overall_health"],
            "timestamp": now,
            "components": components,
        }
        if status["is_silent"]:
            health["status"] = "critical"
            health["detail"] = f"the guard was last heard of {status['age_seconds']:.0f} s ago"
        return health, health["status"] in _BAD or health["status"] == UNKNOWN

    def alerts(self, *, with_resolved: bool = False, newest: int = 200) -> list[dict[str, Any]]:
        """The standing alerts, oldest first; with those that are over, the newest so many.

        Raises:
            MonitoringError: there is no state, or it cannot be read.
        """
        roots = {each["id"]: each.get("root") for each in self.status()["alerts"]}
        connection = self._open()
        where = "" if with_resolved else "WHERE is_standing"
        try:
            rows = connection.execute(
                f"SELECT body FROM incidents {where} ORDER BY rowid DESC LIMIT ?",  # noqa: S608
                (newest,),
            ).fetchall()
            incidents = [to_incident(document_of(body)) for (body,) in rows][::-1]
            return [
                alert_document(
                    alert_of(
                        each,
                        root=roots.get(each.id),
                        events=events_of(connection, incident=each.id),
                    )
                )
                for each in incidents
            ]
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        finally:
            connection.close()

    def events(self, after: int, most: int = 500) -> list[tuple[int, dict[str, Any]]]:
        """Events that came after this one, oldest first, each with its number."""
        connection = self._open()
        try:
            rows = connection.execute(
                "SELECT seq, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, most)
            ).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        finally:
            connection.close()
        return [(int(seq), json.loads(body)) for seq, body in rows]

    def newest_event(self) -> int:
        """The number of the newest event; 0 before the first."""
        connection = self._open()
        try:
            (newest,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        finally:
            connection.close()
        return int(newest)

    def counts(self) -> Mapping[str, int]:
        """How often each kind of event happened since the state began."""
        connection = self._open()
        try:
            rows = connection.execute(
                "SELECT json_extract(body, '$.kind'), count(*) FROM events GROUP BY 1"
            ).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        finally:
            connection.close()
        return {str(kind): int(count) for kind, count in rows}

    def _open(self) -> sqlite3.Connection:
        return connect(self._path, must_exist=True)

    def _unreadable(self, error: sqlite3.Error) -> MonitoringError:
        return MonitoringError(f"the state of the guard cannot be read: {error}")


def alert_document(alert: Alert) -> dict[str, Any]:
    """An alert as JSON values: its documented fields, and the rest."""
    document = asdict(alert)
    document["component"] = alert.component.value
    document["severity"] = alert.severity.value
    document["fault"] = alert.fault.value
    for name in ("timestamp", "since", "last_seen"):
        at = document[name]
        document[name] = at.isoformat().replace("+00:00", "Z") if at is not None else None
    return document
