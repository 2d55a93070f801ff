"""Data sets that people send: below the organisation's own folder, checked, then offered to jobs.

What is on its way is a hidden file that no job can name. It is put in its place in one step, once
all of it was written to the disk, it can be read as records, and its name is free. A name is never
given to other records while it is in use: what a job is told of is what it trains on.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from privacy_finetuner.jobs import Jobs, TrainingSpec
from privacy_finetuner.jobs.schema import JOBS
from privacy_finetuner.jobs.store import LIVE, job_of
from privacy_finetuner.operations.trail import AuditTrail
from privacy_finetuner.service.catalogue import SUFFIXES, UPLOAD, Catalogue, Entry
from privacy_finetuner.service.errors import (
    UnknownUpload,
    UploadConflict,
    UploadRefused,
    UploadTooLarge,
)
from privacy_finetuner.service.record_check import check
from privacy_runtime.files import fsync_directory
from privacy_runtime.world import Clock, Entropy

MEBIBYTE: Final = 1024 * 1024
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}(\.[A-Za-z0-9_-]{1,20}){0,3}")
_PARTIAL: Final = ".arriving-"
_ID_BYTES: Final = 16
_STALE_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What was sent and is there now. `is_new`: it was not before.

    The digest is for whoever sent the records; it is outside the guarantee.
    """

    entry: Entry
    sha256: str
    is_new: bool


