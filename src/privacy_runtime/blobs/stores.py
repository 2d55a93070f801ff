"""Places for blobs: a folder, an object store, several of them.

A blob appears whole or not at all. Names are relative paths without `..`; a store never follows a
symbolic link out of its folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from privacy_core.errors import InvalidParameter
from privacy_runtime.blobs.errors import BlobMissing, ReplicationFailed, SealedError
from privacy_runtime.files import FilesError, WriteFailed, fsync_directory, reason_of, replacing

_READ_BYTES: Final = 2**20


class BlobStore(Protocol):
    """Where blobs lie."""

    @property
    def place(self) -> str:
        """Names the store to people."""
        ...

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a blob, entirely or not at all; it is durable when the call returns.

        Raises:
            WriteFailed: it could not be written; an older one of this name is as it was.
        """
        ...

    def get(self, name: str) -> Iterator[bytes]:
        """Yield a blob piece by piece.

        Raises:
            BlobMissing: there is none.
            WriteFailed: it could not be read.
        """
        ...

    def names(self, prefix: str = "") -> list[str]:
        """Names that begin so, sorted."""
        ...

    def remove(self, name: str) -> None:
        """Remove a blob; nothing happens if there is none."""
        ...


def store_at(address: str | Path) -> BlobStore:
    """A store by its address: a folder, or `s3://...` and what else `ObjectStore` reaches.

    Raises:
        InvalidParameter: no adapter is installed for the address.
    """
    text = str(address)
    return ObjectStore(text) if "://" in text else FolderStore(Path(text))


def require_name(name: str) -> None:
    """Refuse what is no relative path of plain parts."""
    path = PurePosixPath(name)
    plain = not path.is_absolute() and ".." not in path.parts and str(path) == name
    if not (plain and name != "." and "\0" not in name):
        raise InvalidParameter("name", found=name, expected="a relative path of plain parts")


@dataclass(frozen=True, slots=True)
class FolderStore:
    """Blobs as files below a folder."""

    root: Path

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """See `BlobStore`."""
        path = self._path(name)
        try:
            _make(path.parent)
        except OSError as error:
            raise WriteFailed(path, reason=reason_of(error), state="nothing was written") from error
        with replacing(path) as (_, write):
            for chunk in chunks:
                write(chunk)

    def get(self, name: str) -> Iterator[bytes]:
        """See `BlobStore`."""
        path = self._path(name)
        try:
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(_READ_BYTES):
                    yield chunk
        except FileNotFoundError as error:
            raise BlobMissing(self.place, name) from error
        except OSError as error:
            raise WriteFailed(path, reason=reason_of(error), state="it was not read") from error

    def names(self, prefix: str = "") -> list[str]:
        """See `BlobStore`."""
        found = (p.relative_to(self.root) for p in self.root.rglob("*") if p.is_file())
        names = (n.as_posix() for n in found if not n.name.endswith(".tmp"))
        return sorted(name for name in names if name.startswith(prefix))

    def remove(self, name: str) -> None:
        """See `BlobStore`. Folders that are empty then go too."""
        path = self._path(name)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root.resolve():
                return
            try:
                folder.rmdir()
            except OSError:  # it holds something, or was never there
                return

    def _path(self, name: str) -> Path:
        require_name(name)
        root = self.root.resolve()
        path = (root / name).parent.resolve() / PurePosixPath(name).name
        if not path.is_relative_to(root) or path.is_symlink():
            raise InvalidParameter("name", found=name, expected="a path that stays in its folder")
        return path


def _make(folder: Path) -> None:
    """Make a folder and those above it, durably."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_directory(folder.parent)


class ObjectStore:
    """Blobs in whatever `fsspec` reaches: `s3://bucket/path`, `gs://...`, `az://...`.

    The store's own single upload is what makes a blob appear whole; the adapter of the address must
    be installed (`s3fs`, ...). Run against fsspec's memory file system, not against a cloud.

    Args:
        address: of the folder.
        **options: of the file system; credentials are best left to its environment.

    Raises:
        InvalidParameter: no adapter is installed for the address.
    """

    def __init__(self, address: str, **options: Any) -> None:
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415  slow, and rarely needed

        self.place = address
        try:
            self._files, self._root = fsspec.core.url_to_fs(address, **options)
        except (ImportError, ValueError) as error:
            raise InvalidParameter(
                "address", found=address.split("://", maxsplit=1)[0], expected=str(error)
            ) from error

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """See `BlobStore`."""
        require_name(name)
        try:
            with self._files.transaction, self._files.open(f"{self._root}/{name}", "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
        except OSError as error:
            raise WriteFailed(
                Path(name), reason=reason_of(error), state="an older one is as it was"
            ) from error

    def get(self, name: str) -> Iterator[bytes]:
        """See `BlobStore`."""
        require_name(name)
        try:
            with self._files.open(f"{self._root}/{name}", "rb") as file:
                while chunk := file.read(_READ_BYTES):
                    yield chunk
        except FileNotFoundError as error:
            raise BlobMissing(self.place, name) from error
        except OSError as error:
            raise WriteFailed(
                Path(name), reason=reason_of(error), state="it was not read"
            ) from error

    def names(self, prefix: str = "") -> list[str]:
        """See `BlobStore`."""
        root = self._root.rstrip("/") + "/"
        found = (str(path).removeprefix(root) for path in self._files.find(self._root))
        return sorted(name for name in found if name.startswith(prefix))

    def remove(self, name: str) -> None:
        """See `BlobStore`."""
        require_name(name)
        if self._files.exists(f"{self._root}/{name}"):
            self._files.rm(f"{self._root}/{name}")


def replicate(
    name: str,
    source: BlobStore,
    targets: Sequence[BlobStore],
    *,
    is_whole: Callable[[BlobStore], bool],
    least: int,
) -> tuple[str, ...]:
    """Copy a blob to several places and read each copy back.

    Args:
        name: of the blob.
        source: from where.
        targets: where to.
        is_whole: reads the blob of a place, and says whether it is what it should be.
        least: so many places must hold it.

    Returns:
        the places whose copy is whole.

    Raises:
        ReplicationFailed: fewer than `least` are; the copies that are good stay.
    """
    held: list[str] = []
    reasons: list[str] = []
    for target in targets:
        try:
            with closing(_pieces(source, name)) as pieces:
                target.put(name, pieces)
            found = is_whole(target)
        except (FilesError, SealedError, OSError) as error:
            reasons.append(f"{target.place}: {error}")
            continue
        if found:
            held.append(target.place)
        else:
            reasons.append(f"{target.place}: what it gives back has another digest")
    if len(held) < least:
        raise ReplicationFailed(name, held=len(held), wanted=least, reasons=tuple(reasons))
    return tuple(held)


def digest(store: BlobStore, name: str) -> str:
    """SHA-256 of a blob as it is read back."""
    sums = hashlib.sha256()
    for chunk in store.get(name):
        sums.update(chunk)
    return sums.hexdigest()


def _pieces(store: BlobStore, name: str) -> Any:
    return (chunk for chunk in store.get(name))
