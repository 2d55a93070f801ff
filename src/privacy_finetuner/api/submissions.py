"""From what was asked for to a job in the queue: the same for HTTP and for a message queue."""

from __future__ import annotations

from typing import Final

from privacy_finetuner.api.shapes.training_request import TrainingRequest, given
from privacy_finetuner.governance.accounts import ledger_account, ledger_quota
from privacy_finetuner.jobs.model import Job, TrainingSpec
from privacy_finetuner.service import Service

_NAME_MOST: Final = 200
_PRIVACY: Final = (
    "epsilon", "delta", "max_grad_norm", "noise_multiplier", "accounting_mode",
    "adaptive_clipping", "secure_rng",
)  # fmt: skip
"""What the environment's section `privacy` says where a request does not."""


class Submissions:
    """Takes jobs in. Who may is settled by the caller.

    Args:
        service: whose jobs, data sets and models.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def submit(self, body: TrainingRequest, *, tenant: str, owner: str, key: str | None) -> Job:
        """Queue what was asked for; under one key, once.

        Raises:
            UnknownModel, UnknownDataset, SourceSetAside: a name means nothing here.
            InvalidJob, InvalidParameter, IdempotencyConflict, QueueFull: as `Jobs.submit`.
            JobStoreUnavailable, JournalError: a database is away; nothing was queued.
        """
        return self._service.jobs.submit(
            self.spec(body, tenant),
            tenant=tenant,
            owner=owner,
            name=body.name or f"{body.model_name} on {body.dataset_path}"[:_NAME_MOST],
            priority=body.priority,
            key=key,
        )

    def spec(self, body: TrainingRequest, tenant: str) -> TrainingSpec:
        """The job that was asked for. Its names are allowed; the worker resolves them again."""
        catalogue, training = self._service.catalogue, given(body.training_config)
        catalogue.require_model(body.model_name, tenant=tenant)
        for name in (body.dataset_path, training.get("eval_dataset")):
            if name is not None:
                catalogue.dataset(name, tenant=tenant)
        defaults = {name: getattr(self._service.config.privacy, name) for name in _PRIVACY}
        privacy = {name: value for name, value in defaults.items() if value is not None}
        return TrainingSpec(
            model=body.model_name,
            dataset=body.dataset_path,
            privacy=privacy | given(body.privacy_config),
            training=training,
            account=None if body.account is None else ledger_account(tenant, body.account),
            quota=None if body.quota is None else ledger_quota(tenant, body.quota),
            certificate=body.certificate,
        )
