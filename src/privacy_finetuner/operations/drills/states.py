"""Tampering with sealed checkpoints, under real seals, signatures and a journal that remembers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_finetuner.operations.drills.sandbox import Sandbox
from privacy_finetuner.operations.run_context import sealed_fact
from privacy_finetuner.operations.run_rules import RunFacts
from privacy_runtime.blobs import FolderStore, SealedError, SealedSets, SealKeys
from privacy_runtime.keys import FileKeyring
from privacy_runtime.signing import SigningKey, TrustedKeys

SERIES: Final = "run-1"
_WEIGHTS: Final = "model.safetensors"
_BYTES: Final = 100_000


def checkpoint_tampering(sandbox: Sandbox, intensity: float) -> Iterator[None]:
    """Change the newest of three sealed states in one of five ways, chosen by chance.

    Flipped bits (as many as the intensity says, at least one), a cut end, two files' places
    exchanged, an older state put in its place, the newest taken away.
    """
    sets, store = sealed_series(sandbox)
    newest = store / SERIES / "000003"
    if not (newest / "manifest.json").is_file():
        raise InvalidParameter("store", found="another layout", expected=str(newest.name))

    def facts() -> RunFacts:
        return RunFacts(
            tenant=sandbox.tenant,
            run=SERIES,
            now=sandbox.clock.now(),
            sealed=(sealed_fact(sets, SERIES),),
            about={"run": SERIES},
        )

    def refused() -> dict[str, object]:
        try:
            sets.restore(sets.newest(SERIES), sandbox.root / "restored")
        except SealedError as error:
            return {"restore_refused_with": error.code, "run_is_halted": SERIES in sandbox.halts}
        return {"restore_refused_with": None}

    sandbox.looks.append(facts)
    sandbox.afterwards.append(refused)
    ways: tuple[Callable[[Path], None], ...] = (
        lambda folder: _flip(folder, sandbox, intensity),
        _cut,
        _exchange,
        _wind_back,
        shutil.rmtree,
    )
    way = ways[int(float(sandbox.chance.uniforms(1)[0]) * len(ways))]
    way(newest)
    sandbox.clock.advance(sandbox.settings.interval_s)
    yield


def sealed_series(sandbox: Sandbox) -> tuple[SealedSets, Path]:
    """Three sealed states of a run, and the folder of their store."""
    root, clock, entropy = sandbox.root, sandbox.clock, sandbox.entropy
    keyring = FileKeyring.create(root / "wrapping-keys", clock=clock, entropy=entropy)
    signing = SigningKey.create(root / "signing.pem", entropy, now=clock.now())
    keys = SealKeys(keyring, signing, TrustedKeys([signing.public]))
    store = root / "sealed"
    store.mkdir()
    sets = SealedSets(FolderStore(store), keys, sandbox.journal, clock=clock, entropy=entropy)
    for step in (1, 2, 3):
        state = root / f"state-{step}"
        state.mkdir()
        (state / _WEIGHTS).write_bytes(entropy.token_bytes(_BYTES))
        (state / "optimizer.bin").write_bytes(entropy.token_bytes(_BYTES))
        sets.seal(SERIES, state, labels={"step": step})
    return sets, store


def _flip(folder: Path, sandbox: Sandbox, intensity: float) -> None:
    path = folder / f"{_WEIGHTS}.sealed"
    data = bytearray(path.read_bytes())
    for chance in sandbox.chance.uniforms(max(1, round(100 * intensity))):
        place = int(float(chance) * len(data) * 8)
        data[place // 8] ^= 1 << place % 8
    path.write_bytes(bytes(data))


def _cut(folder: Path) -> None:
    path = folder / f"{_WEIGHTS}.sealed"
    path.write_bytes(path.read_bytes()[: _BYTES // 2])


def _exchange(folder: Path) -> None:
    one, other = folder / f"{_WEIGHTS}.sealed", folder / "optimizer.bin.sealed"
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)


def _wind_back(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("000002"), folder)
