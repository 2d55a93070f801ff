"""Where a finished job's artefacts are kept besides the folder of its run, and how they come back.

==========================  ====================================================================
place                       holds
==========================  ====================================================================
`runs/JOB/NAME`             what the worker of this folder of runs made
the store, `TENANT/JOB/NAME`  the same, for machines that have another folder of runs
`runs/.fetched/JOB/NAME`    copies from the store, made here; they may be removed at any time
==========================  ====================================================================

A file counts as a job's only with the size and the SHA-256 that the job's events recorded: a store
is trusted with keeping, not with content.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from privacy_finetuner.jobs.errors import (
    ArtefactDamaged,
    ArtefactsUnavailable,
    JobError,
    UnknownArtefact,
)
from privacy_finetuner.jobs.model import Artefact
from privacy_runtime.blobs.errors import BlobMissing
from privacy_runtime.blobs.stores import BlobStore
from privacy_runtime.files import FilesError, WriteFailed, reason_of, replacing
from privacy_runtime.world import Clock

FETCHED: Final = ".fetched"
"""The folder of copies, in the folder of runs; no job's id begins with a dot."""
REST_S: Final = 5.0
"""After a failure, readers are refused at once for so long: a page with a hundred certificates
must not wait a hundred times."""
_CHUNK_BYTES: Final = 1 << 20
_REMEMBERED_MOST: Final = 4096

_Seen = tuple[int, int, int, int]


