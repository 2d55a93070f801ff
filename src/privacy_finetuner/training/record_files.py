"""Files of records: .jsonl, .json, .csv, .txt and .parquet become rows of named values.

Only the format is checked here; what the rows mean is decided in `records`. An error names the
file and the line, byte or row, never the content. Errors of the parsers below are not chained to
ours: they carry the document they failed on.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from privacy_finetuner.errors import DatasetError

__all__ = ["KNOWN_EXTENSIONS", "rows_of_path"]

_BOM = b"\xef\xbb\xbf"
_LONGEST_CSV_FIELD = 2**31 - 1  # the csv module's own 128 KiB is less than a long clinical note
_LONGEST_PATH = 4096


def rows_of_path(
    source: str | Path, *, text_field: str, label_field: str
) -> tuple[list[Mapping[str, object]], str]:
    """All rows of a file or folder, and a short name for it in errors.

    A folder is read file by file, sorted by name; hidden files and files of other kinds are left
    out, files of two known kinds are refused.

    Raises:
        DatasetError: missing, not readable, of an unknown kind, malformed, or empty.
    """
    # A long or many-lined string is more likely the data itself than a path; do not repeat it.
    if isinstance(source, str) and (len(source) > _LONGEST_PATH or "\n" in source or not source):
        raise DatasetError(f"a string of {len(source)} characters is no path to a data set")
    path = Path(source).expanduser()
    if path.is_dir():
        files = _files_in(path)
    elif path.exists():
        files = [path]
    else:
        raise DatasetError(f"no file or folder {str(path)!r}")
    rows: list[Mapping[str, object]] = []
    for file in files:
        rows.extend(_rows_of_file(file))
    if files[0].suffix.lower() == ".csv":
        rows = _with_integer_labels(rows, label_field)
    elif files[0].suffix.lower() == ".txt":
        rows = [{text_field: row["text"]} for row in rows]
    return rows, path.name


def _files_in(folder: Path) -> list[Path]:
    files = sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix.lower() in _READERS and not file.name.startswith(".")
    )
    kinds = Counter(file.suffix.lower() for file in files)
    if not files:
        raise DatasetError(f"folder {folder.name!r} holds no {_known()} file")
    if len(kinds) > 1:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise DatasetError(f"folder {folder.name!r} mixes kinds of files ({counts}); name one file")
    return files


def _rows_of_file(file: Path) -> list[Mapping[str, object]]:
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise DatasetError(
            f"file {file.name!r} has extension {file.suffix!r}; expected one of {_known()}"
        )
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DatasetError(f"file {file.name!r} cannot be read: {error.strerror}") from error
    if not data:
        raise DatasetError(f"file {file.name!r} is empty")
    return reader(data, file.name)


def _decoded(data: bytes, name: str) -> str:
    skipped = len(_BOM) if data.startswith(_BOM) else 0
    try:
        return data[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        position = error.start + skipped
    raise DatasetError(f"file {name!r} is not UTF-8 at byte {position}")


def _lines(data: bytes, name: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers; only line feeds end a line."""
    # str.splitlines would also split at characters that JSON allows inside strings (U+2028).
    lines = enumerate(_decoded(data, name).split("\n"), start=1)
    return [(number, line.rstrip("\r")) for number, line in lines if line.strip()]


def _parsed(text: str, where: str) -> object:
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg}, line {error.lineno} column {error.colno}"
    except (ValueError, RecursionError) as error:
        reason = type(error).__name__  # an integer of thousands of digits, or nested too deeply
    else:
        return value
    raise DatasetError(f"{where} is not JSON ({reason})")


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise DatasetError(f"{where} is {type(value).__name__}, expected a JSON object")
    return value


def _jsonl(data: bytes, name: str) -> list[Mapping[str, object]]:
    rows = []
    for number, line in _lines(data, name):
        where = f"file {name!r}, line {number}"
        rows.append(_object(_parsed(line, where), where))
    return rows


def _json(data: bytes, name: str) -> list[Mapping[str, object]]:
    value = _parsed(_decoded(data, name), f"file {name!r}")
    if not isinstance(value, list):
        raise DatasetError(
            f"file {name!r} holds a JSON {type(value).__name__}, expected a list of objects "
            "(one object a line is .jsonl)"
        )
    return [_object(row, f"file {name!r}, record {k}") for k, row in enumerate(value, start=1)]


def _txt(data: bytes, name: str) -> list[Mapping[str, object]]:
    return [{"text": line} for _, line in _lines(data, name)]


def _csv(data: bytes, name: str) -> list[Mapping[str, object]]:
    text = _decoded(data, name)
    before = csv.field_size_limit(_LONGEST_CSV_FIELD)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            table = [(reader.line_num, cells) for cells in reader if cells]
        except csv.Error as error:
            reason = f"file {name!r}, line {reader.line_num} is not CSV ({error})"
            raise DatasetError(reason) from None
    finally:
        csv.field_size_limit(before)
    if not table:
        return []
    header = table[0][1]
    if len(set(header)) < len(header):
        raise DatasetError(f"file {name!r}: the {len(header)} column names are not all different")
    for line, cells in table[1:]:
        if len(cells) != len(header):
            raise DatasetError(
                f"file {name!r}, record ending at line {line} has {len(cells)} fields; "
                f"the header names {len(header)}"
            )
    return [dict(zip(header, cells, strict=True)) for _, cells in table[1:]]


def _parquet(data: bytes, name: str) -> list[Mapping[str, object]]:
    # Only this format needs it, and it is slow to import; it ships no type annotations.
    import pyarrow  # type: ignore[import-untyped]  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    try:
        table = parquet.read_table(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError) as error:
        reason = type(error).__name__
    else:
        rows: list[Mapping[str, object]] = table.to_pylist()
        return rows
    raise DatasetError(f"file {name!r} is not a readable Parquet file ({reason})")


_READERS: dict[str, Callable[[bytes, str], list[Mapping[str, object]]]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".txt": _txt,
}
KNOWN_EXTENSIONS = tuple(_READERS)


def _known() -> str:
    return ", ".join(KNOWN_EXTENSIONS)


def _with_integer_labels(
    rows: list[Mapping[str, object]], label_field: str
) -> list[Mapping[str, object]]:
    """CSV knows no types: labels that are all integers are integers."""
    labels = [row.get(label_field) for row in rows]
    if not labels or not all(isinstance(label, str) and _is_integer(label) for label in labels):
        return rows
    return [{**row, label_field: int(str(row[label_field]))} for row in rows]


def _is_integer(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit() and len(text) < 10
