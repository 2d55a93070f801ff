"""Which data sets and models a job may name: an allow-list of folders, never a path as such.

===================  ==========================================================================
a name               means
===================  ==========================================================================
`sample:records`     the 2,000 invented notes that ship with this program; `sample:heldout` too
`sample:model`       the small model that ships with it
`upload:notes.csv`   what one's own organisation has sent; see `uploads`
`notes/2026.jsonl`   below the first allowed folder that has it
`/data/notes.jsonl`  only if it lies below an allowed folder
`job:job_...`        the model of a finished job of one's own organisation
`org/model`          a hub name, only if the operator allowed this very name
===================  ==========================================================================

A path counts by where it ends after every link is followed: a link that leaves the folders is
refused. In the service's own folders, a first part that is the id of an organisation (`o_...`)
belongs to that organisation alone; everything else there is for all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from privacy_finetuner.jobs.left import JOB_MODEL, MODEL_FILES
from privacy_finetuner.service.errors import UnknownDataset, UnknownModel

SAMPLE: Final = "sample:"
JOB: Final = JOB_MODEL
UPLOAD: Final = "upload:"
UPLOADS: Final = "uploads"
"""The folder, below an organisation's own, of what it has sent."""
SUFFIXES: Final = (".jsonl", ".json", ".csv", ".txt", ".parquet")
"""Kinds of files that are records; what `training.record_files` reads."""
_TENANT: Final = re.compile(r"o_[0-9a-f]{32}")
_LONGEST: Final = 1024
_LISTED: Final = 1000
_DEPTH: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something that a job may name. Sizes are of files; nothing in here was read from records."""

    name: str
    path: Path
    size_bytes: int
    modified_at: datetime | None


def _none_finished(job_id: str, tenant: str) -> None:
    """Where no jobs are known, none is finished."""


def _none_there(job_id: str, tenant: str) -> bool:
    """Where no store of artefacts is known, nothing is in it."""
    return False


def _all_free(tenant: str, path: Path) -> None:
    """Where nothing is set aside, everything may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The folders that are allowed, first come first served.

    Args:
        datasets, models: allowed folders; the service's own come first.
        sample: the folder of what ships with the program.
        uploads: below it, a folder for each organisation has what was sent; None: nothing is taken.
        hub_models: names that may be loaded from a hub, exactly as written.
        finished: from a job's id and an organisation to the folder of its model; None: there is
            none.
        is_stored: whether the model of a finished job could be fetched; see `jobs.left`.
        require_free: refuses records that are set aside; see `operations.quarantine`.
    """

    datasets: tuple[Path, ...]
    models: tuple[Path, ...]
    sample: Path
    uploads: Path | None = None
    hub_models: frozenset[str] = frozenset()
    finished: Callable[[str, str], Path | None] = _none_finished
    is_stored: Callable[[str, str], bool] = _none_there
    require_free: Callable[[str, Path], None] = _all_free

    def dataset(self, name: str, *, tenant: str) -> Path:
        """The file or folder of a data set, links followed.

        Raises:
            UnknownDataset: there is none for this organisation.
            SourceSetAside: its records are set aside after a security alert.
        """
        if name.startswith(SAMPLE):
            path = self._samples().get(name)
        elif name.startswith(UPLOAD):
            sent = self.sent(tenant)
            path = None if sent is None else _below((sent,), name.removeprefix(UPLOAD), tenant)
        else:
            path = _below(self.datasets, name, tenant)
        if path is None or not _is_records(path):
            raise UnknownDataset
        self.require_free(tenant, path)
        return path

    def model(self, name: str, *, tenant: str) -> str:
        """What `PrivateTrainer` takes for a model: a folder, links followed, or a hub name.

        Raises:
            UnknownModel: there is none for this organisation.
        """
        if name in self.hub_models:
            return name
        if name == f"{SAMPLE}model":
            return str(self.sample / "model")
        if name.startswith(JOB):
            path = self.finished(name.removeprefix(JOB), tenant)
        else:
            path = _below(self.models, name, tenant)
        if path is None or not _is_model(path):
            raise UnknownModel
        return str(path)

    def require_model(self, name: str, *, tenant: str) -> None:
        """Refuse what is no model. The weights of another machine's job are not fetched for that.

        Raises:
            UnknownModel: there is none for this organisation.
        """
        if not (name.startswith(JOB) and self.is_stored(name.removeprefix(JOB), tenant)):
            self.model(name, tenant=tenant)

    def known_datasets(self, *, tenant: str) -> list[Entry]:
        """The data sets of an organisation, by name; a thousand at most."""
        found = [_entry(name, path) for name, path in self._samples().items()]
        found += self.known_uploads(tenant=tenant)
        walked = _walk(self.datasets, tenant, _is_record_file)
        found += (_entry(n, p) for n, p in walked if not n.startswith(f"{tenant}/{UPLOADS}/"))
        return _first(found)

    def sent(self, tenant: str) -> Path | None:
        """The folder of what an organisation has sent; it need not be there."""
        if self.uploads is None or _TENANT.fullmatch(tenant) is None:
            return None
        return self.uploads / tenant / UPLOADS

    def known_uploads(self, *, tenant: str) -> list[Entry]:
        """What an organisation has sent, by name."""
        sent = self.sent(tenant)
        if sent is None:
            return []
        paths = (path for path in _paths(sent, depth=1) if _is_record_file(path))
        return [_entry(f"{UPLOAD}{path.name}", path) for path in paths if not path.is_symlink()]

    def known_models(self, *, tenant: str) -> list[Entry]:
        """The models of an organisation, by name; a thousand at most. Hub names last."""
        found = [_entry(f"{SAMPLE}model", self.sample / "model")]
        found += (_entry(n, p) for n, p in _walk(self.models, tenant, _is_model))
        hub = [
            Entry(name=name, path=Path(), size_bytes=0, modified_at=None)
            for name in sorted(self.hub_models)
        ]
        return [*_first(found), *hub]

    def _samples(self) -> dict[str, Path]:
        names = ("records", "heldout")
        return {f"{SAMPLE}{name}": self.sample / f"{name}.jsonl" for name in names}


def _below(roots: tuple[Path, ...], name: str, tenant: str) -> Path | None:
    """The path that a name ends at, if it is below a root and not somebody else's."""
    if not 0 < len(name) <= _LONGEST or not name.isprintable() or name.startswith("~"):
        return None
    for root in roots:
        home = Path(os.path.realpath(root))
        path = _ending(home / name, home, tenant)
        if path is None:
            continue
        if not path.is_dir() or all(_ending(link, home, tenant) for link in _links(path)):
            return path
    return None


