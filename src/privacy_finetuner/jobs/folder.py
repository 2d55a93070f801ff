"""The folder of a job's run: who may work in it, and which of its files are artefacts.

Folders of runs have names of their own (`.place`): a run goes on only where its folder is.

======================  ===========================================================================
file                    is
======================  ===========================================================================
`.job.lock`             locked by whoever works here: the child that trains, or who settles
`job.log`               what the child wrote to standard error; for the operator. It may quote
                        anything, so it is no artefact and never enters the database
`stacks.txt`            where the child's threads were at each SIGUSR1; no values
`run.jsonl`             the run record; see `training.run_record`
`checkpoint-*`, `.*`    for resuming; no artefacts
======================  ===========================================================================
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from privacy_finetuner.jobs.errors import FolderBusy
from privacy_finetuner.jobs.model import Artefact
from privacy_runtime.files import fsync_directory, write_atomic
from privacy_runtime.world import Clock, Entropy

LOCK_FILE: Final = ".job.lock"
PLACE_FILE: Final = ".place"
LOG_FILE: Final = "job.log"
REPORT_FILE: Final = "report.html"
CERTIFICATE_FILE: Final = "certificate.json"
_RESUMING: Final = (".resume", ".noise")  # of `training.session`, `training.noise_state`
_PAUSE_S: Final = 0.05
_CHUNK_BYTES: Final = 1 << 20

_WITHIN: Final = {
    "*.safetensors": "application/octet-stream",
    "*.safetensors.index.json": "application/json",
    "config.json": "application/json",
    "generation_config.json": "application/json",
    "adapter_config.json": "application/json",
    "tokenizer*.json": "application/json",
    "tokenizer*.model": "application/octet-stream",
    "special_tokens_map.json": "application/json",
    "added_tokens.json": "application/json",
    "vocab.*": "text/plain; charset=utf-8",
    "merges.txt": "text/plain; charset=utf-8",
    "chat_template.jinja": "text/plain; charset=utf-8",
    "README.md": "text/markdown; charset=utf-8",
    "run.jsonl": "application/x-ndjson",
    "statement.json": "application/json",
    "privacy_report.json": "application/json",
    "privacy_state.json": "application/json",
    REPORT_FILE: "text/html; charset=utf-8",
    CERTIFICATE_FILE: "application/json",
}
PAPERS: Final = frozenset(
    {
        CERTIFICATE_FILE, REPORT_FILE, "privacy_report.json", "privacy_state.json", "run.jsonl",
        "statement.json",
    }
)  # fmt: skip
"""Artefacts that are small, and what the guarantee is proven by."""
_OUTSIDE: Final = {
    "training_result.json": "application/json",  # the duration depends on the records
    "audit_*.json": "application/json",  # which canaries are in, and how they score
}


def place_of(runs: Path, *, entropy: Entropy) -> str:
    """The name of a folder of runs, given to it at the first call, whoever calls first.

    Processes that share the folder, on one machine or several, find one name; it moves with it.

    Raises:
        OSError: the disk refuses.
    """
    path = runs / PLACE_FILE
    if not path.exists():
        name = f"place_{entropy.token_bytes(16).hex()}"
        draft = runs / f"{PLACE_FILE}.{name}.tmp"
        draft.touch(mode=0o600)  # as everything here: its owner's alone
        write_atomic(draft, name.encode())
        try:
            os.link(draft, path)
        except FileExistsError:  # somebody else was first
            pass
        finally:
            draft.unlink()
        fsync_directory(runs)
    return path.read_text(encoding="ascii").strip()


def is_paper(name: str) -> bool:
    """Whether an artefact says what a run promised, spent and found; the others are its model."""
    return name in PAPERS or any(fnmatch(name, pattern) for pattern in _OUTSIDE)


@contextmanager
def locked(folder: Path, *, clock: Clock, wait_s: float = 0.0) -> Iterator[None]:
    """Be the only process at work in a run's folder; made if it is missing.

    The lock goes with the process, however it ends.

    Args:
        folder: of the run; its name is the job's id.
        clock: measures the wait.
        wait_s: how long to wait for another process, in seconds.

    Raises:
        FolderBusy: it is still at work.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(folder / LOCK_FILE, flags, 0o600)
    try:
        deadline = clock.monotonic_s() + wait_s
        while not _taken(descriptor):
            if clock.monotonic_s() >= deadline:
                raise FolderBusy(folder.name)
            threading.Event().wait(_PAUSE_S)
        yield
    finally:
        os.close(descriptor)


def forget(folder: Path) -> None:
    """Remove what only a resumed run needs and nobody may have: it will not be resumed.

    The fingerprint of the records is outside the guarantee; whoever has the memory of correlated
    noise can take noise back. What processes that were killed left half written goes too.
    """
    for name in _RESUMING:
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in folder.glob(".checkpoint-*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def artefacts_in(folder: Path) -> list[Artefact]:
    """The files of a folder that are handed out, by name, each with its digest.

    Only files of known names are; links are not followed.
    """
    found = []
    for path in sorted(folder.iterdir()):
        media_type, is_outside = _kind(path.name)
        if media_type is None or path.is_symlink() or not path.is_file():
            continue
        found.append(
            Artefact(
                name=path.name,
                size_bytes=path.stat().st_size,
                sha256=_digest(path),
                media_type=media_type,
                outside_guarantee=is_outside,
            )
        )
    return found


def _kind(name: str) -> tuple[str | None, bool]:
    for table, is_outside in ((_WITHIN, False), (_OUTSIDE, True)):
        for pattern, media_type in table.items():
            if fnmatch(name, pattern):
                return media_type, is_outside
    return None, False


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
