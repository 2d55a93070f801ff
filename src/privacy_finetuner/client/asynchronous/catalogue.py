"""What may be trained and on what; certificates; text from models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from privacy_finetuner.client.asynchronous.paging import AsyncGroup
from privacy_finetuner.client.calls import Call, given, place
from privacy_finetuner.client.shapes.training import (
    CertificateEntry,
    DatasetEntries,
    DatasetEntry,
    Generation,
    ModelEntries,
    ModelEntry,
    SentDataset,
    Verification,
)


class AsyncModels(AsyncGroup):
    """Models and data sets that a job may name."""

    async def list_models(self) -> tuple[ModelEntry, ...]:
        """All models that one may name."""
        return (await self._get(place("models"), ModelEntries)).items

    async def list_datasets(self) -> tuple[DatasetEntry, ...]:
        """All data sets that one may name. Nothing of their records is shown."""
        return (await self._get(place("datasets"), DatasetEntries)).items

    async def send_dataset(self, file: Path, *, name: str | None = None) -> SentDataset:
        """Send a file of records. Jobs then name it `upload:NAME`.

        Args:
            file: .jsonl, .json, .csv, .txt or .parquet.
            name: under which; None: that of the file. It is never given to other records.

        Raises:
            OSError: the file cannot be read; nothing was sent.
        """
        call = Call(method="PUT", path=place("datasets", name or file.name), file=file)
        return await self._session.answer(call, SentDataset)

    async def remove_dataset(self, name: str) -> None:
        """Delete a data set that was sent; `upload:` may be left out. What it cost stays."""
        await self._delete(place("datasets", name.removeprefix("upload:")))

    async def release_dataset(self, dataset_path: str, reason: str) -> DatasetEntry:
        """Let records be used again that were set aside."""
        body = {"dataset_path": dataset_path, "reason": reason}
        return await self._post(place("datasets", "release"), DatasetEntry, body)

    async def generate(
        self,
        model: str,
        prompt: str,
        *,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        redact: str | None = None,
    ) -> Generation:
        """Continue a prompt. Spends nothing, however often a private model is asked.

        Args:
            model: `job:JOB_ID` of a finished job, or a name of `list_models`.
            prompt: kept nowhere; nothing protects it from the model.
            max_new_tokens: at most so many.
            temperature: 0 is the likeliest token.
            redact: replace personal values in what it writes: `low`, `medium` or `high`.
        """
        body = given(
            model=model,
            prompt=prompt,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            redact=redact,
        )
        return await self._ask(place("generate"), Generation, body)


class AsyncCertificates(AsyncGroup):
    """Signed statements of what was promised, which anybody can recompute."""

    def list_certificates(self) -> AsyncIterator[CertificateEntry]:
        """The certificates of all jobs, newest first."""
        return self._pages(place("certificates"), CertificateEntry)

    async def get_certificate(self, job_id: str) -> CertificateEntry:
        """A job's certificate in short."""
        return await self._get(place("certificates", job_id), CertificateEntry)

    async def verify_certificate(self, certificate: Mapping[str, Any]) -> Verification:
        """Whether a certificate is genuine. `privacy-finetuner certificate verify` asks nobody."""
        return await self._ask(place("certificates", "verify"), Verification, dict(certificate))
