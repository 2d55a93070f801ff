"""A store that fails by a schedule, and sealed sets kept in it: nothing false is handed out."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_core.errors import PrivacyError
from privacy_runtime.blobs import BlobStore, FolderStore, SealedSets, SealKeys
from privacy_runtime.files import WriteFailed
from privacy_runtime.keys import FileKeyring
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.testing import (
    FaultyStore,
    ManualClock,
    MemoryJournal,
    SeededEntropy,
    StoreFault,
    drawn_faults,
)

HONEST = (
    StoreFault.NONE,
    StoreFault.IO_ERROR,
    StoreFault.NO_SPACE,
    StoreFault.SLOW,
    StoreFault.LOST_ANSWER,
    StoreFault.TORN_READ,
)
CONTENT = b"0123456789" * 1000


def faulty(folder: Path, *faults: StoreFault, **more: Any) -> FaultyStore:
    return FaultyStore(FolderStore(folder), faults, **more)


@pytest.mark.parametrize(
    ("fault", "says", "is_written"),
    [
        (StoreFault.IO_ERROR, "Input/output error", False),
        (StoreFault.NO_SPACE, "No space left", False),
        (StoreFault.LOST_ANSWER, "not known", True),
    ],
)
def test_a_refused_write(tmp_path: Path, fault: StoreFault, says: str, is_written: bool) -> None:
    store = faulty(tmp_path, fault)
    with pytest.raises(WriteFailed, match=says):
        store.put("a", [CONTENT])
    assert store.names() == (["a"] if is_written else [])
    assert store.struck == [(fault, "put", "a")]


def test_a_short_write_is_not_said(tmp_path: Path) -> None:
    store = faulty(tmp_path, StoreFault.SHORT_WRITE)
    store.put("a", [CONTENT])
    assert b"".join(store.get("a")) == CONTENT[: len(CONTENT) // 2]


def test_a_torn_read_and_a_flipped_bit_change_nothing_below(tmp_path: Path) -> None:
    store = faulty(tmp_path, StoreFault.NONE, StoreFault.TORN_READ, StoreFault.FLIPPED_BIT)
    store.put("a", [CONTENT])
    with pytest.raises(WriteFailed):
        b"".join(store.get("a"))
    flipped = b"".join(store.get("a"))
    assert sum(a != b for a, b in zip(flipped, CONTENT, strict=True)) == 1
    assert b"".join(store.get("a")) == CONTENT


def test_a_slow_store_takes_its_time_on_the_clock_of_the_test(tmp_path: Path) -> None:
    clock = ManualClock()
    store = faulty(tmp_path, StoreFault.SLOW, pause=clock.advance, latency_s=7.0)
    store.put("a", [CONTENT])
    assert (clock.monotonic_s(), b"".join(store.get("a"))) == (7.0, CONTENT)


def test_the_same_seed_draws_the_same_faults() -> None:
    one, other = (
        list(itertools.islice(drawn_faults(SeededEntropy(5), 0.5), 200)) for _ in range(2)
    )
    assert one == other
    assert set(one) == set(StoreFault)
    assert set(itertools.islice(drawn_faults(SeededEntropy(5), 0.0), 99)) == {StoreFault.NONE}


@contextmanager
def house() -> Iterator[tuple[Path, Any]]:
    """A folder, and a maker of sealed sets over a store: what one process would open."""
    root = Path(tempfile.mkdtemp())
    clock, entropy = ManualClock(), SeededEntropy(3)
    journal = MemoryJournal(clock)
    keyring = FileKeyring.create(root / "keys", clock=clock, entropy=entropy)
    signing = SigningKey.create(root / "signing.pem", entropy, now=clock.now())
    keys = SealKeys(keyring, signing, TrustedKeys([signing.public]))
    (root / "store").mkdir()

    def sets(store: BlobStore) -> SealedSets:
        return SealedSets(store, keys, journal, clock=clock, entropy=entropy)

    try:
        yield root, sets
    finally:
        shutil.rmtree(root)


def seal_all(root: Path, sets: SealedSets, count: int) -> dict[int, bytes]:
    """Seal so many states; returns what was acknowledged, by number of the set."""
    kept = {}
    for step in range(count):
        state = root / f"state-{step}"
        state.mkdir()
        content = bytes([step]) * (1000 + step)
        (state / "weights").write_bytes(content)
        try:
            kept[sets.seal("run", state).number] = content
        except PrivacyError:
            continue
    return kept


FAULTS = st.lists(st.sampled_from(list(StoreFault)), max_size=40)


@given(faults=FAULTS)
@settings(max_examples=20, deadline=None)
def test_what_a_failing_store_gives_back_is_what_was_sealed_or_an_error(
    faults: list[StoreFault],
) -> None:
    with house() as (root, sets):
        store = FaultyStore(FolderStore(root / "store"), faults)
        kept = seal_all(root, sets(store), 4)
        for number in range(6):
            try:
                newest = sets(store).newest("run")
                folder = sets(store).restore(newest, root / f"back-{number}")
            except PrivacyError:
                continue
            assert (folder / "weights").read_bytes() == kept[newest.number]
            assert newest.number == max(kept)


@given(faults=st.lists(st.sampled_from(HONEST), max_size=40))
@settings(max_examples=20, deadline=None)
def test_a_store_that_only_refuses_loses_nothing_that_was_acknowledged(
    faults: Iterable[StoreFault],
) -> None:
    with house() as (root, sets):
        store = FolderStore(root / "store")
        kept = seal_all(root, sets(FaultyStore(store, faults)), 4)
        for number, content in kept.items():
            manifest = sets(store).manifest("run", number)
            folder = sets(store).restore(manifest, root / f"back-{number}")
            assert (folder / "weights").read_bytes() == content
