"""Artefacts in a store: kept, read back, fetched whole or not at all."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.jobs import ArtefactDamaged, ArtefactsUnavailable, UnknownArtefact
from privacy_finetuner.jobs.model import Artefact
from privacy_finetuner.jobs.shelf import FETCHED, REST_S, Shelf
from privacy_runtime.blobs import BlobStore, FolderStore, ObjectStore
from privacy_runtime.testing import FaultyStore, ManualClock, StoreFault

CONTENT = {"report.html": b"<p>a report</p>", "model.safetensors": bytes(range(256)) * 9000}
JOB: dict[str, str] = {"tenant": "o_one", "job": "job_1"}


def artefact(name: str, content: bytes | None = None) -> Artefact:
    content = CONTENT[name] if content is None else content
    return Artefact(
        name=name,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        media_type="application/octet-stream",
    )


ALL = [artefact(name) for name in CONTENT]


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return ObjectStore(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Path]:
    """The folder of runs of the machine that trained."""
    folder = tmp_path / "there" / "job_1"
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    return folder.parent


def shelf(runs: Path, store: BlobStore | None, clock: ManualClock | None = None) -> Shelf:
    runs.mkdir(exist_ok=True)
    return Shelf(runs, store, clock=clock or ManualClock())


def kept(made: Path, store: BlobStore) -> None:
    shelf(made, store).put(made / "job_1", ALL, **JOB)


def test_another_machine_has_every_file_as_it_was(
    made: Path, store: BlobStore, tmp_path: Path
) -> None:
    kept(made, store)
    here = shelf(tmp_path / "here", store)

    for each in ALL:
        assert here.path(each, **JOB).read_bytes() == CONTENT[each.name]
    folder = here.folder(ALL, **JOB)
    assert {path.name for path in folder.iterdir()} == set(CONTENT)
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    assert store.names() == ["o_one/job_1/model.safetensors", "o_one/job_1/report.html"]


def test_the_machine_that_trained_asks_no_store(made: Path, store: BlobStore) -> None:
    kept(made, store)
    faulty = FaultyStore(store, [StoreFault.IO_ERROR] * 9)

    assert shelf(made, faulty).path(ALL[0], **JOB) == made / "job_1" / "report.html"
    assert shelf(made, faulty).folder(ALL, **JOB) == made / "job_1"
    assert faulty.struck == []


def test_putting_again_changes_nothing_and_writes_nothing(made: Path, store: BlobStore) -> None:
    kept(made, store)
    counted = FaultyStore(store, [])

    shelf(made, counted).put(made / "job_1", ALL, **JOB)

    assert [call for _, call, _ in counted.struck] == ["get", "get"]


@pytest.mark.parametrize(
    "fault",
    [StoreFault.IO_ERROR, StoreFault.NO_SPACE, StoreFault.LOST_ANSWER, StoreFault.SHORT_WRITE],
)
def test_a_store_that_fails_while_it_is_written_is_said_and_then_mended(
    made: Path, store: BlobStore, fault: StoreFault, tmp_path: Path
) -> None:
    faulty = FaultyStore(store, [StoreFault.NONE, fault])

    with pytest.raises(ArtefactsUnavailable):
        shelf(made, faulty).put(made / "job_1", ALL, **JOB)
    kept(made, store)

    assert shelf(tmp_path / "here", store).folder(ALL, **JOB).is_dir()


@pytest.mark.parametrize(
    "changed", [CONTENT["report.html"][:-1], b"<p>a rep0rt</p>", CONTENT["report.html"] + b"!", b""]
)
def test_what_was_changed_in_the_store_is_not_handed_out(
    made: Path, store: BlobStore, changed: bytes, tmp_path: Path
) -> None:
    kept(made, store)
    store.put("o_one/job_1/report.html", [changed])
    here = shelf(tmp_path / "here", store)

    with pytest.raises(ArtefactDamaged):
        here.path(ALL[0], **JOB)
    with pytest.raises(ArtefactDamaged):
        here.folder(ALL, **JOB)

    assert list((tmp_path / "here" / FETCHED / "job_1").iterdir()) == []


@pytest.mark.parametrize("fault", [StoreFault.TORN_READ, StoreFault.IO_ERROR])
def test_a_store_that_fails_while_it_is_read_leaves_nothing_half(
    made: Path, store: BlobStore, fault: StoreFault, tmp_path: Path
) -> None:
    kept(made, store)
    clock = ManualClock()
    here = shelf(tmp_path / "here", FaultyStore(store, [fault]), clock)

    with pytest.raises(ArtefactsUnavailable):
        here.path(ALL[1], **JOB)
    assert list((tmp_path / "here" / FETCHED / "job_1").iterdir()) == []
    with pytest.raises(ArtefactsUnavailable, match="a moment ago"):
        here.path(ALL[1], **JOB)
    clock.advance(REST_S)

    assert here.path(ALL[1], **JOB).read_bytes() == CONTENT["model.safetensors"]


def test_a_damaged_file_here_is_replaced_by_the_store_s(made: Path, store: BlobStore) -> None:
    kept(made, store)
    (made / "job_1" / "report.html").write_bytes(b"<p>a rep0rt</p>")

    assert shelf(made, store).path(ALL[0], **JOB).read_bytes() == CONTENT["report.html"]


def test_a_damaged_copy_is_fetched_again(made: Path, store: BlobStore, tmp_path: Path) -> None:
    kept(made, store)
    here = shelf(tmp_path / "here", store)
    here.path(ALL[0], **JOB).write_bytes(b"<p>a rep0rt</p>")

    assert here.path(ALL[0], **JOB).read_bytes() == CONTENT["report.html"]


def test_a_damaged_file_that_nobody_else_has_is_refused(made: Path, store: BlobStore) -> None:
    (made / "job_1" / "report.html").write_bytes(b"<p>a rep0rt</p>")

    with pytest.raises(ArtefactDamaged):
        shelf(made, store).path(ALL[0], **JOB)


def test_one_organisation_s_name_leads_to_no_other_s_file(
    made: Path, store: BlobStore, tmp_path: Path
) -> None:
    kept(made, store)

    with pytest.raises(UnknownArtefact):
        shelf(tmp_path / "here", store).path(ALL[0], tenant="o_two", job="job_1")


def test_what_is_cleared_is_gone_here_and_there(
    made: Path, store: BlobStore, tmp_path: Path
) -> None:
    kept(made, store)
    here = shelf(tmp_path / "here", store)
    here.folder(ALL, **JOB)

    here.clear([ALL[1]], **JOB)
    here.clear([ALL[1]], **JOB)

    assert store.names() == ["o_one/job_1/report.html"]
    with pytest.raises(UnknownArtefact):
        here.path(ALL[1], **JOB)


def test_whatever_an_adapter_raises_is_one_refusal_without_its_words(tmp_path: Path) -> None:
    class Client(FolderStore):
        def get(self, name: str) -> Any:
            raise RuntimeError("no route to https://user:word@bucket")

    with pytest.raises(ArtefactsUnavailable) as caught:
        shelf(tmp_path / "here", Client(tmp_path)).path(ALL[0], **JOB)

    assert "RuntimeError" in str(caught.value)
    assert "word" not in str(caught.value)
