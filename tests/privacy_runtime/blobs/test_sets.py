from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.blobs import (
    BlobMissing,
    FolderStore,
    Manifest,
    ObjectStore,
    ReplicationFailed,
    RolledBack,
    SealedError,
    SealedSets,
    SealKeys,
)
from privacy_runtime.files import WriteFailed
from privacy_runtime.journal import Journal
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.keys import FileKeyring
from privacy_runtime.signing import SigningError, SigningKey, TrustedKeys
from privacy_runtime.testing import ManualClock, SeededEntropy


@dataclass
class World:
    root: Path
    clock: ManualClock
    journal: Journal
    keys: SealKeys
    keyring: FileKeyring
    sets: SealedSets

    @property
    def store(self) -> Path:
        return self.root / "store"

    def state(self, step: int) -> Path:
        """A folder as training leaves one."""
        folder = self.root / f"state-{step}"
        (folder / "adapter").mkdir(parents=True)
        (folder / "weights").write_bytes(bytes([step]) * 100_000)
        (folder / "adapter" / "config.json").write_text(json.dumps({"step": step}))
        (folder / "empty").write_bytes(b"")
        return folder

    def seal(self, step: int) -> Manifest:
        return self.sets.seal(
            "run-1",
            self.state(step),
            ledger={"stream": "ledger", "seq": step, "hash": f"{step:064x}"},
            labels={"step": step},
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    clock, entropy = ManualClock(), SeededEntropy(3)
    journal = Journal(SqliteHome(tmp_path / "journal.db"), clock=clock)
    keyring = FileKeyring.create(tmp_path / "wrapping-keys", clock=clock, entropy=entropy)
    signing = SigningKey.create(tmp_path / "signing.pem", entropy, now=clock.now())
    keys = SealKeys(keyring, signing, TrustedKeys([signing.public]))
    (tmp_path / "store").mkdir()
    sets = SealedSets(FolderStore(tmp_path / "store"), keys, journal, clock=clock, entropy=entropy)
    yield World(tmp_path, clock, journal, keys, keyring, sets)
    journal.close()


def same(one: Path, other: Path) -> bool:
    names = sorted(p.relative_to(one) for p in one.rglob("*"))
    return names == sorted(p.relative_to(other) for p in other.rglob("*")) and all(
        (one / n).is_dir() or (one / n).read_bytes() == (other / n).read_bytes() for n in names
    )


def test_what_is_sealed_comes_back_byte_by_byte(world: World) -> None:
    manifest = world.seal(1)
    world.sets.verify(manifest)
    restored = world.sets.restore(world.sets.newest("run-1"), world.root / "back")

    assert same(world.root / "state-1", restored)
    assert manifest.labels == {"step": 1}
    assert manifest.ledger["seq"] == 1


def test_nothing_sealed_can_be_read(world: World) -> None:
    world.seal(65)  # b"A" * 100_000

    for path in world.store.rglob("*"):
        assert not path.is_file() or b"AAAA" not in path.read_bytes()


def test_sets_follow_each_other(world: World) -> None:
    made = [world.seal(step) for step in (1, 2, 3)]

    assert [m.number for m in made] == [1, 2, 3]
    assert [m.parent for m in made] == ["", made[0].digest, made[1].digest]
    assert world.sets.manifests("run-1") == made
    assert world.sets.newest("run-1") == made[2]
    assert world.sets.series() == ["run-1"]


def files_of(world: World) -> list[Path]:
    return sorted(path for path in world.store.rglob("*") if path.is_file())


@pytest.mark.parametrize("which", range(5))
def test_no_changed_byte_of_any_file_is_restored(world: World, which: int) -> None:
    world.seal(1)
    path = files_of(world)[which]
    data = path.read_bytes()
    for place in {0, 5, len(data) // 3, len(data) // 2, len(data) - 1}:
        spoilt = bytearray(data)
        spoilt[place] ^= 4
        path.write_bytes(bytes(spoilt))
        with pytest.raises((SealedError, SigningError, Exception)) as caught:
            world.sets.restore(world.sets.newest("run-1"), world.root / "back")
        assert caught.type.__module__.startswith(("privacy_runtime", "privacy_core"))
        assert not (world.root / "back").exists()
    path.write_bytes(data)

    world.sets.restore(world.sets.newest("run-1"), world.root / "back")


@pytest.mark.parametrize("which", range(5))
def test_a_file_that_is_cut_or_gone_is_noticed(world: World, which: int) -> None:
    world.seal(1)
    path = files_of(world)[which]
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(Exception, match=r".") as cut:
        world.sets.verify(world.sets.newest("run-1"))
    path.unlink()
    with pytest.raises((BlobMissing, RolledBack)):
        world.sets.verify(world.sets.newest("run-1"))

    assert cut.type.__module__.startswith(("privacy_runtime", "privacy_core"))


def test_an_older_state_in_place_of_the_newest_is_noticed(world: World) -> None:
    world.seal(1)
    world.seal(2)
    shutil.rmtree(world.store / "run-1" / "000002")
    with pytest.raises(RolledBack, match="number 2, is gone"):
        world.sets.newest("run-1")
    shutil.copytree(world.store / "run-1" / "000001", world.store / "run-1" / "000002")

    with pytest.raises(SealedError, match="its manifest is that of run-1/000001"):
        world.sets.newest("run-1")


def test_a_whole_series_that_was_put_back_is_noticed(world: World) -> None:
    """Store and wrapped keys are those of yesterday; the journal is not."""
    world.seal(1)
    shutil.copytree(world.store, world.root / "yesterday")
    world.seal(2)
    shutil.rmtree(world.store)
    shutil.copytree(world.root / "yesterday", world.store)

    with pytest.raises(RolledBack):
        world.sets.newest("run-1")


def test_files_of_two_sets_are_not_mixed(world: World) -> None:
    world.seal(1)
    second = world.seal(2)
    target = world.store / "run-1" / "000002"
    for name in ("weights.sealed", "key.json"):
        shutil.copy(world.store / "run-1" / "000001" / name, target / name)

    with pytest.raises(SealedError):
        world.sets.verify(second)


def test_who_is_not_trusted_signs_nothing(world: World) -> None:
    world.seal(1)
    world.keys = SealKeys(world.keyring, world.keys.signing, TrustedKeys())
    reader = SealedSets(
        FolderStore(world.store), world.keys, world.journal, clock=world.clock,
        entropy=SeededEntropy(9),
    )  # fmt: skip

    with pytest.raises(SigningError, match="a key you do not trust"):
        reader.newest("run-1")


def test_a_rotation_wraps_keys_and_touches_no_file(world: World) -> None:
    for step in (1, 2, 3):
        world.seal(step)
    before = {p: p.read_bytes() for p in files_of(world) if p.name != "key.json"}
    world.clock.advance(timedelta(days=90).total_seconds())
    world.keyring.rotate()
    seen: list[tuple[int, int]] = []

    assert world.sets.rewrap(lambda done, of: seen.append((done, of))) == 3
    assert world.sets.rewrap() == 0
    assert seen[-1] == (3, 3)
    assert {p: p.read_bytes() for p in before} == before
    world.sets.restore(world.sets.newest("run-1"), world.root / "back")
    assert same(world.root / "state-3", world.root / "back")


def test_without_its_key_a_set_stays_closed(world: World, tmp_path: Path) -> None:
    world.seal(1)
    other = FileKeyring.create(tmp_path / "other", clock=world.clock, entropy=SeededEntropy(8))
    reader = SealedSets(
        FolderStore(world.store), SealKeys(other, world.keys.signing, world.keys.trusted),
        world.journal, clock=world.clock, entropy=SeededEntropy(9),
    )  # fmt: skip

    with pytest.raises(Exception, match="cannot open what key"):
        reader.restore(reader.newest("run-1"), world.root / "back")
    assert not (world.root / "back").exists()


def test_a_set_is_replicated_and_each_copy_is_read_back(world: World) -> None:
    manifest = world.seal(1)
    places = [FolderStore(world.root / "a"), ObjectStore("memory://copies")]
    for place in places[:1]:
        place.root.mkdir()  # type: ignore[union-attr]
    world.sets.replicate(manifest, list(places), least=2)
    shutil.rmtree(world.store)

    for store in places:
        reader = SealedSets(
            store, world.keys, world.journal, clock=world.clock, entropy=SeededEntropy(9)
        )
        back = world.root / f"back-{store.place.replace('/', '_')}"
        reader.restore(reader.newest("run-1"), back)
        assert same(world.root / "state-1", back)


def as_version_1(world: World) -> Manifest:
    """The newest set, with the manifest that the version before wrote."""
    newest = world.sets.newest("run-1")
    folder = world.store / "run-1" / "000001"
    files = tuple(
        replace(f, sum=hashlib.sha256((folder / f"{f.name}.sealed").read_bytes()).hexdigest())
        for f in newest.files
    )
    older = replace(newest, version=1, files=files)
    (folder / "manifest.json").write_bytes(older.signed(world.keys.signing))
    return older


def test_a_set_of_the_version_before_is_verified_restored_and_replicated(world: World) -> None:
    world.seal(1)
    older = as_version_1(world)
    found = world.sets.manifest("run-1", 1)
    world.sets.verify(found)
    world.sets.restore(found, world.root / "back")
    world.sets.replicate(found, [FolderStore(world.root / "copies")], least=1)

    assert found == older
    assert same(world.root / "state-1", world.root / "back")


def test_a_flipped_bit_of_a_set_of_the_version_before_is_found(world: World) -> None:
    world.seal(1)
    older = as_version_1(world)
    path = world.store / "run-1" / "000001" / "weights.sealed"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))

    with pytest.raises(SealedError):
        world.sets.verify(older)
    with pytest.raises(ReplicationFailed):
        world.sets.replicate(older, [FolderStore(world.root / "copies")], least=1)


