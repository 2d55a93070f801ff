"""Data: whether a sample looks like the one that a model was made for."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.errors import MonitoringError
from pipeline_guard.model import Fault, Moment, Reading
from pipeline_guard.probes.inputs import Patience, asked, ok, unknown, warning

if TYPE_CHECKING:
    from pipeline_guard.detection.drift import Drift

_ROWS_MOST: Final = 200_000
_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True)
class DriftProbe:
    """Two samples, column by column: whether the current one differs from the reference.

    Only ever a warning: a model is not retrained because of it, which would cost privacy. Give it
    samples that are public or were released; what is said of private records is outside their
    guarantee. Only names of columns and distances are shown, no value.

    Args:
        reference: `.csv` with a heading, or `.jsonl` with one object a line.
        current: the same; it is compared again when one of both changes.
        columns: to compare; without, all of the reference.
        false_discovery_rate: of the columns called drifted, the share that is so by chance.
        psi: a column is drifted also above this population stability index.
        rows: at most so many are read of each, from the start.
        answer_s: the comparison goes on beside the looks after this time.
    """

    reference: Path
    current: Path
    columns: tuple[str, ...] = ()
    false_discovery_rate: Annotated[float, Within(0.0001, 0.5)] = 0.05
    psi: Annotated[float, POSITIVE] = 0.2
    rows: Annotated[int, Within(50, _ROWS_MOST)] = 20_000
    answer_s: Annotated[float, POSITIVE] = 3.0
    _known: dict[Any, Reading] = field(default_factory=dict, init=False, repr=False, compare=False)
    _patience: Patience = field(default_factory=Patience, init=False, repr=False, compare=False)

    def look(self, moment: Moment) -> Reading:
        """Compare them, if one changed."""
        return asked(
            self._patience,
            self._compared,
            name="a sample",
            within_s=self.answer_s,
            moment=moment,
            evidence={"reference": str(self.reference), "current": str(self.current)},
        )

    def _compared(self) -> Reading:
        stats = [path.stat() for path in (self.reference, self.current)]
        stamp = tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)
        if stamp not in self._known:
            reading = self._judged()
            self._known.clear()
            self._known[stamp] = reading
        return self._known[stamp]

    def _judged(self) -> Reading:
        from pipeline_guard.detection import drift  # noqa: PLC0415 -- loads numpy

        reference, current = table(self.reference, self.rows), table(self.current, self.rows)
        names = self.columns or tuple(reference)
        missing = sorted(name for name in names if name not in reference or name not in current)
        if missing:
            words = f"columns are missing: {', '.join(missing)[:200]}"
            return warning(words, Fault.DRIFTED_DATA, evidence={"missing": missing[:_SHOWN]})
        try:
            found = drift.drifts(
                {name: reference[name] for name in names},
                {name: current[name] for name in names},
                false_discovery_rate=self.false_discovery_rate,
            )
        except MonitoringError as error:
            return unknown(error.message)
        return self._said(found)

    def _said(self, found: list[Drift]) -> Reading:
        judged = [each for each in found if each.is_assessable]
        drifted = [each for each in judged if each.is_drifted or each.psi > self.psi]
        figures = {
            "drifted_columns": float(len(drifted)),
            "greatest_psi": max((each.psi for each in judged), default=0.0),
        }
        evidence = {
            "drifted": {
                each.column: {
                    "test": each.test,
                    "statistic": each.statistic if math.isfinite(each.statistic) else None,
                    "psi": round(each.psi, 4),
                }
                for each in drifted[:_SHOWN]
            },
            "too_few_values": [each.column for each in found if not each.is_assessable][:_SHOWN],
        }
        more: dict[str, Any] = {"measurements": figures, "evidence": evidence}
        if drifted:
            names = ", ".join(each.column for each in drifted[:5])
            words = f"{len(drifted)} of {len(judged)} columns drifted: {names}"
            return warning(words, Fault.DRIFTED_DATA, **more)
        if not judged:
            return unknown("no column has enough values to be compared", evidence=evidence)
        return ok(f"{len(judged)} columns are as in the reference", **more)


def table(path: Path, rows: int) -> dict[str, list[Any]]:
    """The columns of a file; what is a number in it is a number, an empty field is missing.

    Raises:
        OSError: it cannot be read.
        ValueError: it is neither `.csv` nor `.jsonl`, is empty, or a row is no object.
    """
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            found = [row for row, _ in zip(csv.DictReader(file), range(rows), strict=False)]
        elif path.suffix == ".jsonl":
            lines = (line for line in file if line.strip())
            found = [json.loads(line) for line, _ in zip(lines, range(rows), strict=False)]
        else:
            raise ValueError("it is neither .csv nor .jsonl")
    if not found:
        raise ValueError("it has no rows")
    if not all(isinstance(row, dict) for row in found):
        raise ValueError("a line is no object")
    names = list(dict.fromkeys(name for row in found[:100] for name in row if name is not None))
    return {name: [_value(row.get(name)) for row in found] for name in names}


def _value(raw: Any) -> Any:
    if isinstance(raw, bool) or raw is None or isinstance(raw, int | float):
        return raw
    if isinstance(raw, str):
        if not raw.strip():
            return None
        try:
            return float(raw)
        except ValueError:
            return raw
    return json.dumps(raw, sort_keys=True)
