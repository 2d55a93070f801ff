"""Files of all formats as records of pieces, and files in their place: whole or not at all.

==========================  ==================  =============================================
file                        a record is         what is looked at
==========================  ==================  =============================================
.json                       the file            strings, numbers, keys; JSON in strings
.jsonl, .ndjson             a line              the same
.csv, .tsv                  a row               every cell, with its column's name as a hint
.parquet                    a row               every value, with its column's name as a hint
.html, .htm, .xhtml         the page            text, attributes, comments, scripts
anything else that is text  the file            the text
==========================  ==================  =============================================

What is numbered (`[PERSON_2]`) is numbered within a record; what a key decides (hashes, tokens,
surrogates) is the same in every record and file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from privacy_finetuner.context.decoding import Encoding, encoding_of, lines_of, read_whole
from privacy_finetuner.context.html_text import HtmlText, declared_encoding
from privacy_finetuner.context.json_text import JsonText
from privacy_finetuner.context.pieces import Edit, Piece, Prose, Record
from privacy_finetuner.context.tables import CsvRows, ParquetRows
from privacy_finetuner.errors import ConfigurationError, DocumentError
from privacy_runtime.files import replacing

Edits = Sequence[Sequence[Edit]]
Protect = Callable[[Sequence[Piece]], Edits]

_HEAD_BYTES: Final = 1024
_JSON: Final = frozenset({".json"})
_JSON_LINES: Final = frozenset({".jsonl", ".ndjson"})
_TABLES: Final = frozenset({".csv", ".tsv"})
_PAGES: Final = frozenset({".html", ".htm", ".xhtml"})
_PARQUET: Final = frozenset({".parquet"})


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How files are read.

    Attributes:
        encoding: of all text files; `None`: as `decoding` says, or as a page itself declares.
        kept: names of columns and keys that are left alone.
    """

    encoding: str | None = None
    kept: frozenset[str] = field(default_factory=frozenset)


def records_of(path: Path, options: FileOptions = FileOptions()) -> Iterator[Record]:
    """The records of a file, one at a time.

    Raises:
        DocumentError: the file cannot be read, decoded or parsed; names the place, not the content.
    """
    suffix = path.suffix.lower()
    if suffix in _PARQUET:
        yield from ParquetRows(path, kept=options.kept)
        return
    with ExitStack() as stack:
        yield from _text_records(path, suffix, options, stack)[1]


def rewrite_file(
    path: Path, target: Path, protect: Protect, options: FileOptions = FileOptions()
) -> int:
    """Write `target`: the file with every record protected. Returns the number of records.

    Guarantee: `target` holds all of it or what it held before; `path` is only read. The encoding,
    its byte order mark and the format stay.

    Raises:
        DocumentError: as `records_of`; the target is as it was.
        WriteFailed: the disk refused; the target is as it was.
    """
    suffix = path.suffix.lower()
    count = 0
    if suffix in _PARQUET:
        rows = ParquetRows(path, kept=options.kept)
        for row in rows:
            row.render(protect(row.pieces))
            count += 1
        with replacing(target) as (part, _):
            rows.write(part)
        return count
    with ExitStack() as stack:
        encoding, records = _text_records(path, suffix, options, stack)
        _, write = stack.enter_context(replacing(target))
        write(encoding.mark)
        for record in records:
            write(encoding.encode(record.render(protect(record.pieces))))
            count += 1
    return count


def text_records(text: str, suffix: str, name: str) -> Iterator[Record]:
    """The records of text that is in memory, read as a file with this extension.

    Raises:
        DocumentError: it cannot be parsed, or the extension is not one of text.
    """
    if suffix in _PARQUET:
        raise ConfigurationError("Parquet is not text: give a file")
    lines = (line + "\n" for line in text.split("\n")[:-1])
    last = text.rpartition("\n")[2]
    return _parsed(text, (*lines, last) if last else tuple(lines), suffix, name)


def _text_records(
    path: Path, suffix: str, options: FileOptions, stack: ExitStack
) -> tuple[Encoding, Iterator[Record]]:
    try:
        file = stack.enter_context(path.open("rb"))
        head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DocumentError(f"file {path.name!r} cannot be read: {error.strerror}") from error
    declared = options.encoding
    if declared is None and suffix in _PAGES and encoding_of(head) == Encoding():
        declared = declared_encoding(head)
    encoding = encoding_of(head, declared)
    name = f"file {path.name!r}"
    if suffix in _JSON_LINES:
        return encoding, _json_lines(lines_of(file, encoding, name), name)
    if suffix in _TABLES:
        return encoding, iter(CsvRows(lines_of(file, encoding, name), name))
    text, encoding = read_whole(path, declared)
    return encoding, _parsed(text, (), suffix, name)


def _parsed(text: str, lines: Sequence[str], suffix: str, name: str) -> Iterator[Record]:
    if suffix in _JSON_LINES:
        return _json_lines(iter(lines), name)
    if suffix in _TABLES:
        return iter(CsvRows(iter(lines), name))
    if suffix in _JSON:
        return iter([JsonText(text, name)])
    return iter([HtmlText(text)]) if suffix in _PAGES else iter([Prose.of(text)])


def _json_lines(lines: Iterator[str], name: str) -> Iterator[Record]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield JsonText(line, f"{name}, line {number}")
        else:
            yield Prose((Piece(line),))


@dataclass(frozen=True, slots=True)
class Task:
    """A file, and where its protected form goes."""

    source: Path
    target: Path


def files_below(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Every file that the paths name, with its place below the folder that was named.

    Hidden files are left out, as are folders that are.

    Raises:
        DocumentError: a path is not there, or a symbolic link below a folder leads out of it.
    """
    found: list[tuple[Path, Path]] = []
    for path in paths:
        if path.is_dir():
            found += [(file, file.relative_to(path)) for file in _walked(path)]
        elif path.exists():
            found.append((path, Path(path.name)))
        else:
            raise DocumentError(f"no file or folder {str(path)!r}; nothing was written")
    return found


def _walked(folder: Path) -> Iterator[Path]:
    """The files below a folder, sorted; a link may lead to another place inside, not outside."""
    home = folder.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*files, *folders]):
            path = Path(place) / name
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                raise DocumentError(
                    f"{path} is a symbolic link out of {folder}: name the folder that it leads to "
                    "instead; nothing was written"
                )
        yield from (Path(place) / name for name in sorted(files) if not name.startswith("."))


def tasks_of(paths: Sequence[Path], output: Path, *, overwrite: bool = False) -> list[Task]:
    """Where each file goes: below `output`, as it lies below the folder that was named.

    Raises:
        DocumentError: see `files_below`.
        ConfigurationError: a file would take the place of another, or of its own original without
            `overwrite`.
    """
    tasks: list[Task] = []
    taken: dict[Path, Path] = {}
    below = any(
        path.is_dir() and path.resolve() in output.resolve().parents for path in paths
    )  # an output folder below the input: what an earlier run wrote is no original
    found = [
        (source, place)
        for source, place in files_below(paths)
        if not (below and source.resolve().is_relative_to(output.resolve()))
    ]
    originals = {file.resolve() for file, _ in found}
    for source, place in found:
        target = output / place
        if target in taken:
            raise ConfigurationError(
                f"{taken[target]} and {source} would both become {target}; nothing was written: "
                "protect them into two folders"
            )
        if target.resolve() in originals and not overwrite:
            raise ConfigurationError(
                f"{target} is an original; nothing was written: choose another --output, or say "
                "--overwrite to lose the originals"
            )
        taken[target] = source
        tasks.append(Task(source, target))
    return tasks
