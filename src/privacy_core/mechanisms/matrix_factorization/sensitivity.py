"""How far one unit moves C G, given in which steps it may take part.

A unit that takes part in the steps pi with vectors of norm at most 1 moves C G by a vector of
squared norm at most sum over i, j in pi of |X_ij|, with X = C^T C; where X has no negative entry
the bound is reached by vectors that all point the same way.
"""

from __future__ import annotations

import math

import numpy as np

from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.matrix_factorization.toeplitz import Floats, require_count


def fixed_pattern_sensitivity(column_n: Floats, *, separation: int) -> float:
    """Sensitivity of the Toeplitz matrix with this first column over n steps; exact.

    Units take part in at most every `separation`-th step, hence at most ceil(n / separation) times.
    The worst is the unit that begins at the first step and never waits longer.

    Args:
        column_n: first column, n entries, none negative, none above the one before it.
        separation: >= 1; steps t and t + separation may both hold a unit, nearer ones may not.

    Raises:
        InvalidParameter: the column rises or has a negative entry; use `sensitivity_bound`.

    Source: Kalinin and Lampert 2024 (arXiv:2405.13763), theorem 2.
    """
    require_count("separation", separation)
    if not bool(np.all(column_n >= 0) and np.all(np.diff(column_n) <= 0)):
        raise InvalidParameter(
            "column", found="entries that rise or are negative", expected="0 <= c_k+1 <= c_k"
        )
    moved_n = np.zeros(column_n.size)
    for start in range(0, column_n.size, separation):
        moved_n[start:] += column_n[: column_n.size - start]
    return float(np.linalg.norm(moved_n))


def sensitivity_bound(matrix_nn: Floats, *, separation: int, participations: int) -> float:
    """Upper bound on the sensitivity of any matrix under separated participation.

    It is exact where columns at least `separation` apart do not overlap (bands). Elsewhere each row
    of |C^T C| is summed over its own worst pattern, and those sums over theirs.

    Args:
        matrix_nn: C, square.
        separation: a unit's steps are at least this far apart, >= 1.
        participations: a unit takes part at most so often, >= 1.

    Source: Choquette-Choo et al. 2023 (arXiv:2306.08153), algorithm 3 and theorem 2.
    """
    gram_nn = np.abs(matrix_nn.T @ matrix_nn)
    apart = np.abs(np.subtract.outer(np.arange(len(gram_nn)), np.arange(len(gram_nn))))
    rows_n = np.array(
        [
            # Beside step i itself, the row counts only steps that may share a pattern with it.
            gram_nn[i, i]
            + separated_maximum(
                np.where(apart[i] >= separation, gram_nn[i], 0.0),
                separation=separation,
                participations=participations - 1,
            )
            for i in range(len(gram_nn))
        ]
    )
    return math.sqrt(
        separated_maximum(rows_n, separation=separation, participations=participations)
    )


def separated_maximum(values_n: Floats, *, separation: int, participations: int) -> float:
    """The largest sum of at most so many entries, taken at least `separation` apart; exact.

    The dynamic programme F[i, k] = max(x_i + F[i + separation, k - 1], F[i + 1, k]), backwards.

    Source: Choquette-Choo et al. 2023 (arXiv:2306.08153), algorithm 3 (VecSens).
    """
    require_count("separation", separation)
    best_n = np.zeros(values_n.size + separation)
    for _ in range(participations):
        taken_n = values_n + best_n[separation:]
        kept_n = np.maximum(np.maximum.accumulate(taken_n[::-1])[::-1], 0.0)
        best_n = np.concatenate([kept_n, np.zeros(separation)])
    return float(best_n[0]) if values_n.size else 0.0
