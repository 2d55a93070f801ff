"""The records in a text: what one of them says never decides how another is read.

Differential privacy needs that. A data set that differs in one record is read alike in all others,
or it is refused: a line that does not parse is an error with its number, never a reason to read the
text as something else.

========================================  ==========================================================
the address or its type says              its records are
========================================  ==========================================================
`.json`, `application/json`               the items of a list
`.jsonl`, `.ndjson`, `application/jsonl`  its lines, an object each
`.csv`, `text/csv`                        its rows below the header
`.txt`, `.md`, `text/markdown`            one `{"text": ...}` a paragraph (blank line between)
nothing of these, also `text/plain`       as the first sign says: `[` a list, `{` lines, else
                                          paragraphs; what looks like the header of a table is
                                          refused, because a paragraph can look like one
========================================  ==========================================================
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from privacy_finetuner.errors import DatasetError

_NOTHING: Final = "nothing was read or spent"
_LONGEST_FIELD: Final = 2**31 - 1
_PARAGRAPH: Final = re.compile(r"\n[ \t\r]*\n")
_HEADER: Final = re.compile(r"[^\s,]+(?:,[^\s,]+)+")


class Shape(StrEnum):
    """How a text holds records."""

    LIST = "a JSON list"
    LINES = "JSON lines"
    TABLE = "CSV"
    PROSE = "paragraphs"


_BY_ENDING: Final = {
    "json": Shape.LIST,
    "jsonl": Shape.LINES,
    "ndjson": Shape.LINES,
    "csv": Shape.TABLE,
    "txt": Shape.PROSE,
    "md": Shape.PROSE,
}
_BY_TYPE: Final = {
    "application/json": Shape.LIST,
    "application/jsonl": Shape.LINES,
    "application/x-ndjson": Shape.LINES,
    "application/jsonlines": Shape.LINES,
    "text/csv": Shape.TABLE,
    "text/markdown": Shape.PROSE,
}


def shape_of(address: str, mime_type: str = "") -> Shape | None:
    """What an address and the type that its server gives say of a text; the address goes first."""
    path = unquote(urlsplit(address).path or urlsplit(address).netloc)
    ending = path.rpartition("/")[2].rpartition(".")[2].lower()
    kind = mime_type.partition(";")[0].strip().lower()
    return _BY_ENDING.get(ending, _BY_TYPE.get(kind))


def records_of(
    text: str, shape: Shape | None = None, *, name: str = "the text"
) -> list[dict[str, Any]]:
    """The records in a text.

    Args:
        text: all of it.
        shape: what is known of it; `None`: see the module.
        name: what to call it in errors.

    Raises:
        DatasetError: it is not what it should be; names the line, not its content.
    """
    if not text.strip():
        return []
    return _READERS[shape or _shape_shown(text, name)](text, name)


def _shape_shown(text: str, name: str) -> Shape:
    start = text.lstrip("\ufeff \t\r\n")
    shown = {"[": Shape.LIST, "{": Shape.LINES}.get(start[:1])
    if shown is None and _HEADER.fullmatch(start.partition("\n")[0].strip()):
        raise DatasetError(
            f"{name} begins like the header of a table, and nothing says that it is one: its "
            f"address must end in .csv (or .txt), or its type be text/csv; {_NOTHING}"
        )
    return shown or Shape.PROSE


def _list(text: str, name: str) -> list[dict[str, Any]]:
    found: Any = None
    try:
        found = json.loads(text.lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        reason = f"{error.msg}, line {error.lineno} column {error.colno}"
    except (ValueError, RecursionError) as error:
        reason = type(error).__name__
    else:
        reason = "" if isinstance(found, list) else f"one {type(found).__name__}"
    if reason:
        raise DatasetError(
            f"{name} is not a JSON list ({reason}); an address that ends in .jsonl is read line by "
            f"line, one that ends in .txt as paragraphs; {_NOTHING}"
        )
    return [_record(item, f"item {number} of {name}") for number, item in enumerate(found, 1)]


def _lines(text: str, name: str) -> list[dict[str, Any]]:
    # Not `splitlines`: JSON allows U+2028 and others inside of a string.
    records = []
    for number, line in enumerate(text.lstrip("\ufeff").split("\n"), 1):
        if line.strip():
            records.append(_line(line, f"line {number} of {name}"))
    return records


def _line(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    raise DatasetError(
        f"{where} is not a JSON object; the other lines are not read as something else because of "
        f"it: mend or remove it, or call the text .txt; {_NOTHING}"
    )


def _table(text: str, name: str) -> list[dict[str, Any]]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    rows = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""), strict=True)
    records: list[dict[str, Any]] = []
    header: list[str] | None = None
    try:
        for row in rows:
            if header is None:
                header = row
            elif row:
                _require_width(row, header, f"line {rows.line_num} of {name}")
                records.append(dict(zip(header, row, strict=True)))
    except csv.Error as error:
        reason = str(error)
    else:
        return records
    finally:
        csv.field_size_limit(before)
    raise DatasetError(f"line {rows.line_num} of {name} is not CSV ({reason}); {_NOTHING}")


def _require_width(row: list[str], header: list[str], where: str) -> None:
    if len(row) != len(header) or len(set(header)) != len(header):
        raise DatasetError(
            f"{where} has {len(row)} cells under {len(set(header))} names of columns; {_NOTHING}"
        )


def _prose(text: str, name: str) -> list[dict[str, Any]]:
    del name
    return [{"text": part.strip()} for part in _PARAGRAPH.split(text) if part.strip()]


def _record(item: Any, where: str) -> dict[str, Any]:
    if isinstance(item, dict):
        return item
    if isinstance(item, str):
        return {"text": item}
    raise DatasetError(
        f"{where} is {type(item).__name__}, expected an object or a string; {_NOTHING}"
    )


_READERS: Final[Mapping[Shape, Callable[[str, str], list[dict[str, Any]]]]] = {
    Shape.LIST: _list,
    Shape.LINES: _lines,
    Shape.TABLE: _table,
    Shape.PROSE: _prose,
}
