"""The service as one value: opened once, passed on, closed."""

from privacy_finetuner.service.catalogue import Catalogue, Entry
from privacy_finetuner.service.errors import (
    PlainHttpRefused,
    ServiceMisplaced,
    UnknownDataset,
    UnknownModel,
)
from privacy_finetuner.service.homes import Homes
from privacy_finetuner.service.service import (
    Deployment,
    Service,
    artefacts_at,
    catalogue_of,
    deployment_of,
)

__all__ = [
    "Catalogue",
    "Deployment",
    "Entry",
    "Homes",
    "PlainHttpRefused",
    "Service",
    "ServiceMisplaced",
    "UnknownDataset",
    "UnknownModel",
    "artefacts_at",
    "catalogue_of",
    "deployment_of",
]
