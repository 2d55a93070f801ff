"""Data sets: what a job may name, sending one, deleting one. Nothing is read to anybody."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import UploadFile
from starlette.responses import Response

from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.service.catalogue import SUFFIXES, UPLOAD
from privacy_finetuner.service.errors import UploadConflict, UploadRefused, UploadTooLarge
from privacy_finetuner.service.uploads import MEBIBYTE, Uploads
from privacy_runtime.identity import Scope

_PIECE: Final = 1 << 20


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/datasets", _datasets, Scope.DATASETS_READ)
    pages.post("/datasets/send", _send, Scope.DATASETS_WRITE)
    pages.post("/datasets/remove", _remove, Scope.DATASETS_WRITE)


def _datasets(asked: Asked) -> Response:
    return _shown(asked)


def _shown(asked: Asked, status: int = 200, fault: str = "") -> Response:
    service = asked.service
    return asked.show(
        "datasets.html",
        status,
        datasets=service.catalogue.known_datasets(tenant=asked.tenant),
        is_sent=lambda entry: entry.name.startswith(UPLOAD),
        most_mib=service.uploads.most_bytes // MEBIBYTE,
        suffixes=SUFFIXES,
        fault=fault,
    )


def _send(asked: Asked) -> Response:
    file = asked.files.get("file")
    if file is None or not file.filename:
        return _shown(asked, 422, asked.say(marked("Choose a file first.")))
    try:
        _take(asked.service.uploads, asked, file)
    except (UploadTooLarge, UploadRefused) as error:
        return _shown(asked, 413 if isinstance(error, UploadTooLarge) else 422, str(error))
    except UploadConflict as error:
        return _shown(asked, 409, str(error))
    return asked.see("/datasets", said="dataset-received")


def _take(uploads: Uploads, asked: Asked, file: UploadFile) -> None:
    arrival = uploads.begin(
        str(file.filename), tenant=asked.tenant, by=asked.who.subject, size_bytes=file.size
    )
    try:
        while piece := file.file.read(_PIECE):
            arrival.append(piece)
        arrival.finish()
    finally:
        arrival.discard()


def _remove(asked: Asked) -> Response:
    name = asked.form.get("name", "")
    try:
        asked.service.uploads.remove(name, tenant=asked.tenant, by=asked.who.subject)
    except UploadConflict as error:
        return _shown(asked, 409, str(error))
    return asked.see("/datasets", said="dataset-removed")
