"""Heads of the audit trail count with both signatures; an older journal is recognised by them."""

from __future__ import annotations

import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.journal import (
    AnchorFile,
    AnchorRefused,
    ChainBroken,
    Change,
    Draft,
    Head,
    HeadKey,
    Heads,
    HybridKey,
    HybridPublic,
    Journal,
    JournalWentBack,
)
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.signing import load_key_file
from privacy_runtime.testing import ManualClock, MemoryJournal, SeededEntropy

HEAD = Head(7, "ab" * 32, "2026-01-01T00:00:00.000000+00:00")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def key(folder: Path) -> HybridKey:
    return HybridKey.create(folder / "audit.pem", SeededEntropy(1))


def test_both_keys_are_in_one_file_for_its_owner_and_the_public_half_beside_it(
    key: HybridKey, folder: Path
) -> None:
    assert stat.S_IMODE((folder / "audit.pem").stat().st_mode) == 0o600
    assert HybridKey.load(folder / "audit.pem").public == key.public
    assert HybridPublic.read(folder / "audit.pem.pub") == key.public
    assert key.public.key_id in repr(key)
    with pytest.raises(InvalidParameter, match="no file yet"):
        HybridKey.create(folder / "audit.pem", SeededEntropy(2))


def test_the_public_half_checks_what_the_key_signed(key: HybridKey) -> None:
    key.public.require(key.sign("audit", HEAD))


@pytest.mark.parametrize(
    "change",
    [
        {"post_quantum": ""},
        {"signature": "00" * 64},
        {"post_quantum": "00" * 3309},
        {"post_quantum": "ab"},
        {"seq": 8},
        {"hash": "cd" * 32},
        {"stream": "jobs"},
    ],
)
def test_a_head_needs_both_signatures(key: HybridKey, change: dict[str, object]) -> None:
    with pytest.raises(AnchorRefused):
        key.require(replace(key.sign("audit", HEAD), **change))


def test_half_a_key_of_somebody_else_signs_nothing(key: HybridKey, folder: Path) -> None:
    other = HybridKey.create(folder / "other.pem", SeededEntropy(3))
    ours, theirs = key.sign("audit", HEAD), other.sign("audit", HEAD)

    for mixed in (
        replace(ours, post_quantum=theirs.post_quantum),
        replace(theirs, post_quantum=ours.post_quantum),
    ):
        with pytest.raises(AnchorRefused):
            key.require(mixed)


def test_a_signature_made_for_another_purpose_is_no_heads(key: HybridKey) -> None:
    from privacy_runtime.journal.anchor import signed_bytes

    elsewhere = key._second.sign(signed_bytes("audit", HEAD), b"another purpose")

    with pytest.raises(AnchorRefused, match="ML-DSA-65"):
        key.require(replace(key.sign("audit", HEAD), post_quantum=elsewhere.hex()))


def test_a_key_file_of_one_kind_is_no_hybrid_key(folder: Path) -> None:
    HeadKey.create(folder / "single.pem", SeededEntropy(4))

    with pytest.raises(InvalidParameter, match="ML-DSA-65"):
        HybridKey.load(folder / "single.pem")
    shutil.copy(folder / "single.pem", folder / "open.pem")
    (folder / "open.pem").chmod(0o644)
    with pytest.raises(InvalidParameter, match="0600"):
        HybridKey.load(folder / "open.pem")
    assert load_key_file(folder / "single.pem")


def grown(journal: Journal, count: int, stream: str = "audit") -> None:
    start = journal.status(stream).head.seq
    for number in range(start, start + count):
        draft = Draft("said", f"key-{number}", {"number": number})
        journal.transact(stream, lambda _, draft=draft: Change([draft]))


def test_a_stream_is_signed_when_it_grew_enough_or_long_ago(tmp_path: Path, key: HybridKey) -> None:
    clock = ManualClock()
    journal = MemoryJournal(clock)
    file = AnchorFile(tmp_path / "heads", key)
    heads = Heads(journal, ["audit", "quiet"], file, clock=clock, every_s=60, entries=5)
    heads.check()

    grown(journal, 4)
    assert heads.keep() == 0
    grown(journal, 1)
    assert heads.keep() == 1
    grown(journal, 1)
    clock.advance(59)
    assert heads.keep() == 0
    clock.advance(1)
    assert (heads.keep(), heads.keep()) == (1, 0)
    clock.advance(600)
    assert (heads.keep(), heads.sign()) == (0, 0)
    grown(journal, 1)
    assert (heads.sign(), heads.sign()) == (1, 0)

    assert [signed.seq for signed in file.heads("audit")] == [5, 6, 7]
    assert file.last("quiet") is None
    Heads(journal, ["audit", "quiet"], file, clock=clock).check()


def test_a_journal_from_before_the_last_head_is_recognised(tmp_path: Path, key: HybridKey) -> None:
    clock, file = ManualClock(), AnchorFile(tmp_path / "heads", key)
    whole, older, other = MemoryJournal(clock), MemoryJournal(clock), MemoryJournal(clock)
    grown(whole, 3)
    grown(older, 2)
    grown(other, 1, "audit")
    other.transact("audit", lambda _: Change([Draft("said", "x", {"number": 9})]))
    other.transact("audit", lambda _: Change([Draft("said", "y", {"number": 9})]))
    Heads(whole, ["audit"], file, clock=clock).sign()

    with pytest.raises(JournalWentBack):
        Heads(older, ["audit"], file, clock=clock).check()
    with pytest.raises(ChainBroken):
        Heads(other, ["audit"], file, clock=clock).check()


def test_a_line_without_its_second_signature_is_refused_in_the_file(
    tmp_path: Path, key: HybridKey
) -> None:
    clock, path = ManualClock(), tmp_path / "heads"
    journal = Journal(SqliteHome(tmp_path / "journal.db"), clock=clock)
    grown(journal, 1)
    Heads(journal, ["audit"], AnchorFile(path, key), clock=clock).sign()
    line = json.loads(path.read_text())
    del line["post_quantum"]
    path.write_text(json.dumps(line) + "\n")

    with pytest.raises(AnchorRefused, match="ML-DSA-65"):
        AnchorFile(path, key.public).last("audit")
    with pytest.raises(AnchorRefused, match="signs none"):
        AnchorFile(path, key.public).record("audit", HEAD)
    journal.close()
