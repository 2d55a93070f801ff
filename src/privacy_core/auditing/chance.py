"""Numbers that look random and are the same for the same seed: for simulation and resampling.

An audit is repeatable by whoever doubts it: ceilings are simulated, intervals resampled and splits
drawn from a seed that stands in the report. Nothing here hides anything: a seed is public. What
must not be predicted (canary coins, noise) takes an `Entropy`.

The stream is SHAKE-256 of the seed and the purpose (FIPS 202), so it does not depend on the version
of a library, and two purposes never share a number.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_WORD_BYTES: Final = 8
_CHUNK_WORDS: Final = 1 << 16


class Chance:
    """A stream of numbers. Every call goes on where the last one ended.

    Args:
        seed: a whole number or bytes; public.
        purpose: what the numbers are for; another purpose is another stream.
    """

    def __init__(self, seed: int | bytes, *, purpose: str) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | bytes):
            raise InvalidParameter("seed", found=type(seed).__name__, expected="int or bytes")
        raw = seed if isinstance(seed, bytes) else str(seed).encode()
        kind = b"bytes" if isinstance(seed, bytes) else b"int"
        self._key = hashlib.sha256(b"\0".join([kind, purpose.encode(), raw])).digest()
        self._chunks = 0

    def uniforms(self, size: int) -> Vector:
        """`size` numbers in the open interval (0, 1), 53 bits each."""
        return ((self._words(size) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53

    def normals(self, size: int) -> Vector:
        """`size` standard normal numbers, by inversion."""
        found: Vector = scipy.special.ndtri(self.uniforms(size))
        return found

    def permutation(self, size: int) -> Indices:
        """The numbers 0 .. size - 1 in another order; ties of 64-bit keys do not matter here."""
        return np.argsort(self._words(size), kind="stable")

    def integers(self, bound: int, size: int) -> Indices:
        """`size` numbers in 0 .. bound - 1, with replacement. Bias below bound / 2^53."""
        if bound < 1:
            raise InvalidParameter("bound", found=bound, expected="a whole number >= 1")
        return np.minimum((self.uniforms(size) * bound).astype(np.int64), bound - 1)

    def _words(self, size: int) -> npt.NDArray[np.uint64]:
        if size < 0:
            raise InvalidParameter("size", found=size, expected="a whole number >= 0")
        parts: list[npt.NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        for start in range(0, size, _CHUNK_WORDS):
            words = min(_CHUNK_WORDS, size - start)
            stream = hashlib.shake_256(self._key + self._chunks.to_bytes(8, "little"))
            self._chunks += 1
            parts.append(np.frombuffer(stream.digest(words * _WORD_BYTES), dtype="<u8"))
        return np.concatenate(parts)
