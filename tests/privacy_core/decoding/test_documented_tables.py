"""The tables of `docs/private_decoding.md` that follow from formulas, computed anew."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from privacy_core.decoding import epsilon_of, least_flag_epsilon, least_label_rho, rho_of
from privacy_core.decoding.terms import Adjacency

PAGE = Path(__file__).parents[3] / "docs" / "private_decoding.md"
DELTA = 1e-6


def table(first_cells: str) -> list[list[str]]:
    """Header and rows of the table whose header starts so."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(first_cells))
    rows = []
    for line in [lines[start], *lines[start + 2 :]]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_clips_that_a_budget_buys() -> None:
    header, *rows = table("| ε | tokens | s = 8")
    slots = [int(cell.removeprefix("s = ")) for cell in header[2:]]

    assert len(rows) == 7
    for epsilon, tokens, *clips in rows:
        reach = math.sqrt(2 * rho_of(float(epsilon), DELTA) / int(tokens))
        assert [float(c) for c in clips] == pytest.approx([s * reach / 2 for s in slots], rel=0.05)


def test_the_least_epsilon_of_votes() -> None:
    header, flags, replace, null = table("| slots | 8 | 16")
    slots = [int(cell) for cell in header[1:]]

    assert [float(c) for c in flags[1:]] == pytest.approx(
        [least_flag_epsilon(s, DELTA) for s in slots], rel=0.05
    )
    adjacency: Adjacency
    for row, adjacency in ((replace, "replace"), (null, "null")):
        expected = [
            epsilon_of(least_label_rho(s, options=3, adjacency=adjacency), DELTA) for s in slots
        ]
        assert [float(c) for c in row[1:]] == pytest.approx(expected, rel=0.05)
