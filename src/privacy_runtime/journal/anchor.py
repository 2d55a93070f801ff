"""Heads that are kept elsewhere: what makes an old copy of a journal recognisable.

A chain proves that nothing inside it was changed. It cannot prove that nothing is missing at its
end, nor that it was not rewritten as a whole. For that, its head is signed and kept where the
database's operator cannot put it back: another machine, a write-once store, a mailbox.

An anchor file is a list of signed heads, one line of canonical JSON each, only ever appended.

Source: RFC 8032 (Ed25519); Crosby & Wallach 2009, "Efficient Data Structures for Tamper-Evident
Logging", section 2 (why a log needs commitments outside itself).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy_runtime.files import WriteFailed, fsync_directory, reason_of, write_all
from privacy_runtime.journal.entries import Head, canonical_text
from privacy_runtime.journal.errors import AnchorRefused
from privacy_runtime.signing import (
    SignatureInvalid,
    create_key_file,
    load_key_file,
    require_signature,
)
from privacy_runtime.world import Entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """Where a stream ended, signed. `public_key` and the signatures are hexadecimal.

    `post_quantum`: an ML-DSA-65 signature beside (`journal.hybrid_keys`); empty: there is none.
    """

    stream: str
    seq: int
    hash: str
    at: str
    public_key: str
    signature: str
    post_quantum: str = ""

    @property
    def head(self) -> Head:
        """The head itself."""
        return Head(self.seq, self.hash, self.at)

    def require_signature(self, public_key: str) -> None:
        """Check that the owner of `public_key` signed this.

        Raises:
            AnchorRefused: somebody else did, or nobody.
        """
        try:
            require_signature(public_key, self.signature, signed_bytes(self.stream, self.head))
        except SignatureInvalid:
            raise AnchorRefused(
                f"the head at entry {self.seq} of stream {self.stream!r} was not signed by key "
                f"{public_key[:16]}...; it vouches for nothing"
            ) from None


class HeadKey:
    """The Ed25519 key that signs heads, from a file that only its owner may read.

    Making one is an explicit act: a key that appeared silently would vouch for whatever is there.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes_raw().hex()

    @classmethod
    def create(cls, path: Path | str, entropy: Entropy) -> Self:
        """Make a key and its file, mode 0600.

        Raises:
            InvalidParameter: the file exists; it was not touched.
            WriteFailed: the disk refused.
        """
        return cls(create_key_file(Path(path), entropy))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a key.

        Raises:
            InvalidParameter: there is none, others may read the file, or it holds something else.
        """
        return cls(load_key_file(Path(path)))

    def sign(self, stream: str, head: Head) -> SignedHead:
        """Sign where a stream ends."""
        return SignedHead(
            stream=stream,
            seq=head.seq,
            hash=head.hash,
            at=head.at,
            public_key=self.public_key,
            signature=self._key.sign(signed_bytes(stream, head)).hex(),
        )

    def require(self, signed: SignedHead) -> None:
        """Check that this key signed a head.

        Raises:
            AnchorRefused: it did not.
        """
        signed.require_signature(self.public_key)

    def __repr__(self) -> str:
        """Show the public half only."""
        return f"HeadKey(public_key={self.public_key[:16]}...)"


class HeadCheck(Protocol):
    """Says whose signatures count."""

    def require(self, signed: SignedHead) -> None:
        """Raise `AnchorRefused` where a head is not signed as it has to be."""
        ...


@runtime_checkable
class HeadSigner(HeadCheck, Protocol):
    """Signs heads besides."""

    def sign(self, stream: str, head: Head) -> SignedHead:
        """Sign where a stream ends."""
        ...


class AnchorFile:
    """Signed heads in a file that only grows; several processes may append.

    Args:
        path: the file; made by the first `record`. Keep it, or a copy, away from the database.
        key: signs, and says whose signatures count; one that only checks is enough to read.
    """

    def __init__(self, path: Path | str, key: HeadSigner | HeadCheck) -> None:
        self.path = Path(path)
        self._key = key

    def record(self, stream: str, head: Head) -> SignedHead:
        """Sign `head`, append it, and wait for the disk.

        Raises:
            WriteFailed: the disk refused; earlier lines are intact.
            AnchorRefused: the key only checks.
        """
        if not isinstance(self._key, HeadSigner):
            raise AnchorRefused("this half of the key checks heads; it signs none")
        signed = self._key.sign(stream, head)
        fields = {name: value for name, value in asdict(signed).items() if value != ""}
        line = canonical_text("head", fields).encode("ascii") + b"\n"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._append(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise WriteFailed(
                self.path, reason=reason_of(error), state="earlier heads are intact"
            ) from error
        return signed

    def heads(self, stream: str) -> list[SignedHead]:
        """Return all heads of a stream by `seq`, their signatures checked.

        A last line without a newline was torn by a crash and is left out.

        Raises:
            AnchorRefused: a line is not a signed head, or its signature is not this key's.
        """
        heads = []
        for number, line in self._lines():
            signed = self._head(number, line)
            self._key.require(signed)
            if signed.stream == stream:
                heads.append(signed)
        return sorted(heads, key=lambda signed: signed.seq)

    def streams(self) -> list[str]:
        """The streams that heads are of; no signature is looked at."""
        return sorted({self._head(number, line).stream for number, line in self._lines()})

    def last(self, stream: str) -> SignedHead | None:
        """The latest head of a stream, its signature checked; None: there is none.

        Raises:
            AnchorRefused: as `heads`, of this head alone.
        """
        latest: SignedHead | None = None
        for number, line in self._lines():
            signed = self._head(number, line)
            if signed.stream == stream and (latest is None or signed.seq >= latest.seq):
                latest = signed
        if latest is not None:
            self._key.require(latest)
        return latest

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        if self.path.exists():
            *lines, _ = self.path.read_bytes().split(b"\n")
            yield from enumerate(lines, start=1)

    def _head(self, number: int, line: bytes) -> SignedHead:
        try:
            return SignedHead(**json.loads(line))
        except (ValueError, TypeError):
            raise AnchorRefused(
                f"{self.path}, line {number}: not a signed head; the file vouches for nothing"
            ) from None

    def _append(self, descriptor: int, line: bytes) -> None:
        size = os.fstat(descriptor).st_size
        content = os.pread(descriptor, size, 0)
        whole = content.rfind(b"\n") + 1
        if whole < size:
            os.ftruncate(descriptor, whole)
        try:
            write_all(descriptor, line)
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, whole)
            raise
        if not size:
            fsync_directory(self.path.parent)


def signed_bytes(stream: str, head: Head) -> bytes:
    """What is signed of a head."""
    document = {"stream": stream, "seq": head.seq, "hash": head.hash, "at": head.at}
    return canonical_text("head", document).encode("ascii")
