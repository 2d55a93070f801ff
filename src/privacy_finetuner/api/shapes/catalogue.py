"""What may be trained, on what, and the certificates of what was."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from privacy_finetuner.api.shapes.bodies import Answer, Body


class DatasetAnswer(Answer):
    """A data set that a job may name. Nothing in here was read from the records."""

    name: Annotated[str, Field(examples=["sample:records"])]
    size_bytes: int
    modified_at: datetime | None


class DatasetReceived(Answer):
    """A data set that was sent and is there."""

    name: Annotated[str, Field(examples=["upload:notes.jsonl"])]
    size_bytes: int
    modified_at: datetime | None
    sha256: Annotated[str, Field(description="Of what you have sent; shown to nobody else.")]


class ReleaseBody(Body):
    """Records that were set aside may be used again."""

    dataset_path: Annotated[str, Field(min_length=1, max_length=1024, examples=["upload:a.csv"])]
    reason: Annotated[str, Field(min_length=1, max_length=500, examples=["a legal hold"])]


class ModelAnswer(Answer):
    """A model that a job may name."""

    name: Annotated[str, Field(examples=["sample:model"])]
    origin: Annotated[
        Literal["sample", "folder", "hub", "job"], Field(description="Where it comes from.")
    ]
    size_bytes: int | None
    modified_at: datetime | None


class Datasets(Answer):
    """All data sets that one may name."""

    items: list[DatasetAnswer]


class Models(Answer):
    """All models that one may name."""

    items: list[ModelAnswer]


class CertificateAnswer(Answer):
    """A certificate in short; the file itself is `GET /api/v1/training/{id}/certificate`."""

    job_id: Annotated[str, Field(examples=["job_2k7w..."])]
    id: str
    epsilon: float
    delta: float
    relation: str
    unit: str
    issued_at: str
    expires_at: str
    key_id: str


class Verification(Answer):
    """Whether a certificate is genuine, recomputed from the certificate alone."""

    is_genuine: bool
    verdict: Annotated[str, Field(examples=["genuine"])]
    code: Annotated[str | None, Field(examples=[None], description="Why not, as a code.")]
    findings: list[str]
    guarantee: Annotated[
        dict[str, Any] | None, Field(description="What it promises; null if it is not genuine.")
    ]
