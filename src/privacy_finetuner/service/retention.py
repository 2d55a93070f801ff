"""Old runs: weights, checkpoints and logs go; what proves the guarantee stays.

`retention.runs_days` after a job has ended, its folder keeps the run record, the reports, the
statement and the certificate. Everything else in it is deleted: the model, the checkpoints, the
audit's scores, the log. A model that a waiting or running job starts from is kept for now. What was
deleted is in the stream `audit`, with counts and no name of a file.

With a store of artefacts the same files go from there, and copies that were fetched. A store that
cannot be reached is said (`store: unreachable`), and asked again at the next round.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from privacy_finetuner.jobs import ArtefactsUnavailable, Jobs, JobState
from privacy_finetuner.jobs.errors import FolderBusy
from privacy_finetuner.jobs.folder import LOCK_FILE, PAPERS, locked
from privacy_finetuner.jobs.schema import JOBS
from privacy_finetuner.jobs.store import LIVE, to_us
from privacy_finetuner.operations.responses import SERVICE
from privacy_finetuner.operations.trail import AuditTrail
from privacy_finetuner.service.catalogue import JOB
from privacy_runtime import logs
from privacy_runtime.world import Clock, Entropy

_log = logs.logger(__name__)
KEPT: Final = PAPERS | {LOCK_FILE}
"""Files of a run that stay: small, and what the guarantee is proven by."""
_FINAL: Final = tuple(state.value for state in JobState if state.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was deleted of one run.

    Attributes:
        entries, size_bytes: of its folder here.
        store: what became of its files in the store of artefacts: `emptied`, `unreachable`, or
            `None`: nothing was asked of it.
    """

    job: str
    tenant: str
    entries: int
    size_bytes: int
    store: str | None = None


class Retention:
    """Deletes what is old. Any number of processes may look at once.

    Args:
        jobs: which runs there are.
        trail: where deletions are written down.
        days: how long the rest of a run is kept after its end.
        clock, entropy: the world.
    """

    def __init__(
        self, jobs: Jobs, trail: AuditTrail, *, days: int, clock: Clock, entropy: Entropy
    ) -> None:
        self._jobs, self._trail, self._days = jobs, trail, days
        self._clock, self._entropy = clock, entropy
        self._cleared: set[str] = set()

    def look(self, *, here_only: bool = False) -> list[Removed]:
        """Delete what is due now.

        Args:
            here_only: leave the store of artefacts alone: for workers, whose server looks there.

        Raises:
            JobStoreUnavailable, JournalError: a database is away; the next round goes on.
            OSError: the disk refuses; what was deleted stays deleted.
        """
        used, found = self._used(), []
        for job, tenant in self._due(self._clock.now() - timedelta(days=self._days)):
            if job in used:
                continue
            try:
                removed = self._emptied(job, tenant)
            except FolderBusy:
                continue
            if not here_only:
                removed = replace(removed, store=self._cleared_in_store(job, tenant))
            if not removed.entries and removed.store is None:
                continue
            told = {} if removed.store is None else {"store": removed.store}
            body = {
                "tenant": tenant,
                "by": SERVICE,
                "job": job,
                "entries": removed.entries,
                "size_bytes": removed.size_bytes,
                **told,
            }
            self._trail.write("retention.run_emptied", body, entropy=self._entropy)
            found.append(removed)
        return found

    def _emptied(self, job: str, tenant: str) -> Removed:
        """Empty a run's folder and forget its copies, where they are here."""
        self._jobs.shelf.drop_copies(job)
        folder = self._jobs.folder(job)
        if not _entries(folder):
            return Removed(job=job, tenant=tenant, entries=0, size_bytes=0)
        with locked(folder, clock=self._clock):
            return _emptied(folder, job, tenant)

    def _cleared_in_store(self, job: str, tenant: str) -> str | None:
        """Remove a run's files from the store; each run once in the life of this process."""
        if self._jobs.shelf.address is None or job in self._cleared:
            return None
        left = self._jobs.artefacts(job, tenant=tenant)
        gone = [each for each in left if each.name not in KEPT]
        try:
            self._jobs.shelf.clear(gone, tenant=tenant, job=job)
        except ArtefactsUnavailable as error:
            _log.warning("files of an old run are still in the store", job_id=job, code=error.code)
            return "unreachable"
        self._cleared.add(job)
        return "emptied" if gone else None

    def _due(self, before: datetime) -> list[tuple[str, str]]:
        query = sa.select(JOBS.c.id, JOBS.c.tenant).where(
            JOBS.c.state.in_(_FINAL), JOBS.c.finished_us < to_us(before)
        )
        rows = self._jobs.store.read(lambda connection: connection.execute(query).all())
        return [(row.id, row.tenant) for row in rows]

    def _used(self) -> frozenset[str]:
        """The jobs whose models others start from now."""
        query = sa.select(JOBS).where(JOBS.c.state.in_(LIVE))
        specs = self._jobs.store.read(lambda connection: connection.execute(query).all())
        return frozenset(_model_of(row.spec) for row in specs)


def _model_of(spec: str) -> str:
    return str(json.loads(spec)["model"]).removeprefix(JOB)


def _entries(folder: Path) -> list[Path]:
    """What is in a run's folder and does not stay; nothing where there is no folder."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name not in KEPT]


def _emptied(folder: Path, job: str, tenant: str) -> Removed:
    entries = _entries(folder)
    size_bytes = sum(_size_of(path) for path in entries)
    for path in entries:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return Removed(job=job, tenant=tenant, entries=len(entries), size_bytes=size_bytes)


def _size_of(path: Path) -> int:
    if path.is_symlink():
        return 0
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size
