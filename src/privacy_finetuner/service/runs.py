"""Which job made a reservation of the ledger.

A trainer names its reservation after its run, and the run's record says which run a job's folder
holds. The record's first line never changes, so it is read once for each job.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Final

from privacy_finetuner.jobs import Jobs, Left
from privacy_finetuner.jobs.model import Job
from privacy_finetuner.training.run_record import FILE_NAME

_LINE_MOST: Final = 1024 * 1024
_PAGE: Final = 1000
_TRAINING: Final = "training:"


class RunNames:
    """Names of runs by job, remembered. For any number of threads.

    Args:
        jobs: whose folders.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def jobs_of(self, tenant: str, account: str) -> dict[str, str]:
        """From the runs that were charged to an account to their jobs' ids.

        Args:
            tenant: the organisation.
            account: as the ledger has it, without its kind: `TENANT:COHORT/SLICE`.

        Raises:
            JobStoreUnavailable: the database is away.
        """
        found: dict[str, str] = {}
        before: str | None = None
        while page := self._jobs.find(tenant, limit=_PAGE, before=before):
            for job in page:
                if job.spec.account == account and (run := self._run_of(job)):
                    found[run] = job.id
            before = page[-1].id
        return found

    def _run_of(self, job: Job) -> str:
        """The run of a job; empty while it has none, or where its record cannot be read."""
        with self._lock:
            known = self._known.get(job.id, "")
        if known:
            return known
        record = Left(jobs=self._jobs).paper(job, FILE_NAME)
        run = "" if record is None else _run_in(record)
        if run:
            with self._lock:
                self._known[job.id] = run
        return run


def run_of_reservation(reservation: str) -> str:
    """The run that a reservation is named after; empty for one that no trainer made."""
    if not reservation.startswith(_TRAINING):
        return ""
    return reservation.removeprefix(_TRAINING).partition(":")[0]


def _run_in(path: Path) -> str:
    try:
        with path.open("rb") as record:
            return str(json.loads(record.readline(_LINE_MOST))["body"]["job_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
