"""What the router checks of the sums that a node sends."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from privacy_core.decoding.differences import Sums
from privacy_core.decoding.terms import GRID, SLOTS_MAX
from privacy_core.errors import InvalidParameter


def bounded(
    sums: npt.NDArray[Any],  # whole numbers [K]
    slots_here: int,
    candidates: int | None = None,
) -> Sums:
    """The sums, if `slots_here` slots can have made them.

    A node that sends more than its slots allow would drown the other nodes' records; it cannot
    make the answer cost *them* more, since their own sums stay as they are.

    Args:
        sums: of one node at one position, in steps of C / GRID.
        slots_here: of this node, empty ones included.
        candidates: K, where it is known.

    Raises:
        InvalidParameter: a sum is larger than slots_here * GRID, there are not K of them, or they
            are no whole numbers. The error carries no sum: they are private.
    """
    if not 0 <= slots_here <= SLOTS_MAX:
        raise InvalidParameter("slots_here", found=slots_here, expected=f"0 to {SLOTS_MAX}")
    if sums.ndim != 1 or sums.dtype.kind != "i" or not len(sums):
        raise InvalidParameter(
            "sums",
            found=f"shape {sums.shape} of {sums.dtype}",
            expected="a vector of whole numbers, one for each candidate",
        )
    if candidates is not None and len(sums) != candidates:
        raise InvalidParameter("sums", found=len(sums), expected=f"{candidates} numbers")
    most = slots_here * GRID
    # Both ends apart: the absolute value of the least int32 is negative.
    if int(sums.max()) > most or int(sums.min()) < -most:
        raise InvalidParameter(
            "sums",
            found="one beyond the bound",
            expected=f"at most {most} in size: {slots_here} slots; nothing was drawn",
        )
    return sums.astype(np.int32, copy=False)


def read_sums(payload: bytes, slots_here: int, candidates: int) -> Sums:
    """Sums from the wire: little-endian int32.

    Raises:
        InvalidParameter: as `bounded`, or the payload is not `candidates` numbers long.
    """
    if len(payload) != 4 * candidates:
        raise InvalidParameter(
            "sums", found=f"{len(payload)} bytes", expected=f"{4 * candidates} bytes"
        )
    return bounded(np.frombuffer(payload, dtype="<i4"), slots_here, candidates)


def write_sums(sums: Sums) -> bytes:
    """Sums for the wire: little-endian int32."""
    return sums.astype("<i4", copy=False).tobytes()
