"""Sets of files that are not sealed: whole or absent, each file with its digest; readable by all.

It is what recovery points are where no key is configured. An accident is found, a reader is not
kept out, and nothing tells a point that somebody made from one that training made.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

from privacy_core.errors import InvalidParameter
from privacy_runtime.blobs import (
    BlobMissing,
    BlobStore,
    Manifest,
    NotSealed,
    SealBroken,
    SealedFile,
)
from privacy_runtime.blobs.manifests import set_name
from privacy_runtime.blobs.pipeline import Counted, Passed, streamed
from privacy_runtime.blobs.sets import MANIFEST, contents_of, write_file
from privacy_runtime.blobs.stores import digest, replicate, require_name
from privacy_runtime.files import WriteFailed, fsync_directory, reason_of
from privacy_runtime.signing import NotCanonical, canonical_bytes, parse_canonical, text_of
from privacy_runtime.world import Clock

_VERSION = 1  # of a manifest whose sums are SHA-256 of all stored bytes


class PlainSets:
    """Series of plain sets in one store, with the same doors as `blobs.SealedSets`.

    Args:
        store: where the sets lie.
        clock: dates them.
    """

    def __init__(self, store: BlobStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def seal(
        self,
        series: str,
        source: Path | Mapping[str, bytes],
        *,
        ledger: Mapping[str, str | int] | None = None,
        labels: Mapping[str, str | int] | None = None,
    ) -> Manifest:
        """Keep all files of a folder, or contents by name, as the next set of a series.

        Raises:
            WriteFailed: the store refused; what was written of the set is taken away again.
        """
        before = self.numbers(series)
        number = max(before, default=0) + 1
        name = set_name(series, number)
        require_name(name)
        self._clear(name)
        try:
            files = []
            for file, content in contents_of(source):
                counted, passed = Counted(content), Passed(hashlib.sha256())
                self._store.put(f"{name}/{file}", passed.pieces(counted))
                size = counted.size_bytes
                files.append(SealedFile(file, passed.sums.hexdigest(), size, size))
            manifest = Manifest(
                series=series,
                number=number,
                sealed_at=text_of(self._clock.now()),
                parent=self._digest(series, before[-1]) if before else "",
                ledger=ledger or {},
                labels=labels or {},
                files=tuple(files),
                version=_VERSION,
            )
            self._store.put(f"{name}/{MANIFEST}", [canonical_bytes({"plain": manifest.to_json()})])
        except BaseException:
            self._clear(name)
            raise
        return manifest

    def numbers(self, series: str) -> list[int]:
        """The sets of a series that are there, oldest first."""
        names = [
            n.split("/") for n in self._store.names(f"{series}/") if n.endswith(f"/{MANIFEST}")
        ]
        return sorted(int(f[-2]) for f in names if "/".join(f[:-2]) == series and f[-2].isdecimal())

    def manifest(self, series: str, number: int) -> Manifest:
        """One set of a series; its files are not looked at.

        Raises:
            NotSealed: its manifest is damaged. BlobMissing: there is none.
        """
        name = set_name(series, number)
        data = b"".join(self._store.get(f"{name}/{MANIFEST}"))
        try:
            manifest = Manifest.from_json(parse_canonical(data)["plain"])
        except (NotCanonical, KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotSealed(name, "its manifest is malformed or of another version") from error
        if manifest.name != name:
            raise SealBroken(name, f"its manifest is that of {manifest.name}")
        return manifest

    def verify(self, manifest: Manifest) -> None:
        """Compare every file with its digest.

        Raises:
            SealBroken, BlobMissing: one is not what was written.
        """
        for file in manifest.files:
            if not self._is_whole(manifest, file, self._store):
                raise SealBroken(f"{manifest.name}/{file.name}", "it differs from its digest")

    def read(self, manifest: Manifest, name: str) -> bytes:
        """One file of a set, in memory, once it was verified.

        Raises:
            BlobMissing: the set has no such file. SealBroken: it is not what was written.
        """
        for file in manifest.files:
            if file.name == name:
                passed = Passed(hashlib.sha256())
                data = b"".join(passed.pieces(self._store.get(f"{manifest.name}/{name}")))
                if not passed.is_of(file):
                    raise SealBroken(f"{manifest.name}/{name}", "it differs from its digest")
                return data
        raise BlobMissing(manifest.name, name)

    def restore(self, manifest: Manifest, folder: Path) -> Path:
        """Put the files of a set into a new folder, which appears once all of them are verified.

        Raises:
            InvalidParameter: `folder` exists; it was not touched.
            SealBroken, BlobMissing: a file is not what was written; nothing was restored.
            WriteFailed: the disk refused; nothing was restored.
        """
        if folder.exists():
            raise InvalidParameter("folder", found=str(folder), expected="no folder yet")
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir(parents=True)
            for file in manifest.files:
                passed = Passed(hashlib.sha256())
                stored = self._store.get(f"{manifest.name}/{file.name}")
                write_file(unfinished / file.name, passed.pieces(stored))
                if not passed.is_of(file):
                    raise SealBroken(f"{manifest.name}/{file.name}", "it differs from its digest")
            unfinished.rename(folder)
            fsync_directory(folder.parent)
        except OSError as error:
            raise WriteFailed(folder, reason=reason_of(error), state="nothing restored") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return folder

    def replicate(self, manifest: Manifest, places: list[BlobStore], *, least: int) -> None:
        """Copy a set to further places; each copy is read back.

        Raises:
            ReplicationFailed: fewer than `least` places hold one of its files.
        """
        for file in manifest.files:
            whole: Callable[[BlobStore], bool] = partial(self._is_whole, manifest, file)
            name = f"{manifest.name}/{file.name}"
            replicate(name, self._store, places, is_whole=whole, least=least)
        name = f"{manifest.name}/{MANIFEST}"
        wanted = digest(self._store, name)
        replicate(
            name, self._store, places, is_whole=lambda p: digest(p, name) == wanted, least=least
        )

    def remove(self, manifest: Manifest) -> None:
        """Take a set away."""
        self._clear(manifest.name)

    def _is_whole(self, manifest: Manifest, file: SealedFile, place: BlobStore) -> bool:
        passed = Passed(hashlib.sha256())
        with closing(streamed(place, f"{manifest.name}/{file.name}")) as stored:
            for piece in stored:
                passed.see(piece)
        return passed.is_of(file)

    def _digest(self, series: str, number: int) -> str:
        try:
            return self.manifest(series, number).digest
        except (NotSealed, SealBroken, BlobMissing):
            return ""  # a damaged parent has no digest to follow

    def _clear(self, name: str) -> None:
        names = self._store.names(f"{name}/")
        for found in sorted(names, key=lambda n: not n.endswith(f"/{MANIFEST}")):
            self._store.remove(found)
