"""Gaussian noise that an attacker can neither predict nor read the true sum through.

Notable choices, each with its reason:

- *The key stream, not torch.* Noise made from a known seed can be subtracted by anybody who knows
  the seed. `GaussianNoise.secure` draws from AES-256-CTR under a key of the operating system.
- *Long tails.* float32 `torch.randn` never exceeds 5.77 sigma, so an output further out names the
  data set it came from. 63-bit radii reach 9.41 sigma; what is cut off has probability 2^-64.
- *A lattice.* Floating-point noise on floating-point sums leaks through low-order bits (Mironov
  2012; Jin et al. 2022, arXiv:2112.05307). Here sum and noise are both rounded to multiples of one
  step s, added exactly, and only then turned back into floating point.
- *No rejection.* Every sample takes the same steps: no sampler's retries to be timed.

The lattice and its margin are derived in `lattice_release`.

Shapes: N samples (coordinates), P = ceil(N / 2) Box-Muller pairs, W = 2 P words.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.box_muller import Floats, box_muller
from privacy_finetuner.training.lattice_release import (
    ROUNDING_MARGIN,
    LatticeRelease,
    Segment,
    lattice_step,
    length_of,
    segments,
)
from privacy_runtime.keystream import WORD_BYTES, KeyStream, KeyStreamReused, process_mark
from privacy_runtime.world import Entropy

__all__ = ["ROUNDING_MARGIN", "GaussianNoise", "lattice_step"]

# Samples made at once by one thread: 2.5 MiB of buffers. Longer passes would leave the cache; with
# shorter ones the threads mostly hand the interpreter to each other. The arithmetic is numpy's,
# which runs on the calling thread alone: torch would open threads of its own under ours, whose
# barriers on a busy machine cost ten times the work.
_CHUNK: Final = 2**17


class _Words(Protocol):
    """Random words for one chunk. Read once."""

    def read_into(self, buffer: memoryview) -> None: ...


class _WordSource(Protocol):
    """Where random words come from."""

    name: str
    parallel: bool

    def reserve(self, sizes_bytes: Sequence[int]) -> Sequence[_Words]: ...


class GaussianNoise:
    """A source of Gaussian noise. No number is drawn twice, by this object or by another.

    Guarantees, for both `secure` and `fast`: torch's own generators are neither read nor changed,
    and `torch.manual_seed` has no influence; the source advances before its output is used; a new
    object has a new key, so a resumed run never repeats noise; after a fork the child takes a new
    key; pickling and copying are refused. `secure` uses as many threads as torch does, each with
    its own part of the key stream; the values do not depend on their number.
    """

    def __init__(self, source: _WordSource) -> None:
        self._source = source

    @classmethod
    def secure(cls, entropy: Entropy) -> Self:
        """Make noise that nobody can predict: AES-256-CTR under a fresh key from `entropy`."""
        return cls(_KeyStreamWords(KeyStream.fresh(entropy)))

    @classmethod
    def fast(cls, entropy: Entropy) -> Self:
        """Make noise from a private torch generator: for machines where AES is slow.

        The same distribution, tail and lattice as `secure`. It is *not* cryptographic: the
        generator has at most 2^32 streams and its state can be computed from its output, so the
        guarantee holds only against those who do not try. With AES instructions it is no faster.
        """
        return cls(_GeneratorWords(entropy))

    @property
    def is_secure(self) -> bool:
        """Whether the source is cryptographic."""
        return isinstance(self._source, _KeyStreamWords)

    def standard_normal(self, count: int) -> Tensor:
        """Return `count` independent N(0, 1) samples: float64, CPU, shape `(count,)`.

        For tests and measurements; what is released goes through `privatize`.

        Raises:
            InvalidParameter: `count` is negative.
        """
        if count < 0:
            raise InvalidParameter("count", found=count, expected="a whole number >= 0")
        z_N = np.empty(count, dtype=np.float64)
        chunks = list(segments([count], room=_CHUNK))
        ends = list(itertools.accumulate(length_of(chunk) for chunk in chunks))

        def fill(at: int, span: _Words, scratch: _Scratch) -> None:
            length = length_of(chunks[at])
            z_N[ends[at] - length : ends[at]] = scratch.normal(span, length, scale=1.0)

        self._for_each_chunk(chunks, fill)
        return torch.from_numpy(z_N)

    def privatize(
        self, sums: Sequence[Tensor], *, sensitivity: float, noise_multiplier: float
    ) -> list[Tensor]:
        """Return the sums plus Gaussian noise, rounded to one lattice: what may be released.

        Guarantee: if the sums of two neighbouring data sets differ by at most `sensitivity` in L2,
        over all tensors together, then this release is `Gaussian(noise_multiplier)`. Everything
        that shares one sensitivity goes in one call: the lattice is as fine as their number of
        coordinates needs.

        ==========================  ====================================================
        the sums are                the answer
        ==========================  ====================================================
        no tensors, or empty ones   the same shapes; no noise is drawn
        zero (an empty batch)       noise alone
        not finite, or beyond       refused; nothing is released. The engine never makes
        2^50 lattice steps          such a sum, so this is a fault in the program
        float16 or bfloat16         computed in float64, rounded to that type at the end
        on another device           moved to the CPU and back
        ==========================  ====================================================

        Args:
            sums: floating-point tensors of any shape; unchanged by the call.
            sensitivity: C > 0, in the units of the sums.
            noise_multiplier: > 0, as priced. The noise's standard deviation is
                `noise_multiplier * sensitivity * (1 + ROUNDING_MARGIN)`.

        Raises:
            InvalidParameter: an argument is outside its domain; nothing is released.

        Source: Dwork and Roth 2014, appendix A (Gaussian mechanism); Box and Muller 1958; the
        module docstring derives the lattice and the margin.
        """
        flat_sums = [part.detach().to("cpu", copy=True).reshape(-1) for part in sums]
        self._add_noise(
            LatticeRelease(flat_sums, sensitivity=sensitivity, noise_multiplier=noise_multiplier),
            flat_sums,
        )
        return [
            flat.view(part.shape).to(part.device)
            for flat, part in zip(flat_sums, sums, strict=True)
        ]

    def privatize_(
        self,
        sums: Sequence[Tensor],
        *,
        sensitivity: float,
        noise_multiplier: float,
        divisor: float = 1.0,
    ) -> None:
        """Replace the sums by what `privatize` would return, over `divisor`: no second copy.

        Guarantee: as `privatize`; the division is post-processing. When the call is refused the
        sums are set to zero, so that nothing of them can be released by mistake.

        Args:
            sums: floating-point tensors that share no memory with each other; overwritten.
            sensitivity: as for `privatize`.
            noise_multiplier: as for `privatize`.
            divisor: a public number > 0.

        Raises:
            InvalidParameter: as `privatize`.
        """
        in_place = [part.detach() for part in sums]
        try:
            flat_sums = [part.to("cpu").reshape(-1) for part in in_place]
            release = LatticeRelease(
                flat_sums,
                sensitivity=sensitivity,
                noise_multiplier=noise_multiplier,
                divisor=divisor,
            )
            self._add_noise(release, flat_sums)
        except BaseException:
            for part in in_place:
                part.zero_()
            raise
        for part, flat in zip(in_place, flat_sums, strict=True):
            if part.device.type != "cpu" or not part.is_contiguous():
                part.copy_(flat.view(part.shape))

    def _add_noise(self, release: LatticeRelease, flat_sums: Sequence[Tensor]) -> None:
        chunks = list(segments([flat.numel() for flat in flat_sums], room=_CHUNK))

        def replace(at: int, span: _Words, scratch: _Scratch) -> None:
            noise_N = scratch.normal(span, length_of(chunks[at]), scale=release.scale)
            release.replace(chunks[at], noise_N, scratch.second(noise_N.size))

        self._for_each_chunk(chunks, replace)

    def _for_each_chunk(
        self, chunks: Sequence[Sequence[Segment]], act: Callable[[int, _Words, _Scratch], None]
    ) -> None:
        """Call `act` for every chunk with words of its own, spread over the threads."""
        lengths = [length_of(chunk) for chunk in chunks]
        spans = self._source.reserve([_words_bytes(length) for length in lengths])
        workers = min(torch.get_num_threads() if self._source.parallel else 1, len(chunks))

        def work(worker: int) -> None:
            scratch = _Scratch(max(lengths))
            for at in range(worker, len(chunks), workers):
                act(at, spans[at], scratch)

        if workers == 1:
            work(0)
        elif workers > 1:
            with ThreadPoolExecutor(workers) as pool:  # per call: threads do not survive a fork
                list(pool.map(work, range(workers)))  # raises what a worker raised

    def __repr__(self) -> str:
        """Name the kind of source; never its state."""
        return f"GaussianNoise({self._source.name})"

    def __reduce__(self) -> NoReturn:
        """Refuse pickling and copying."""
        raise KeyStreamReused("a noise source cannot be copied: the copy would repeat its noise")


class _KeyStreamWords:
    """Words from AES-256-CTR."""

    name = "AES-256-CTR"
    parallel = True

    def __init__(self, stream: KeyStream) -> None:
        self._stream = stream

    def reserve(self, sizes_bytes: Sequence[int]) -> Sequence[_Words]:
        return self._stream.reserve(sizes_bytes)


class _GeneratorWords:
    """Words from a torch generator of our own, seeded from entropy."""

    name = "torch.Generator"
    parallel = False

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._reseed()

    def reserve(self, sizes_bytes: Sequence[int]) -> Sequence[_Words]:
        if self._process != process_mark():
            self._reseed()
        return [self] * len(sizes_bytes)

    def read_into(self, buffer: memoryview) -> None:
        words_W = torch.from_numpy(np.frombuffer(buffer, dtype=np.int64))
        words_W.random_(-(2**63), None, generator=self._generator)

    def _reseed(self) -> None:
        """Start another stream. A new `torch.Generator` has a constant seed until it is told."""
        seed = int.from_bytes(self._entropy.token_bytes(8), "little")
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        self._process = process_mark()


class _Scratch:
    """One thread's buffers, reused from chunk to chunk."""

    def __init__(self, count: int) -> None:
        pairs = _pairs(count)
        self._words_W = np.empty(2 * pairs, dtype=np.uint64)
        self._samples_W = np.empty(2 * pairs, dtype=np.float64)
        self._spare_P = np.empty(pairs, dtype=np.float64)

    def normal(self, span: _Words, count: int, *, scale: float) -> Floats:
        """The N(0, scale^2) samples that the words of `span` stand for, until the next call."""
        pairs = _pairs(count)
        words_W, samples_W = self._words_W[: 2 * pairs], self._samples_W[: 2 * pairs]
        span.read_into(words_W.data.cast("B"))
        box_muller(words_W, samples_W, self._spare_P[:pairs], scale=scale)
        return samples_W[:count]

    def second(self, count: int) -> Floats:
        """A buffer beside the samples: the words they were made from are used up."""
        return self._words_W.view(np.float64)[:count]


def _pairs(count: int) -> int:
    return -(-count // 2)


def _words_bytes(count: int) -> int:
    """Return the bytes of key stream that `count` samples take: 16 per pair, one AES block."""
    return 2 * _pairs(count) * WORD_BYTES
