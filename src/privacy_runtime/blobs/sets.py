"""Sealed sets of files: states of a run that nobody can read, change or wind back unnoticed.

A set is a folder of a store::

    SERIES/000012/FILE.sealed      each file, encrypted in segments (`segments`)
    SERIES/000012/key.json         the key of the set, wrapped (`keys`); replaced at a rotation
    SERIES/000012/manifest.json    what it holds, signed (`manifests`); written last: no manifest,
                                   no set

The newest number and digest of every series stand in the journal, outside the store: who puts an
older state back, or takes the newest away, is found out. Files that differ from what was sealed
are refused before anything of them stands where a program would load it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_runtime.blobs.errors import BlobMissing, NotSealed, RolledBack, SealBroken
from privacy_runtime.blobs.manifests import Manifest, SealedFile, set_name
from privacy_runtime.blobs.pipeline import Counted, FilePieces, Passed, Reader, ahead, streamed
from privacy_runtime.blobs.segments import Witness, opened, pieces, sealed
from privacy_runtime.blobs.stores import BlobStore, digest, replicate, require_name
from privacy_runtime.files import WriteFailed, fsync_directory, reason_of
from privacy_runtime.journal import Change, Draft, Journal, View
from privacy_runtime.keys import Keyring, Wrapping
from privacy_runtime.signing import SigningKey, TrustedKeys, text_of
from privacy_runtime.world import Clock, Entropy

STREAM: Final = "sealed"
KEY: Final = "key.json"
MANIFEST: Final = "manifest.json"

_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class SealKeys:
    """Who wraps, who signs, whose signatures count."""

    keyring: Keyring
    signing: SigningKey
    trusted: TrustedKeys


class SealedSets:
    """Series of sealed sets in one store.

    Guarantee: a set appears whole or not at all; what `restore` hands out is what was sealed, byte
    by byte, under this series and number; a newest set that was replaced by an older one or taken
    away is noticed as long as the journal is intact. Whoever can write to the store can destroy:
    replicate. One process at a time seals a series: whoever holds the lock of its run.

    Args:
        store: where the sets lie.
        keys: who wraps and signs.
        journal: remembers the newest of each series, in the stream `sealed`.
        clock, entropy: the outside world.
    """

    def __init__(
        self, store: BlobStore, keys: SealKeys, journal: Journal, *, clock: Clock, entropy: Entropy
    ) -> None:
        self._store = store
        self._keys = keys
        self._journal = journal
        self._clock = clock
        self._entropy = entropy

    def seal(
        self,
        series: str,
        source: Path | Mapping[str, bytes],
        *,
        ledger: Mapping[str, str | int] | None = None,
        labels: Mapping[str, str | int] | None = None,
    ) -> Manifest:
        """Seal all files of a folder as the next set of a series.

        Args:
            series: a name, such as a run's id.
            source: the folder, with the folders in it; or contents by file name, of which nothing
                then touches a disk unsealed.
            ledger: where the ledger stands.
            labels: public figures to find the set by.

        Raises:
            WriteFailed: the store refused; what was written of the set is taken away again.
            KeyringError: the key could not be wrapped; nothing was written.
            RolledBack: another process sealed the next set meanwhile; this one was taken away.
        """
        newest = self._newest(series)
        number = newest[0] + 1
        name = set_name(series, number)
        require_name(name)
        secret = self._entropy.token_bytes(_KEY_BYTES)
        wrapping = self._keys.keyring.wrap(secret)
        self._clear(name)  # what a killed process left
        try:
            files = tuple(
                self._put(name, file, content, secret) for file, content in contents_of(source)
            )
            self._write(f"{name}/{KEY}", json.dumps(wrapping.to_json()).encode())
            manifest = Manifest(
                series=series,
                number=number,
                sealed_at=text_of(self._clock.now()),
                parent=newest[1],
                ledger=ledger or {},
                labels=labels or {},
                files=files,
            )
            self._write(f"{name}/{MANIFEST}", manifest.signed(self._keys.signing))
            self._record(manifest)
        except BaseException:
            self._clear(name)
            raise
        return manifest

    def series(self) -> list[str]:
        """Names of all series in the store or in the journal."""
        stored = {n.rsplit("/", 2)[0] for n in self._store.names() if n.endswith(f"/{MANIFEST}")}
        known = {name for name, _ in self._journal.documents(STREAM)}
        return sorted(stored | known)

    def manifests(self, series: str) -> list[Manifest]:
        """The sets of a series that are there, oldest first; signatures are checked, files are not.

        Raises:
            SealBroken, NotSealed: a manifest is not what was signed.
        """
        return [self.manifest(series, number) for number in self.numbers(series)]

    def numbers(self, series: str) -> list[int]:
        """The sets of a series that are there, oldest first; not even signatures are checked."""
        names = [n for n in self._store.names(f"{series}/") if n.endswith(f"/{MANIFEST}")]
        folders = [name.split("/") for name in names]
        return [int(f[-2]) for f in folders if "/".join(f[:-2]) == series and f[-2].isdecimal()]

    def manifest(self, series: str, number: int) -> Manifest:
        """One set of a series; its signature is checked, its files are not.

        Raises:
            SealBroken, NotSealed: its manifest is not what was signed. BlobMissing: there is none.
        """
        return self._manifest(set_name(series, number))

    def newest(self, series: str) -> Manifest:
        """The newest set, which must be the one that the journal remembers.

        Raises:
            RolledBack: it is not, or there is none.
        """
        number, remembered = self._newest(series)
        if number == 0:
            raise RolledBack(series, "no set of this series was ever sealed")
        try:
            manifest = self._manifest(set_name(series, number))
        except BlobMissing as error:
            raise RolledBack(series, f"its newest set, number {number}, is gone") from error
        if manifest.digest != remembered:
            raise RolledBack(series, f"set {number} is not the one that was sealed last")
        return manifest

    def verify(self, manifest: Manifest) -> None:
        """Read every file of a set back, and check sums, segments and sizes.

        Raises:
            SealBroken, NotSealed, BlobMissing: a file is not what was sealed.
        """
        for file in manifest.files:
            for _ in self._plain(manifest, file):
                pass

    def read(self, manifest: Manifest, name: str) -> bytes:
        """One file of a set, in memory, once all of it was verified.

        Raises:
            BlobMissing: the set has no such file.
            SealBroken, NotSealed: it is not what was sealed.
        """
        for file in manifest.files:
            if file.name == name:
                return b"".join(self._plain(manifest, file))
        raise BlobMissing(manifest.name, name)

    def restore(self, manifest: Manifest, folder: Path) -> Path:
        """Put the files of a set into a new folder, which appears once all of them are verified.

        Raises:
            InvalidParameter: `folder` exists; it was not touched.
            SealBroken, NotSealed, BlobMissing: a file is not what was sealed; nothing was restored.
            WriteFailed: the disk refused; nothing was restored.
        """
        if folder.exists():
            raise InvalidParameter("folder", found=str(folder), expected="no folder yet")
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            for file in manifest.files:
                with closing(ahead(self._plain(manifest, file))) as pieces_ahead:
                    write_file(unfinished / file.name, pieces_ahead)
            unfinished.mkdir(parents=True, exist_ok=True)
            unfinished.rename(folder)
            fsync_directory(folder.parent)
        except OSError as error:
            raise WriteFailed(folder, reason=reason_of(error), state="nothing restored") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return folder

    def rewrap(self, progress: Callable[[int, int], None] = lambda done, of: None) -> int:
        """Wrap the key of every set anew, under the current wrapping key; no file is touched.

        Safe to interrupt and to repeat: each key is replaced whole, and old wrapping keys open.

        Returns:
            how many were wrapped under an older key.
        """
        (current,) = [key.id for key in self._keys.keyring.known() if key.is_current]
        names = [name for name in self._store.names() if name.endswith(f"/{KEY}")]
        count = 0
        for done, name in enumerate(names):
            progress(done, len(names))
            wrapping = self._wrapping(name)
            if wrapping.key != current or wrapping.keeper != self._keys.keyring.keeper:
                again = self._keys.keyring.wrap(self._keys.keyring.unwrap(wrapping))
                self._write(name, json.dumps(again.to_json()).encode())
                count += 1
        progress(len(names), len(names))
        return count

    def replicate(self, manifest: Manifest, places: list[BlobStore], *, least: int) -> None:
        """Copy a set to further places; each copy is read back. No key is needed.

        A copy is compared with the signed sums, which find every accident (`segments.Witness`).
        What somebody changed on purpose is found when the copy is opened.

        Raises:
            ReplicationFailed: fewer than `least` places hold one of its files.
        """
        for file in manifest.files:
            whole = partial(self._is_whole, manifest, file)
            name = f"{manifest.name}/{file.name}.sealed"
            replicate(name, self._store, places, is_whole=whole, least=least)
        for name in (f"{manifest.name}/{KEY}", f"{manifest.name}/{MANIFEST}"):
            whole = partial(_is_equal, name, digest(self._store, name))
            replicate(name, self._store, places, is_whole=whole, least=least)

    def remove(self, manifest: Manifest) -> None:
        """Take a set away, if it is not the newest of its series.

        Raises:
            InvalidParameter: it is.
        """
        if manifest.number >= self._newest(manifest.series)[0]:
            raise InvalidParameter(
                "manifest", found=manifest.name, expected="a set that has a newer one"
            )
        self._clear(manifest.name)

    def _put(self, name: str, file: str, content: Iterable[bytes], secret: bytes) -> SealedFile:
        plain, passed = Counted(content), Passed(Witness())
        made = passed.pieces(sealed(plain, secret, f"{name}/{file}", self._entropy))
        with closing(ahead(made)) as written:
            self._store.put(f"{name}/{file}.sealed", written)
        return SealedFile(file, passed.sums.hexdigest(), passed.size_bytes, plain.size_bytes)

    def _plain(self, manifest: Manifest, file: SealedFile) -> Iterator[bytes]:
        """The stream of a file; its end is reached only if all of it is what was sealed."""
        name = f"{manifest.name}/{file.name}"
        secret = self._keys.keyring.unwrap(self._wrapping(f"{manifest.name}/{KEY}"))
        passed, size = Passed(manifest.sums()), 0
        with closing(streamed(self._store, f"{name}.sealed")) as stored:
            for plain in opened(Reader(stored), secret, name, witness=passed.see):
                size += len(plain)
                yield plain
        if size != file.plain_bytes or not passed.is_of(file):
            raise SealBroken(name, "it is a sealed file, but not the one of the manifest")

    def _is_whole(self, manifest: Manifest, file: SealedFile, place: BlobStore) -> bool:
        """Whether the copy of a file adds up to what was signed."""
        name, passed = f"{manifest.name}/{file.name}", Passed(manifest.sums())
        with closing(streamed(place, f"{name}.sealed")) as stored:
            for piece in pieces(Reader(stored), name):
                passed.see(piece)
        return passed.is_of(file)

    def _manifest(self, name: str) -> Manifest:
        manifest = Manifest.opened(self._read(f"{name}/{MANIFEST}"), name, self._keys.trusted)
        if manifest.name != name:
            raise SealBroken(name, f"its manifest is that of {manifest.name}")
        return manifest

    def _wrapping(self, name: str) -> Wrapping:
        try:
            return Wrapping.from_json(json.loads(self._read(name)))
        except ValueError as error:
            raise NotSealed(name, "it is not JSON") from error

    def _newest(self, series: str) -> tuple[int, str]:
        document = self._journal.document(STREAM, series)
        return (0, "") if document is None else (document["number"], document["digest"])

    def _record(self, manifest: Manifest) -> None:
        def decide(view: View) -> Change:
            held = view.documents.get(manifest.series)
            if (0 if held is None else held["number"]) != manifest.number - 1:
                raise RolledBack(manifest.series, "another process sealed its next set meanwhile")
            body = {"number": manifest.number, "digest": manifest.digest}
            draft = Draft("sealed", f"{manifest.name}", {"series": manifest.series, **body})
            return Change([draft], {manifest.series: body})

        self._journal.transact(STREAM, decide, names=[manifest.series])

    def _read(self, name: str) -> bytes:
        return b"".join(self._store.get(name))

    def _write(self, name: str, data: bytes) -> None:
        self._store.put(name, [data])

    def _clear(self, name: str) -> None:
        """The manifest first: what is left then is no set."""
        names = self._store.names(f"{name}/")
        for found in sorted(names, key=lambda n: not n.endswith(f"/{MANIFEST}")):
            self._store.remove(found)


def _is_equal(name: str, sha256: str, place: BlobStore) -> bool:
    return digest(place, name) == sha256


def contents_of(source: Path | Mapping[str, bytes]) -> list[tuple[str, Iterable[bytes]]]:
    """Relative names and contents of the files of a folder, sorted; a link is refused.

    Raises:
        InvalidParameter: it is no folder, or holds a symbolic link.
    """
    if isinstance(source, Mapping):
        return [(name, [source[name]]) for name in sorted(source)]
    paths = sorted(source.rglob("*"))
    links = [path for path in paths if path.is_symlink()]
    if links or not source.is_dir():
        found = links[0].name if links else str(source)
        raise InvalidParameter("folder", found=found, expected="a folder without symbolic links")
    return [(p.relative_to(source).as_posix(), FilePieces(p)) for p in paths if p.is_file()]


def write_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file, with the folders above it, and wait for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
