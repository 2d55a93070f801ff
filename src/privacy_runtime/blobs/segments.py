"""Encryption of a stream in segments that are each verified before a byte of them is handed out.

::

    PFS1 | length of the header, 4 bytes | header, canonical JSON | segment | segment | ... | last

Each segment is AES-256-GCM of up to `segment_bytes` of the stream, with its tag behind it. Its
nonce is the file's random prefix of 7 bytes, the segment's number in 4, and one byte that says
whether it is the last; the header's digest is bound to every one. So a segment that was changed,
moved, repeated, dropped, or taken from another file does not open, and neither does a file that
ends before its last one. The key of a file is derived (HKDF-SHA-256) from the key of its set and
the file's own random id: prefixes of two files never meet under one key.

`Witness` sums up what a file consists of, without a key; a signed manifest holds that sum.

Source: the STREAM construction, Hoang, Reyhanitabar, Rogaway, Vizar 2015, "Online authenticated
encryption and its nonce-reuse misuse-resistance", section 7.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy_runtime.blobs.errors import NotSealed, SealBroken
from privacy_runtime.signing import canonical_bytes
from privacy_runtime.world import Entropy

MAGIC: Final = b"PFS1"
SEGMENT_BYTES: Final = 2**20
TAG_BYTES: Final = 16

_HEADER_MOST: Final = 4096
_SEGMENTS_MOST: Final = 2**32
_PREFIX_BYTES: Final = 7
_ID_BYTES: Final = 16
_CIPHER: Final = "AES-256-GCM-STREAM"
_PUBLIC_KEY: Final = bytes(16)


class Readable(Protocol):
    """Where bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Header:
    """What stands in front of the segments; bound to each of them.

    Attributes:
        name: of the file within its set.
        id: random; makes the file's key.
        prefix: random; begins every nonce.
        segment_bytes: of the stream in a segment; the last may have fewer.
    """

    name: str
    id: bytes
    prefix: bytes
    segment_bytes: int

    def encoded(self) -> bytes:
        """Magic, length, canonical JSON."""
        body = canonical_bytes(
            {
                "cipher": _CIPHER,
                "id": self.id.hex(),
                "name": self.name,
                "prefix": self.prefix.hex(),
                "segment_bytes": self.segment_bytes,
            }
        )
        return MAGIC + struct.pack(">I", len(body)) + body


class Witness:
    """Sums up the pieces of a sealed file: its front, then its segments. Needs no key.

    SHA-256 over the front and, of each segment, its tag and a GMAC under a key that everybody knows
    (all zero). What it proves, and to whom:

    ================================  ==============================================================
    a change                          is found
    ================================  ==============================================================
    of front or tags, cut, reordered  by anybody: SHA-256 covers them
    of ciphertext, by accident        by anybody: GMAC misses one error in 2^111
    of ciphertext, on purpose         by who opens the file: the segment's own tag, under the secret
                                      key. Without the key it can be made to fit
    ================================  ==============================================================

    GMAC is eighteen times as fast as SHA-256 of the ciphertext here, which is why.
    """

    __slots__ = ("_mac", "_number", "_sums")

    def __init__(self) -> None:
        self._mac = AESGCM(_PUBLIC_KEY)
        self._number = 0
        self._sums = hashlib.sha256(b"privacy-finetuner sealed file 2\0")

    def update(self, piece: bytes) -> None:
        """Take the next piece."""
        if self._number == 0:
            self._sums.update(piece)
        else:
            nonce = self._number.to_bytes(12)
            self._sums.update(piece[-TAG_BYTES:] + self._mac.encrypt(nonce, b"", piece))
        self._number += 1

    def hexdigest(self) -> str:
        """The sum of all pieces so far, in hexadecimal."""
        return self._sums.hexdigest()


def pieces(source: Readable, name: str) -> Iterator[bytes]:
    """Yield front and segments of a sealed file as they stand; opens and verifies nothing.

    Raises:
        NotSealed: it is no sealed file, or of a version unknown here.
    """
    header, front = _read_header(source, name)
    yield front
    while segment := _read(source, header.segment_bytes + TAG_BYTES):
        yield segment


