"""Tables as pieces: the rows of a CSV file one at a time, and Parquet files.

The name of a column is a hint for each of its cells. A row is a record.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from privacy_finetuner.context.json_text import JsonText
from privacy_finetuner.context.pieces import Edit, Piece, edited, words_of
from privacy_finetuner.errors import DocumentError

HEADER: Final = "{header}"
"""The column of the names of columns."""

_DELIMITERS: Final = ",;\t|"
_LONGEST_FIELD: Final = 2**31 - 1  # the csv module's own 128 KiB is less than a long clinical note
_BATCH_ROWS: Final = 1024


class CsvRows:
    """The rows of a CSV file as records. The first row names the columns, and is looked at too.

    ===================  ==================================================================
    of the file          is kept
    ===================  ==================================================================
    delimiter            the one of `, ; TAB |` that the first line has most of
    line ends            those of the first line
    quotes               around every cell where the first line has them so, else as needed
    columns              all, in their order; rows may be shorter or longer than the header
    ===================  ==================================================================

    Args:
        lines: the lines of the file with their ends.
        name: what to call it in errors.
    """

    def __init__(self, lines: Iterator[str], name: str) -> None:
        self._name = name
        first = next(lines, "")
        self._delimiter = max(_DELIMITERS, key=first.count) if first.strip() else ","
        self._end = "\r\n" if first.endswith("\r\n") else "\n"
        quoted = first.strip().startswith('"') and first.count('"') > 2 * first.count(
            self._delimiter
        )
        self._quoting: Any = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
        self._lines = _joined(first, lines)

    def __iter__(self) -> Iterator[_Row]:
        """One record a row, the header first.

        Raises:
            DocumentError: a quoted cell is not closed, or followed by text.
        """
        header: list[str] = []
        before = csv.field_size_limit(_LONGEST_FIELD)
        reader = csv.reader(self._lines, strict=True, delimiter=self._delimiter)
        try:
            for number, cells in enumerate(reader):
                if number == 0:
                    header = cells
                    pieces = [Piece(cell, HEADER, HEADER) for cell in cells]
                else:
                    pieces = [_cell(text, header, at) for at, text in enumerate(cells)]
                yield _Row(tuple(pieces), self._written)
        except csv.Error as error:
            reason = str(error)
        else:
            return
        finally:
            csv.field_size_limit(before)
        raise DocumentError(
            f"{self._name}, line {reader.line_num} is not CSV ({reason}); nothing was written"
        )

    def _written(self, cells: Sequence[str]) -> str:
        """The cells as a line."""
        target = io.StringIO()
        # The csv module leaves a lone carriage return unquoted, and does not read it back.
        quoting: Any = csv.QUOTE_ALL if any("\r" in cell for cell in cells) else self._quoting
        csv.writer(
            target, delimiter=self._delimiter, lineterminator=self._end, quoting=quoting
        ).writerow(cells)
        return target.getvalue()


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a CSV file."""

    pieces: tuple[Piece, ...] = field(repr=False)
    written: Callable[[Sequence[str]], str] = field(repr=False)

    def render(self, edits: Sequence[Sequence[Edit]]) -> str:
        """Write the row as a line."""
        return self.written(
            [edited(piece.text, mine) for piece, mine in zip(self.pieces, edits, strict=True)]
        )


def _cell(text: str, header: Sequence[str], at: int) -> Piece:
    name = header[at] if at < len(header) else f"column {at + 1}"
    return Piece(text, name, name, (words_of(name),) if at < len(header) and name else ())


