"""The SDK: the service from Python, in lines one would write by hand.

from privacy_finetuner.client import Client

with Client("https://privacy.example.org") as client:  # key from PRIVACY_FINETUNER_API_KEY
    job = client.jobs.start_training(
        "sample:model", "sample:records", privacy_config={"epsilon": 8.0, "delta": 1e-5}
    )
    for event in client.jobs.watch(job.job_id):
        print(event.kind, dict(event.body))
    client.jobs.download_artefact(job.job_id, "report.html", ".")

`AsyncClient` has the same methods to be awaited. Results are frozen values, errors a tree
(`privacy_finetuner.client.errors`).
"""

from typing import TYPE_CHECKING, Any

from privacy_finetuner.client.blocking.client import Client
from privacy_finetuner.client.blocking.session import Settings
from privacy_finetuner.client.credentials import CredentialsFile, Grant, Profile
from privacy_finetuner.client.errors import (
    BudgetRefused,
    ClientError,
    Conflict,
    CredentialsUnsafe,
    DownloadDamaged,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotLoggedIn,
    ServiceError,
    ServiceFailed,
    SignatureRefused,
    StreamSilent,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from privacy_finetuner.client.retries import RetryPolicy

if TYPE_CHECKING:
    from privacy_finetuner.client.asynchronous.client import AsyncClient
    from privacy_finetuner.client.asynchronous.session import AsyncSettings

__all__ = [
    "AsyncClient",
    "AsyncSettings",
    "BudgetRefused",
    "Client",
    "ClientError",
    "Conflict",
    "CredentialsFile",
    "CredentialsUnsafe",
    "DownloadDamaged",
    "Grant",
    "InvalidRequest",
    "NotAllowed",
    "NotFound",
    "NotLoggedIn",
    "Profile",
    "RetryPolicy",
    "ServiceError",
    "ServiceFailed",
    "Settings",
    "SignatureRefused",
    "StreamSilent",
    "TooLarge",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
]


def __getattr__(name: str) -> Any:
    """Load the asynchronous client when it is first asked for."""
    if name not in {"AsyncClient", "AsyncSettings"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from privacy_finetuner.client.asynchronous import client, session  # noqa: PLC0415 -- as it says

    return client.AsyncClient if name == "AsyncClient" else session.AsyncSettings