def sealed(
    chunks: Iterable[bytes],
    key: bytes,
    name: str,
    entropy: Entropy,
    *,
    segment_bytes: int = SEGMENT_BYTES,
) -> Iterator[bytes]:
    """Yield a sealed file piece by piece: its front, then one segment at a time.

    Args:
        chunks: the stream, in pieces of any length.
        key: of the set, 32 bytes.
        name: of the file within its set.
        entropy: makes the file's id and prefix.
        segment_bytes: of the stream in a segment.
    """
    header = Header(
        name, entropy.token_bytes(_ID_BYTES), entropy.token_bytes(_PREFIX_BYTES), segment_bytes
    )
    front = header.encoded()
    yield front
    cipher, bound = _cipher(key, header), hashlib.sha256(front).digest()
    number, waiting = 0, b""
    for segment in _segments(chunks, segment_bytes):
        if number or waiting:
            yield cipher.encrypt(_nonce(header, number - 1, is_last=False), waiting, bound)
        number, waiting = _next(number), segment
    last = max(0, number - 1)
    yield cipher.encrypt(_nonce(header, last, is_last=True), waiting, bound)


def opened(
    source: Readable, key: bytes, name: str, *, witness: Callable[[bytes], None] | None = None
) -> Iterator[bytes]:
    """Yield the stream of a sealed file, each piece after its segment was verified.

    The end of the stream is verified by the end of the iteration: whoever stops before has a part
    that may not be the whole. `witness` is shown the pieces as they stand.

    Raises:
        SealBroken: a segment is not the one that was sealed at this place of this file, or the file
            ends too early or goes on too long. What was yielded before is genuine.
        NotSealed: it is no sealed file, or of a version unknown here.
    """
    header, front = _read_header(source, name)
    if header.name != name:
        raise SealBroken(name, "it was sealed under another name")
    look = witness or (lambda _: None)
    look(front)
    cipher, bound = _cipher(key, header), hashlib.sha256(front).digest()
    size = header.segment_bytes + TAG_BYTES
    number, segment = 0, _read(source, size)
    while True:
        following = _read(source, size)
        try:
            yield cipher.decrypt(_nonce(header, number, is_last=not following), segment, bound)
        except (InvalidTag, ValueError) as error:
            raise SealBroken(name, f"segment {number} is not the one that was sealed") from error
        look(segment)
        if not following:
            return
        segment, number = following, _next(number)


def _segments(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The stream in pieces of `size`, the last one shorter; one that fits is not copied."""
    held = bytearray()
    for chunk in chunks:
        if not held and len(chunk) == size:
            yield chunk
            continue
        held += chunk
        while len(held) >= size:
            yield bytes(memoryview(held)[:size])
            del held[:size]
    if held:
        yield bytes(held)


def _read_header(source: Readable, name: str) -> tuple[Header, bytes]:
    lead = _read(source, len(MAGIC) + 4)
    if lead[: len(MAGIC)] != MAGIC or len(lead) < len(MAGIC) + 4:
        raise NotSealed(name, "it does not begin as a sealed file does")
    (length,) = struct.unpack(">I", lead[len(MAGIC) :])
    if length > _HEADER_MOST:
        raise NotSealed(name, f"its header has {length} bytes, at most {_HEADER_MOST} do")
    body = _read(source, length)
    header = _header_of(body, name)
    if header.encoded() != lead + body:
        raise NotSealed(name, "its header is not in canonical form")
    return header, lead + body


def _header_of(body: bytes, name: str) -> Header:
    try:
        document: dict[str, Any] = json.loads(body)
        if document["cipher"] != _CIPHER:
            raise NotSealed(name, "its cipher is unknown here")
        header = Header(
            str(document["name"]),
            bytes.fromhex(document["id"]),
            bytes.fromhex(document["prefix"]),
            int(document["segment_bytes"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotSealed(name, "its header is malformed") from error
    if len(header.prefix) != _PREFIX_BYTES or not 1 <= header.segment_bytes <= 2**26:
        raise NotSealed(name, "its header is malformed")
    return header


def _read(source: Readable, size: int) -> bytes:
    """So many bytes, fewer only at the end."""
    data = source.read(size)
    if len(data) == size or not data:
        return data
    parts, missing = [data], size - len(data)
    while missing and (more := source.read(missing)):
        parts.append(more)
        missing -= len(more)
    return b"".join(parts)


def _cipher(key: bytes, header: Header) -> AESGCM:
    info = b"privacy-finetuner sealed file 1\0" + header.name.encode()
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=header.id, info=info).derive(key))


def _nonce(header: Header, number: int, *, is_last: bool) -> bytes:
    return header.prefix + struct.pack(">I?", number, is_last)


def _next(number: int) -> int:
    if number + 1 >= _SEGMENTS_MOST:
        raise OverflowError("a sealed file has at most 2^32 segments")
    return number + 1
