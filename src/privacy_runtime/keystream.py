"""Unpredictable numbers in bulk: an AES-256-CTR stream whose every position is used at most once.

Noise, sampling and canary coins of one run come from here. Three things would break a guarantee
and are made impossible rather than forbidden: rewinding (there is no method for it), sharing a key
after a fork (the child takes a new key, or is refused) and copying (a copy would replay).

Units: a *block* is 16 bytes, one AES output; a *word* is 64 bits, little-endian.

Source: NIST SP 800-38A, section 6.5 (counter mode).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import ClassVar, Final, NoReturn, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_runtime.world import Entropy

Words: TypeAlias = npt.NDArray[np.uint64]
Uniforms: TypeAlias = npt.NDArray[np.float64]

KEY_BYTES: Final = 32
BLOCK_BYTES: Final = 16
WORD_BYTES: Final = 8
# 2^48 blocks (4 PiB): an AES-CTR stream of N blocks is told from chance with advantage at most
# N^2 / 2^129, here 2^-33. A run of 10^9 parameters and 10^5 steps draws 2^46 blocks.
MAX_BLOCKS: Final = 2**48


class KeyStreamError(PrivacyError):
    """A key stream refused to give bytes. No position was used twice."""

    code: ClassVar[str] = "keystream_error"


class KeyStreamForked(KeyStreamError):
    """The process was forked and this stream has no entropy to take a new key from."""

    code: ClassVar[str] = "keystream_forked"


class KeyStreamExhausted(KeyStreamError):
    """The stream reached its last block. Start a new one."""

    code: ClassVar[str] = "keystream_exhausted"


class KeyStreamReused(KeyStreamError):
    """Bytes were asked for a second time, or a stream was about to be copied."""

    code: ClassVar[str] = "keystream_reused"


ProcessMark: TypeAlias = tuple[int, int]

_ZEROS: Final = memoryview(bytes(2**18))

_forks = 0
_lock = threading.Lock()


def _after_fork_in_child() -> None:
    """Count the fork, and replace the lock: another thread may have held it at the fork."""
    global _forks, _lock  # noqa: PLW0603  process-wide by nature: it says which process this is
    _forks += 1
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


def process_mark() -> ProcessMark:
    """Return a value that differs between a process and every process forked from it.

    The count catches what the process id misses (ids are reused); the id catches a fork made
    outside Python.
    """
    return os.getpid(), _forks


def bytes_at(key: bytes, *, block: int, size_bytes: int) -> bytes:
    """Return `size_bytes` of the AES-256-CTR key stream of `key`, starting at block number `block`.

    A pure function: the same arguments give the same bytes. For known-answer tests; anything
    that must never repeat takes a `KeyStream`.

    Args:
        key: 32 bytes.
        block: first counter value, 0 <= block < 2^128; the counter is big-endian.
        size_bytes: >= 0.

    Raises:
        InvalidParameter: an argument is outside its domain.
    """
    _require_key(key)
    _require_count("block", block)
    _require_count("size_bytes", size_bytes)
    buffer = bytearray(size_bytes)
    _encrypt_zeros(key, block, memoryview(buffer))
    return bytes(buffer)


class Span:
    """A reserved piece of a key stream, readable exactly once, in the process that reserved it.

    Spans of one stream never overlap, so they may be read in any order and by several threads.
    """

    __slots__ = ("_block", "_key", "_process", "_unread", "size_bytes")

    def __init__(self, key: bytes, *, block: int, size_bytes: int) -> None:
        self._key = key
        self._block = block
        self._process = process_mark()
        self._unread = [None]
        self.size_bytes = size_bytes

    def read_into(self, buffer: memoryview) -> None:
        """Fill `buffer`, which is exactly `size_bytes` long, with this span's bytes.

        Raises:
            KeyStreamReused: the span was already read. The buffer is unchanged.
            KeyStreamForked: it was reserved before a fork. The buffer is unchanged.
            InvalidParameter: the buffer has another length. The span is still unread.
        """
        if len(buffer) != self.size_bytes:
            raise InvalidParameter("buffer", found=len(buffer), expected=f"{self.size_bytes} bytes")
        if self._process != process_mark():
            raise KeyStreamForked(
                "a span reserved before a fork was read after it; nothing was read"
            )
        try:
            self._unread.pop()  # atomic: of two threads that read the same span, one fails here
        except IndexError:
            raise KeyStreamReused("a span is read once; nothing was read") from None
        _encrypt_zeros(self._key, self._block, buffer)

    def __repr__(self) -> str:
        """Show the place, never the key."""
        return f"Span(block={self._block}, size_bytes={self.size_bytes})"

    def __reduce__(self) -> NoReturn:
        """Refuse pickling and copying."""
        raise KeyStreamReused("a span cannot be copied: the copy would repeat its bytes")


class KeyStream:
    """A stream of unpredictable bytes under one key; every position is given out at most once.

    Guarantees: the position advances before bytes are made, also when making them then fails; it
    never goes back; threads may share the stream. The key shows in no repr, and the stream can be
    neither pickled nor copied.

    ==========================  ===================================================
    after a fork, in the child  a stream made by
    ==========================  ===================================================
    `KeyStream.fresh(entropy)`  takes a new key from `entropy` and starts at block 0
    `KeyStream(key)`            raises `KeyStreamForked`
    ==========================  ===================================================

    Args:
        key: 32 bytes, never used for anything else. Prefer `fresh`.

    Raises:
        InvalidParameter: `key` is not 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        _require_key(key)
        self._key = bytes(key)
        self._next_block = 0
        self._process = process_mark()
        self._entropy: Entropy | None = None

    @classmethod
    def fresh(cls, entropy: Entropy) -> Self:
        """Start a stream under a new key drawn from `entropy`; in a forked child, draw another."""
        stream = cls(entropy.token_bytes(KEY_BYTES))
        stream._entropy = entropy
        return stream

    @property
    def next_block(self) -> int:
        """The first block that has not been given out."""
        return self._next_block

    def reserve(self, sizes_bytes: Sequence[int]) -> list[Span]:
        """Take the next parts of the stream, one span per size, and advance past all of them.

        Every span starts on a block boundary, so up to 15 bytes between two spans go unused.

        Raises:
            KeyStreamForked, KeyStreamExhausted, InvalidParameter: nothing was reserved.
        """
        for size_bytes in sizes_bytes:
            _require_count("sizes_bytes", size_bytes)
        blocks = [-(-size_bytes // BLOCK_BYTES) for size_bytes in sizes_bytes]
        with _lock:
            self._own_this_process()
            key, block = self._key, self._next_block
            if block + sum(blocks) > MAX_BLOCKS:
                raise KeyStreamExhausted(
                    f"{sum(blocks)} blocks were requested after {block} of {MAX_BLOCKS}; "
                    "none was given"
                )
            self._next_block += sum(blocks)
        spans = []
        for size_bytes, count in zip(sizes_bytes, blocks, strict=True):
            spans.append(Span(key, block=block, size_bytes=size_bytes))
            block += count
        return spans

    def read(self, size_bytes: int) -> bytes:
        """Return the next `size_bytes` bytes (at least 0), advancing to the next whole block."""
        (span,) = self.reserve([size_bytes])
        buffer = bytearray(size_bytes)
        span.read_into(memoryview(buffer))
        return bytes(buffer)

    def words(self, count: int) -> Words:
        """Return `count` independent words, uniform over 0 .. 2^64 - 1, shape `(count,)`."""
        _require_count("count", count)
        words = np.empty(count, dtype=np.dtype("<u8"))
        (span,) = self.reserve([count * WORD_BYTES])
        if count:
            span.read_into(words.data.cast("B"))
        return words.astype(np.uint64, copy=False)

    def uniforms(self, count: int) -> Uniforms:
        """Return `count` independent numbers in the open interval (0, 1), shape `(count,)`.

        Each is one of the 2^52 odd multiples of 2^-53, all equally likely: symmetric about 1/2,
        never 0, never 1, every one exact in float64.
        """
        return uniforms_from_words(self.words(count))

    def __repr__(self) -> str:
        """Show the position, never the key."""
        return f"KeyStream(next_block={self._next_block})"

    def __reduce__(self) -> NoReturn:
        """Refuse pickling and copying."""
        raise KeyStreamReused("a key stream cannot be copied: the copy would repeat its bytes")

    def _own_this_process(self) -> None:
        """After a fork, leave the parent's key. The caller holds the lock."""
        mark = process_mark()
        if mark == self._process:
            return
        if self._entropy is None:
            raise KeyStreamForked(
                "this stream was keyed in another process and has no entropy for a new key; "
                "nothing was given"
            )
        self._key = self._entropy.token_bytes(KEY_BYTES)
        _require_key(self._key)
        self._next_block = 0
        self._process = mark


def uniforms_from_words(words: Words) -> Uniforms:
    """Map words to (0, 1) as `KeyStream.uniforms` says: the top 52 bits, at the cell's middle.

    53 bits and a half would round up to 1 at the top; 52 and a half is exact everywhere.
    """
    uniforms = (words >> np.uint64(12)).astype(np.float64)
    uniforms += 0.5
    uniforms *= 2.0**-52
    return uniforms


def _encrypt_zeros(key: bytes, block: int, buffer: memoryview) -> None:
    """Fill `buffer` with the key stream from `block` on, in place; other threads run meanwhile."""
    if len(buffer) == 0:
        return
    counter = block.to_bytes(BLOCK_BYTES, "big")
    encryptor = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    for start in range(0, len(buffer), len(_ZEROS)):
        piece = buffer[start : start + len(_ZEROS)]
        encryptor.update_into(_ZEROS[: len(piece)], piece)


def _require_key(key: bytes) -> None:
    """Refuse a key of another length, naming the length only."""
    if len(key) != KEY_BYTES:
        raise InvalidParameter("key", found=f"{len(key)} bytes", expected=f"{KEY_BYTES} bytes")


def _require_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidParameter(name, found=value, expected="a whole number >= 0")