def test_a_set_is_replicated_without_its_key(world: World, tmp_path: Path) -> None:
    manifest = world.seal(1)
    other = FileKeyring.create(tmp_path / "other", clock=world.clock, entropy=SeededEntropy(8))
    keyless = SealedSets(
        FolderStore(world.store), SealKeys(other, world.keys.signing, world.keys.trusted),
        world.journal, clock=world.clock, entropy=SeededEntropy(9),
    )  # fmt: skip
    keyless.replicate(manifest, [FolderStore(world.root / "copies")], least=1)
    path = world.store / "run-1" / "000001" / "weights.sealed"
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), 997):
        data[place] ^= 16
        path.write_bytes(bytes(data))
        with pytest.raises(ReplicationFailed, match=r"another digest|cannot be opened"):
            keyless.replicate(manifest, [FolderStore(world.root / "more")], least=1)
        data[place] ^= 16


class Lossy:
    """A place that keeps half of what it is given and says nothing."""

    place = "lossy"

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        data = b"".join(chunks)
        self.held[name] = data[: len(data) // 2]

    def get(self, name: str) -> Iterator[bytes]:
        yield self.held[name]

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self.held if name.startswith(prefix))

    def remove(self, name: str) -> None:
        self.held.pop(name, None)


def test_a_place_that_loses_bytes_does_not_count(world: World) -> None:
    manifest = world.seal(1)
    good = FolderStore(world.root / "good")
    good.root.mkdir()

    with pytest.raises(ReplicationFailed, match="held by 1 places, 2 were asked for"):
        world.sets.replicate(manifest, [good, Lossy()], least=2)
    world.sets.replicate(manifest, [good, Lossy()], least=1)


