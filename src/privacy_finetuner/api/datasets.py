"""The data sets that a job may name. Nothing in the answers was read from the records."""

from __future__ import annotations

from fastapi import APIRouter

from privacy_finetuner.api.routes import By, operation, router_of
from privacy_finetuner.api.shapes.catalogue import DatasetAnswer, Datasets
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.identity import Scope


class DatasetList:
    """Data sets over HTTP.

    Args:
        service: whose catalogue.
    """

    def __init__(self, service: Service) -> None:
        self._catalogue = service.catalogue

    @operation("GET", "", Scope.DATASETS_READ)
    def list_datasets(self, by: By) -> Datasets:
        """List the data sets that a job may name: shipped, and below the allowed folders."""
        found = self._catalogue.known_datasets(tenant=by.tenant)
        return Datasets(
            items=[
                DatasetAnswer(
                    name=entry.name, size_bytes=entry.size_bytes, modified_at=entry.modified_at
                )
                for entry in found
            ]
        )


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/datasets`."""
    return router_of(DatasetList(service), access, tag="data sets", prefix="/datasets")
