"""The ceilings of the research notes, cell by cell, by the protocol that they were made with.

A cell of the notes is a figure without an error and without the number of audits behind it. What
can be tested is that it is a figure of that protocol: it lies where 99 of 100 single audits do.
Seeds are fixed. A mean of many audits would lie far closer; `benchmarks/audit_bounds.py --notes`
prints ours.
"""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.published_audits import IDEAL, WHITE_BOX, Cell, audits

ROUNDED = 0.005
"""The notes have two digits."""


def _name(cell: Cell) -> str:
    score = "" if cell.run is None else f"-q{cell.run.sample_rate:g}"
    score += "-sum" if cell.run is not None and not cell.run.likelihood_ratio else ""
    return f"{cell.column}-{cell.epsilon:g}-{cell.canaries}{score}"


def _params(cells: tuple[Cell, ...]) -> list[object]:
    """Those that take longer than a moment are slow."""
    return [
        pytest.param(
            cell,
            id=_name(cell),
            marks=[pytest.mark.slow]
            if (cell.canaries > 1000 and cell.column == "one_run")
            or (cell.column == "f_dp" and cell.run is not None)
            else [],
        )
        for cell in cells
    ]


@pytest.mark.parametrize("cell", _params((*IDEAL, *WHITE_BOX)))
def test_a_figure_of_the_notes_is_one_of_its_protocol(cell: Cell) -> None:
    found = audits(cell, 40)
    low, high = np.quantile(found, [0.005, 0.995])

    assert low - ROUNDED <= cell.stated <= high + ROUNDED


@pytest.mark.parametrize("column", ["one_run", "clopper_pearson"])
def test_a_figure_of_another_claim_would_be_noticed(column: str) -> None:
    """The test above can fail: what belongs to epsilon 8 is not taken for epsilon 4."""
    four, eight = (
        next(c for c in IDEAL if (c.epsilon, c.canaries, c.column) == (epsilon, 1000, column))
        for epsilon in (4.0, 8.0)
    )
    found = audits(four, 40)

    assert eight.stated > np.quantile(found, 0.975) + ROUNDED