class Full:
    """A place that is full after so many blobs, or fails to read."""

    def __init__(self, inner: FolderStore, blobs: int, code: int) -> None:
        self.inner, self.blobs, self.code = inner, blobs, code
        self.place = inner.place

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        self.blobs -= 1
        if self.blobs < 0:
            first = next(iter(chunks))
            raise WriteFailed(Path(name), reason=os.strerror(self.code), state=f"{len(first)}")
        self.inner.put(name, chunks)

    def get(self, name: str) -> Iterator[bytes]:
        return self.inner.get(name)

    def names(self, prefix: str = "") -> list[str]:
        return self.inner.names(prefix)

    def remove(self, name: str) -> None:
        self.inner.remove(name)


@pytest.mark.parametrize("blobs", range(5))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_place_that_refuses_leaves_the_set_before_as_it_was(
    world: World, blobs: int, code: int
) -> None:
    first = world.seal(1)
    broken = SealedSets(
        Full(FolderStore(world.store), blobs, code), world.keys, world.journal,
        clock=world.clock, entropy=SeededEntropy(5),
    )  # fmt: skip
    with pytest.raises(WriteFailed):
        broken.seal("run-1", world.state(2))

    assert world.sets.newest("run-1") == first
    assert world.sets.manifests("run-1") == [first]
    assert not list(world.store.rglob("000002/*"))
    assert world.seal(3).number == 2


