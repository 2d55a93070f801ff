"""`protect`: personal and secret values out, in a stream, a file or a folder."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, TextIO

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from privacy_core.redaction.streaming import Window
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.redaction_options import (
    HOW,
    PLACES,
    Allow,
    Columns,
    Deny,
    EncodingName,
    Format,
    FormatName,
    KeyFile,
    Level,
    LevelName,
    Locales,
    NoNames,
    Preserve,
    Strategies,
    Tenant,
    Threshold,
    columns_of,
    guard_of,
    is_file,
    names_of,
    reader_may_leave,
    standard_input,
)
from privacy_finetuner.context.batch import FileOutcome, FileSettings, protect_files
from privacy_finetuner.context.decoding import decoded, encoding_of, text_blocks
from privacy_finetuner.context.documents import records_of, tasks_of, text_records
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.pieces import Record
from privacy_finetuner.context.results import EntityFound, score_of
from privacy_finetuner.errors import ConfigurationError

_LONGEST_LINE_BYTES: Final = 1 << 16  # of one read: a line without an end must not fill the memory

EPILOG: Final = (
    'Examples: echo "Call Ann Lee, 212-555-0147" | privacy-finetuner protect\n\n'
    "tail -f app.log | privacy-finetuner protect --level low > clean.log\n\n"
    "privacy-finetuner protect ./notes --output ./clean --level high --workers 2\n\n"
    "privacy-finetuner protect notes.jsonl --strategy semantic_encryption --key-file redaction.key "
    "--create-key > sealed.jsonl\n\n"
    "Exit codes: 0 done, 1 a file could not be protected (it was not written), 2 bad input, "
    "130 stopped; finished files stay, and the same command goes on after them."
)


def protect(  # noqa: PLR0913 -- one parameter an option
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files and folders. Default: standard input, line by line."),
    ] = None,
    *,
    output_folder: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="Folder for the protected files; folders are mirrored. Default: one file, to "
            "standard output.",
            rich_help_panel=PLACES,
        ),
    ] = None,
    level: Level = LevelName.MEDIUM,
    strategy: Strategies = "pii_removal",
    preserve: Preserve = None,
    column: Columns = None,
    allow: Allow = None,
    deny: Deny = None,
    threshold: Threshold = 0.8,
    no_names: NoNames = False,
    locales: Locales = None,
    key_file: KeyFile = None,
    create_key: Annotated[
        bool,
        typer.Option(
            "--create-key", help="Make --key-file if it is not there.", rich_help_panel=HOW
        ),
    ] = False,
    tenant: Tenant = "default",
    form: Format = FormatName.TEXT,
    encoding: EncodingName = None,
    workers: Annotated[
        int, typer.Option(help="Processes, for several files.", rich_help_panel=PLACES)
    ] = 1,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Write over files that are there, also over the originals.",
            rich_help_panel=PLACES,
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Find personal and secret values and put something else in their place.

    Each value becomes `[PERSON]`, `[EMAIL_2]` or whatever --strategy says; everything else stays
    byte for byte. Formats: text, JSON, JSON lines, CSV, Parquet, HTML. What is not found stays:
    `explain` shows why a text came out as it did.
    """
    stdout = sys.stdout
    with output.failures_reported(as_json), reader_may_leave(stdout):
        settings = FileSettings(
            level=level.value,
            preserve=names_of(preserve),
            columns=columns_of(column),
            encoding=encoding,
        )
        guard = guard_of(
            strategy=strategy,
            threshold=threshold,
            key_file=key_file,
            create_key=create_key,
            tenant=tenant,
            no_names=no_names,
            locales=locales,
            allow=allow,
            deny=deny,
        )
        if files and output_folder is not None:
            outcomes = _to_folder(guard, files, output_folder, settings, workers, overwrite)
            document: dict[str, Any] = _folder_document(outcomes)
        elif files:
            document = _one_file(guard, files, settings, None if as_json else stdout)
        elif output_folder is not None:
            raise ConfigurationError("--output needs files to read; standard input goes to stdout")
        elif as_json or form is not FormatName.TEXT:
            text = _decoded(standard_input().read(), encoding)
            records = text_records(text, "." + form.value, "standard input")
            document = _through(guard, records, settings, None if as_json else stdout)
        else:
            _stream(guard, standard_input(), stdout, settings)
            document = {}
    if as_json:
        output.write_json(document)
    elif files and output_folder is not None:
        output.deliver(document, _folder_table(document), as_json=False)
    if any(each["status"] == "refused" for each in document.get("files", ())):
        raise typer.Exit(output.ExitCode.FAILED)


