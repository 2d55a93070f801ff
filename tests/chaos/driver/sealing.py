"""Checkpoints of a campaign, sealed into a store that fails: what comes back is what was sealed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from driver.site import Site
from privacy_core.errors import PrivacyError
from privacy_runtime.blobs import FolderStore, SealedSets, SealKeys
from privacy_runtime.keys import FileKeyring
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.testing import FaultyStore, MemoryJournal, SeededEntropy, drawn_faults
from privacy_runtime.world import SystemClock, SystemEntropy

_SHARE: Final = 0.1
_TRIES: Final = 100


def sealed_and_restored(site: Site, seed: int) -> Iterator[str]:
    """Seal every run's newest checkpoint, and restore it, until it is there; what does not hold."""
    clock, entropy, home = SystemClock(), SystemEntropy(), site.root / "vault"
    home.mkdir()
    signing = SigningKey.create(home / "signing.pem", entropy, now=clock.now())
    keyring = FileKeyring.create(home / "keys", clock=clock, entropy=entropy)
    faults = drawn_faults(SeededEntropy(seed), _SHARE)
    (home / "store").mkdir()
    sets = SealedSets(
        FaultyStore(FolderStore(home / "store"), faults),
        SealKeys(keyring, signing, TrustedKeys([signing.public])),
        MemoryJournal(clock),
        clock=clock,
        entropy=entropy,
    )
    for job in site.jobs:
        state = site.record(job)
        if state is not None and state.checkpoint is not None:
            yield from _one(sets, job.id, site.folder(job) / state.checkpoint, home)


def _one(sets: SealedSets, series: str, checkpoint: Path, home: Path) -> Iterator[str]:
    for number in range(_TRIES):
        try:
            sets.seal(series, checkpoint)
            back = sets.restore(sets.newest(series), home / f"{series}-{number}")
        except PrivacyError:
            continue
        if _contents(back) != _contents(checkpoint):
            yield f"{series}: {checkpoint.name} came back as something else"
        return
    yield f"{series}: {checkpoint.name} was not sealed in {_TRIES} tries"


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