def test_a_folder_with_a_link_is_refused(world: World) -> None:
    folder = world.state(1)
    (folder / "link").symlink_to("/etc/hostname")

    with pytest.raises(InvalidParameter, match="without symbolic links"):
        world.sets.seal("run-1", folder)
    assert world.sets.series() == []


@pytest.mark.parametrize("series", ["../out", "/abs", "a/../b", ""])
def test_a_series_stays_in_its_store(world: World, series: str) -> None:
    with pytest.raises(InvalidParameter):
        world.sets.seal(series, world.state(1))
    assert not (world.root / "out").exists()


def test_a_store_follows_no_link_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "store" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "store" / "folder").symlink_to(tmp_path)
    store = FolderStore(tmp_path / "store")

    for name in ("link", "folder/secret"):
        with pytest.raises(InvalidParameter):
            list(store.get(name))
        with pytest.raises(InvalidParameter):
            store.put(name, [b"y"])
    assert (tmp_path / "secret").read_text() == "x"


def test_the_newest_is_not_taken_away(world: World) -> None:
    first, second = world.seal(1), world.seal(2)
    with pytest.raises(InvalidParameter):
        world.sets.remove(second)
    world.sets.remove(first)

    assert world.sets.manifests("run-1") == [second]


def test_a_folder_that_is_there_is_not_restored_over(world: World) -> None:
    manifest = world.seal(1)
    with pytest.raises(InvalidParameter):
        world.sets.restore(manifest, world.root / "state-1")


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_process_killed_anywhere_leaves_whole_sets_only(tmp_path: Path, rounds: int) -> None:
    """Processes are killed while they seal on and on; what is there afterwards is whole."""
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from privacy_runtime.blobs import FolderStore, SealedSets, SealKeys
        from privacy_runtime.journal import Journal
        from privacy_runtime.journal.sqlite import SqliteHome
        from privacy_runtime.keys import FileKeyring
        from privacy_runtime.signing import SigningKey, TrustedKeys
        from privacy_runtime.world import SystemClock, SystemEntropy

        root = Path(sys.argv[1])
        clock, entropy = SystemClock(), SystemEntropy()
        signing = (SigningKey.load(root / "s.pem") if (root / "s.pem").exists()
                   else SigningKey.create(root / "s.pem", entropy, now=clock.now()))
        keys = SealKeys(FileKeyring.opened(root / "k", clock=clock, entropy=entropy), signing,
                        TrustedKeys([signing.public]))
        sets = SealedSets(FolderStore(root / "store"), keys,
                          Journal(SqliteHome(root / "journal.db"), clock=clock),
                          clock=clock, entropy=entropy)
        if sys.argv[2] == "seal":
            print("begun", flush=True)
            while True:
                manifest = sets.seal("run", root / "state")
                print(manifest.number, flush=True)
        for manifest in sets.manifests("run"):
            sets.verify(manifest)
        print(sets.newest("run").number)
        """
    )
    (tmp_path / "store").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "weights").write_bytes(os.urandom(300_000))
    delays, said = iter(os.urandom(rounds)), 0
    for _ in range(rounds):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), "seal"],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            for _ in range(next(delays) % 5):
                said = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
            said = int(rest[-1]) if rest else said
        look = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), "look"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if said:
            assert look.returncode == 0, look.stderr
            assert int(look.stdout) in (said, said + 1)
