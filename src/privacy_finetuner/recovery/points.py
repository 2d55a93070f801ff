"""Recovery points: states of a run that are kept, verified, and returned to.

A folder of recovery points holds::

    points/SERIES/000012/...       one point: a set of files (`blobs.SealedSets`, or `plain_sets`)
    aside/SERIES-000012/...        a point that is not what was written, kept as evidence

With `Sealing` points are encrypted, signed, and the newest is remembered in a journal elsewhere;
without, they are plain files with digests, and every `RecoveryPoint` says so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from privacy_core.errors import InvalidParameter
from privacy_finetuner.recovery.errors import NoVerifiedPoint, UnknownPoint
from privacy_finetuner.recovery.plain_sets import PlainSets
from privacy_runtime.blobs import (
    BlobStore,
    FolderStore,
    Manifest,
    SealedError,
    SealedSets,
    SealKeys,
    store_at,
)
from privacy_runtime.blobs.manifests import set_name
from privacy_runtime.blobs.sets import STREAM
from privacy_runtime.files import FilesError
from privacy_runtime.journal import Journal
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.keys import KeyringError, opened_keyring
from privacy_runtime.signing import KeyHome, SigningError
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

POINTS: Final = "points"
ASIDE: Final = "aside"
_DAMAGE: Final = (SealedError, SigningError, KeyringError, FilesError)
"""What reading a damaged or foreign point raises."""


@dataclass(frozen=True, slots=True)
class Sealing:
    """Who wraps and signs recovery points, and what remembers the newest.

    Attributes:
        keys: see `blobs.SealKeys`.
        journal: must not lie where who writes to the points can write.
    """

    keys: SealKeys
    journal: Journal

    @classmethod
    @contextmanager
    def of_account(
        cls,
        keyring: str | None = None,
        memory: Path | None = None,
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> Iterator[Sealing]:
        """This account's own keys and memory, as `privacy-finetuner checkpoint` uses them.

        Args:
            keyring: `file:PATH`, `environment:`, `vault:...` or `pkcs11:...`; `None`: the account's
                file, made on first use.
            memory: the journal; `None`: the account's.
            clock: dates keys.
            entropy: makes them.

        Raises:
            KeyringError: the keyring cannot be opened.
        """
        clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
        home = KeyHome.of(os.environ)
        home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        address = keyring or f"file:{home.folder / 'wrapping-keys.json'}"
        wrapping = opened_keyring(address, environment=os.environ, clock=clock, entropy=entropy)
        signing, _ = home.own_key(entropy, now=clock.now())
        home.trust(signing.public)
        journal = Journal(SqliteHome(memory or home.folder / "sealed-journal.db"), clock=clock)
        try:
            yield cls(SealKeys(wrapping, signing, home.trusted()), journal)
        finally:
            journal.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPoint:
    """A state that was kept.

    Attributes:
        id: `SERIES/NUMBER`.
        step, epoch: of the run.
        made_at: RFC 3339 in UTC.
        is_sealed: encrypted and signed; otherwise plain files with digests.
        digest: of its manifest, which names the parent's and where the ledger stood.
        parent, ledger: see there.
        size_bytes: of its files.
        copies: places beside the first that held a verified copy when it was made.
    """

    id: str
    step: int
    epoch: int
    made_at: str
    is_sealed: bool
    digest: str
    parent: str
    ledger: Mapping[str, str | int]
    size_bytes: int
    copies: int = 0


class _Sets(Protocol):
    """What `SealedSets` and `PlainSets` have in common."""

    def seal(
        self,
        series: str,
        source: Path | Mapping[str, bytes],
        *,
        ledger: Mapping[str, str | int] | None = None,
        labels: Mapping[str, str | int] | None = None,
    ) -> Manifest: ...
    def numbers(self, series: str) -> list[int]: ...
    def manifest(self, series: str, number: int) -> Manifest: ...
    def verify(self, manifest: Manifest) -> None: ...
    def read(self, manifest: Manifest, name: str) -> bytes: ...
    def restore(self, manifest: Manifest, folder: Path) -> Path: ...
    def replicate(self, manifest: Manifest, places: list[BlobStore], *, least: int) -> None: ...
    def remove(self, manifest: Manifest) -> None: ...


@dataclass(slots=True)
class RecoveryPoints:
    """The points of one run in a folder, and copies of them in further places.

    Guarantee: a point appears whole or not at all, and was read back before `keep` returns. What
    `restore` hands out is, byte by byte, what was kept under that number.

    Args:
        folder: see the module.
        series: of the run.
        sealing: `None`: plain points.
        replicas: folders, `s3://...` addresses or stores; every one must hold every point.
        clock, entropy: the outside world.
    """

    folder: Path
    series: str = "run"
    sealing: Sealing | None = None
    replicas: Sequence[str | Path | BlobStore] = ()
    clock: Clock = field(default_factory=SystemClock)
    entropy: Entropy = field(default_factory=SystemEntropy)
    _copies: list[BlobStore] = field(init=False, default_factory=list)
    _places: list[_Sets] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._copies = [store_at(p) if isinstance(p, str | Path) else p for p in self.replicas]
        stores = [FolderStore(self.folder / POINTS), *self._copies]
        self._places = [self._sets(store) for store in stores]

    def keep(
        self,
        source: Path | Mapping[str, bytes],
        *,
        epoch: int,
        step: int,
        ledger: Mapping[str, str | int] | None = None,
    ) -> RecoveryPoint:
        """Keep a folder, or contents by file name, as the next point; read it back; copy it.

        Raises:
            WriteFailed: the disk refused; earlier points are as they were.
            ReplicationFailed: the point is kept, and not everywhere.
            SealedError: it cannot be read back.
        """
        self.folder.joinpath(POINTS).mkdir(parents=True, exist_ok=True)
        first = self._places[0]
        manifest = first.seal(
            self.series, source, ledger=ledger, labels={"step": step, "epoch": epoch}
        )
        first.verify(manifest)
        if self._copies:
            first.replicate(manifest, self._copies, least=len(self._copies))
        return self._point(manifest, copies=len(self._copies))

    def numbers(self) -> list[int]:
        """The points that are there, oldest first; nothing of them was looked at."""
        found = {number for place in self._places for number in place.numbers(self.series)}
        return sorted(found)

    def point(self, number: int) -> RecoveryPoint:
        """One point, by a manifest that is in order; its files are not looked at.

        Raises:
            NoVerifiedPoint: no place has such a manifest.
        """
        return self._point(self._manifest(number))

    def named(self, point: str) -> int:
        """The number of a point's id.

        Raises:
            UnknownPoint: there is none.
        """
        for number in self.numbers():
            if set_name(self.series, number) == point:
                return number
        raise UnknownPoint(point)

    def damage(self, number: int) -> str:
        """What is wrong with a point, read back file by file; empty if it is what was kept.

        A copy that is whole makes up for a first place that is not.
        """
        reasons = []
        for place in self._places:
            try:
                place.verify(place.manifest(self.series, number))
            except _DAMAGE as error:
                reasons.append(str(error))
            else:
                return ""
        return "; ".join(reasons)

    def newest_verified(self) -> RecoveryPoint:
        """The newest point that is what was kept.

        Raises:
            NoVerifiedPoint: there is none.
        """
        for number in reversed(self.numbers()):
            if not self.damage(number):
                return self.point(number)
        raise NoVerifiedPoint(
            f"{self.folder} has {len(self.numbers())} recovery points and none that is what was "
            "kept; nothing was loaded"
        )

    def rolled_back(self) -> str:
        """Whether somebody took the newest sealed point away, or put an older one in its place.

        Empty: nobody did, or nothing remembers it (plain points). An older point is safe to return
        to, for the ledger does not go back with it; that it is older is worth a question.
        """
        if self.sealing is None:
            return ""
        remembered = self.sealing.journal.document(STREAM, self.series)
        if remembered is None:
            return ""
        number = int(remembered["number"])
        if (self.folder / ASIDE / set_name(self.series, number).replace("/", "-")).exists():
            return ""  # it was damaged, and set aside here
        try:
            is_there = self._manifest(number).digest == remembered["digest"]
        except NoVerifiedPoint:
            is_there = False
        return (
            "" if is_there else f"the newest recovery point, number {number}, is gone or replaced"
        )

    def restore(self, number: int, folder: Path) -> Path:
        """Put the files of a point into a new folder, from the first place that has them whole.

        Raises:
            NoVerifiedPoint: no place has; nothing was restored.
            WriteFailed, InvalidParameter: `folder` cannot be made; nothing was restored.
        """
        reasons = []
        for place in self._places:
            try:
                return place.restore(place.manifest(self.series, number), folder)
            except (SealedError, SigningError, KeyringError) as error:
                reasons.append(str(error))
        raise NoVerifiedPoint(f"{'; '.join(reasons)}; nothing was restored")

    def read(self, number: int, name: str) -> bytes:
        """One file of a point, from the first place that has it whole. It touches no disk.

        Raises:
            NoVerifiedPoint: no place has.
        """
        reasons = []
        for place in self._places:
            try:
                return place.read(place.manifest(self.series, number), name)
            except _DAMAGE as error:
                reasons.append(str(error))
        raise NoVerifiedPoint(f"{'; '.join(reasons)}; nothing was loaded")

    def set_aside(self, number: int) -> Path | None:
        """Move a point of the first place out of the way, as evidence; `None`: it is not there."""
        name = set_name(self.series, number)
        source = self.folder / POINTS / name
        if not source.is_dir():
            return None
        base = self.folder / ASIDE / name.replace("/", "-")
        target, again = base, 1
        while target.exists():
            again += 1
            target = base.with_name(f"{base.name}.{again}")
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        return target

    def free(self, keep: int) -> int:
        """Remove what the retention list lets go; returns the bytes of the first place.

        The list: what was set aside, then the oldest points beyond the newest `keep`.
        """
        before = _size(self.folder)
        shutil.rmtree(self.folder / ASIDE, ignore_errors=True)
        self.prune(keep)
        return before - _size(self.folder)

    def prune(self, keep: int) -> None:
        """Remove the oldest points beyond the newest `keep`, which is at least 1."""
        for number in self.numbers()[: -max(1, keep)]:
            for place in self._places:
                try:
                    place.remove(place.manifest(self.series, number))
                except (*_DAMAGE, InvalidParameter):
                    continue  # it is not there; or it is damaged or the newest remembered: evidence

    def _sets(self, store: BlobStore) -> _Sets:
        if self.sealing is None:
            return PlainSets(store, clock=self.clock)
        sealing = self.sealing
        return SealedSets(
            store, sealing.keys, sealing.journal, clock=self.clock, entropy=self.entropy
        )

    def _manifest(self, number: int) -> Manifest:
        reasons = []
        for place in self._places:
            try:
                return place.manifest(self.series, number)
            except _DAMAGE as error:
                reasons.append(str(error))
        raise NoVerifiedPoint("; ".join(reasons))

    def _point(self, manifest: Manifest, *, copies: int = 0) -> RecoveryPoint:
        return RecoveryPoint(
            id=manifest.name,
            step=int(manifest.labels["step"]),
            epoch=int(manifest.labels["epoch"]),
            made_at=manifest.sealed_at,
            is_sealed=self.sealing is not None,
            digest=manifest.digest,
            parent=manifest.parent,
            ledger=manifest.ledger,
            size_bytes=sum(file.plain_bytes for file in manifest.files),
            copies=copies,
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
