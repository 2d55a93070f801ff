"""The data sets that a job may name, and those that people send. Nothing is read to others."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from privacy_finetuner.api.routes import By, operation, router_of
from privacy_finetuner.api.shapes.catalogue import (
    DatasetAnswer,
    DatasetReceived,
    Datasets,
    ReleaseBody,
)
from privacy_finetuner.operations.errors import SourceSetAside
from privacy_finetuner.service import Service
from privacy_finetuner.service.catalogue import UPLOAD
from privacy_finetuner.service.uploads import NAME
from privacy_runtime.http.access import Access
from privacy_runtime.http.envelope import Json
from privacy_runtime.identity import Scope

FileName = Annotated[
    str,
    Path(
        max_length=160,
        pattern=f"^{NAME.pattern}$",
        examples=["notes.jsonl"],
        description="A file of records: .jsonl, .json, .csv, .txt or .parquet.",
    ),
]
_BYTES: Final = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}}
}


class DatasetList:
    """Data sets over HTTP.

    Args:
        service: whose catalogue.
        access: runs what waits for the disk in threads.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._catalogue, self._uploads, self._access = service.catalogue, service.uploads, access
        self._quarantine = service.desks.quarantine

    @operation("GET", "", Scope.DATASETS_READ)
    def list_datasets(self, by: By) -> Datasets:
        """List the data sets that a job may name: shipped, sent, and below the allowed folders."""
        found = self._catalogue.known_datasets(tenant=by.tenant)
        return Datasets(
            items=[
                DatasetAnswer(
                    name=entry.name, size_bytes=entry.size_bytes, modified_at=entry.modified_at
                )
                for entry in found
            ]
        )

    @operation(
        "PUT",
        "/{name}",
        Scope.DATASETS_WRITE,
        raw=DatasetReceived,
        status=201,
        refuses=(409, 413, 422, 507),
        takes=_BYTES,
    )
    async def send_dataset(self, name: FileName, by: By, request: Request) -> Any:
        """Send a data set: the bytes of the file, as they are.

        It belongs to the organisation, and jobs name it `upload:NAME` once all of it is here, it
        could be read as records, and the name is free. The same file again is the same answer;
        another file under the name is refused: remove the first.
        """
        announced = request.headers.get("content-length", "")
        arrival = await self._access.run(
            self._uploads.begin,
            name,
            tenant=by.tenant,
            by=by.subject,
            size_bytes=int(announced) if announced.isdecimal() else None,
        )
        try:
            async for piece in request.stream():
                await self._access.run(arrival.append, piece)
            received = await self._access.run(arrival.finish)
        finally:
            await self._access.run(arrival.discard)
        entry = received.entry
        answer = DatasetReceived(
            name=entry.name,
            size_bytes=entry.size_bytes,
            modified_at=entry.modified_at,
            sha256=received.sha256,
        )
        return Json(answer.model_dump(mode="json"), status_code=201)

    @operation("DELETE", "/{name}", Scope.DATASETS_WRITE, status=204, refuses=(409,))
    def remove_dataset(self, name: FileName, by: By) -> Response:
        """Delete a data set that was sent. What was trained on it, and its price, stay."""
        self._uploads.remove(f"{UPLOAD}{name}", tenant=by.tenant, by=by.subject)
        return Response(status_code=204)

    @operation("POST", "/release", Scope.COMPLIANCE_WRITE, refuses=(404,))
    def release_dataset(self, body: ReleaseBody, by: By) -> DatasetAnswer:
        """Let records be used again that were set aside."""
        try:
            self._catalogue.dataset(body.dataset_path, tenant=by.tenant)
        except SourceSetAside as aside:
            self._quarantine.release(by.tenant, aside.sha256, by=by.subject, reason=body.reason)
        known = self._catalogue.known_datasets(tenant=by.tenant)
        found = next((each for each in known if each.name == body.dataset_path), None)
        return DatasetAnswer(
            name=body.dataset_path,
            size_bytes=0 if found is None else found.size_bytes,
            modified_at=None if found is None else found.modified_at,
        )


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/datasets`."""
    return router_of(DatasetList(service, access), access, tag="data sets", prefix="/datasets")