def _ending(path: Path, home: Path, tenant: str) -> Path | None:
    """Where a path ends after all links, if that is inside and not somebody else's."""
    try:
        end = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):  # missing, a loop of links, too long
        return None
    if not end.is_relative_to(home) or end == home:
        return None
    first = end.relative_to(home).parts[0]
    return end if first == tenant or _TENANT.fullmatch(first) is None else None


def _links(folder: Path) -> Iterator[Path]:
    """Every link in a folder: what is read from it must not lead outside either."""
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(above, name)
            if path.is_symlink():
                yield path


def _is_record_file(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _is_records(path: Path) -> bool:
    return path.is_dir() or _is_record_file(path)


def _is_model(path: Path) -> bool:
    return path.is_dir() and any((path / f).is_file() for f in MODEL_FILES)


def _walk(
    roots: tuple[Path, ...], tenant: str, wanted: Callable[[Path], bool]
) -> Iterator[tuple[str, Path]]:
    """Names and paths below the roots, links that leave them left out."""
    seen: set[str] = set()
    for root in roots:
        home = Path(os.path.realpath(root))
        for path in _paths(home, depth=_DEPTH):
            name = path.relative_to(home).as_posix()
            if name in seen or not wanted(path):
                continue
            seen.add(name)
            if _below((home,), name, tenant) is not None:
                yield name, path


def _paths(folder: Path, *, depth: int) -> Iterator[Path]:
    """Everything below a folder that is not hidden, a few levels deep."""
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    for path in inside:
        if path.name.startswith("."):
            continue
        yield path
        if depth > 1 and path.is_dir() and not path.is_symlink():
            yield from _paths(path, depth=depth - 1)


def _entry(name: str, path: Path) -> Entry:
    try:
        status = path.stat()
        modified = datetime.fromtimestamp(int(status.st_mtime), UTC)
        size = status.st_size if path.is_file() else _size_of(path)
    except OSError:
        return Entry(name=name, path=path, size_bytes=0, modified_at=None)
    return Entry(name=name, path=path, size_bytes=size, modified_at=modified)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _first(found: list[Entry]) -> list[Entry]:
    return sorted(found, key=lambda entry: entry.name)[:_LISTED]
