"""What has arrived and is not sealed yet: one row a batch, its points as the bytes of doubles.

A row of a table for each point costs more to write, to read back and to delete than everything
else that is done with the point together; a batch is written, read and deleted as a whole. There is
no index, so a read passes over all of it: a few milliseconds for the 200,000 points that may wait.

Three doubles a point: series, microseconds since 1970, value. Whole numbers below 2^53 are exact
in a double, which holds for series and for times until the year 2255. NaN stands for "no value".
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]

POINT_BYTES: Final = 24
_INSERT: Final = "INSERT INTO arrivals (points) VALUES (?)"


def add(
    connection: sqlite3.Connection,
    series: Sequence[int],
    times_us: Sequence[int],
    values: Sequence[float],
) -> None:
    """Write one batch down, in its order. In the caller's transaction; numpy is not loaded."""
    points = array("d", bytes(POINT_BYTES * len(values)))
    points[0::3] = array("d", series)
    points[1::3] = array("d", times_us)
    points[2::3] = array("d", values)
    if sys.byteorder == "big":
        points.byteswap()
    connection.execute(_INSERT, (points.tobytes(),))


def count(connection: sqlite3.Connection) -> int:
    """Return how many points wait."""
    row = connection.execute("SELECT ifnull(sum(length(points)), 0) FROM arrivals").fetchone()
    return int(row[0]) // POINT_BYTES


def table(connection: sqlite3.Connection) -> Floats:
    """Return all that wait, in order of arrival: series, time and value in the columns."""
    rows = connection.execute("SELECT points FROM arrivals ORDER BY id")
    return _table([points for (points,) in rows])


def oldest(connection: sqlite3.Connection, points_max: int) -> tuple[int, Floats]:
    """Return whole batches, the oldest first, until they have so many points; and the last's id.

    The id is 0 where nothing waits.
    """
    newest, held, parts = 0, 0, []
    for number, points in connection.execute("SELECT id, points FROM arrivals ORDER BY id"):
        newest, held = number, held + len(points) // POINT_BYTES
        parts.append(points)
        if held >= points_max:
            break
    return newest, _table(parts)


def remove(connection: sqlite3.Connection, newest: int) -> None:
    """Remove the batches up to this id: they are sealed."""
    connection.execute("DELETE FROM arrivals WHERE id <= ?", (newest,))


def _table(parts: Sequence[bytes]) -> Floats:
    import numpy as np  # noqa: PLC0415  numpy loads with a seal or a read

    return np.frombuffer(b"".join(parts), "<f8").reshape(-1, 3)
