"""Sealed checkpoints: encryption alone, a checkpoint of a gigabyte beside plain files, rotation.

    python benchmarks/sealed.py [--bytes 1000000000] [--folder DIR] [--softhsm LIBRARY] [--json]

`plain` writes the same bytes to one file and waits for the disk; `sealed` encrypts, digests, signs,
journals and waits for the disk. Rounds take turns; medians of five. `--softhsm` names the library
of SoftHSM 2 (`/usr/lib/softhsm/libsofthsm2.so`): a thousand keys are wrapped anew in a fresh token.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from privacy_runtime.blobs import FolderStore, SealedSets, SealKeys
from privacy_runtime.blobs.segments import sealed
from privacy_runtime.journal import Journal
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.keys import FileKeyring
from privacy_runtime.secret import Secret
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.world import SystemClock, SystemEntropy

ROUNDS, PIECE = 5, 2**20
CLOCK, ENTROPY = SystemClock(), SystemEntropy()


def encryption(size: int) -> float:
    """Gigabytes a second of one core."""
    piece = os.urandom(PIECE)
    best = 0.0
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in sealed((piece for _ in range(size // PIECE)), bytes(32), "x", ENTROPY):
            pass
        best = max(best, size / (time.process_time() - begun) / 1e9)
    return best


def plain(source: Path, target: Path) -> float:
    begun = time.perf_counter()
    with source.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, PIECE)
        write.flush()
        os.fsync(write.fileno())
    seconds = time.perf_counter() - begun
    target.unlink()
    return seconds


def checkpoints(folder: Path, size: int) -> dict[str, float]:
    (folder / "state").mkdir()
    source = folder / "state" / "weights"
    with source.open("wb") as file:
        for _ in range(size // PIECE):
            file.write(os.urandom(PIECE))
    signing = SigningKey.create(folder / "signing.pem", ENTROPY, now=CLOCK.now())
    keyring = FileKeyring.create(folder / "keys", clock=CLOCK, entropy=ENTROPY)
    (folder / "store").mkdir()
    sets = SealedSets(
        FolderStore(folder / "store"),
        SealKeys(keyring, signing, TrustedKeys([signing.public])),
        Journal(SqliteHome(folder / "journal.db"), clock=CLOCK),
        clock=CLOCK,
        entropy=ENTROPY,
    )
    times: dict[str, list[float]] = {"plain": [], "sealed": [], "restored": []}
    for _ in range(ROUNDS):
        times["plain"].append(plain(source, folder / "copy"))
        begun = time.perf_counter()
        manifest = sets.seal("run", folder / "state")
        times["sealed"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        sets.restore(manifest, folder / "back")
        times["restored"].append(time.perf_counter() - begun)
        shutil.rmtree(folder / "back")
        shutil.rmtree(folder / "store")
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def rotation(folder: Path, library: str, keys: int = 1000) -> float:
    """Seconds to open and wrap so many keys anew in a software security module."""
    from privacy_runtime.keys.pkcs11 import Pkcs11Keyring

    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    tool = shutil.which("softhsm2-util") or "softhsm2-util"
    words = "--init-token --free --label bench --pin 1234 --so-pin 4321"
    subprocess.run([tool, *words.split()], check=True, capture_output=True)
    keyring = Pkcs11Keyring(library, "bench", Secret("1234"), clock=CLOCK)
    wrapped = [keyring.wrap(os.urandom(32)) for _ in range(keys)]
    keyring.rotate()
    begun = time.perf_counter()
    for wrapping in wrapped:
        keyring.wrap(keyring.unwrap(wrapping))
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=10**9)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--softhsm")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures: dict[str, float] = {"encryption_gb_per_s": encryption(asked.bytes)}
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        figures |= {f"{n}_s": s for n, s in checkpoints(Path(folder), asked.bytes).items()}
        figures["overhead"] = figures["sealed_s"] / figures["plain_s"] - 1
        if asked.softhsm:
            figures["rewrap_1000_s"] = rotation(Path(folder), asked.softhsm)
    if asked.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:24}{figure:8.3f}")


if __name__ == "__main__":
    main()
