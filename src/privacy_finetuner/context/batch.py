"""Many files or texts, in several processes: whole files only, and again from where it stopped.

A folder that is written into holds `.protected.jsonl`: a line for each file that was begun, and one
for each that is finished, with its source's size and time of change and a digest of the settings. A
file of which all of these still hold is not done again. No line says what was found.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Final

from privacy_core.errors import PrivacyError
from privacy_finetuner.context.documents import Edits, FileOptions, Task, rewrite_file
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.lookout import KEEP
from privacy_finetuner.context.pieces import Edit, Piece, edited
from privacy_finetuner.context.results import (
    DISTRIBUTION,
    EntityFound,
    ProtectionResult,
    RedactionMap,
    SealedEntry,
    score_of,
)
from privacy_finetuner.errors import ConfigurationError

RECORD_FILE: Final = ".protected.jsonl"
_CHUNK_TEXTS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSettings:
    """How files are protected, besides the guard.

    Attributes:
        level: sensitivity level.
        preserve: types to leave.
        columns: name of a column or key -> entity type of all of it, or `keep`.
        encoding: of text files; `None`: as each says.
    """

    level: str = "medium"
    preserve: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None

    @property
    def options(self) -> FileOptions:
        """How the files are read."""
        kept = frozenset(name for name, rule in self.columns.items() if rule == KEEP)
        return FileOptions(encoding=self.encoding, kept=kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOutcome:
    """What became of one file.

    Attributes:
        source: the file.
        target: where its protected form is.
        status: `done`, `unchanged` (finished by an earlier run) or `refused` (not written).
        records: how many records it has, where it was done.
        entities: how many of each type were replaced, where it was done.
        message: why it was refused.
    """

    source: Path
    target: Path
    status: str
    records: int = 0
    entities: Mapping[str, int] = field(default_factory=dict)
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        document: dict[str, Any] = {
            "source": str(self.source),
            "target": str(self.target),
            "status": self.status,
        }
        if self.status == "done":
            document |= {"records": self.records, "entities": dict(self.entities)}
        if self.message:
            document["message"] = self.message
        return document


class _Stopped(PrivacyError):
    """The batch was stopped; the file under way is not written."""

    code: ClassVar[str] = "stopped"


def protect_files(
    guard: ContextGuard,
    tasks: Sequence[Task],
    settings: FileSettings,
    *,
    record: Path,
    workers: int = 1,
    overwrite: bool = False,
    on_outcome: Callable[[FileOutcome], None] = lambda _outcome: None,
) -> list[FileOutcome]:
    """Protect each file into its target, and keep a record of what is finished.

    Guarantee: a target is written whole or not at all, also when the run is stopped (Ctrl-C) or
    killed; a file that fails does not stop the others, and is not written.

    Args:
        guard: what protects.
        tasks: from `documents.tasks_of`.
        settings: how.
        record: folder of the targets, where the record of finished files is kept.
        workers: processes. Above 1, the guard's keys must come from a key file.
        overwrite: write over targets that no earlier run with a record made.
        on_outcome: called for every file as it is finished.

    Raises:
        ConfigurationError: a target exists that this program did not make, without `overwrite`.
        KeyboardInterrupt: stopped; finished files stay, and the next call goes on after them.
    """
    digest = settings_digest(guard, settings)
    finished = _finished(record, digest)
    todo: list[Task] = []
    outcomes: list[FileOutcome] = []
    known = _names_in(record)
    for task in tasks:
        if task.target.exists() and finished.get(_place(task, record)) == _stamp(task.source):
            outcomes.append(_outcome(task, "unchanged"))
            on_outcome(outcomes[-1])
            continue
        if task.target.exists() and not overwrite and _place(task, record) not in known:
            raise ConfigurationError(
                f"{task.target} exists, and no earlier run made it; nothing was written: choose "
                "another --output, or say --overwrite"
            )
        todo.append(task)
    record.mkdir(parents=True, exist_ok=True)
    for task in todo:
        _note(record, {"target": _place(task, record)})
    for task, stamp, outcome in _done(guard, todo, settings, workers):
        if outcome.status == "done":
            size, mtime_ns = stamp
            entry = {"target": _place(task, record), "size": size, "mtime_ns": mtime_ns}
            _note(record, {**entry, "settings": digest})
        outcomes.append(outcome)
        on_outcome(outcome)
    return outcomes


def settings_digest(guard: ContextGuard, settings: FileSettings) -> str:
    """Changes when anything changes that decides what the output is. Holds no key."""
    document = {
        "version": version(DISTRIBUTION),
        "guard": guard.settings(),
        "level": settings.level,
        "preserve": sorted(settings.preserve),
        "columns": dict(settings.columns),
        "encoding": settings.encoding,
    }
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def protect_texts(
    guard: ContextGuard,
    texts: Sequence[str],
    *,
    workers: int,
    sensitivity_level: str = "medium",
    preserve_entities: Iterable[str] | None = None,
) -> list[ProtectionResult]:
    """`ContextGuard.batch_protect` in several processes."""
    settings = FileSettings(level=sensitivity_level, preserve=tuple(preserve_entities or ()))
    chunks = [list(texts[k : k + _CHUNK_TEXTS]) for k in range(0, len(texts), _CHUNK_TEXTS)]
    with _Pool(guard, settings, workers) as (pool, stop):
        try:
            made = list(pool.map(_protect_chunk, chunks))
        except KeyboardInterrupt:
            stop.set()
            raise
    parts = [part for chunk in made for part in chunk]
    return [
        ProtectionResult(
            protected_text=edited(text, edits),
            redaction_map=RedactionMap(entries, guard.tenant),
            sensitivity_score=score,
            entities_found=entities,
        )
        for text, (edits, entities, entries, score) in zip(texts, parts, strict=True)
    ]


def _done(
    guard: ContextGuard, todo: Sequence[Task], settings: FileSettings, workers: int
) -> Iterable[tuple[Task, tuple[int, int], FileOutcome]]:
    """Each task with its source's stamp from before it was read, as it is finished."""
    if workers <= 1 or len(todo) <= 1:
        for task in todo:
            stamp = _stamp(task.source)
            yield task, stamp, _protect_file(guard, settings, task, lambda: False)
        return
    with _Pool(guard, settings, min(workers, len(todo))) as (pool, stop):
        # The largest first: the last file to end should be a small one.
        by_size = sorted(todo, key=lambda task: -task.source.stat().st_size)
        waiting: dict[Future[FileOutcome], tuple[Task, tuple[int, int]]] = {
            pool.submit(_protect_one, task): (task, _stamp(task.source)) for task in by_size
        }
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield (*waiting.pop(future), future.result())
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _protect_file(
    guard: ContextGuard, settings: FileSettings, task: Task, is_stopped: Callable[[], bool]
) -> FileOutcome:
    counts: Counter[str] = Counter()

    def protect(pieces: Sequence[Piece]) -> Edits:
        if is_stopped():
            raise _Stopped
        made = guard.protect_pieces(
            pieces,
            sensitivity_level=settings.level,
            preserve_entities=settings.preserve,
            columns=settings.columns,
        )
        counts.update(entity.label for entity in made.entities)
        return made.edits

    try:
        task.target.parent.mkdir(parents=True, exist_ok=True)
        records = rewrite_file(task.source, task.target, protect, settings.options)
    except PrivacyError as error:
        return _outcome(task, "refused", message=str(error) or error.code)
    except OSError as error:
        return _outcome(task, "refused", message=error.strerror or type(error).__name__)
    except Exception as error:  # noqa: BLE001 -- fail closed, file by file, and without its text
        return _outcome(task, "refused", message=f"{type(error).__name__}; it was not written")
    return FileOutcome(
        source=task.source,
        target=task.target,
        status="done",
        records=records,
        entities=dict(sorted(counts.items())),
    )


