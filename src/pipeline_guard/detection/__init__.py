"""Finds what is unusual in a series, and in what way two samples differ. It only informs.

`watch` scores a stream point by point; `baselines` keeps what is usual for an hour of the week;
`drift` compares samples. Numpy and the standard library only; no clock, no chance, no files.
"""

from __future__ import annotations

from pipeline_guard.detection.stream import (
    PROFILES,
    Outcome,
    Profile,
    SeriesWatch,
    State,
    restored,
    watch,
)

__all__ = ["PROFILES", "Outcome", "Profile", "SeriesWatch", "State", "restored", "watch"]
