"""Sealed files: encrypted in segments, signed as sets, remembered outside, kept in several places.

`sets.SealedSets` is what programs use; `segments` is the format, `stores` the places.
"""

from __future__ import annotations

from privacy_runtime.blobs.errors import (
    BlobMissing,
    NotSealed,
    ReplicationFailed,
    RolledBack,
    SealBroken,
    SealedError,
)
from privacy_runtime.blobs.manifests import Manifest, SealedFile
from privacy_runtime.blobs.sets import SealedSets, SealKeys
from privacy_runtime.blobs.stores import BlobStore, FolderStore, ObjectStore, store_at

__all__ = [
    "BlobMissing",
    "BlobStore",
    "FolderStore",
    "Manifest",
    "NotSealed",
    "ObjectStore",
    "ReplicationFailed",
    "RolledBack",
    "SealBroken",
    "SealKeys",
    "SealedError",
    "SealedFile",
    "SealedSets",
    "store_at",
]
