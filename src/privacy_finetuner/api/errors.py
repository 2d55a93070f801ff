"""From an error of this product to an answer: rows beside those of the plumbing.

An error's `code` is stable and is what programs look at; its message is for people. What has no row
is answered with 500 and a sentence that says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from privacy_core.redaction.entities import UnknownEntity
from privacy_finetuner import errors as finetuner
from privacy_finetuner.assessment.certificate_errors import CertificateError, NothingToCertify
from privacy_finetuner.governance import errors as governance
from privacy_finetuner.jobs import errors as jobs
from privacy_finetuner.operations import errors as operations
from privacy_finetuner.service.errors import (
    UnknownDataset,
    UnknownModel,
    UnknownUpload,
    UploadConflict,
    UploadRefused,
    UploadTooLarge,
)
from privacy_runtime import notify
from privacy_runtime.append_log import RunRecordDamaged
from privacy_runtime.files import WriteFailed
from privacy_runtime.http.errors import RETRY_AFTER_S, ErrorTable, Row, own_words
from privacy_runtime.http.refusals import Conflict, Fault
from privacy_runtime.pseudonyms.errors import TenantDestroyed
from privacy_runtime.signing import SigningError

_LATER: Final = "the service cannot do this now; nothing was lost, try again"
_PLACES: Final = {
    "model": "body.model_name",
    "dataset": "body.dataset_path",
    "privacy": "body.privacy_config",
    "training": "body.training_config",
}
"""From where jobs find a fault to where the client wrote it."""


class NotReady(Conflict):
    """The job has not come far enough for this. Nothing is wrong."""

    code = "not_ready"


class AlreadyEnded(Conflict):
    """The job has ended; nothing was changed."""

    code = "already_ended"


def table() -> ErrorTable:
    """The rows of the runtime and of this product."""
    return ErrorTable.standard().with_rows(_ROWS)


def _job_faults(error: jobs.InvalidJob) -> Sequence[Fault]:
    return [Fault(_placed(fault.path), fault.message) for fault in error.faults]


def _placed(path: str) -> str:
    first, dot, rest = path.partition(".")
    return f"{_PLACES.get(first, f'body.{first}')}{dot}{rest}"


_ROWS: Final[Mapping[type[Exception], Row]] = {
    jobs.InvalidJob: Row(
        422, "the job cannot be run as asked for; nothing was queued", "invalid_request",
        details=_job_faults,
    ),
    jobs.UnknownJob: Row(404, own_words, "not_found"),
    jobs.UnknownArtefact: Row(404, own_words, "not_found"),
    jobs.ArtefactDamaged: Row(502, own_words),
    jobs.ArtefactsUnavailable: Row(503, _LATER, retry_after_s=RETRY_AFTER_S),
    jobs.IdempotencyConflict: Row(409, own_words),
    jobs.QueueFull: Row(429, own_words, retry_after_s=60),
    jobs.FolderBusy: Row(409, own_words),
    jobs.FeedFull: Row(503, own_words, retry_after_s=RETRY_AFTER_S),
    jobs.JobStoreUnavailable: Row(503, _LATER, retry_after_s=RETRY_AFTER_S),
    governance.UnknownRecord: Row(404, "not found", "not_found"),
    governance.RecordConflict: Row(409, own_words),
    governance.VerificationRefused: Row(403, own_words),
    governance.UnknownLaw: Row(422, own_words),
    operations.UnknownAlert: Row(404, "not found", "not_found"),
    operations.NotRestrained: Row(404, own_words, "not_found"),
    operations.UnknownSource: Row(404, "not found", "not_found"),
    operations.AlertClosed: Row(409, own_words),
    operations.PoolRefused: Row(409, own_words),
    operations.SourceSetAside: Row(409, own_words),
    operations.GenerationBusy: Row(503, own_words, retry_after_s=RETRY_AFTER_S),
    operations.GenerationRefused: Row(422, own_words),
    operations.GenerationFailed: Row(503, own_words, retry_after_s=RETRY_AFTER_S),
    notify.UnknownEndpoint: Row(404, "not found", "not_found"),
    notify.AddressRefused: Row(422, own_words),
    notify.EndpointLimit: Row(409, own_words),
    notify.NotifyUnavailable: Row(503, _LATER, retry_after_s=RETRY_AFTER_S),
    TenantDestroyed: Row(409, own_words),
    UnknownEntity: Row(422, own_words),
    UnknownUpload: Row(404, own_words),
    UploadTooLarge: Row(413, own_words),
    UploadRefused: Row(422, own_words),
    UploadConflict: Row(409, own_words),
    UnknownDataset: Row(422, own_words, details=lambda _: [
        Fault("body.dataset_path", "names no data set of this service", "unknown_dataset")
    ]),
    UnknownModel: Row(422, own_words, details=lambda _: [
        Fault("body.model_name", "names no model of this service", "unknown_model")
    ]),
    finetuner.ConfigurationError: Row(422, own_words),
    finetuner.DatasetError: Row(422, own_words),
    finetuner.ModelLoadError: Row(422, own_words),
    finetuner.UnsupportedLayer: Row(422, own_words),
    finetuner.WrongKey: Row(422, own_words),
    finetuner.PrivacyBudgetExhaustedException: Row(409, own_words),
    finetuner.CheckpointError: Row(409, "a file of the run is missing or damaged"),
    RunRecordDamaged: Row(409, "the run's record is damaged; nothing was changed"),
    NothingToCertify: Row(409, own_words),
    CertificateError: Row(422, own_words),
    SigningError: Row(422, own_words),
    WriteFailed: Row(507, _LATER, "storage_full", retry_after_s=60),
}  # fmt: skip