def _joined(first: str, rest: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


class ParquetRows:
    """The rows of a Parquet file as records, and a way to write the file again.

    ==============================  =========================================================
    a column of                     becomes, where something in it was replaced
    ==============================  =========================================================
    text                            text
    numbers, dates                  text, in all its rows
    lists, structures, maps         JSON text, in all its rows
    bytes                           refused: name the column to keep or drop it
    ==============================  =========================================================

    A column in which nothing was replaced is kept as it is, with its type. The whole file is held
    in memory.

    Raises:
        DocumentError: it is no Parquet file, or has columns of bytes that are not in `kept`.
    """

    def __init__(self, path: Path, *, kept: frozenset[str] = frozenset()) -> None:
        import pyarrow as arrow  # type: ignore[import-untyped]  # noqa: PLC0415 -- slow to import
        from pyarrow import parquet  # noqa: PLC0415

        try:
            self._table = parquet.read_table(path)
        except (arrow.ArrowException, OSError) as error:
            reason = type(error).__name__
        else:
            self._replaced: dict[str, list[str | None]] = {}
            self._names = [str(name) for name in self._table.column_names if name not in kept]
            self._refuse_bytes(arrow)
            return
        raise DocumentError(f"file {path.name!r} is not a readable Parquet file ({reason})")

    def __iter__(self) -> Iterator[ParquetRow]:
        """One record a row."""
        number = 0
        for batch in self._table.select(self._names).to_batches(max_chunksize=_BATCH_ROWS):
            for row in batch.to_pylist():
                yield ParquetRow(row, number, self._replaced, len(self._table))
                number += 1

    def write(self, path: Path) -> None:
        """Write the table with what the rendered records replaced."""
        import pyarrow as arrow  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415

        # Metadata, of pandas or of a column, may repeat values.
        plain = arrow.schema([field.remove_metadata() for field in self._table.schema])
        table = self._table.cast(plain)
        for name, texts in self._replaced.items():
            values = table.column(name).to_pylist()
            filled = [
                new if new is not None else _as_text(old)
                for new, old in zip(texts, values, strict=True)
            ]
            at = table.column_names.index(name)
            table = table.set_column(at, name, arrow.array(filled, type=arrow.string()))
        parquet.write_table(table, path)

    def _refuse_bytes(self, arrow: Any) -> None:
        kinds = {field.name: field.type for field in self._table.schema}
        found = [
            name
            for name in self._names
            if arrow.types.is_binary(kinds[name])
            or arrow.types.is_large_binary(kinds[name])
            or arrow.types.is_fixed_size_binary(kinds[name])
        ]
        if found:
            raise DocumentError(
                f"columns of bytes cannot be looked at: {', '.join(found)}; say for each "
                "--column NAME=keep or leave it out of the file; nothing was written"
            )


class ParquetRow:
    """One row of a Parquet file."""

    def __init__(
        self,
        row: dict[str, Any],
        number: int,
        replaced: dict[str, list[str | None]],
        rows: int,
    ) -> None:
        self._number, self._rows, self._into = number, rows, replaced
        self._inner: list[tuple[str, int, JsonText | None]] = []
        pieces: list[Piece] = []
        for name, value in row.items():
            if value is None:
                continue
            hints = (words_of(name),)
            inner = None
            if isinstance(value, dict | list):
                inner = JsonText(_as_text(value) or "")
                pieces_in = [
                    Piece(p.text, f"{name}.{p.column}".replace(".[]", "[]"), p.name or name,
                          (*hints, *p.hints))
                    for p in inner.pieces
                ]  # fmt: skip
            else:
                pieces_in = [Piece(_as_text(value) or "", name, name, hints)]
            self._inner.append((name, len(pieces), inner))
            pieces += pieces_in
        self.pieces: Sequence[Piece] = pieces

    def render(self, edits: Sequence[Sequence[Edit]]) -> str:
        """Put the replaced values into the table that is being made; writes no text."""
        for name, first, inner in self._inner:
            count = 1 if inner is None else len(inner.pieces)
            mine = edits[first : first + count]
            if any(mine):
                text = (
                    edited(self.pieces[first].text, mine[0])
                    if inner is None
                    else inner.render(mine)
                )
                column = self._into.setdefault(name, [None] * self._rows)
                column[self._number] = text
        return ""


def _as_text(value: Any) -> str | None:
    """A cell as text: JSON for what has parts, ISO 8601 for times."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