def _stream(guard: ContextGuard, source: BinaryIO, target: TextIO, settings: FileSettings) -> None:
    """Standard input to standard output, as far as it is decided, line by line."""
    window = Window(sentences=True, context=400, stride=8192 if is_file(source) else 1)
    redactor = guard.stream(settings.level, settings.preserve, window=window)
    first = source.readline(_LONGEST_LINE_BYTES)
    encoding = encoding_of(first, settings.encoding)
    rest = iter(lambda: source.readline(_LONGEST_LINE_BYTES), b"")
    blocks = chain([first[len(encoding.mark) :]], rest)
    for text in text_blocks(blocks, encoding, "standard input"):
        decided = redactor.feed(text)
        if decided:
            target.write(decided)
            target.flush()
    target.write(redactor.close())
    target.flush()


def _decoded(data: bytes, declared: str | None) -> str:
    return decoded(data, "standard input", declared)[0]


def _one_file(
    guard: ContextGuard, files: Sequence[Path], settings: FileSettings, target: TextIO | None
) -> dict[str, Any]:
    """One file to standard output, or into a document."""
    if len(files) > 1 or files[0].is_dir():
        raise ConfigurationError("several files need --output FOLDER; nothing was written")
    if files[0].suffix.lower() == ".parquet":
        raise ConfigurationError("a Parquet file needs --output FOLDER; nothing was written")
    return _through(guard, records_of(files[0], settings.options), settings, target)


def _through(
    guard: ContextGuard,
    records: Iterator[Record],
    settings: FileSettings,
    target: TextIO | None,
) -> dict[str, Any]:
    """Records to `target` one by one; without one, the document of all of them."""
    parts: list[str] = []
    entities: list[EntityFound] = []
    findings = []
    for record in records:
        made = guard.protect_pieces(
            record.pieces,
            sensitivity_level=settings.level,
            preserve_entities=settings.preserve,
            columns=settings.columns,
        )
        text = record.render(made.edits)
        if target is not None:
            target.write(text)
            continue
        parts.append(text)
        entities += made.entities
        findings += made.findings
    return {
        "protected_text": "".join(parts),
        "entities": [entity.to_dict() for entity in entities],
        "sensitivity_score": score_of(findings),
    }


def _to_folder(
    guard: ContextGuard,
    files: Sequence[Path],
    folder: Path,
    settings: FileSettings,
    workers: int,
    overwrite: bool,
) -> list[FileOutcome]:
    tasks = tasks_of(files, folder, overwrite=overwrite)
    console = output.stderr_console()
    progress = Progress(
        TextColumn("protecting"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("files"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with progress:
        bar = progress.add_task("protecting", total=len(tasks))

        def show(outcome: FileOutcome) -> None:
            progress.advance(bar)
            if outcome.status == "refused":
                console.print(
                    f"not written: {outcome.source}: {outcome.message}",
                    style="red",
                    soft_wrap=True,
                    markup=False,
                )

        return protect_files(
            guard,
            tasks,
            settings,
            record=folder,
            workers=workers,
            overwrite=overwrite,
            on_outcome=show,
        )


def _folder_document(outcomes: Sequence[FileOutcome]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.entities)
    return {
        "files": [outcome.to_dict() for outcome in outcomes],
        "entities": dict(sorted(counts.items())),
        "note": "exact counts of private data: outside any privacy guarantee",
    }


def _folder_table(document: dict[str, Any]) -> Any:
    status = Counter(each["status"] for each in document["files"])
    rows: list[tuple[str, object]] = [
        (name, f"{count} file" if count == 1 else f"{count} files")
        for name, count in sorted(status.items())
    ]
    rows += [(label, f"{count:,} replaced") for label, count in document["entities"].items()]
    rows.append(("note", document["note"]))
    return output.facts("Protected", rows)