class Shelf:
    """The artefacts of one deployment, as one machine sees them. For any number of threads.

    Guarantee: what `path` and `folder` return is whole, or nothing is returned; no name of one
    organisation leads to a file of another.

    Args:
        runs: the folder of runs of this machine.
        store: where artefacts are kept besides; `None`: nowhere, and files here are handed out as
            they are.
        clock: measures the rest after a failure.
    """

    def __init__(self, runs: Path, store: BlobStore | None, *, clock: Clock) -> None:
        self._runs, self._store, self._clock = runs, store, clock
        self._whole: dict[Path, tuple[_Seen, str]] = {}
        self._away_until_s: float | None = None

    @property
    def address(self) -> str | None:
        """The store's; `None`: there is none."""
        return None if self._store is None else self._store.place

    def put(self, folder: Path, artefacts: Iterable[Artefact], *, tenant: str, job: str) -> None:
        """Keep the files of a finished run in the store, each read back. Repeating it is harmless.

        Without a store nothing is done.

        Args:
            folder: of the run.
            artefacts: which of its files, with the digests that will be recorded.
            tenant: the organisation of the job.
            job: its id.

        Raises:
            ArtefactsUnavailable: one of them could not be written, or was read back as another;
                those before it are kept.
        """
        if (store := self._store) is None:
            return
        for artefact in artefacts:
            name = _name(tenant, job, artefact)
            if self._keeps(name, artefact):
                continue
            with self._reaching():
                store.put(name, _read(folder / artefact.name))
            if not self._keeps(name, artefact):
                raise ArtefactsUnavailable(f"it gives {artefact.name} back as another file")

    def path(self, artefact: Artefact, *, tenant: str, job: str) -> Path:
        """Return where a file of a job lies here; it is fetched where it does not, and checked.

        Args:
            artefact: as the job's events recorded it.
            tenant: the organisation of the job.
            job: its id.

        Raises:
            UnknownArtefact: it is gone.
            ArtefactDamaged: neither here nor in the store lies the file that was recorded.
            ArtefactsUnavailable: it is not here, and the store cannot be reached.
            WriteFailed: the disk of the runs refuses.
        """
        own = self._runs / job / artefact.name
        if self._store is None:
            if own.is_symlink() or not own.is_file():
                raise UnknownArtefact
            return own
        if self._is_whole(own, artefact):
            return own
        try:
            return self._fetched(artefact, tenant=tenant, job=job)
        except UnknownArtefact:
            if own.is_file():
                raise ArtefactDamaged(artefact.name) from None
            raise

    def folder(self, artefacts: Iterable[Artefact], *, tenant: str, job: str) -> Path:
        """Return a folder that holds all these files of a job, whole: that of the run, or a copy.

        Raises:
            As `path`. Files that were fetched before stay, and are not fetched again.
        """
        wanted = list(artefacts)
        if self.holds(wanted, job=job):
            return self._runs / job
        for artefact in wanted:
            self._fetched(artefact, tenant=tenant, job=job)
        return self._copies(job)

    def holds(self, artefacts: Iterable[Artefact], *, job: str) -> bool:
        """Whether the run's own folder has all these files, whole; without a store it counts so."""
        if self._store is None:
            return True
        return all(self._is_whole(self._runs / job / each.name, each) for each in artefacts)

    def clear(self, artefacts: Iterable[Artefact], *, tenant: str, job: str) -> None:
        """Remove files of a job from the store, and all copies of that job here.

        Raises:
            ArtefactsUnavailable: the store cannot be reached; what was removed stays removed.
            OSError: the disk refuses.
        """
        self.drop_copies(job)
        if (store := self._store) is None:
            return
        for artefact in artefacts:
            with self._reaching():
                store.remove(_name(tenant, job, artefact))

    def drop_copies(self, job: str) -> None:
        """Remove all copies of a job's files here; whoever asks for one has it fetched again.

        Raises:
            OSError: the disk refuses.
        """
        if self._copies(job).is_dir():
            shutil.rmtree(self._copies(job))

    def _fetched(self, artefact: Artefact, *, tenant: str, job: str) -> Path:
        """A copy of a file, checked while it comes; it has its name only once it is whole."""
        copy = self._copies(job) / artefact.name
        if self._is_whole(copy, artefact):
            return copy
        try:
            for folder in (self._runs / FETCHED, self._copies(job)):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            state = "nothing was fetched"
            raise WriteFailed(copy, reason=reason_of(error), state=state) from error
        try:
            with (
                replacing(copy) as (_, write),
                closing(self._pieces(_name(tenant, job, artefact), artefact)) as pieces,
            ):
                for piece in pieces:
                    write(piece)
        except BlobMissing:
            raise UnknownArtefact from None
        return copy

    def _copies(self, job: str) -> Path:
        return self._runs / FETCHED / job

    def _keeps(self, name: str, artefact: Artefact) -> bool:
        """Whether the store gives back what the artefact is."""
        try:
            with closing(self._pieces(name, artefact)) as pieces:
                for _ in pieces:
                    continue
        except (BlobMissing, ArtefactDamaged):
            return False
        return True

    def _pieces(self, name: str, artefact: Artefact) -> Generator[bytes, None, None]:
        """A blob piece by piece; `ArtefactDamaged` before its end where it is not the artefact."""
        if self._store is None:
            raise AssertionError
        sums, size_bytes = hashlib.sha256(), 0
        with self._reaching():
            source = self._store.get(name)
        while True:
            with self._reaching():
                piece = next(source, None)
            if piece is None:
                break
            sums.update(piece)
            size_bytes += len(piece)
            if size_bytes > artefact.size_bytes:
                raise ArtefactDamaged(artefact.name)
            yield piece
        if (size_bytes, sums.hexdigest()) != (artefact.size_bytes, artefact.sha256):
            raise ArtefactDamaged(artefact.name)

    def _is_whole(self, path: Path, artefact: Artefact) -> bool:
        """Whether a file is what was recorded; read once as long as nothing touches it."""
        try:
            if path.is_symlink() or not path.is_file():
                return False
            found = path.stat()
            if found.st_size != artefact.size_bytes:
                return False
            seen = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            known = self._whole.get(path)
            if known is None or known[0] != seen:
                with path.open("rb") as file:
                    known = (seen, hashlib.file_digest(file, "sha256").hexdigest())
                if len(self._whole) >= _REMEMBERED_MOST:
                    self._whole.clear()
                self._whole[path] = known
        except OSError:
            return False
        return known[1] == artefact.sha256

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Whatever the store's adapter and its network raise is one refusal."""
        now_s = self._clock.monotonic_s()
        if self._away_until_s is not None and now_s < self._away_until_s:
            raise ArtefactsUnavailable("it could not be reached a moment ago")
        try:
            yield
        except (BlobMissing, JobError):
            raise
        except Exception as error:  # each adapter has exceptions of its own client
            self._away_until_s = self._clock.monotonic_s() + REST_S
            raise ArtefactsUnavailable(_said(error)) from error
        self._away_until_s = None


def _name(tenant: str, job: str, artefact: Artefact) -> str:
    return f"{tenant}/{job}/{artefact.name}"


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_CHUNK_BYTES):
            yield piece


def _said(error: Exception) -> str:
    """What went wrong, without an address: words of an adapter may hold one."""
    if isinstance(error, WriteFailed):
        return error.reason
    if isinstance(error, OSError):
        return reason_of(error)
    return type(error).__name__ if not isinstance(error, FilesError) else error.code