def _outcome(task: Task, status: str, message: str = "") -> FileOutcome:
    return FileOutcome(source=task.source, target=task.target, status=status, message=message)


# -- processes --------------------------------------------------------------------------------

_worker: dict[str, Any] = {}


class _Pool:
    """A pool of processes that hold the guard, and the event that stops them between records."""

    def __init__(self, guard: ContextGuard, settings: FileSettings, workers: int) -> None:
        context = multiprocessing.get_context("spawn")  # threads of this process are not copied
        self._stop = context.Event()
        self._pool = ProcessPoolExecutor(
            workers, context, initializer=_begin, initargs=(guard, settings, self._stop)
        )

    def __enter__(self) -> tuple[ProcessPoolExecutor, Any]:
        return self._pool, self._stop

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _begin(guard: ContextGuard, settings: FileSettings, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    _worker.update(guard=guard, settings=settings, stop=stop)


def _protect_one(task: Task) -> FileOutcome:
    stop = _worker["stop"]
    return _protect_file(_worker["guard"], _worker["settings"], task, stop.is_set)


_Part = tuple[list[Edit], list[EntityFound], list[SealedEntry], float]


def _protect_chunk(texts: list[str]) -> list[_Part]:
    guard, settings = _worker["guard"], _worker["settings"]
    parts = []
    for text in texts:
        if _worker["stop"].is_set():
            raise _Stopped
        made = guard.protect_pieces(
            [Piece(text)],
            sensitivity_level=settings.level,
            preserve_entities=settings.preserve,
        )
        parts.append((made.edits[0], made.entities, made.entries, score_of(made.findings)))
    return parts


# -- the record of finished files -------------------------------------------------------------


def _place(task: Task, record: Path) -> str:
    """A target's name in the record."""
    return os.path.relpath(task.target, record)


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: what tells that a source is as it was."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _lines(record: Path) -> list[dict[str, Any]]:
    path = record / RECORD_FILE
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that a crash cut short: its file is done again
        if isinstance(entry, dict) and "target" in entry:
            found.append(entry)
    return found


def _finished(record: Path, digest: str) -> dict[str, tuple[int, int]]:
    """Targets that were finished with these settings, each with its source's stamp."""
    finished = {}
    for entry in _lines(record):
        if entry.get("settings") == digest:
            finished[entry["target"]] = (entry["size"], entry["mtime_ns"])
        else:  # begun again, or written over with other settings, later
            finished.pop(entry["target"], None)
    return finished


def _names_in(record: Path) -> set[str]:
    """Targets that this program made, with whatever settings."""
    return {entry["target"] for entry in _lines(record)}


def _note(record: Path, entry: Mapping[str, Any]) -> None:
    with (record / RECORD_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
