"""What `keys` and `checkpoint` share: where sealed sets lie, and who wraps and signs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from privacy_runtime.blobs import FolderStore, SealedSets, SealKeys
from privacy_runtime.journal import Journal
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.keys import Keyring, opened_keyring
from privacy_runtime.signing import KeyHome
from privacy_runtime.world import SystemClock, SystemEntropy

KEYRING_VARIABLE: Final = "PRIVACY_FINETUNER_KEYRING"
STORE_VARIABLE: Final = "PRIVACY_FINETUNER_SEALED_STORE"
_KEYS_FILE: Final = "wrapping-keys.json"
_MEMORY_FILE: Final = "sealed-journal.db"

KeyringAt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--keyring",
        envvar=KEYRING_VARIABLE,
        help="Where wrapping keys are: file:PATH, environment:, vault:NAME@https://HOST or "
        "pkcs11:TOKEN@LIBRARY. Default: this account's file (~/.config/privacy-finetuner/"
        "wrapping-keys.json), made on first use.",
    ),
]
Store: TypeAlias = Annotated[
    Path,
    typer.Option(envvar=STORE_VARIABLE, help="The folder of sealed sets. It may lie anywhere."),
]
Memory: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="The journal that remembers the newest set of each series; keep it where who writes "
        "to the store cannot. Default: ~/.config/privacy-finetuner/sealed-journal.db."
    ),
]


def keyring_at(address: str | None) -> Keyring:
    """The keyring of an address, or this account's own.

    Raises:
        KeyringError: it cannot be opened.
    """
    home = KeyHome.of(os.environ).folder
    if address is None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        address = f"file:{home / _KEYS_FILE}"
    return opened_keyring(
        address, environment=os.environ, clock=SystemClock(), entropy=SystemEntropy()
    )


@contextmanager
def opened_sets(store: Path, keyring: str | None, memory: Path | None) -> Iterator[SealedSets]:
    """The sealed sets of a folder, with this account's signing key."""
    clock, entropy = SystemClock(), SystemEntropy()
    home = KeyHome.of(os.environ)
    wrapping = keyring_at(keyring)
    signing, _ = home.own_key(entropy, now=clock.now())
    home.trust(signing.public)
    path = memory or home.folder / _MEMORY_FILE
    journal = Journal(SqliteHome(path), clock=clock)
    try:
        yield SealedSets(
            FolderStore(store),
            SealKeys(wrapping, signing, home.trusted()),
            journal,
            clock=clock,
            entropy=entropy,
        )
    finally:
        journal.close()
