"""What a running guard last said of itself, for the processes that show it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pipeline_guard.errors import MonitoringError
from pipeline_guard.guard.codec import document_of
from pipeline_guard.guard.records import connect
from privacy_runtime.world import Clock

SILENT_AFTER_S: Final = 60.0
"""A guard writes its status at least every ten seconds; after so long it counts as silent."""


def newest_status(
    path: Path, clock: Clock, *, silent_after_s: float = SILENT_AFTER_S
) -> dict[str, Any]:
    """The newest status in a guard's state file, with `age_seconds` and `is_silent`.

    Raises:
        MonitoringError: there is no state, it cannot be read, or nothing was written yet.
    """
    with closing(connect(path, must_exist=True)) as connection:
        try:
            row = connection.execute("SELECT body FROM status WHERE id = 1").fetchone()
        except sqlite3.Error as error:
            raise MonitoringError(f"the state of the guard cannot be read: {error}") from error
    if row is None:
        raise MonitoringError(f"{path} holds no status yet; the guard has not begun to look")
    status: dict[str, Any] = document_of(row[0])
    age_s = (clock.now() - datetime.fromisoformat(status["at"])).total_seconds()
    status["age_seconds"] = round(max(age_s, 0.0), 3)
    status["is_silent"] = age_s > silent_after_s or not status["is_monitoring"]
    return status