class Arrival:
    """A data set on its way. Exactly one of `finish` and `discard` ends it.

    Args:
        uploads: takes it.
        tenant: whose it will be.
        name: under which.
        by: who sends it.
    """

    def __init__(self, uploads: Uploads, *, tenant: str, name: str, by: str, place: Path) -> None:
        self.tenant, self.name, self.by = tenant, name, by
        self._uploads, self._path = uploads, place
        self._digest = hashlib.sha256()
        self._file = place.open("xb")
        self.size_bytes = 0

    def append(self, piece: bytes) -> None:
        """Keep the next bytes.

        Raises:
            UploadTooLarge: there are more than may be sent.
            OSError: the disk refuses.
        """
        self.size_bytes += len(piece)
        if self.size_bytes > self._uploads.most_bytes:
            raise self._uploads.too_large()
        self._digest.update(piece)
        self._file.write(piece)

    def finish(self) -> Received:
        """Check it, and put it in its place.

        Raises:
            UploadRefused, UploadTooLarge: it is not taken.
            UploadConflict: other records of this name are there.
            OSError, JournalError: disk or database refuse; nothing is offered.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            return self._uploads.settle(self, self._path, self._digest.hexdigest())
        finally:
            self.discard()

    def discard(self) -> None:
        """Forget it."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Uploads:
    """Takes data sets in, and removes them. One for a process; several may share a home.

    Args:
        catalogue: where they belong, and who may name them.
        jobs: which of them are in use.
        trail: where it is written down who sent and removed what.
        clock: tells how old is what somebody stopped sending.
        entropy: for names of what is on its way.
        most_bytes: of one data set; 0 takes none.
        most_in_all_bytes: of an organisation.
        checked: refuses a file that is no records.
    """

    def __init__(  # what taking something in needs, keyword-only
        self,
        catalogue: Catalogue,
        jobs: Jobs,
        trail: AuditTrail,
        *,
        clock: Clock,
        entropy: Entropy,
        most_bytes: int,
        most_in_all_bytes: int,
        checked: Callable[[Path], None] = check,
    ) -> None:
        self._catalogue, self._jobs, self._trail = catalogue, jobs, trail
        self._clock, self._entropy, self.checked = clock, entropy, checked
        self.most_bytes, self._most_in_all = most_bytes, most_in_all_bytes
        self._lock = threading.Lock()

    def begin(self, name: str, *, tenant: str, by: str, size_bytes: int | None = None) -> Arrival:
        """Begin to take a data set.

        Args:
            name: of a file: letters, figures, `_`, `-` and points, with a known extension.
            tenant: whose it is.
            by: who sends it.
            size_bytes: as announced.

        Raises:
            UploadRefused, UploadTooLarge: it cannot be taken; nothing was begun.
            OSError: the disk refuses.
        """
        if not NAME.fullmatch(name) or Path(name).suffix.lower() not in SUFFIXES:
            raise UploadRefused(
                "the name is not one of a file of records; expected letters, figures, _ and -, and "
                f"one of {', '.join(SUFFIXES)}"
            )
        folder = self._catalogue.sent(tenant)
        if folder is None or not self.most_bytes:
            raise UploadRefused("this service takes no data sets")
        if size_bytes is not None and size_bytes > self.most_bytes:
            raise self.too_large()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep(folder)
        self._require_room(folder, size_bytes or 0)
        # The extension stays: the check reads the file by it.
        arriving = f"{_PARTIAL}{self._entropy.token_bytes(_ID_BYTES).hex()}{Path(name).suffix}"
        return Arrival(self, tenant=tenant, name=name, by=by, place=folder / arriving)

    def settle(self, arrival: Arrival, path: Path, sha256: str) -> Received:
        """Check what has arrived, and put it in its place; `Arrival.finish` calls this."""
        if not arrival.size_bytes:
            raise UploadRefused("it is empty")
        self.checked(path)
        target = path.with_name(arrival.name)
        with self._lock:
            if target.exists():
                if _digest_of(target) != sha256:
                    raise UploadConflict("another data set of this name is there")
                return self._received(arrival, sha256, is_new=False)
            self._require_room(path.parent, 0)
            body = {
                "tenant": arrival.tenant,
                "by": arrival.by,
                "dataset": f"{UPLOAD}{arrival.name}",
                "size_bytes": arrival.size_bytes,
            }
            self._trail.write("dataset.received", body, entropy=self._entropy)
            path.chmod(0o600)
            try:
                target.hardlink_to(path)
            except FileExistsError:  # another process took the name meanwhile
                raise UploadConflict("another data set of this name is there") from None
            fsync_directory(target.parent)
        return self._received(arrival, sha256, is_new=True)

    def remove(self, name: str, *, tenant: str, by: str) -> None:
        """Delete a data set that was sent.

        Args:
            name: as it is listed, `upload:...`.
            tenant: whose.
            by: who removes it.

        Raises:
            UnknownUpload: the organisation has sent none of that name.
            UploadConflict: a job that waits or runs names it.
        """
        known = {entry.name: entry for entry in self._catalogue.known_uploads(tenant=tenant)}
        if name not in known:
            raise UnknownUpload
        with self._lock:
            if name in self._named_by_jobs(tenant):
                raise UploadConflict("a job that waits or runs names this data set")
            body = {"tenant": tenant, "by": by, "dataset": name}
            self._trail.write("dataset.removed", body, entropy=self._entropy)
            known[name].path.unlink(missing_ok=True)
            fsync_directory(known[name].path.parent)

    def too_large(self) -> UploadTooLarge:
        """The refusal of what is larger than may be sent."""
        return UploadTooLarge(f"a data set may have {self.most_bytes // MEBIBYTE} MiB")

    def _sweep(self, folder: Path) -> None:
        """Forget what a server was taking when it was killed."""
        before_s = self._clock.now().timestamp() - _STALE_S
        for path in folder.glob(f"{_PARTIAL}*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before_s:
                    path.unlink()

    def _require_room(self, folder: Path, more_bytes: int) -> None:
        used = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        if used + more_bytes > self._most_in_all:
            most = self._most_in_all // MEBIBYTE
            raise UploadTooLarge(f"an organisation may have sent {most} MiB in all")

    def _received(self, arrival: Arrival, sha256: str, *, is_new: bool) -> Received:
        name = f"{UPLOAD}{arrival.name}"
        known = self._catalogue.known_uploads(tenant=arrival.tenant)
        entry = next(each for each in known if each.name == name)
        return Received(entry=entry, sha256=sha256, is_new=is_new)

    def _named_by_jobs(self, tenant: str) -> set[str]:
        query = sa.select(JOBS).where(JOBS.c.tenant == tenant, JOBS.c.state.in_(LIVE))
        rows = self._jobs.store.read(lambda connection: connection.execute(query).all())
        return {name for row in rows for name in _names(job_of(row).spec)}


def _names(spec: TrainingSpec) -> set[str]:
    return {spec.dataset, str(spec.training.get("eval_dataset"))}


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
