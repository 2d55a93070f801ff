"""Records are set aside by digest, for one organisation, until somebody releases them."""

from __future__ import annotations

from pathlib import Path

import pytest

from privacy_finetuner.operations.errors import SourceSetAside, UnknownSource
from privacy_finetuner.operations.quarantine import SOURCES, Quarantine, digest_of
from privacy_finetuner.operations.restraints import MOST, RESTRAINTS, Restraints
from privacy_runtime.journal import Journal
from privacy_runtime.testing import ManualClock, MemoryHome, MemoryRows


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def rows() -> MemoryRows:
    return MemoryRows()


@pytest.fixture
def journal(rows: MemoryRows, clock: ManualClock) -> Journal:
    return Journal(MemoryHome(rows), clock=clock)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.jsonl"
    path.write_text("one\n")
    return path


def test_a_source_is_what_it_was_when_it_was_first_seen(journal: Journal, notes: Path) -> None:
    quarantine = Quarantine(journal)
    assert not quarantine.register("o_1", "notes", notes).is_changed
    notes.write_text("two\n")
    assert Quarantine(journal).register("o_1", "notes", notes).is_changed

    quarantine.accept("o_1", "notes", notes, by="u_1")
    assert not quarantine.register("o_1", "notes", notes).is_changed
    assert [entry.type for entry in journal.read(SOURCES)] == ["source.registered"] * 2


def test_what_is_set_aside_is_refused_under_every_name(journal: Journal, notes: Path) -> None:
    quarantine, copy = Quarantine(journal), notes.with_name("copy.jsonl")
    copy.write_bytes(notes.read_bytes())
    quarantine.set_aside("o_1", digest_of(notes), by="service", reason="a drill")

    for path in (notes, copy):
        with pytest.raises(SourceSetAside, match="nothing was started"):
            Quarantine(journal).require_free("o_1", path)
    quarantine.require_free("o_2", notes)  # another organisation's list is its own


def test_a_release_needs_something_to_release(journal: Journal, notes: Path) -> None:
    quarantine = Quarantine(journal)
    with pytest.raises(UnknownSource):
        quarantine.release("o_1", digest_of(notes), by="u_1", reason="?")
    quarantine.set_aside("o_1", digest_of(notes), by="service", reason="a drill")
    quarantine.release("o_1", digest_of(notes), by="u_1", reason="it was meant")

    quarantine.require_free("o_1", notes)
    with pytest.raises(UnknownSource):
        quarantine.release("o_1", digest_of(notes), by="u_1", reason="again")


def test_a_folder_is_another_one_when_a_file_in_it_moves(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    before = digest_of(tmp_path)
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")

    assert digest_of(tmp_path) != before


def test_the_projection_is_what_the_entries_say(journal: Journal, notes: Path) -> None:
    quarantine = Quarantine(journal)
    quarantine.register("o_1", "notes", notes)
    quarantine.set_aside("o_1", digest_of(notes), by="service", reason="a drill")
    before = dict(journal.documents(SOURCES))
    journal.project(SOURCES, "another label", _folded)

    assert dict(journal.documents(SOURCES)) == before


def _folded(entries: object) -> dict[str, object]:
    from privacy_finetuner.operations.quarantine import _fold

    return _fold(entries)


def test_a_restraint_is_known_to_other_processes_and_ends(
    rows: MemoryRows, clock: ManualClock
) -> None:
    one, other = (Restraints(Journal(MemoryHome(rows), clock=clock), clock) for _ in range(2))
    one.restrain("o_1", "u_1", by="service", reason="a drill")
    assert (one.most_of("u_1"), other.most_of("u_1")) == (MOST, None)
    other.refresh()
    assert other.most_of("u_1") == MOST

    clock.advance(1801)
    assert (one.most_of("u_1"), other.most_of("u_1")) == (None, None)


def test_a_restraint_can_be_lifted(journal: Journal, clock: ManualClock) -> None:
    restraints = Restraints(journal, clock)
    restraints.restrain("o_1", "u_1", by="service", reason="a drill")
    restraints.lift("o_1", "u_1", by="u_9", reason="it was a drill")
    restraints.refresh()

    assert restraints.most_of("u_1") is None
    assert [entry.type for entry in journal.read(RESTRAINTS)] == [
        "restraint.begun",
        "restraint.lifted",
    ]
