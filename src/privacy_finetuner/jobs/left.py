"""What a job left, wherever it lies: its papers, its model, one of its files.

Readers ask here instead of in the folder of a run: the run may have been another machine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privacy_finetuner.jobs.errors import (
    ArtefactDamaged,
    ArtefactsUnavailable,
    UnknownArtefact,
    UnknownJob,
)
from privacy_finetuner.jobs.folder import PAPERS, is_paper
from privacy_finetuner.jobs.jobs import Jobs
from privacy_finetuner.jobs.lines import Lent
from privacy_finetuner.jobs.model import Job, JobState

JOB_MODEL: Final = "job:"
"""How the model of a finished job is named: `job:JOB`."""
MODEL_FILES: Final = ("config.json", "adapter_config.json")
"""A folder with one of these is a model."""
_REPORTED: Final = PAPERS | {"training_result.json"}  # not the seal of an audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What finished jobs left.

    Args:
        jobs: whose.
    """

    jobs: Jobs

    def papers(self, job: Job) -> Path:
        """The folder with what a report is made of; of a job that has not ended, as it stands.

        Raises:
            UnknownArtefact, ArtefactDamaged, ArtefactsUnavailable: see `Shelf.path`.
        """
        if not job.state.is_final:
            return self.jobs.folder(job)
        found = self.jobs.artefacts(job.id, tenant=job.tenant)
        papers = [each for each in found if each.name in _REPORTED]
        return self.jobs.shelf.folder(papers, tenant=job.tenant, job=job.id)

    def paper(self, job: Job, name: str) -> Path | None:
        """One paper of a job, for lists: `None` where it is not, or cannot be had now."""
        own = self.jobs.folder(job) / name
        if own.is_file() and not own.is_symlink():
            return own
        if not job.state.is_final:
            return None
        try:
            return self.jobs.artefact_path(job.id, name, tenant=job.tenant)
        except (UnknownArtefact, ArtefactDamaged, ArtefactsUnavailable):
            return None

    def model(self, name: str, *, tenant: str) -> Path | None:
        """The folder of the model of a finished job, fetched if it is another machine's.

        Returns `None` where there is no such job in this organisation, or it left no model.

        Raises:
            ArtefactDamaged, ArtefactsUnavailable: see `Shelf.path`.
        """
        lent = self.model_files(name, tenant=tenant)
        if lent is None:
            return None
        if not lent.artefacts:  # jobs of scripts and older versions tell none
            return self.jobs.folder(lent.job)
        try:
            return self.jobs.shelf.folder(lent.artefacts, tenant=tenant, job=lent.job)
        except UnknownArtefact:
            return None

    def lent(self, name: str, *, tenant: str) -> Lent | None:
        """The files of a job's model that the process which begins from it checks, or fetches.

        `None`: it is no job's model, or there is none, or no store from which it could come.
        """
        lent = self.model_files(name, tenant=tenant)
        return lent if lent and lent.artefacts and self.jobs.shelf.address else None

    def is_there(self, name: str, *, tenant: str) -> bool:
        """Whether a run could begin from the model of a finished job; its weights stay where it is.

        Raises:
            ArtefactDamaged, ArtefactsUnavailable: see `Shelf.path`.
        """
        lent = self.lent(name, tenant=tenant)
        if lent is None:
            return False
        configs = [each for each in lent.artefacts if each.name in MODEL_FILES]
        try:
            for each in configs:
                self.jobs.shelf.path(each, tenant=tenant, job=lent.job)
        except UnknownArtefact:
            return False
        return bool(configs)

    def model_files(self, name: str, *, tenant: str) -> Lent | None:
        """The files of the model of a finished job; nothing is fetched."""
        if not name.startswith(JOB_MODEL):
            return None
        try:
            job = self.jobs.get(name.removeprefix(JOB_MODEL), tenant=tenant)
        except UnknownJob:
            return None
        if job.state is not JobState.SUCCEEDED:
            return None
        found = self.jobs.artefacts(job.id, tenant=tenant)
        return Lent(job=job.id, artefacts=tuple(e for e in found if not is_paper(e.name)))
