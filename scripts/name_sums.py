"""The sum of several trained fields of the same features, as one field of the same cost.

A perceptron and a likelihood err in different places; the sum of their scores is the product of
their fields (Hinton 1999, "Products of experts"), and being linear it is again one field.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from privacy_core.redaction.tagging import Weights
from privacy_core.redaction.word_features import OFFSETS


def summed(parts: Sequence[tuple[Weights, float]], smallest: float = 0.0) -> Weights:
    """Weights whose scores are the sum of those of the parts, each times its factor.

    Args:
        parts: models with the same labels, and their factors.
        smallest: rows in which no weight is as large are left out of the sum.
    """
    first = parts[0][0]
    labels = len(first.labels)
    rows: dict[tuple[str, int], np.ndarray] = {}
    tables: list[dict[int, np.ndarray]] = [{} for _ in first.tables]
    transitions = np.zeros((labels, labels))
    for weights, factor in parts:
        if weights.labels != first.labels:
            raise ValueError("the fields have different labels")
        transitions += factor * weights.transitions
        for name, place in weights.attributes.items():
            for k in range(len(OFFSETS)):
                if row := int(weights.places[place, k]):
                    _add(rows, (name, k), factor * weights.rows[row])
        for table, (codes, values) in zip(tables, weights.tables, strict=True):
            for code, value in zip(codes.tolist(), values, strict=True):
                _add(table, code, factor * value)
    rows = {key: row for key, row in rows.items() if np.abs(row).max() >= smallest}
    names = sorted({name for name, _ in rows})
    attributes = {name: k for k, name in enumerate(names)}
    places = np.zeros((len(names), len(OFFSETS)), dtype=np.int32)
    for place, (name, k) in enumerate(sorted(rows), start=1):
        places[attributes[name], k] = place
    stacked = [np.zeros(labels), *(rows[key] for key in sorted(rows))]
    possible = first.transitions > -1e3
    return Weights(
        labels=first.labels,
        attributes=attributes,
        places=places,
        rows=np.array(stacked, dtype=np.float32),
        tables=[_table(table, labels, smallest) for table in tables],
        transitions=np.where(possible, transitions, first.transitions).astype(np.float32),
        settled=first.settled,
        confidence={},
    )


def _add(rows: dict, key: object, row: np.ndarray) -> None:
    known = rows.get(key)
    rows[key] = row.astype(np.float64) if known is None else known + row


def _table(
    table: dict[int, np.ndarray], labels: int, smallest: float
) -> tuple[np.ndarray, np.ndarray]:
    codes = sorted(code for code, row in table.items() if np.abs(row).max() >= smallest)
    values = np.zeros((len(codes), labels), dtype=np.float32)
    for k, code in enumerate(codes):
        values[k] = table[code]
    return np.array(codes, dtype=np.int64), values
